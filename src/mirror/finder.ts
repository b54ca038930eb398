import type { Links } from '../content/links.ts'
import type { StoredManifest, StoredManifests } from '../content/stored-manifests.ts'
import type { Clock } from '../lib/clock.ts'
import { SharedCalls } from '../lib/flights.ts'
import { lruCache } from '../lib/lru.ts'
import type { Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError, overloaded, UpstreamError } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import type { Store } from '../storage/store.ts'
import type { ManifestHead } from '../upstream/registry.ts'
import { isComplete } from './complete.ts'
import { type Manifests, manifestUnknown } from './manifests.ts'
import { questionKey, type Source } from './sources.ts'
import type { ResolvedTag, Staleness, TagResolver } from './tag-resolver.ts'

const QUESTIONS_MAX = 4096
const NAMES_MAX = 20_000
/**
 * Shortest time between two questions about one name for clients that want a fresh answer, in milliseconds.
 */
const ANEW_EVERY_MS = 5000

export interface FinderParts {
  readonly store: Pick<Store, 'open'>
  readonly links: Links
  readonly stored: StoredManifests
  readonly manifests: Manifests
  readonly resolver: TagResolver
  readonly clock: Clock
  /** Aborts when the daemon ends. */
  readonly lifetime: AbortSignal
}

/** A manifest that answers a request, and why it was chosen. */
export interface FoundManifest {
  readonly manifest: StoredManifest
  readonly outcome: Outcome
  /** Time for which the reference means this manifest without asking the upstream, in milliseconds. */
  readonly forMs: number
  readonly staleness: Staleness | undefined
}

/** The head of a manifest that is not cached. */
export interface ForeignHead extends ManifestHead {
  readonly digest: Digest
  readonly mediaType: string
  readonly sizeBytes: number
}

export interface FindOptions {
  /** The client wants the current answer of the upstream, not a remembered one. */
  readonly wantsFresh?: boolean
}

/** Finds the manifest that a reference means for a repository, in the cache or at the upstream. */
export class ManifestFinder {
  readonly #parts: FinderParts
  readonly #questions = new SharedCalls<ManifestHead | undefined>(QUESTIONS_MAX, overloaded)
  readonly #askedAnewAtMs = lruCache<string, number>(NAMES_MAX)

  constructor(parts: FinderParts) {
    this.#parts = parts
  }

  /** Throws MANIFEST_UNKNOWN, the error of the upstream, or a refusal. */
  async find(source: Source, reference: Reference, options: FindOptions = {}): Promise<FoundManifest> {
    const isAnew = this.#mayAskAnew(source, reference, options)
    if (reference.kind === 'digest') return await this.#byDigest(source, reference.digest, isAnew)
    const resolved = await this.#parts.resolver.resolve(source, reference.tag, { isAnew })
    return await this.#ofTag(source, reference.tag, resolved)
  }

  /**
   * Finds what a HEAD needs. A manifest that is not cached is not fetched if the HEAD of the upstream
   * suffices.
   */
  async head(
    source: Source,
    reference: Reference,
    options: FindOptions = {},
  ): Promise<FoundManifest | ForeignHead> {
    const isAnew = this.#mayAskAnew(source, reference, options)
    if (reference.kind === 'digest') return await this.#headByDigest(source, reference.digest, isAnew)
    const { tag } = reference
    const resolved = await this.#parts.resolver.resolve(source, tag, { isAnew })
    const { digest, head } = resolved
    if (!isTelling(head)) return await this.#ofTag(source, tag, resolved)
    // The registry has named the digest for this repository, so the GET that follows need not ask again.
    if (source.isTrusted) this.#parts.links.add(source, [digest])
    return { ...head, digest }
  }

  /**
   * Refuses an incompletely cached manifest while the upstream is failing: Podman and CRI-O do not change
   * registries after they have the manifest, and a refusal sends them to the origin. Only for a GET: a client
   * that already has everything asks by HEAD and needs no more. While the upstream is only slow, this waits
   * for its answer.
   */
  async completable(source: Source, reference: Reference, found: FoundManifest): Promise<FoundManifest> {
    const { staleness } = found
    const trouble =
      staleness?.kind === 'trouble' ? staleness.error : source.registry.trouble(source.repository)
    const isInDoubt = trouble !== undefined || staleness?.kind === 'slow'
    if (!isInDoubt || (await this.#isComplete(source, found.manifest))) return found
    if (staleness?.kind === 'slow' && reference.kind === 'tag') {
      const answered = await this.#ofTag(source, reference.tag, await staleness.answered)
      return await this.completable(source, reference, answered)
    }
    throw new OciError('UNAVAILABLE', 'the upstream is unavailable and this image is not completely cached', {
      cause: trouble,
    })
  }

  async #isComplete(source: Source, manifest: StoredManifest): Promise<boolean> {
    const { store, stored, links } = this.#parts
    const isVisible = async (digest: Digest): Promise<boolean> =>
      source.isTrusted || (await links.has(source, digest))
    return await isComplete(manifest, { store, manifests: stored, isVisible })
  }

  async #ofTag(source: Source, tag: Tag, resolved: ResolvedTag): Promise<FoundManifest> {
    const { links, manifests, stored } = this.#parts
    const { digest, outcome, fallback, staleness, freshForMs: forMs } = resolved
    // Unless it is a miss, the manifest was served for this tag before, so it is shown even if its link was
    // lost.
    if (outcome !== 'miss') links.add(source, [digest])
    try {
      const manifest = await this.#manifestOf(source, tag, resolved)
      manifests.admit(source, manifest)
      return { manifest, outcome, forMs, staleness }
    } catch (error) {
      const older = fallback === undefined ? undefined : await stored.find(fallback)
      if (!(error instanceof UpstreamError) || older === undefined) throw error
      return { manifest: older, outcome: 'stale', forMs: 0, staleness: { kind: 'trouble', error } }
    }
  }

  /** Returns the manifest of a resolved tag. Resolving the tag has proved that the repository may see it. */
  async #manifestOf(
    source: Source,
    tag: Tag,
    { digest, staleness, isHeld = false }: ResolvedTag,
  ): Promise<StoredManifest> {
    const { manifests } = this.#parts
    const here = await manifests.findFor(source, digest)
    if (here !== undefined) return here
    const fetched = await manifests.fetch(source, { kind: 'digest', digest })
    if (fetched !== undefined) return fetched
    if (isHeld || staleness?.kind === 'lost') throw manifestUnknown(source, { kind: 'tag', tag })
    // The HEAD of the tag named this digest a moment ago: the tag has moved since, or the upstream
    // contradicts itself.
    const moved = await manifests.fetch(source, { kind: 'tag', tag })
    if (moved !== undefined) return moved
    throw new UpstreamError('invalid', `the upstream names ${digest} for ${tag} but does not have it`)
  }

  /**
   * Asks the upstream first if the repository is not known to have the digest, and then looks into the store.
   * The time of a refusal must not reveal that another repository has the content cached.
   */
  async #byDigest(source: Source, digest: Digest, isAnew: boolean): Promise<FoundManifest> {
    const { manifests } = this.#parts
    const reference = { kind: 'digest', digest } as const
    if (source.isTrusted) await this.#requireLink(source, digest, isAnew)
    const here = await manifests.findFor(source, digest)
    if (here !== undefined) return lasting(here, 'hit')
    if (isAnew && !source.isTrusted) await this.#ask(source, digest, isAnew)
    const fetched = await manifests.fetch(source, reference)
    if (fetched === undefined) throw manifestUnknown(source, reference)
    return lasting(fetched, 'miss')
  }

  async #headByDigest(source: Source, digest: Digest, isAnew: boolean): Promise<FoundManifest | ForeignHead> {
    const { manifests, links } = this.#parts
    const asked = source.isTrusted ? await this.#requireLink(source, digest, isAnew) : undefined
    const here = await manifests.findFor(source, digest)
    if (here !== undefined) return lasting(here, 'hit')
    const head = asked ?? (await this.#ask(source, digest, isAnew))
    if (source.isTrusted) links.add(source, [digest])
    if (isTelling(head)) return { ...head, digest }
    return await this.#byDigest(source, digest, false)
  }

  /**
   * Returns the answer of the upstream if it had to be asked. Throws MANIFEST_UNKNOWN if the upstream does
   * not have the digest.
   */
  async #requireLink(source: Source, digest: Digest, isAnew: boolean): Promise<ManifestHead | undefined> {
    const { links } = this.#parts
    if (await links.has(source, digest)) return undefined
    const head = await this.#ask(source, digest, isAnew)
    links.add(source, [digest])
    return head
  }

  /** Asks the upstream by one HEAD for all clients that wait. */
  async #ask(source: Source, digest: Digest, isAnew: boolean): Promise<ManifestHead> {
    const { lifetime } = this.#parts
    const reference = { kind: 'digest', digest } as const
    const key = questionKey(source, `@${digest}`)
    const ask = async (): Promise<ManifestHead | undefined> =>
      await source.registry.headManifest(source.repository, reference, lifetime, { isFresh: isAnew })
    const head = await this.#questions.call(key, ask).job
    if (head === undefined) throw manifestUnknown(source, reference)
    return head
  }

  /**
   * True if the client wants a fresh answer and may have one. Bounded, so that a client cannot turn each of
   * its requests into one to the upstream.
   */
  #mayAskAnew(source: Source, reference: Reference, { wantsFresh = false }: FindOptions): boolean {
    if (!wantsFresh) return false
    const key = `${source.namespace}/${source.repository}:${referenceText(reference)}`
    const nowMs = this.#parts.clock.monotonicMs()
    if (nowMs - (this.#askedAnewAtMs.get(key) ?? -Infinity) < ANEW_EVERY_MS) return false
    this.#askedAnewAtMs.set(key, nowMs)
    return true
  }
}

/** A digest always means the same manifest. */
function lasting(manifest: StoredManifest, outcome: Outcome): FoundManifest {
  return { manifest, outcome, forMs: Infinity, staleness: undefined }
}

/** True if the answer to a HEAD has everything that a client needs. */
function isTelling(head: ManifestHead | undefined): head is ForeignHead {
  return head?.mediaType !== undefined && head.sizeBytes !== undefined
}
