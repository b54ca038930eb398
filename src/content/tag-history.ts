import { randomBytes, randomInt } from 'node:crypto'
import type { Clock } from '../lib/clock.ts'
import { Turns } from '../lib/turns.ts'
import type { Events } from '../observe/events.ts'
import { type Digest, parseDigest } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { Durability, RecordName, Store, StoreWrite } from '../storage/store.ts'
import { DamagedRecordError, openRecord, sealRecord } from './sealed-record.ts'

/** Most moves that are kept of one tag. */
const MOVES_MAX = 100
const KEPT_FOR_MS = 90 * 24 * 3_600_000
/** One in about this many moves looks for old ones to remove. */
const MOVES_TO_TIDY = 16
/** Longest name of an identity that is kept. */
const BY_LENGTH_MAX = 128

/** One move of a tag. */
export interface TagMove {
  /** Manifest that the tag names since then; `undefined` if the tag was deleted. */
  readonly digest: Digest | undefined
  readonly atMs: number
  /** The identity that moved it, or `upstream`. */
  readonly by: string
}

type HistoryWrite = Extract<StoreWrite, { readonly kind: 'record' }>

export interface TagHistoryParts {
  readonly store: Pick<Store, 'deleteRecord' | 'listRecordsOf' | 'readRecord' | 'readRecords' | 'writeRecord'>
  readonly clock: Pick<Clock, 'wallMs'>
  readonly events: Pick<Events, 'storageFailed' | 'recordDamaged'>
}

/**
 * Every move of a tag, hosted or mirrored: about 100 of them, or 90 days. Each is a record that is written
 * once, so that a bucket has them too and processes on one store lose none of each other's. What two
 * processes move within the difference of their clocks may be in the wrong order.
 */
export class TagHistory {
  readonly #parts: TagHistoryParts
  readonly #turns = new Turns<string>()
  /** Moves that were written here: they keep their order within a millisecond. */
  #count = 0

  constructor(parts: TagHistoryParts) {
    this.#parts = parts
  }

  /** The moves of a tag, the newest first. Throws if the store cannot be read. */
  async read(place: Place, tag: Tag): Promise<readonly TagMove[]> {
    await this.#turns.settled(keyOf(place, tag))
    return recent(await this.#read(place, tag, MOVES_MAX), this.#parts.clock.wallMs())
  }

  /**
   * Adds a move. The newest move again is not a move. Never rejects: a history that cannot be written is
   * reported, and stops nothing.
   */
  async add(
    place: Place,
    tag: Tag,
    move: Pick<TagMove, 'digest' | 'by'>,
    durability: Durability,
  ): Promise<void> {
    const { store, events } = this.#parts
    try {
      await this.#turns.take(keyOf(place, tag), async () => {
        const [last] = await this.#read(place, tag, 1)
        if (last === undefined ? move.digest === undefined : last.digest === move.digest) return
        const { name, bytes } = this.#writeOf(place, tag, move)
        await store.writeRecord(name, bytes, durability)
        if (isToTidy()) await this.#tidy(place, tag)
      })
    } catch (error) {
      events.storageFailed('write-history', error)
    }
  }

  /** The write that adds what is known to be a move, for whoever writes it with the tag. */
  async next(place: Place, tag: Tag, move: Pick<TagMove, 'digest' | 'by'>): Promise<HistoryWrite> {
    await this.#turns.settled(keyOf(place, tag))
    const write = this.#writeOf(place, tag, move)
    if (isToTidy())
      await this.#tidy(place, tag).catch((error: unknown) =>
        this.#parts.events.storageFailed('write-history', error),
      )
    return write
  }

  /** Tags of a repository whose last move is too old to be kept, in no particular order. */
  async restingTags({ namespace, repository }: Place): Promise<readonly Tag[]> {
    const { store, clock } = this.#parts
    const lastMs = new Map<Tag, number>()
    for await (const name of store.listRecordsOf({ kind: 'move', namespace, repository }))
      if (name.kind === 'move')
        lastMs.set(name.tag, Math.max(lastMs.get(name.tag) ?? 0, Number.parseInt(name.id, 10)))
    return [...lastMs].filter(([, atMs]) => clock.wallMs() - atMs >= KEPT_FOR_MS).map(([tag]) => tag)
  }

  /** Removes all moves of a tag that are too old to be kept. */
  async forget(place: Place, tag: Tag): Promise<void> {
    const { store, clock } = this.#parts
    for (const id of await this.#ids(place, tag))
      if (clock.wallMs() - Number.parseInt(id, 10) >= KEPT_FOR_MS)
        await store.deleteRecord(moveName(place, tag, id))
  }

  /** Resolves once all moves that are being added have been written. */
  async settled(): Promise<void> {
    await this.#turns.settled()
  }

  #writeOf(
    { namespace, repository }: Place,
    tag: Tag,
    { digest, by }: Pick<TagMove, 'digest' | 'by'>,
  ): HistoryWrite {
    const atMs = this.#parts.clock.wallMs()
    this.#count = (this.#count + 1) % COUNTS
    const count = this.#count.toString(16).padStart(4, '0')
    const id = `${String(atMs).padStart(15, '0')}-${count}${randomBytes(4).toString('hex')}`
    const bytes = writeMove({ digest, by: by.slice(0, BY_LENGTH_MAX), atMs })
    return { kind: 'record', name: { kind: 'move', namespace, repository, tag, id }, bytes }
  }

  /** The newest moves, the newest first. */
  async #read(place: Place, tag: Tag, limit: number): Promise<readonly TagMove[]> {
    const newest = (await this.#ids(place, tag)).slice(0, limit)
    const records = await this.#parts.store.readRecords(newest.map(id => moveName(place, tag, id)))
    const moves = records.flatMap(bytes => (bytes === undefined ? [] : this.#opened(bytes, readMove)))
    if (moves.length >= limit) return moves
    return [...moves, ...(await this.#readList(place, tag))].slice(0, limit)
  }

  /** The list that earlier versions wrote. */
  async #readList(place: Place, tag: Tag): Promise<readonly TagMove[]> {
    const bytes = await this.#parts.store.readRecord(listName(place, tag))
    return bytes === undefined ? [] : this.#opened(bytes, readMoves)
  }

  #opened(bytes: Uint8Array, read: (bytes: Uint8Array) => readonly TagMove[]): readonly TagMove[] {
    try {
      return read(bytes)
    } catch (error) {
      if (!(error instanceof DamagedRecordError)) throw error
      this.#parts.events.recordDamaged('history', 'lost', error)
      return []
    }
  }

  /** The ids of the moves that have records, the newest first. */
  async #ids({ namespace, repository }: Place, tag: Tag): Promise<readonly string[]> {
    const ids: string[] = []
    const group = { kind: 'move', namespace, repository, tag } as const
    for await (const name of this.#parts.store.listRecordsOf(group))
      if (name.kind === 'move') ids.push(name.id)
    return ids.sort().toReversed()
  }

  /** Removes what is not kept any more. The newest moves stay at any age: they are what the tag named. */
  async #tidy(place: Place, tag: Tag): Promise<void> {
    const { store, clock } = this.#parts
    const isOld = (atMs: number): boolean => clock.wallMs() - atMs >= KEPT_FOR_MS
    const ids = await this.#ids(place, tag)
    for (const [position, id] of ids.entries())
      if (position >= MOVES_MAX || (position >= NEWEST_KEPT && isOld(Number.parseInt(id, 10))))
        await store.deleteRecord(moveName(place, tag, id))
    if (ids.length < NEWEST_KEPT || (await store.readRecord(listName(place, tag))) === undefined) return
    const listed = await this.#readList(place, tag)
    if (ids.length >= MOVES_MAX || listed.every(({ atMs }) => isOld(atMs)))
      await store.deleteRecord(listName(place, tag))
  }
}

const COUNTS = 0x10000
/** The newest move, and what the tag named before. */
const NEWEST_KEPT = 2

/** By chance: tags that always move in the same order must all have their turn. */
function isToTidy(): boolean {
  return randomInt(MOVES_TO_TIDY) === 0
}

/** Moves that are shown: those of the last time, and the two newest at any age. */
function recent(moves: readonly TagMove[], nowMs: number): readonly TagMove[] {
  return moves.filter(({ atMs }, place) => place < NEWEST_KEPT || nowMs - atMs < KEPT_FOR_MS)
}

function writeMove({ digest, atMs, by }: TagMove): Uint8Array {
  return sealRecord({ digest, at: new Date(atMs).toISOString(), by })
}

function readMove(bytes: Uint8Array): readonly TagMove[] {
  const { value, isSealed } = openRecord(bytes)
  if (!isSealed) throw new DamagedRecordError('it has no checksum')
  return [moveIn(value)]
}

function readMoves(bytes: Uint8Array): readonly TagMove[] {
  const { value, isSealed } = openRecord(bytes)
  if (!isSealed || !Array.isArray(value)) throw new DamagedRecordError('it is not a list of moves')
  return value.map(moveIn)
}

/** The checksum says that this program wrote it. */
function moveIn(entry: unknown): TagMove {
  const fields = (entry ?? {}) as { readonly digest?: string; readonly at?: string; readonly by?: string }
  const digest = parseDigest(fields.digest ?? '')
  const atMs = Date.parse(fields.at ?? '')
  const isSound = fields.digest === undefined || digest !== undefined
  if (!isSound || Number.isNaN(atMs)) throw new DamagedRecordError('it is not a move')
  return { digest, atMs, by: fields.by ?? '' }
}

function keyOf({ namespace, repository }: Place, tag: Tag): string {
  return `${namespace}/${repository}:${tag}`
}

function moveName({ namespace, repository }: Place, tag: Tag, id: string): RecordName {
  return { kind: 'move', namespace, repository, tag, id }
}

function listName({ namespace, repository }: Place, tag: Tag): RecordName {
  return { kind: 'history', namespace, repository, tag }
}
