import type { Clock } from '../lib/clock.ts'
import { Turns } from '../lib/turns.ts'
import type { Events } from '../observe/events.ts'
import { type Digest, parseDigest } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { Durability, RecordName, Store, StoreWrite } from '../storage/store.ts'
import { DamagedRecordError, openRecord, sealRecord } from './sealed-record.ts'

/** Most moves that are kept of one tag. A hundred of them fit into a record. */
const MOVES_MAX = 100
const KEPT_FOR_MS = 90 * 24 * 3_600_000
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
  readonly store: Pick<Store, 'readRecord' | 'writeRecord'>
  readonly clock: Pick<Clock, 'wallMs'>
  readonly events: Pick<Events, 'storageFailed' | 'recordDamaged'>
}

/**
 * Every move of a tag, hosted or mirrored: 100 of them, or 90 days. One record for each tag holds them, so
 * that a bucket has them too; two processes that move a tag at the same time may lose one of the two entries.
 */
export class TagHistory {
  readonly #parts: TagHistoryParts
  readonly #turns = new Turns<string>()

  constructor(parts: TagHistoryParts) {
    this.#parts = parts
  }

  /** The moves of a tag, the newest first. Throws if the store cannot be read. */
  async read(place: Place, tag: Tag): Promise<readonly TagMove[]> {
    await this.#turns.settled(keyOf(place, tag))
    return await this.#read(place, tag)
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
        const write = await this.#writeOf(place, tag, move)
        if (write !== undefined) await store.writeRecord(write.name, write.bytes, durability)
      })
    } catch (error) {
      events.storageFailed('write-history', error)
    }
  }

  /**
   * The write that adds a move, for whoever writes it with the tag and lets nobody else move the tag
   * meanwhile; `undefined` if it is not a move.
   */
  async next(
    place: Place,
    tag: Tag,
    move: Pick<TagMove, 'digest' | 'by'>,
  ): Promise<HistoryWrite | undefined> {
    await this.#turns.settled(keyOf(place, tag))
    return await this.#writeOf(place, tag, move)
  }

  /** Resolves once all moves that are being added have been written. */
  async settled(): Promise<void> {
    await this.#turns.settled()
  }

  async #writeOf(
    place: Place,
    tag: Tag,
    { digest, by }: Pick<TagMove, 'digest' | 'by'>,
  ): Promise<HistoryWrite | undefined> {
    const atMs = this.#parts.clock.wallMs()
    const known = await this.#read(place, tag)
    const [last] = known
    if (last === undefined ? digest === undefined : last.digest === digest) return undefined
    const moves = [{ digest, by: by.slice(0, BY_LENGTH_MAX), atMs }, ...recent(known, atMs)]
    return { kind: 'record', name: nameOf(place, tag), bytes: writeMoves(moves) }
  }

  async #read(place: Place, tag: Tag): Promise<readonly TagMove[]> {
    const bytes = await this.#parts.store.readRecord(nameOf(place, tag))
    if (bytes === undefined) return []
    try {
      return readMoves(bytes)
    } catch (error) {
      if (!(error instanceof DamagedRecordError)) throw error
      this.#parts.events.recordDamaged('history', 'lost', error)
      return []
    }
  }
}

/** The moves that are kept beside a new one: the newest, whatever its age, is what the tag named before. */
function recent(moves: readonly TagMove[], nowMs: number): readonly TagMove[] {
  return moves.slice(0, MOVES_MAX - 1).filter(({ atMs }, place) => place === 0 || nowMs - atMs < KEPT_FOR_MS)
}

function writeMoves(moves: readonly TagMove[]): Uint8Array {
  return sealRecord(moves.map(({ digest, atMs, by }) => ({ digest, at: new Date(atMs).toISOString(), by })))
}

function readMoves(bytes: Uint8Array): readonly TagMove[] {
  const { value, isSealed } = openRecord(bytes)
  if (!isSealed || !Array.isArray(value)) throw new DamagedRecordError('it is not a list of moves')
  return value.map(entry => {
    // The checksum says that this program wrote it.
    const fields = (entry ?? {}) as { readonly digest?: string; readonly at?: string; readonly by?: string }
    const digest = parseDigest(fields.digest ?? '')
    const atMs = Date.parse(fields.at ?? '')
    const isSound = fields.digest === undefined || digest !== undefined
    if (!isSound || Number.isNaN(atMs)) throw new DamagedRecordError('it has an entry that is not a move')
    return { digest, atMs, by: fields.by ?? '' }
  })
}

function keyOf({ namespace, repository }: Place, tag: Tag): string {
  return `${namespace}/${repository}:${tag}`
}

function nameOf({ namespace, repository }: Place, tag: Tag): RecordName {
  return { kind: 'history', namespace, repository, tag }
}
