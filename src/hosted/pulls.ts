import { DamagedRecordError, openRecord, sealRecord } from '../content/sealed-record.ts'
import type { Clock } from '../lib/clock.ts'
import { Turns } from '../lib/turns.ts'
import type { Events } from '../observe/events.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { Store } from '../storage/store.ts'

/** A record is at most 64 KiB: with more records there is room for more tags. */
const SHARDS = 16
/** Room for the sum and the time beside the tags. */
const TAG_BYTES_MAX = 60_000
const FLUSH_EVERY_MS = 10 * 60_000
/** Tags that are pulled between two flushes before one is due at once. */
const PENDING_MAX = 20_000

interface Pulls {
  lastMs: number
  hits: number
}

/** Pulls of some of the tags of a repository. A tag that is not among them was last pulled at `sinceMs`. */
interface Shard {
  sinceMs: number
  readonly tags: Map<string, Pulls>
}

/** The last pull of a tag, as far as it is known. */
export interface LastPull {
  /** The latest time at which it may have been pulled. */
  readonly latestMs: number
  /** `undefined` if no pull is known. */
  readonly knownMs: number | undefined
  readonly hits: number
}

export interface PullBookParts {
  readonly store: Store
  readonly clock: Pick<Clock, 'wallMs'>
  readonly events: Pick<Events, 'recordDamaged' | 'storageFailed'>
  /** True if the repository falls to a claim. */
  readonly isClaimed: (place: Place) => boolean
  /** True if it ever had a push. Until then a fallback may serve it. */
  readonly isHosted: (place: Place) => Promise<boolean>
}

/**
 * When the tags of hosted repositories were last pulled. Pulls are noted in memory and written every ten
 * minutes, so a crash loses at most those. What is lost never makes a tag look old: a record says since when
 * it is kept, and before that everything may have been pulled.
 */
export class PullBook implements AsyncDisposable {
  readonly #parts: PullBookParts
  /** By repository, then by tag. */
  #pending = new Map<string, { readonly place: Place; readonly tags: Map<Tag, Pulls> }>()
  #pendingTags = 0
  readonly #turns = new Turns<'flush'>()
  readonly #timer: NodeJS.Timeout

  constructor(parts: PullBookParts) {
    this.#parts = parts
    this.#timer = setInterval(() => void this.flush(), FLUSH_EVERY_MS).unref()
  }

  /** Notes pulls of a tag that were answered. */
  note(place: Place, tag: Tag, hits: number): void {
    if (!this.#parts.isClaimed(place)) return
    const key = `${place.namespace}/${place.repository}`
    const { namespace, repository } = place
    const noted = this.#pending.get(key) ?? { place: { namespace, repository }, tags: new Map<Tag, Pulls>() }
    this.#pending.set(key, noted)
    const known = noted.tags.get(tag)
    const nowMs = this.#parts.clock.wallMs()
    noted.tags.set(tag, { lastMs: nowMs, hits: (known?.hits ?? 0) + hits })
    if (known !== undefined) return
    this.#pendingTags += 1
    if (this.#pendingTags === PENDING_MAX) void this.flush()
  }

  /** Writes what was noted. What cannot be written is kept for the next time, within limits. */
  async flush(): Promise<void> {
    await this.#turns.take('flush', async () => {
      const pending = this.#pending
      this.#pending = new Map()
      this.#pendingTags = 0
      for (const { place, tags } of pending.values()) {
        try {
          if (await this.#parts.isHosted(place)) await this.#write(place, tags)
        } catch (error) {
          this.#parts.events.storageFailed('pulls', error)
          this.#putBack(place, tags)
        }
      }
    })
  }

  /**
   * The last pulls of tags of a repository. `begins` notes durably enough from when on they are recorded, so
   * that tags which nobody pulls become old.
   */
  async last(
    place: Place,
    tags: readonly Tag[],
    { begins }: { readonly begins: boolean },
  ): Promise<ReadonlyMap<Tag, LastPull>> {
    if (begins) await this.flush()
    const nowMs = this.#parts.clock.wallMs()
    const shards = new Map<number, Shard>()
    for (const shard of new Set(tags.map(shardOf))) shards.set(shard, await this.#read(place, shard, begins))
    const noted = this.#pending.get(`${place.namespace}/${place.repository}`)?.tags
    return new Map(
      tags.map(tag => {
        const shard = shards.get(shardOf(tag))
        const known = shard?.tags.get(tag)
        const recent = noted?.get(tag)
        const knownMs = recent?.lastMs ?? known?.lastMs
        const latestMs = knownMs ?? shard?.sinceMs ?? nowMs
        return [tag, { latestMs, knownMs, hits: (known?.hits ?? 0) + (recent?.hits ?? 0) }]
      }),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    await this.flush()
  }

  /** Adds to the records. Another process may write the same one: the later of two pulls counts. */
  async #write(place: Place, tags: ReadonlyMap<Tag, Pulls>): Promise<void> {
    for (const number of new Set([...tags.keys()].map(shardOf))) {
      const shard = await this.#read(place, number, false)
      for (const [tag, { lastMs, hits }] of tags) {
        if (shardOf(tag) !== number) continue
        const known = shard.tags.get(tag)
        shard.tags.set(tag, {
          lastMs: Math.max(lastMs, known?.lastMs ?? 0),
          hits: hits + (known?.hits ?? 0),
        })
      }
      await this.#save(place, number, shard)
    }
  }

  async #save(place: Place, shard: number, content: Shard): Promise<void> {
    const name = { kind: 'pulls', ...placeOf(place), shard } as const
    await this.#parts.store.writeRecord(name, writeShard(content), 'relaxed')
  }

  /** A record that is absent or damaged begins now. */
  async #read(place: Place, number: number, begins: boolean): Promise<Shard> {
    const bytes = await this.#parts.store.readRecord({ kind: 'pulls', ...placeOf(place), shard: number })
    try {
      if (bytes !== undefined) return readShard(bytes)
    } catch (error) {
      if (!(error instanceof DamagedRecordError)) throw error
      this.#parts.events.recordDamaged('pulls', 'rebuilt', error)
    }
    const shard: Shard = { sinceMs: this.#parts.clock.wallMs(), tags: new Map() }
    if (begins) await this.#save(place, number, shard)
    return shard
  }

  #putBack(place: Place, tags: ReadonlyMap<Tag, Pulls>): void {
    for (const [tag, { lastMs, hits }] of tags) {
      if (this.#pendingTags >= PENDING_MAX) return
      const key = `${place.namespace}/${place.repository}`
      const noted = this.#pending.get(key) ?? { place, tags: new Map<Tag, Pulls>() }
      this.#pending.set(key, noted)
      const newer = noted.tags.get(tag)
      if (newer === undefined) this.#pendingTags += 1
      noted.tags.set(tag, { lastMs: newer?.lastMs ?? lastMs, hits: (newer?.hits ?? 0) + hits })
    }
  }
}

function placeOf({ namespace, repository }: Place): Place {
  return { namespace, repository }
}

function shardOf(tag: Tag): number {
  let sum = 0
  for (let index = 0; index < tag.length; index += 1) sum = (sum * 31 + tag.charCodeAt(index)) % 65_521
  return sum % SHARDS
}

/** Drops the tags whose last pull is longest ago if there is no room: they may have been pulled as late. */
function writeShard({ sinceMs, tags }: Shard): Uint8Array {
  const latest = [...tags].toSorted(([, one], [, other]) => other.lastMs - one.lastMs)
  const written: Record<string, readonly [number, number]> = {}
  let bytes = 0
  let since = sinceMs
  for (const [tag, { lastMs, hits }] of latest) {
    bytes += tag.length + 40
    if (bytes <= TAG_BYTES_MAX) written[tag] = [lastMs, hits]
    else since = Math.max(since, lastMs)
  }
  return sealRecord({ since: new Date(since).toISOString(), tags: written })
}

function readShard(bytes: Uint8Array): Shard {
  const { since, tags } = openRecord(bytes).value as { since?: unknown; tags?: unknown }
  const sinceMs = Date.parse(String(since))
  if (Number.isNaN(sinceMs) || typeof tags !== 'object' || tags === null)
    throw new DamagedRecordError('this is no record of pulls')
  const read = Object.entries(tags).map(([tag, entry]: [string, unknown]) => {
    const [lastMs, hits] = Array.isArray(entry) ? entry.map(Number) : []
    if (!Number.isSafeInteger(lastMs) || !Number.isSafeInteger(hits))
      throw new DamagedRecordError('a pull is invalid')
    return [tag, { lastMs: Number(lastMs), hits: Number(hits) }] as const
  })
  return { sinceMs, tags: new Map(read) }
}
