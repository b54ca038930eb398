import type { Clock } from '../lib/clock.ts'
import { SharedCalls } from '../lib/flights.ts'
import { lruCache } from '../lib/lru.ts'
import { Turns } from '../lib/turns.ts'
import { UPSTREAM_ACTOR } from '../observe/event.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import { overloaded } from '../oci/error.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { RecordName } from '../storage/store.ts'
import { Epoch } from './epoch.ts'
import { DamagedRecordError } from './sealed-record.ts'
import { TagHistory, type TagHistoryParts, type TagMove } from './tag-history.ts'
import { readTagRecord, type TagRecord, writeTagRecord } from './tag-record.ts'

const REMEMBERED_MAX = 20_000
/**
 * Most tags waiting for one manifest. An upstream that gives every tag the same digest but never delivers the
 * manifest must not fill the memory.
 */
const EXPECTED_MAX = 100
const LOADS_MAX = 4096
const LOST_MAX = 1000
/** A tag that is not held any more counts as confirmed this long ago: older than any that is fresh. */
const RELEASED_AGE_MS = 24 * 3_600_000

/** Meaning of a tag when its upstream was last asked. */
export interface KnownTag {
  readonly digest: Digest
  /** Milliseconds since the upstream confirmed it. */
  readonly ageMs: number
  /** Milliseconds since the upstream was found to lack the tag; `undefined` if it has the tag. */
  readonly lostForMs?: number | undefined
  /** The administrator who fixed the tag to the digest; `undefined` if it follows its upstream. */
  readonly heldBy?: string | undefined
  /** True if another replica knows of a later move. */
  readonly isDoubted?: true
}

/** A tag known here that its upstream no longer has. */
export interface LostTag extends Place {
  readonly tag: Tag
  readonly lostForMs: number
}

interface Entry {
  readonly digest: Digest
  readonly checkedAtMonotonicMs: number
  readonly lostAtMonotonicMs?: number | undefined
  readonly heldBy?: string | undefined
  readonly isDoubted?: true
}

/**
 * Meaning of tags, on disk and in memory. The disk holds the wall-clock time of the last confirmation. Memory
 * holds its monotonic time, so that a jump of the wall clock ages nothing that this process has seen. A time
 * in the future counts as now and is corrected on disk: no clock jump makes a tag immortal.
 *
 * A tag moves in two steps: {@link expect} when the upstream names a new digest, {@link confirm} once that
 * manifest is durable. Until then readers see the old meaning (or none), never a tag whose manifest is
 * missing.
 */
export class Tags {
  readonly #store: TagHistoryParts['store']
  readonly #events: Events
  readonly #clock: Clock
  readonly #epoch: Epoch
  readonly #remembered = lruCache<string, Entry>(REMEMBERED_MAX)
  readonly #lost = lruCache<string, Omit<LostTag, 'lostForMs'> & { readonly atMs: number }>(LOST_MAX)
  /** Tags whose new manifest is not stored yet, by its place and digest. */
  readonly #expected = lruCache<string, Map<Tag, number>>(REMEMBERED_MAX)
  /** Time of the last removal of a tag: it cancels what was expected before. */
  readonly #removedAtMs = lruCache<string, number>(REMEMBERED_MAX)
  /**
   * Writes and removals of one record run in the order of the calls, so that a write under way does not undo
   * a later removal.
   */
  readonly #turns = new Turns<string>()
  readonly #loads = new SharedCalls<Entry | undefined>(LOADS_MAX, overloaded)
  /** Every move of each tag. */
  readonly history: TagHistory
  /** Number of tags removed so far. */
  #removals = 0

  constructor(store: TagHistoryParts['store'], events: Events, clock: Clock, epoch: Epoch = new Epoch()) {
    this.#store = store
    this.#events = events
    this.#clock = clock
    this.#epoch = epoch
    this.history = new TagHistory({ store, clock, events })
  }

  /** The known meaning of the tag; unknown if the store cannot be read or the record is damaged. */
  async read(place: Place, tag: Tag): Promise<KnownTag | undefined> {
    const key = keyOf(place, tag)
    const known = this.#remembered.get(key) ?? (await this.#load(place, tag))
    // A write during the read is newer than the record.
    const entry = this.#remembered.get(key) ?? known
    if (entry === undefined) return undefined
    return this.#known(entry)
  }

  /** Tags that their upstreams have lost, among those this process has seen; at most 1,000. */
  get lost(): readonly LostTag[] {
    const nowMs = this.#clock.monotonicMs()
    return [...this.#lost.values()].map(({ atMs, ...tag }) => ({ ...tag, lostForMs: nowMs - atMs }))
  }

  /**
   * Records durably that the upstream maps the tag to this digest, whose manifest is stored, and said so
   * `ageMs` ago. Does nothing if the tag is held.
   */
  async write(place: Place, tag: Tag, digest: Digest, ageMs = 0): Promise<void> {
    if (this.#isHeld(place, tag)) return
    await this.#move(place, tag, { digest, checkedAtMonotonicMs: this.#clock.monotonicMs() - ageMs })
  }

  /**
   * Records durably when the upstream was found to lack the tag, which mapped to this digest. Returns `false`
   * if that was known, or if the tag has moved meanwhile.
   */
  async lose(place: Place, tag: Tag, digest: Digest): Promise<boolean> {
    const key = keyOf(place, tag)
    const entry = this.#remembered.get(key)
    if (entry === undefined || entry.digest !== digest || entry.lostAtMonotonicMs !== undefined) return false
    if (entry.heldBy !== undefined) return false
    const lost = { ...entry, lostAtMonotonicMs: this.#clock.monotonicMs() }
    this.#remember(place, tag, lost)
    await this.#save(place, tag, this.#known(lost))
    return true
  }

  /**
   * Notes that the upstream maps the tag to this digest, whose manifest is not stored yet, and said so
   * `ageMs` ago.
   */
  expect(place: Place, tag: Tag, digest: Digest, ageMs = 0): void {
    const key = expectedKey(place, digest)
    this.#removedAtMs.delete(keyOf(place, tag))
    const tags = this.#expected.get(key) ?? new Map<Tag, number>()
    tags.delete(tag)
    tags.set(tag, this.#clock.monotonicMs() - ageMs)
    const [oldest] = tags.keys()
    if (tags.size > EXPECTED_MAX && oldest !== undefined) tags.delete(oldest)
    this.#expected.set(key, tags)
  }

  /** Moves the tags that waited for this manifest, which is now stored. */
  async confirm(place: Place, digest: Digest): Promise<void> {
    const key = expectedKey(place, digest)
    const tags = this.#expected.get(key)
    this.#expected.delete(key)
    for (const [tag, checkedAtMonotonicMs] of tags ?? []) {
      const newer = this.#remembered.get(keyOf(place, tag))
      if (newer !== undefined && newer.checkedAtMonotonicMs > checkedAtMonotonicMs) continue
      if (newer?.heldBy !== undefined) continue
      if ((this.#removedAtMs.get(keyOf(place, tag)) ?? -Infinity) >= checkedAtMonotonicMs) continue
      await this.#move(place, tag, { digest, checkedAtMonotonicMs })
    }
  }

  /**
   * Fixes a tag to a digest, durably: it does not follow its upstream until {@link release}. Throws if the
   * store cannot keep that. Returns the digest that it had before.
   */
  async hold(place: Place, tag: Tag, digest: Digest, by: string): Promise<Digest | undefined> {
    const before = (await this.read(place, tag))?.digest
    const entry = { digest, checkedAtMonotonicMs: this.#clock.monotonicMs(), heldBy: by }
    await this.#decide(place, tag, entry)
    await this.#report(place, tag, { digest, before, by })
    return before
  }

  /** Lets a tag follow its upstream again, from the next pull on; `false` if it was not held. */
  async release(place: Place, tag: Tag): Promise<boolean> {
    const known = await this.read(place, tag)
    if (known?.heldBy === undefined) return false
    // The age of the last confirmation makes the tag stale, so that the upstream is asked.
    const entry = { digest: known.digest, checkedAtMonotonicMs: this.#clock.monotonicMs() - RELEASED_AGE_MS }
    await this.#decide(place, tag, entry)
    return true
  }

  /**
   * Has the upstream asked at the next pull of a tag, unless the tag is held or known to mean this digest:
   * another replica has seen it move.
   */
  async doubt(place: Place, tag: Tag, digest: Digest | undefined): Promise<void> {
    const key = keyOf(place, tag)
    const entry = this.#remembered.get(key) ?? (await this.#load(place, tag))
    if (entry === undefined || entry.digest === digest || entry.heldBy !== undefined) return
    if (this.#remembered.get(key) === entry) this.#remembered.set(key, { ...entry, isDoubted: true })
  }

  /** Forgets a tag; `false` if it was not known. */
  async remove(place: Place, tag: Tag): Promise<boolean> {
    const key = keyOf(place, tag)
    this.#removals += 1
    this.#removedAtMs.set(key, this.#clock.monotonicMs())
    const wasRemembered = this.#remembered.delete(key)
    this.#lost.delete(key)
    try {
      const wasStored = this.#turns.take(
        key,
        async () => await this.#store.deleteRecord(recordOf(place, tag)),
      )
      return (await wasStored) || wasRemembered
    } finally {
      this.#epoch.bump({ kind: 'place', place })
    }
  }

  /** Sets what an administrator decided: in memory first, so that no answer of the upstream comes between. */
  async #decide(place: Place, tag: Tag, entry: Entry): Promise<void> {
    this.#remember(place, tag, entry)
    try {
      await this.#write(place, tag, this.#known(entry))
    } catch (error) {
      this.#remembered.delete(keyOf(place, tag))
      throw error
    }
  }

  /** Sets the meaning of a tag, in memory at once, and reports it if the tag had another one. */
  async #move(place: Place, tag: Tag, entry: Entry): Promise<void> {
    const before = this.#remembered.get(keyOf(place, tag))?.digest
    this.#remember(place, tag, entry)
    await this.#save(place, tag, this.#known(entry))
    if (before === entry.digest) return
    // No pull waits for the history.
    void this.#report(place, tag, { digest: entry.digest, before, by: UPSTREAM_ACTOR })
  }

  async #report(
    { namespace, repository }: Place,
    tag: Tag,
    {
      digest,
      before,
      by,
    }: Pick<TagMove, 'by'> & { readonly digest: Digest; readonly before: Digest | undefined },
  ): Promise<void> {
    const place = { namespace, repository }
    if (before !== undefined && before !== digest)
      this.#events.tagMoved({ ...place, tag, digest, before, by })
    await this.history.add(place, tag, { digest, by }, 'relaxed')
  }

  #isHeld(place: Place, tag: Tag): boolean {
    return this.#remembered.get(keyOf(place, tag))?.heldBy !== undefined
  }

  #remember(place: Place, tag: Tag, entry: Entry): void {
    const key = keyOf(place, tag)
    const older = this.#remembered.get(key)
    this.#remembered.set(key, entry)
    this.#noteLost(place, tag, entry)
    const isSame =
      older?.digest === entry.digest &&
      older.lostAtMonotonicMs === entry.lostAtMonotonicMs &&
      older.heldBy === entry.heldBy
    if (!isSame) this.#epoch.bump({ kind: 'place', place })
  }

  #noteLost({ namespace, repository }: Place, tag: Tag, { lostAtMonotonicMs: atMs }: Entry): void {
    const key = keyOf({ namespace, repository }, tag)
    if (atMs === undefined) this.#lost.delete(key)
    else this.#lost.set(key, { namespace, repository, tag, atMs })
  }

  #known({ digest, checkedAtMonotonicMs, lostAtMonotonicMs: lostAtMs, heldBy, isDoubted }: Entry): KnownTag {
    const nowMs = this.#clock.monotonicMs()
    return {
      digest,
      ageMs: nowMs - checkedAtMonotonicMs,
      ...(lostAtMs === undefined ? {} : { lostForMs: nowMs - lostAtMs }),
      ...(heldBy === undefined ? {} : { heldBy }),
      ...(isDoubted === undefined ? {} : { isDoubted }),
    }
  }

  async #load(place: Place, tag: Tag): Promise<Entry | undefined> {
    // A caller that asks after a removal must not share a load that began before it.
    const key = `${keyOf(place, tag)} ${this.#removals}`
    return await this.#loads.call(key, async () => await this.#loadNow(place, tag)).job
  }

  async #loadNow(place: Place, tag: Tag): Promise<Entry | undefined> {
    const key = keyOf(place, tag)
    const removals = this.#removals
    await this.#turns.settled(key)
    const record = await this.#readRecord(place, tag)
    if (record === undefined) return undefined
    const entry = this.#entryOf(record)
    const isFromTheFuture = record.checkedAtMs > this.#clock.wallMs()
    // A tag was removed during the read; it may have been this one.
    if (removals !== this.#removals || this.#remembered.has(key)) return entry
    this.#remembered.set(key, entry)
    this.#noteLost(place, tag, entry)
    if (isFromTheFuture) await this.#save(place, tag, this.#known(entry))
    return entry
  }

  /** Times in the future count as now. */
  #entryOf({ digest, checkedAtMs, lostAtMs, heldBy }: TagRecord): Entry {
    const nowMs = this.#clock.monotonicMs()
    const wallMs = this.#clock.wallMs()
    return {
      digest,
      checkedAtMonotonicMs: nowMs - Math.max(0, wallMs - checkedAtMs),
      lostAtMonotonicMs: lostAtMs === undefined ? undefined : nowMs - Math.max(0, wallMs - lostAtMs),
      heldBy,
    }
  }

  async #readRecord(place: Place, tag: Tag): Promise<TagRecord | undefined> {
    try {
      const bytes = await this.#store.readRecord(recordOf(place, tag))
      if (bytes === undefined) return undefined
      return readTagRecord(bytes)
    } catch (error) {
      // The next answer of the upstream replaces the damaged record.
      if (error instanceof DamagedRecordError) this.#events.recordDamaged('tag', 'forgotten', error)
      else this.#events.storageFailed('read-tag', error)
      return undefined
    }
  }

  async #save(place: Place, tag: Tag, known: KnownTag): Promise<void> {
    try {
      await this.#write(place, tag, known)
    } catch (error) {
      this.#events.storageFailed('write-tag', error)
    }
  }

  async #write(place: Place, tag: Tag, { digest, ageMs, lostForMs, heldBy }: KnownTag): Promise<void> {
    const wallMs = this.#clock.wallMs()
    const lostAtMs = lostForMs === undefined ? undefined : wallMs - lostForMs
    const bytes = writeTagRecord({ digest, checkedAtMs: wallMs - ageMs, lostAtMs, heldBy })
    const write = async (): Promise<void> =>
      await this.#store.writeRecord(recordOf(place, tag), bytes, 'durable')
    await this.#turns.take(keyOf(place, tag), write)
  }
}

function keyOf(place: Place, tag: Tag): string {
  return `${place.namespace}/${place.repository}:${tag}`
}

function expectedKey(place: Place, digest: Digest): string {
  return `${place.namespace}/${place.repository}@${digest}`
}

function recordOf({ namespace, repository }: Place, tag: Tag): RecordName {
  return { kind: 'tag', namespace, repository, tag }
}
