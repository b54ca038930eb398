import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import { algorithmOf, type Digest, finishHash, parseDigest, startHash } from '../oci/digest.ts'
import type { Store, StoredEntry, StoredObject } from '../storage/store.ts'
import { isDamage, isObstacle, quarantine } from './damage.ts'
import { ALONE, type JobTurn, type JobTurns } from './job-turns.ts'
import { DamagedRecordError, openRecord, sealRecord } from './sealed-record.ts'

/** Delay of the first round after the daemon starts. */
const START_DELAY_MS = 60_000
/** Interval between checks whether a round is due. They use the wall clock, which may have jumped. */
const LOOK_EVERY_MS = 3_600_000
/** Most digests taken from one walk of the store. They are sorted, which makes the walk resumable. */
const BATCH_MAX = 50_000
/** Interval between notes of a round's progress, in milliseconds: a crash loses at most this much work. */
const NOTE_EVERY_MS = 60_000
/** Part of the configured rate at which a round reads while clients are served. */
const BUSY_FRACTION = 1 / 8

export interface ScrubParts {
  readonly store: Pick<Store, 'list' | 'open' | 'quarantine' | 'readRecord' | 'writeRecord'>
  readonly events: Events
  readonly clock: Clock
  /**
   * Time from the start of one round to the start of the next, in milliseconds; `undefined` disables rounds.
   */
  readonly intervalMs: number | undefined
  /** Most bytes that a round reads per second. */
  readonly bytesPerSecond: number
  /** True while clients are served: the round then slows down. */
  readonly isBusy: () => boolean
  /** Gives turns to do this, of which the processes on one store have one. By default this one has it. */
  readonly turns?: JobTurns
}

/** Progress of a verification. */
export interface ScrubProgress {
  readonly objects: number
  readonly bytes: number
  /** Number of objects when the verification began. */
  readonly totalObjects: number
  readonly totalBytes: number
  /** Damaged and quarantined objects. */
  readonly damaged: number
  /** Objects that could not be checked because the store could not be read. */
  readonly unreadable: number
}

/** Result for one object. `gone`: it was removed after the walk. */
type Verdict = 'good' | 'damaged' | 'unreadable' | 'gone'

/** Called with the size of each piece that was read. Waits long enough to keep to the rate. */
type Pace = (bytes: number) => Promise<void>

/** Recorded progress of a round: its start and the last digest verified. A round without a digest is over. */
interface Note {
  readonly startedAtMs: number
  readonly after: string | undefined
}

/**
 * Verifies all stored content against its digest and quarantines what is damaged. Rounds run in the
 * background at a bounded rate, in the order of the digests. One digest therefore records a round's progress,
 * and a restart continues from it.
 */
export class Scrub implements AsyncDisposable {
  readonly #parts: ScrubParts
  readonly #lifetime = new AbortController()
  #running: Promise<void> | undefined

  constructor(parts: ScrubParts) {
    this.#parts = parts
  }

  /** Starts the rounds, if they are configured. */
  start(): void {
    const { intervalMs } = this.#parts
    if (intervalMs !== undefined) this.#running ??= this.#repeat(intervalMs)
  }

  /**
   * Verifies everything now at full speed and reports progress after each object. Stops when the signal
   * aborts.
   */
  async *verify(signal: AbortSignal): AsyncGenerator<ScrubProgress> {
    const totals = await this.#measure(signal)
    let progress: ScrubProgress = { ...totals, objects: 0, bytes: 0, damaged: 0, unreadable: 0 }
    yield progress
    for await (const entry of this.#entriesAfter('', signal)) {
      const verdict = await this.#verify(entry.digest, async () => await Promise.resolve(), signal)
      if (verdict === 'interrupted') return
      progress = {
        ...progress,
        objects: progress.objects + 1,
        bytes: progress.bytes + entry.sizeBytes,
        damaged: progress.damaged + (verdict === 'damaged' ? 1 : 0),
        unreadable: progress.unreadable + (verdict === 'unreadable' ? 1 : 0),
      }
      yield progress
    }
  }

  /** Stops the current round and records its progress. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifetime.abort(new Error('the mirror is shutting down'))
    await this.#running
  }

  async #measure(signal: AbortSignal): Promise<Pick<ScrubProgress, 'totalObjects' | 'totalBytes'>> {
    let totalObjects = 0
    let totalBytes = 0
    for await (const { sizeBytes } of this.#parts.store.list()) {
      if (signal.aborted) break
      totalObjects += 1
      totalBytes += sizeBytes
    }
    return { totalObjects, totalBytes }
  }

  async #repeat(intervalMs: number): Promise<void> {
    const { clock, events, turns = ALONE } = this.#parts
    const { signal } = this.#lifetime
    let waitMs = START_DELAY_MS
    while (!signal.aborted) {
      try {
        await clock.delay(waitMs, signal)
        if ((await this.#dueRound(intervalMs)) !== undefined)
          await turns.take(
            { job: 'scrub', everyMs: 0 },
            async turn => await this.#turn(intervalMs, turn),
            signal,
          )
      } catch (error) {
        if (!signal.aborted) events.storageFailed('scrub', error)
      }
      waitMs = Math.min(LOOK_EVERY_MS, intervalMs)
    }
  }

  /** The round that is to be begun or resumed now. */
  async #dueRound(intervalMs: number): Promise<Note | undefined> {
    const note = await this.#readNote()
    if (note?.after !== undefined) return note
    const nowMs = this.#parts.clock.wallMs()
    return isDue(note, { nowMs, intervalMs }) ? { startedAtMs: nowMs, after: '' } : undefined
  }

  async #turn(intervalMs: number, turn: JobTurn): Promise<void> {
    // Another process may have ended the round since this one looked.
    const note = await this.#dueRound(intervalMs)
    if (note !== undefined) await this.#round(note, turn)
  }

  async #round({ startedAtMs, after }: Note, turn: JobTurn): Promise<void> {
    const { clock, events } = this.#parts
    const { signal } = turn
    const counts = { good: 0, damaged: 0, unreadable: 0, gone: 0 }
    let last = after ?? ''
    let notedAtMs = clock.monotonicMs()
    let isOver = false
    try {
      for await (const { digest } of this.#entriesAfter(last, signal)) {
        turn.requireHeld()
        const verdict = await this.#verify(digest, this.#pace, signal)
        if (verdict === 'interrupted') break
        counts[verdict] += 1
        events.scrubbed(verdict)
        last = digest
        if (clock.monotonicMs() - notedAtMs < NOTE_EVERY_MS) continue
        notedAtMs = clock.monotonicMs()
        await this.#writeNote({ startedAtMs, after: last })
      }
      isOver = !signal.aborted
    } finally {
      // Another process goes on from its own note once the turn is lost.
      if (!signal.aborted || this.#lifetime.signal.aborted)
        await this.#writeNote({ startedAtMs, after: isOver ? undefined : last })
    }
    if (isOver) events.scrubEnded(counts)
  }

  readonly #pace: Pace = async bytes => {
    const { clock, bytesPerSecond, isBusy } = this.#parts
    const rate = isBusy() ? bytesPerSecond * BUSY_FRACTION : bytesPerSecond
    await clock.delay((bytes / rate) * 1000, this.#lifetime.signal)
  }

  /**
   * All content in the order of the digests, starting after `after`. A walk of the store is unordered, so
   * each walk yields only the next batch.
   */
  async *#entriesAfter(after: string, signal: AbortSignal): AsyncGenerator<StoredEntry> {
    let last = after
    for (;;) {
      const batch = await this.#nextBatch(last, signal)
      for (const entry of batch) {
        if (signal.aborted) return
        yield entry
        last = entry.digest
      }
      if (batch.length < BATCH_MAX) return
    }
  }

  async #nextBatch(after: string, signal: AbortSignal): Promise<readonly StoredEntry[]> {
    let batch: StoredEntry[] = []
    for await (const entry of this.#parts.store.list()) {
      if (signal.aborted) return []
      if (entry.digest > after) batch.push(entry)
      if (batch.length >= 2 * BATCH_MAX) batch = smallest(batch)
    }
    return smallest(batch)
  }

  async #verify(digest: Digest, pace: Pace, signal: AbortSignal): Promise<Verdict | 'interrupted'> {
    let object: StoredObject | undefined
    try {
      object = await this.#parts.store.open(digest)
    } catch (error) {
      return await this.#judge(digest, undefined, error)
    }
    if (object === undefined) return 'gone'
    await using open = object
    try {
      const actual = await hashPaced(open, digest, pace, signal)
      if (actual === digest) return 'good'
      throw new Error(`stored object hashes to ${actual}`)
    } catch (error) {
      return signal.aborted ? 'interrupted' : await this.#judge(digest, open.version, error)
    }
  }

  async #judge(digest: Digest, version: string | undefined, error: unknown): Promise<Verdict> {
    if (version === undefined ? isObstacle(error) : isDamage(error)) {
      await quarantine(this.#parts, { digest, version }, error)
      return 'damaged'
    }
    this.#parts.events.storageFailed('scrub', error)
    return 'unreadable'
  }

  async #readNote(): Promise<Note | undefined> {
    const bytes = await this.#parts.store.readRecord({ kind: 'scrub' })
    if (bytes === undefined) return undefined
    try {
      return parseNote(openRecord(bytes).value)
    } catch (error) {
      // Without a note the round starts at the first digest.
      this.#parts.events.recordDamaged('scrub', 'forgotten', error)
      return undefined
    }
  }

  async #writeNote(note: Note): Promise<void> {
    try {
      await this.#parts.store.writeRecord({ kind: 'scrub' }, sealRecord(note), 'relaxed')
    } catch (error) {
      // A read-only store is still verified; only a restart then starts the round again.
      this.#parts.events.storageFailed('scrub', error)
    }
  }
}

async function hashPaced(
  object: StoredObject,
  digest: Digest,
  pace: Pace,
  signal: AbortSignal,
): Promise<Digest> {
  const hash = startHash(algorithmOf(digest))
  for await (const piece of object.read(0, object.sizeBytes)) {
    hash.update(piece)
    await pace(piece.byteLength)
    signal.throwIfAborted()
  }
  return finishHash(hash, algorithmOf(digest))
}

function smallest(entries: StoredEntry[]): StoredEntry[] {
  return entries
    .sort((one, another) => (one.digest < another.digest ? -1 : Number(one.digest > another.digest)))
    .slice(0, BATCH_MAX)
}

/** A start in the future was recorded before the clock was set back. */
function isDue(
  note: Note | undefined,
  { nowMs, intervalMs }: { readonly nowMs: number; readonly intervalMs: number },
): boolean {
  return note === undefined || nowMs - note.startedAtMs >= intervalMs || note.startedAtMs > nowMs
}

function parseNote(value: unknown): Note {
  const { startedAtMs, after } = (value ?? {}) as Record<string, unknown>
  const isDigest = typeof after === 'string' && (after === '' || parseDigest(after) !== undefined)
  if (typeof startedAtMs !== 'number' || !(after === undefined || isDigest))
    throw new DamagedRecordError('the time or the digest is invalid')
  return { startedAtMs, after }
}
