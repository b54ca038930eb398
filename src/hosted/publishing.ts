import type { Clock } from '../lib/clock.ts'
import { atOnce } from '../lib/semaphore.ts'
import { SharedTurns } from '../lib/turns.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import { type PushedManifest, requiredBy } from '../oci/pushed-manifest.ts'
import type { Store } from '../storage/store.ts'
import { type Act, type ActParties, judgeAct, reportAct, setJudgedTag } from './acts.ts'
import type { CollectionMarks } from './collection-marks.ts'
import type { HostedContent } from './records.ts'
import type { ContentName, HostedKind, Shelf } from './shelf.ts'

const RECORDS_AT_ONCE = 16
/** A claim is renewed when it is this old: a client that asks again and again costs no writes. */
const CLAIM_RENEWED_MS = 3_600_000

export interface PublishingParts {
  readonly store: Store
  readonly shelf: Shelf
  readonly clock: Pick<Clock, 'wallMs'>
  readonly parties: ActParties
  /** Called when what a client sees of a repository may have changed. */
  readonly onChange: (place: Place) => void
  /** Called when a claim could not be written. */
  readonly unclaimed?: (error: unknown) => void
  /** Marks of the collection; without them nothing is collected. */
  readonly marks?: CollectionMarks
}

/** A manifest to publish in a repository, under any number of tags. */
export interface Publication {
  readonly place: Place
  readonly digest: Digest
  readonly bytes: Uint8Array
  readonly manifest: PushedManifest
  readonly tags: readonly Tag[]
  readonly by: string | undefined
}

/** Who acts where. */
export interface Actor {
  readonly place: Place
  readonly by: string | undefined
}

/**
 * The one way by which hosted repositories change. Every change runs in an order of the digests and tags that
 * it concerns: publications and links of a digest overlap, a removal or a collection has it for itself, and
 * one tag moves once at a time. Rules judge an act first, and witnesses see it after it is durable.
 *
 * Order of writes: the holds, the content, the record of the repository, the tag. Each is durable before the
 * next, so a crash leaves at most content and holds that nothing needs. A removal goes the other way round.
 * Only the collection deletes content, after a grace.
 */
export class Publishing {
  readonly #parts: PublishingParts
  readonly #turns = new SharedTurns<string>()

  constructor(parts: PublishingParts) {
    this.#parts = parts
  }

  /**
   * Publishes a manifest, durably, then sets its tags. Throws MANIFEST_BLOB_UNKNOWN if the repository lacks
   * what the manifest names. Returns the warnings of the rules.
   */
  async publish(publication: Publication): Promise<readonly string[]> {
    const { place, digest, manifest, tags } = publication
    const named = requiredBy(manifest)
    const keys = {
      shared: [digest, ...named.blobs, ...named.manifests],
      alone: tags.map(tag => tagKey(place, tag)),
    }
    return await this.#turns.take(keys, async () => {
      const warnings = await this.#publishNow(publication, named)
      for (const tag of tags) warnings.push(...(await this.#setTag({ ...publication, tag })))
      this.#parts.onChange(place)
      return warnings
    })
  }

  /**
   * Gives the repository a blob. `bring` makes sure that its content is stored, durably, and returns false if
   * it is not here: the blob is not linked then.
   */
  async link(
    { place, by }: Actor,
    { digest, sizeBytes }: { readonly digest: Digest; readonly sizeBytes: number },
    bring: () => Promise<boolean>,
  ): Promise<boolean> {
    return await this.#turns.take({ shared: [digest] }, async () => {
      const { shelf, clock } = this.#parts
      const act = { kind: 'link', ...place, by, digest, sizeBytes } as const
      await judgeAct(this.#parts.parties, act)
      // Held before it is there: whatever looks for content to remove spares it from now on.
      await shelf.hold(place, digest)
      await this.#parts.marks?.spare(digest)
      if (!(await bring())) return false
      await shelf.know(place)
      const nowMs = clock.wallMs()
      const record = { sizeBytes, mediaType: undefined, pushedAtMs: nowMs, claimedAtMs: nowMs, by }
      await shelf.setContent({ kind: 'hosted-blob', ...place, digest }, record)
      this.#parts.onChange(place)
      await reportAct(this.#parts.parties, act)
      return true
    })
  }

  /**
   * Notes that a client which may push has learned that the content is here. It may skip the upload, so the
   * content must stay for a day, named or not. Returns false if the content was removed meanwhile. A store
   * that takes no records now does not stop a pull: without its mark the content stays for the grace at
   * least.
   */
  async claim(name: ContentName, record: HostedContent): Promise<boolean> {
    const { shelf, clock } = this.#parts
    if (Math.abs(clock.wallMs() - record.claimedAtMs) < CLAIM_RENEWED_MS) return true
    return await this.#turns.take({ shared: [name.digest] }, async () => {
      const current = await shelf.content(name)
      if (current === undefined) return false
      try {
        await shelf.setContent(name, { ...current, claimedAtMs: clock.wallMs() }, 'relaxed')
      } catch (error) {
        this.#parts.unclaimed?.(error)
      }
      const wasMarked = (await this.#parts.marks?.spare(name.digest)) ?? false
      return !wasMarked || (await shelf.content(name)) !== undefined
    })
  }

  /** Sets a tag to a manifest that the repository has; MANIFEST_UNKNOWN if it does not. */
  async tag({ place, by }: Actor, tag: Tag, digest: Digest): Promise<readonly string[]> {
    return await this.#turns.take({ shared: [digest], alone: [tagKey(place, tag)] }, async () => {
      const found = await this.#parts.shelf.content({ kind: 'hosted-manifest', ...place, digest })
      if (found === undefined)
        throw new OciError('MANIFEST_UNKNOWN', `this repository has no manifest ${digest}`)
      const warnings = await this.#setTag({ place, by, tag, digest })
      this.#parts.onChange(place)
      return warnings
    })
  }

  /**
   * Removes a tag, unless it was set at another time than meant; `false` if it is not removed. The manifest
   * stays.
   */
  async untag({ place, by }: Actor, tag: Tag, setAtMs?: number): Promise<boolean> {
    return await this.#turns.take({ alone: [tagKey(place, tag)] }, async () => {
      const current = await this.#parts.shelf.tag(place, tag)
      if (setAtMs !== undefined && current?.movedAtMs !== setAtMs) return false
      const wasThere = await this.#removeTag({ place, by }, tag)
      this.#parts.onChange(place)
      return wasThere
    })
  }

  /** Removes a manifest and the tags that name it; `false` if the repository does not have it. */
  async withdraw(actor: Actor, { digest, manifest }: WithdrawnManifest): Promise<boolean> {
    const { shelf, onChange } = this.#parts
    for (;;) {
      const tags = await shelf.tagsOf(actor.place, digest)
      const alone = [digest, ...tags.map(tag => tagKey(actor.place, tag))]
      const wasThere = await this.#turns.take({ alone }, async () => {
        const now = await shelf.tagsOf(actor.place, digest)
        // A tag that was set meanwhile is not ours to remove yet.
        if (now.some(tag => !tags.includes(tag))) return undefined
        return await this.#withdrawNow(actor, { digest, manifest, tags: now })
      })
      onChange(actor.place)
      if (wasThere !== undefined) return wasThere
    }
  }

  /** Removes a manifest if no tag and no other manifest of the repository names it; `false` if it stays. */
  async withdrawUnnamed({ place, by }: Actor, { digest, manifest }: WithdrawnManifest): Promise<boolean> {
    const { shelf, onChange } = this.#parts
    // Whoever is to name it shares its order, so nobody does meanwhile.
    return await this.#turns.take({ alone: [digest] }, async () => {
      if ((await shelf.tagsOf(place, digest)).length > 0) return false
      for await (const { by: namedBy, ...holder } of shelf.holds(digest))
        if (namedBy !== undefined && isSame(holder, place)) return false
      const wasThere = await this.#withdrawNow({ place, by }, { digest, manifest, tags: [] })
      onChange(place)
      return wasThere
    })
  }

  /** Takes a blob from the repository; `false` if it does not have it. */
  async unlink({ place, by }: Actor, digest: Digest): Promise<boolean> {
    return await this.#turns.take({ alone: [digest] }, async () => {
      const { shelf, parties, onChange } = this.#parts
      const name = { kind: 'hosted-blob', ...place, digest } as const
      if ((await shelf.content(name)) === undefined) return false
      const act = { kind: 'unlink', ...place, by, digest } as const
      await judgeAct(parties, act)
      await this.#parts.marks?.suspect(digest)
      await shelf.removeContent(name)
      await this.#letGo(place, digest, 'hosted-manifest')
      onChange(place)
      await reportAct(parties, act)
      return true
    })
  }

  /**
   * Runs an action that needs a digest for itself, such as its collection: no publication, link, claim or
   * removal of the digest runs meanwhile.
   */
  async alone<T>(digest: Digest, action: () => Promise<T>): Promise<T> {
    return await this.#turns.take({ alone: [digest] }, action)
  }

  /** Resolves when all changes that have begun have ended. */
  async settled(): Promise<void> {
    await this.#turns.settled()
  }

  async #publishNow(
    { place, digest, bytes, manifest, by }: Publication,
    named: ReturnType<typeof requiredBy>,
  ): Promise<string[]> {
    const { shelf, clock, parties } = this.#parts
    const name = { kind: 'hosted-manifest', ...place, digest } as const
    const known = await shelf.content(name)
    const { mediaType, subject } = manifest
    const sizeBytes = bytes.byteLength
    const isNew = known === undefined
    const act = { kind: 'publish', ...place, by, digest, mediaType, sizeBytes, subject, isNew } as const
    const warnings = [...(await judgeAct(parties, act))]
    await this.#requireAll(place, named.blobs, 'hosted-blob')
    await this.#requireAll(place, named.manifests, 'hosted-manifest')
    await shelf.know(place)
    await shelf.hold(place, digest)
    const children = [...named.blobs, ...named.manifests]
    await atOnce(children, RECORDS_AT_ONCE, async child => await shelf.hold(place, child, digest))
    if (await this.#spareAll([digest, ...children])) {
      // Another process may have collected something between the check and the holds.
      await this.#requireAll(place, named.blobs, 'hosted-blob')
      await this.#requireAll(place, named.manifests, 'hosted-manifest')
    }
    await this.#store(digest, bytes)
    if (subject !== undefined) await shelf.refer(place, subject, digest)
    const nowMs = clock.wallMs()
    await shelf.setContent(name, { sizeBytes, mediaType, pushedAtMs: nowMs, claimedAtMs: nowMs, by })
    await reportAct(parties, act)
    return warnings
  }

  /** Takes back the marks of digests that are held now; `true` if there were any. */
  async #spareAll(digests: readonly Digest[]): Promise<boolean> {
    const { marks } = this.#parts
    let wereMarked = false
    if (marks === undefined) return wereMarked
    await atOnce(digests, RECORDS_AT_ONCE, async digest => {
      if (await marks.spare(digest)) wereMarked = true
    })
    return wereMarked
  }

  async #requireAll(place: Place, digests: readonly Digest[], kind: HostedKind): Promise<void> {
    const missing: Digest[] = []
    await atOnce(digests, RECORDS_AT_ONCE, async digest => {
      if ((await this.#parts.shelf.content({ kind, ...place, digest })) === undefined) missing.push(digest)
    })
    if (missing.length === 0) return
    const what = kind === 'hosted-blob' ? 'blob' : 'manifest'
    const more = missing.length === 1 ? '' : ` and ${missing.length - 1} more`
    throw new OciError(
      'MANIFEST_BLOB_UNKNOWN',
      `the manifest names the ${what} ${missing[0]}${more}, which this repository does not have`,
    )
  }

  async #store(digest: Digest, bytes: Uint8Array): Promise<void> {
    const { store } = this.#parts
    await using spool = await store.createSpool(digest)
    await spool.clear()
    await spool.append(bytes)
    await store.adopt(spool, digest, bytes.byteLength)
  }

  async #setTag({
    place,
    by,
    tag,
    digest,
  }: Pick<Publication, 'place' | 'by' | 'digest'> & { readonly tag: Tag }): Promise<readonly string[]> {
    const { shelf, clock, parties } = this.#parts
    const from = (await shelf.tag(place, tag))?.digest
    const act = { kind: 'tag', ...place, by, tag, digest, from } as const
    const warnings = await judgeAct(parties, act)
    await setJudgedTag(parties, shelf, act, { digest, movedAtMs: clock.wallMs(), by })
    await reportAct(parties, act)
    return warnings
  }

  async #removeTag({ place, by }: Actor, tag: Tag): Promise<boolean> {
    const { shelf, parties } = this.#parts
    const from = (await shelf.tag(place, tag))?.digest
    if (from === undefined) return false
    const act: Act = { kind: 'untag', ...place, by, tag, from }
    await judgeAct(parties, act)
    await shelf.removeTag(place, tag, from)
    await reportAct(parties, act)
    return true
  }

  async #withdrawNow(
    actor: Actor,
    { digest, manifest, tags }: WithdrawnManifest & { readonly tags: readonly Tag[] },
  ): Promise<boolean> {
    const { shelf, parties } = this.#parts
    const { place, by } = actor
    const name = { kind: 'hosted-manifest', ...place, digest } as const
    if ((await shelf.content(name)) === undefined) return false
    const act: Act = { kind: 'withdraw', ...place, by, digest }
    await judgeAct(parties, act)
    for (const tag of tags) await this.#removeTag(actor, tag)
    await this.#parts.marks?.suspect(digest)
    await shelf.removeContent(name)
    if (manifest?.subject !== undefined) await shelf.unrefer(place, manifest.subject, digest)
    const { blobs, manifests } = manifest === undefined ? NOTHING : requiredBy(manifest)
    await atOnce(
      [...blobs, ...manifests],
      RECORDS_AT_ONCE,
      async child => await shelf.letGo(place, child, digest),
    )
    await this.#letGo(place, digest, 'hosted-blob')
    await reportAct(parties, act)
    return true
  }

  /** Ends the hold of a repository on its own content, unless it also has it as the other kind. */
  async #letGo(place: Place, digest: Digest, other: HostedKind): Promise<void> {
    const { shelf } = this.#parts
    if ((await shelf.content({ kind: other, ...place, digest })) === undefined)
      await shelf.letGo(place, digest)
  }
}

/** A manifest that is removed; `manifest` is `undefined` if its bytes are lost. */
export interface WithdrawnManifest {
  readonly digest: Digest
  readonly manifest: PushedManifest | undefined
}

const NOTHING = { blobs: [], manifests: [] } as const

function isSame(one: Place, other: Place): boolean {
  return one.namespace === other.namespace && one.repository === other.repository
}

function tagKey({ namespace, repository }: Place, tag: Tag): string {
  return `${namespace}/${repository}:${tag}`
}
