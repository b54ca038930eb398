import type { JobTurn } from '../content/job-turns.ts'
import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import type { Place } from '../oci/place.ts'
import type { Store } from '../storage/store.ts'
import type { CollectionMark, CollectionMarks, DigestRemoval } from './collection-marks.ts'
import type { Publishing } from './publishing.ts'
import type { ContentName, Shelf } from './shelf.ts'

/** A client may rely on what it was told for a day; a claim is written anew only once an hour. */
const CLAIM_MS = 25 * 3_600_000
/**
 * Time for which a hold without the record that it stands for is kept: it belongs to a push that is under way
 * in another process, or that ended in a crash.
 */
const LOOSE_HOLD_MS = 24 * 3_600_000
/**
 * Time for which a mark stays: one of removed content is for processes that have just looked at the content,
 * one of content that is in use for a process that is about to let it go.
 */
const MARK_MS = 3_600_000

export interface CollectionParts {
  /** Deletes without a further announcement: the collection has made one. */
  readonly store: Pick<Store, 'delete' | 'open'>
  readonly shelf: Shelf
  readonly publishing: Pick<Publishing, 'alone'>
  readonly marks: CollectionMarks
  readonly clock: Clock
  readonly events: Pick<Events, 'storageFailed' | 'collected' | 'hostedContentLost'>
  /** Time between the discovery that nothing needs a digest and its removal. */
  readonly graceMs: number
  /** The subject of a stored manifest, as far as it can be read. */
  readonly subjectOf: (digest: Digest) => Promise<Digest | undefined>
  /** True if mirrored repositories use the content too: then eviction decides about it. */
  readonly isCached: (digest: Digest) => Promise<boolean>
  /** Called after content was removed. */
  readonly removed: (digest: Digest) => Promise<void>
}

/** Decision about one digest, with the reason for a person. */
export interface Verdict {
  readonly digest: Digest
  readonly sizeBytes: number
  /** Bytes that the store gets back: 0 where another repository, or the cache, still has the content. */
  readonly freedBytes: number
  /** Repositories that lose the blob. */
  readonly places: readonly Place[]
  readonly action: 'keep' | 'mark' | 'remove'
  readonly why: string
}

export interface CollectOptions {
  /** Say what would happen, and change nothing. */
  readonly isDry: boolean
}

/** What a digest is needed for, as far as the records say now. */
interface Need {
  /** Why it must stay; `undefined` if nothing needs it. */
  readonly why: string | undefined
  /** Repositories that have it as a blob which nothing in them needs. */
  readonly idle: readonly Place[]
  readonly loose: readonly (Place & { readonly by: Digest | undefined })[]
  readonly sizeBytes: number
  /** A record which says that a repository has it. */
  readonly owner: ContentName | undefined
}

/**
 * Removes content that nothing needs: blobs that no manifest of their repository names and that nobody has
 * claimed for a day, and content that no repository holds any more. It runs beside pushes and pulls. The walk
 * over all holds only finds candidates; each is decided by itself, under the order of its digest, from
 * its own records, twice with a grace between. A digest that cannot be decided stays.
 *
 * One process collects at a time, but two do no harm: each removal of a digest is announced by a record that
 * is created once, so a second collector leaves the digest alone until the first has ended, and a push that
 * finds the mark of a removal waits.
 */
export class Collection {
  readonly #parts: CollectionParts

  constructor(parts: CollectionParts) {
    this.#parts = parts
  }

  /** Goes over everything once. Yields a verdict for each digest that is not simply in use. */
  async *collect({ isDry }: CollectOptions, turn: JobTurn): AsyncGenerator<Verdict> {
    let last: Digest | undefined
    for await (const digest of this.#candidates()) {
      turn.requireHeld()
      // The holds of one digest come together.
      if (digest === last) continue
      last = digest
      const verdict = await this.#judge(digest, isDry)
      if (verdict !== undefined) yield verdict
    }
  }

  async *#candidates(): AsyncGenerator<Digest> {
    const { shelf, marks } = this.#parts
    const marked = new Set<Digest>()
    for await (const digest of marks.digests()) {
      marked.add(digest)
      yield digest
    }
    for await (const digest of shelf.heldDigests()) if (!marked.has(digest)) yield digest
  }

  async #judge(digest: Digest, isDry: boolean): Promise<Verdict | undefined> {
    const { publishing, events } = this.#parts
    try {
      const mark = await this.#parts.marks.read(digest)
      // Most digests are in use, which needs no order to see.
      const first = await this.#needOf(digest)
      if (mark === undefined && isInUse(first)) {
        await this.#reportLost(digest, first.owner)
        return undefined
      }
      if (isDry) return await this.#verdict(digest, first)
      return await publishing.alone(digest, async () => await this.#decide(digest))
    } catch (error) {
      // A store that does not answer says nothing about what is needed.
      events.storageFailed('collect', error)
      return undefined
    }
  }

  /** Reports content that a repository has by its records, and that is not stored. */
  async #reportLost(digest: Digest, owner: ContentName | undefined): Promise<void> {
    const { store, shelf, events } = this.#parts
    if (owner === undefined) return
    await using object = await store.open(digest)
    if (object !== undefined || (await shelf.content(owner)) === undefined) return
    const { namespace, repository } = owner
    events.hostedContentLost({ namespace, repository, digest })
  }

  /** Decides about a digest that nothing else in this process touches meanwhile, and no other collection. */
  async #decide(digest: Digest): Promise<Verdict> {
    const { marks } = this.#parts
    const removal = await marks.beginRemoval(digest)
    if (removal === undefined) {
      const why = 'another process decides about it'
      return { digest, sizeBytes: 0, freedBytes: 0, places: [], action: 'keep', why }
    }
    try {
      return await this.#decideAlone(digest, removal)
    } finally {
      await removal.end()
    }
  }

  async #decideAlone(digest: Digest, removal: DigestRemoval): Promise<Verdict> {
    const { marks, clock } = this.#parts
    const verdict = await this.#verdict(digest, await this.#needOf(digest))
    if (verdict.action === 'remove') return await this.#remove(digest, removal)
    const mark = await marks.read(digest)
    removal.requireFresh()
    if (verdict.action === 'mark' && mark === undefined) await marks.suspect(digest)
    if (verdict.action === 'keep' && mark !== undefined && clock.wallMs() - mark.atMs > MARK_MS)
      await this.#clear(digest, mark.state)
    return verdict
  }

  /** Another process may have let the digest go since the last look, and have relied on the mark. */
  async #clear(digest: Digest, state: CollectionMark['state']): Promise<void> {
    const { marks } = this.#parts
    await marks.clear(digest)
    if (state !== 'removed' && !isInUse(await this.#needOf(digest))) await marks.suspect(digest)
  }

  async #verdict(digest: Digest, need: Need): Promise<Verdict> {
    const { marks, graceMs, clock } = this.#parts
    const { sizeBytes, idle: places, why } = need
    const kept = { digest, sizeBytes, freedBytes: 0, places, action: 'keep' } as const
    if (isInUse(need)) return { ...kept, why: why ?? 'it is in use' }
    const mark = await marks.read(digest)
    if (mark?.state === 'removed') return { ...kept, why: 'it is gone' }
    // Nobody else removes it now, so a mark of a removal is that of a process which died.
    const isDue = clock.wallMs() - (mark?.atMs ?? clock.wallMs()) >= graceMs
    const reason = why === undefined ? 'no manifest names it, and no claim holds it' : `idle here; ${why}`
    const action = isDue ? 'remove' : 'mark'
    const isFreed = isDue && why === undefined && !(await this.#parts.isCached(digest))
    return { digest, sizeBytes, freedBytes: isFreed ? sizeBytes : 0, places, action, why: reason }
  }

  /** Looks a last time, after the mark says so to the other processes, and removes what nothing needs. */
  async #remove(digest: Digest, removal: DigestRemoval): Promise<Verdict> {
    const { marks, shelf, store, events } = this.#parts
    removal.requireFresh()
    await marks.write(digest, 'removing')
    const need = await this.#needOf(digest)
    // Another process may have taken this one for dead, and have marked the digest itself.
    removal.requireFresh()
    if (isInUse(need)) {
      // Whoever lets it go just now relies on a mark.
      await marks.write(digest, 'unneeded')
      const { sizeBytes, why = 'it is in use' } = need
      return { digest, sizeBytes, freedBytes: 0, places: [], action: 'keep', why }
    }
    for (const place of need.idle) {
      removal.requireFresh()
      await shelf.removeContent({ kind: 'hosted-blob', ...place, digest })
      removal.requireFresh()
      await shelf.letGo(place, digest)
    }
    const subject = need.loose.length === 0 ? undefined : await this.#parts.subjectOf(digest)
    for (const { by, ...place } of need.loose) {
      removal.requireFresh()
      if (by === undefined) await shelf.forgetNotes(place, digest, subject)
      removal.requireFresh()
      await shelf.letGo(place, digest, by)
    }
    let [freedBytes, why] = [0, need.why ?? 'no manifest names it, and no claim holds it']
    if (need.why === undefined) {
      if (await this.#parts.isCached(digest))
        why = `${why}; mirrored repositories have it, so eviction decides`
      else {
        removal.requireFresh()
        if (await store.delete(digest)) freedBytes = need.sizeBytes
      }
      await this.#parts.removed(digest)
    }
    events.collected({ digest, bytes: freedBytes })
    removal.requireFresh()
    await marks.write(digest, 'removed')
    return { digest, sizeBytes: need.sizeBytes, freedBytes, places: need.idle, action: 'remove', why }
  }

  async #needOf(digest: Digest): Promise<Need> {
    const { shelf } = this.#parts
    const holds = await Array.fromAsync(shelf.holds(digest))
    const idle: Place[] = []
    const loose: Need['loose'][number][] = []
    const reasons: string[] = []
    const naming = new Set<string>()
    let sizeBytes = 0
    let owner: ContentName | undefined
    for (const { by, ...place } of holds) {
      if (by === undefined) continue
      const manifest = await shelf.content({ kind: 'hosted-manifest', ...place, digest: by })
      if (manifest !== undefined) {
        naming.add(textOf(place))
        reasons.push(`${textOf(place)}@${by} names it`)
      } else if (await this.#isLoose(digest, { ...place, by })) loose.push({ ...place, by })
      else {
        naming.add(textOf(place))
        reasons.push(`${textOf(place)}@${by}, which names it, is being pushed`)
      }
    }
    for (const { by, ...place } of holds) {
      if (by !== undefined) continue
      const own = await this.#ownNeed(digest, place)
      sizeBytes = Math.max(sizeBytes, own.sizeBytes)
      owner ??= own.record
      if (own.kind === 'loose') loose.push({ ...place, by })
      else if (own.kind === 'idle' && !naming.has(textOf(place))) idle.push(place)
      else if (own.why !== undefined) reasons.push(own.why)
    }
    if (sizeBytes === 0) sizeBytes = await this.#storedBytes(digest)
    return { why: reasons[0], idle, loose, sizeBytes, owner }
  }

  /** Why the repository itself needs the digest, besides manifests that name it. */
  async #ownNeed(
    digest: Digest,
    place: Place,
  ): Promise<{
    readonly kind: 'needed' | 'idle' | 'loose'
    readonly sizeBytes: number
    readonly why?: string
    readonly record?: ContentName
  }> {
    const { shelf, clock } = this.#parts
    const ofManifest = { kind: 'hosted-manifest', ...place, digest } as const
    const manifest = await shelf.content(ofManifest)
    if (manifest !== undefined) {
      const why = `it is a manifest of ${textOf(place)}`
      return { kind: 'needed', sizeBytes: manifest.sizeBytes, why, record: ofManifest }
    }
    const record = { kind: 'hosted-blob', ...place, digest } as const
    const blob = await shelf.content(record)
    if (blob === undefined) {
      if (await this.#isLoose(digest, { ...place, by: undefined })) return { kind: 'loose', sizeBytes: 0 }
      return { kind: 'needed', sizeBytes: 0, why: `it is being pushed to ${textOf(place)}` }
    }
    // A claim from the future counts as made now.
    const isClaimed = clock.wallMs() - blob.claimedAtMs < CLAIM_MS
    if (!isClaimed && (await this.#isLoose(digest, { ...place, by: undefined })))
      return { kind: 'idle', sizeBytes: blob.sizeBytes, record }
    if (!isClaimed) {
      const why = `it is being pushed to ${textOf(place)} again`
      return { kind: 'needed', sizeBytes: blob.sizeBytes, why, record }
    }
    const until = new Date(blob.claimedAtMs + CLAIM_MS).toISOString()
    const why = `${textOf(place)} claims it until ${until}`
    return { kind: 'needed', sizeBytes: blob.sizeBytes, why, record }
  }

  /** True if a hold without a record is so old that no push can be under way. Each push writes it anew. */
  async #isLoose(digest: Digest, hold: Place & { readonly by: Digest | undefined }): Promise<boolean> {
    return ((await this.#parts.shelf.holdAgeMs(hold, digest, hold.by)) ?? 0) >= LOOSE_HOLD_MS
  }

  async #storedBytes(digest: Digest): Promise<number> {
    await using object = await this.#parts.store.open(digest)
    return object?.sizeBytes ?? 0
  }
}

function isInUse({ why, idle, loose }: Need): boolean {
  return why !== undefined && idle.length === 0 && loose.length === 0
}

function textOf({ namespace, repository }: Place): string {
  return `${namespace}/${repository}`
}
