import type { StoredManifests } from '../content/stored-manifests.ts'
import type { KnownTag, Tags } from '../content/tags.ts'
import type { Clock } from '../lib/clock.ts'
import { Flights } from '../lib/flights.ts'
import type { Events } from '../observe/events.ts'
import type { Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'
import { overloaded, UpstreamError } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import type { ManifestHead } from '../upstream/registry.ts'
import { freshnessOf } from './freshness.ts'
import { type Manifests, manifestUnknown } from './manifests.ts'
import { questionKey, type Source } from './sources.ts'

const RESOLUTIONS_MAX = 4096
const CONFIRM_AFTER_MS = 1000
/** Longer than any client waits for our first header. */
const WAIT_MS_MAX = 60_000

/**
 * Reason for serving a tag that the upstream has not confirmed. `trouble`: the upstream failed. `budget`: the
 * tag has moved, and the last pulls that the upstream allows are saved. `lost`: the upstream has deleted the
 * tag. `slow`: the upstream has not answered yet; `answered` settles with its answer.
 */
export type Staleness =
  | { readonly kind: 'trouble' | 'budget'; readonly error: UpstreamError }
  | { readonly kind: 'lost'; readonly error: Error }
  | { readonly kind: 'slow'; readonly error: Error; readonly answered: Promise<ResolvedTag> }

/** Current meaning of a tag, and where it is known from. */
export interface ResolvedTag {
  readonly digest: Digest
  readonly outcome: Outcome
  /**
   * Time for which it may be served without asking, in milliseconds; 0 if the upstream was asked just now.
   */
  readonly freshForMs: number
  /** The older meaning, to serve if the new manifest cannot be fetched. */
  readonly fallback: Digest | undefined
  /** Answer to the HEAD of the upstream, if the manifest is not stored here. */
  readonly head: ManifestHead | undefined
  /** `undefined` unless the outcome is `stale`. */
  readonly staleness: Staleness | undefined
  /** True if an administrator fixed the tag to the digest. */
  readonly isHeld?: boolean
}

export interface TagResolverParts {
  readonly tags: Tags
  readonly manifests: Manifests
  readonly stored: StoredManifests
  readonly events: Events
  readonly clock: Clock
  /** Aborts when the daemon ends. */
  readonly lifetime: AbortSignal
}

export interface ResolveOptions {
  /** Ask the upstream and wait for its answer, even if the tag is fresh or known not to exist. */
  readonly isAnew?: boolean
}

/** A running question to the upstream, shared by all clients that ask for the tag meanwhile. */
interface Revalidation {
  readonly startedAtMs: number
  readonly answered: Promise<ResolvedTag>
  /**
   * True once a client was answered before the upstream. The mirror itself then fetches the manifest of a tag
   * that has moved.
   */
  isLate: boolean
}

/**
 * Resolves tags: from the cache while a tag is fresh, otherwise by one HEAD to the upstream for all clients
 * that wait. If the tag is cached, a client waits for its revalidation for a limited time
 * (`Terms.revalidationWaitMs`). Then it gets the stale tag, and the answer updates the tag later (RFC 5861,
 * section 3).
 */
export class TagResolver implements AsyncDisposable {
  readonly #parts: TagResolverParts
  readonly #revalidations = new Flights<Revalidation>(RESOLUTIONS_MAX, overloaded)
  /** Background work on answers that came too late for their clients. */
  readonly #late = new Set<Promise<void>>()

  constructor(parts: TagResolverParts) {
    this.#parts = parts
  }

  /**
   * Throws MANIFEST_UNKNOWN if the upstream has no such tag, and the error of the upstream if no cached copy
   * may be served instead.
   */
  async resolve(source: Source, tag: Tag, { isAnew = false }: ResolveOptions = {}): Promise<ResolvedTag> {
    const { tags, stored } = this.#parts
    const known = await tags.read(source, tag)
    if (known?.heldBy !== undefined) return held(known.digest)
    if (known !== undefined && !isAnew && freshnessOf(known, source.terms) === 'fresh') {
      if ((await stored.find(known.digest)) !== undefined) {
        const freshForMs = source.terms.manifestInvalidationMs - known.ageMs
        return { ...resolved(known.digest, 'hit'), freshForMs }
      }
    }
    const revalidation = this.#revalidate(source, tag, { known, isAnew })
    const mayBeStale = known !== undefined && !isAnew && freshnessOf(known, source.terms) !== 'expired'
    if (!mayBeStale || (await stored.find(known.digest)) === undefined) return await revalidation.answered
    return (await this.#within(source, revalidation)) ?? this.#goOn(source, known, revalidation)
  }

  /** Waits for the questions in the background. The lifetime must have been aborted. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#revalidations.running().map(async ({ answered }) => await answered))
    await Promise.all(this.#late)
  }

  /** Joins the running question, or asks it. */
  #revalidate(
    source: Source,
    tag: Tag,
    { known, isAnew }: { readonly known: KnownTag | undefined; readonly isAnew: boolean },
  ): Revalidation {
    const key = questionKey(source, `:${tag}`)
    const { job, isNew } = this.#revalidations.join(key, () => ({
      startedAtMs: this.#parts.clock.monotonicMs(),
      answered: this.#ask(source, tag, { known, isAnew }),
      isLate: false,
    }))
    const leave = (): void => this.#revalidations.remove(key, job)
    if (isNew) job.answered.then(leave, leave)
    return job
  }

  /** Returns the answer, or `undefined` if it takes longer than a client may wait. */
  async #within(
    { terms }: Source,
    { startedAtMs, answered }: Revalidation,
  ): Promise<ResolvedTag | undefined> {
    const { clock } = this.#parts
    const over = new AbortController()
    const leftMs = startedAtMs + Math.min(terms.revalidationWaitMs, WAIT_MS_MAX) - clock.monotonicMs()
    const late = clock.delay(Math.max(0, leftMs), over.signal).then(
      () => undefined,
      () => undefined,
    )
    try {
      return await Promise.race([answered, late])
    } finally {
      over.abort()
    }
  }

  #goOn(source: Source, { digest }: KnownTag, revalidation: Revalidation): ResolvedTag {
    const { answered } = revalidation
    if (!revalidation.isLate) {
      revalidation.isLate = true
      const work = this.#takeLate(source, answered)
      this.#late.add(work)
      void work.then(() => this.#late.delete(work))
    }
    const error = new Error(`${source.namespace} has not answered yet: serving the cached tag`)
    return { ...resolved(digest, 'stale'), staleness: { kind: 'slow', error, answered } }
  }

  /** Fetches the manifest of a tag that has moved. Storing it updates the tag. */
  async #takeLate(source: Source, answered: Promise<ResolvedTag>): Promise<void> {
    try {
      const { outcome, digest } = await answered
      if (outcome === 'miss') await this.#parts.manifests.fetch(source, { kind: 'digest', digest })
    } catch {
      // The failure was reported where it happened, and the next request asks again.
    }
  }

  async #ask(
    source: Source,
    tag: Tag,
    { known, isAnew }: { readonly known: KnownTag | undefined; readonly isAnew: boolean },
  ): Promise<ResolvedTag> {
    try {
      const head = await this.#head(source, tag, { known, isAnew })
      if (head !== undefined) return await this.#settle(source, tag, { head, known })
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error
      const digest = this.#standIn(source, known, error)
      if (digest === undefined) throw error
      return { ...resolved(digest, 'stale'), staleness: { kind: 'trouble', error } }
    }
    return await this.#denied(source, tag, known)
  }

  /** Handles an upstream that has no such tag. */
  async #denied(source: Source, tag: Tag, known: KnownTag | undefined): Promise<ResolvedTag> {
    const { tags, events } = this.#parts
    const { namespace, repository, terms } = source
    const isKept =
      known !== undefined && freshnessOf(known, terms) !== 'expired' && terms.deletedTags === 'keep'
    if (!isKept) {
      await this.#forget(source, tag)
      throw manifestUnknown(source, { kind: 'tag', tag })
    }
    const { digest } = known
    if (await tags.lose(source, tag, digest)) events.tagLost({ namespace, repository, tag, digest })
    const error = new Error(`${namespace} has deleted the tag: serving the cached one`)
    return { ...resolved(digest, 'stale'), staleness: { kind: 'lost', error } }
  }

  /** Removes the tag. If the store fails, the answer stays the same: the tag is removed from memory. */
  async #forget(source: Source, tag: Tag): Promise<void> {
    try {
      await this.#parts.tags.remove(source, tag)
    } catch (error) {
      this.#parts.events.storageFailed('delete-tag', error)
    }
  }

  /** Returns the known digest if it may be served while the upstream fails. */
  #standIn(source: Source, known: KnownTag | undefined, trouble: UpstreamError): Digest | undefined {
    if (known === undefined || freshnessOf(known, source.terms) === 'expired') return undefined
    // A registry that has our credentials and refuses means it. One that never had any may just have begun to
    // require a login.
    if (trouble.kind === 'refused' && source.registry.hasCredentials) return undefined
    return known.digest
  }

  /**
   * Asks for the tag by HEAD. A known tag counts as deleted only if the upstream denies it twice, one second
   * apart: a single stray 404 must not lose an image.
   */
  async #head(
    source: Source,
    tag: Tag,
    { known, isAnew }: { readonly known: KnownTag | undefined; readonly isAnew: boolean },
  ): Promise<ManifestHead | undefined> {
    const { clock, lifetime } = this.#parts
    const reference = { kind: 'tag', tag } as const
    const head = await source.registry.headManifest(source.repository, reference, lifetime, {
      isFresh: isAnew,
    })
    if (head !== undefined || known === undefined || known.lostForMs !== undefined) return head
    await clock.delay(CONFIRM_AFTER_MS, lifetime)
    return await source.registry.headManifest(source.repository, reference, lifetime, { isFresh: true })
  }

  async #settle(
    source: Source,
    tag: Tag,
    { head, known }: { readonly head: ManifestHead; readonly known: KnownTag | undefined },
  ): Promise<ResolvedTag> {
    const { manifests, stored, tags } = this.#parts
    const digest = head.digest ?? (await this.#digestByGet(source, tag))
    const fallback = known?.digest === digest ? undefined : known?.digest
    // A digest that the tag is known to mean was served for it before.
    const isKnown = known?.digest === digest
    const manifest = isKnown ? await stored.find(digest) : await manifests.findFor(source, digest)
    if (manifest === undefined) {
      const older = await this.#thrifty(source, known)
      if (older !== undefined) return older
      tags.expect(source, tag, digest, head.ageMs)
      return { ...resolved(digest, 'miss'), fallback, head }
    }
    manifests.admit(source, manifest)
    if (stored.isStored(digest)) await tags.write(source, tag, digest, head.ageMs)
    else tags.expect(source, tag, digest, head.ageMs)
    return resolved(digest, 'revalidated')
  }

  /**
   * Returns the older image of a tag that has moved while the pull budget of the upstream runs low: the last
   * pulls are for content that is not cached at all. The HEAD that showed the move cost nothing, and a later
   * one notices when the budget is back.
   */
  async #thrifty(source: Source, known: KnownTag | undefined): Promise<ResolvedTag | undefined> {
    if (known === undefined || freshnessOf(known, source.terms) === 'expired') return undefined
    if (!source.registry.isRunningLow()) return undefined
    if ((await this.#parts.stored.find(known.digest)) === undefined) return undefined
    const error = new UpstreamError(
      'rate-limited',
      `${source.namespace} allows few more pulls: serving the cached image of a moved tag, to save them`,
    )
    return { ...resolved(known.digest, 'stale'), staleness: { kind: 'budget', error } }
  }

  /** Finds the digest by a GET, for registries whose answer to a HEAD has no digest. */
  async #digestByGet(source: Source, tag: Tag): Promise<Digest> {
    const reference = { kind: 'tag', tag } as const
    const manifest = await this.#parts.manifests.fetch(source, reference)
    if (manifest === undefined) throw manifestUnknown(source, reference)
    return manifest.digest
  }
}

/** A tag that an administrator fixed: no upstream is asked, not even by a client that wants it fresh. */
function held(digest: Digest): ResolvedTag {
  return { ...resolved(digest, 'hit'), freshForMs: Infinity, isHeld: true }
}

function resolved(digest: Digest, outcome: Outcome): ResolvedTag {
  return { digest, outcome, freshForMs: 0, fallback: undefined, head: undefined, staleness: undefined }
}
