import type { Clock } from '../../lib/clock.ts'
import type { RecordName, Store } from '../../storage/store.ts'
import type { JobTurn } from '../job-turns.ts'
import { type Run, writeRun } from './run-record.ts'

/** Time between two beats, and after a beat that failed. */
const BEAT_MS = 20_000
const BEAT_RETRY_MS = 5_000
/** A holder that could not beat for this long stops by itself. */
const LEASE_MS = 60_000
/**
 * A run that has not beaten for this long, by the clock of the store, is dead. The difference to
 * {@link LEASE_MS} is for the last step of its holder, and for clocks of a store that tell whole seconds.
 */
export const DEAD_AFTER_MS = 120_000

export interface HeldTurnParts {
  readonly store: Pick<Store, 'readRecord' | 'writeRecord'>
  readonly clock: Clock
  /** Record of this run, which nobody else writes, and the one of a successor. */
  readonly own: RecordName
  readonly next: RecordName
  readonly run: Run
  /** When the creation of the record began, by the steady clock. */
  readonly createdAtMs: number
}

/** Thrown to stop a run whose turn is over. */
export class TurnLostError extends Error {
  constructor(why: string) {
    super(`another process may do this job by now: ${why}`)
    this.name = 'TurnLostError'
  }
}

/**
 * The turn of the process that created the record of a run. It writes the record again and again. Its own
 * steady clock tells how long ago the last such beat began; if that is too long, it stops before anybody may
 * take its place. So no clocks of two machines are ever compared.
 */
export class HeldTurn implements JobTurn, AsyncDisposable {
  readonly signal: AbortSignal
  readonly #parts: HeldTurnParts
  readonly #lost = new AbortController()
  readonly #over = new AbortController()
  readonly #beating: Promise<void>
  #beatenAtMs: number
  #state: Run['state'] = 'stopped'

  constructor(parts: HeldTurnParts, signal: AbortSignal) {
    this.#parts = parts
    this.#beatenAtMs = parts.createdAtMs
    this.signal = AbortSignal.any([signal, this.#lost.signal])
    this.#beating = Promise.all([this.#beat(), this.#watch()]).then(() => undefined)
  }

  /** True if the turn was lost. */
  get isLost(): boolean {
    return this.#lost.signal.aborted
  }

  requireHeld(): void {
    this.#checkLease()
    this.signal.throwIfAborted()
  }

  /** Notes how the run ended. Without it, the run counts as stopped. */
  ended(state: 'ended' | 'failed'): void {
    this.#state = state
  }

  /** Ends the beats and says in the record how the run ended. Nobody may know that it was lost. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort()
    await this.#beating
    if (!this.isLost) await this.#write(this.#state)
  }

  async #beat(): Promise<void> {
    const { clock, store, next } = this.#parts
    let pauseMs = BEAT_MS
    while (await this.#pause(pauseMs)) {
      const beganAtMs = clock.monotonicMs()
      try {
        if ((await store.readRecord(next)) !== undefined) {
          this.#lose('it has a successor')
          return
        }
        await this.#write('running')
        this.#beatenAtMs = beganAtMs
        pauseMs = BEAT_MS
      } catch {
        // If the store stays away, the lease ends.
        pauseMs = BEAT_RETRY_MS
      }
    }
  }

  /** Ends the turn in time even while a beat hangs. */
  async #watch(): Promise<void> {
    do this.#checkLease()
    while (!this.isLost && (await this.#pause(this.#beatenAtMs + LEASE_MS - this.#parts.clock.monotonicMs())))
  }

  #checkLease(): void {
    const silentMs = this.#parts.clock.monotonicMs() - this.#beatenAtMs
    if (silentMs >= LEASE_MS) this.#lose(`it could not beat for ${Math.round(silentMs / 1000)} s`)
  }

  #lose(why: string): void {
    this.#lost.abort(new TurnLostError(why))
  }

  /** Waits; `false` if the turn is over meanwhile. */
  async #pause(ms: number): Promise<boolean> {
    const signal = AbortSignal.any([this.#over.signal, this.#lost.signal])
    try {
      await this.#parts.clock.delay(Math.max(1, ms), signal)
      return !signal.aborted
    } catch (error) {
      if (signal.aborted) return false
      throw error
    }
  }

  async #write(state: Run['state']): Promise<void> {
    const { store, own, run } = this.#parts
    await store.writeRecord(own, writeRun({ ...run, state }), 'relaxed')
  }
}
