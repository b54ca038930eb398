import type { Clock } from '../lib/clock.ts'
import { lruCache } from '../lib/lru.ts'
import { UpstreamError } from '../oci/error.ts'
import type { Log } from './log.ts'

/** Shortest time between two log lines of one kind, in milliseconds. */
const EVERY_MS = 60_000
/** Most kinds that are counted at once. A further one replaces the kind not seen for longest. */
const KINDS_MAX = 1000

interface Line {
  readonly level: 'warn' | 'error'
  readonly fields: object
  readonly message: string
}

interface Repetition {
  readonly sinceMs: number
  readonly repeated: number
  readonly last: Line
}

/**
 * Limits log lines that an outage repeats for every request. The first line of a kind is written at once,
 * then one line per minute with the count of repetitions. The others are written at level debug.
 */
export class RepeatedLines {
  readonly #log: Log
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #repetitions = lruCache<string, Repetition>(KINDS_MAX)

  constructor(log: Log, clock: Pick<Clock, 'monotonicMs'>) {
    this.#log = log
    this.#clock = clock
  }

  /** Writes a warning or counts it. `kind` identifies a repetition: its message, place and error. */
  warn(kind: string, fields: object, message: string): void {
    this.#write(kind, { level: 'warn', fields, message })
  }

  /** Writes an error or counts it. See {@link warn}. */
  error(kind: string, fields: object, message: string): void {
    this.#write(kind, { level: 'error', fields, message })
  }

  #write(kind: string, line: Line): void {
    const nowMs = this.#clock.monotonicMs()
    const repetition = this.#repetitions.get(kind)
    if (repetition === undefined) {
      this.#repetitions.set(kind, { sinceMs: nowMs, repeated: 0, last: line })
      this.#log[line.level](line.fields, line.message)
      return
    }
    const next = { ...repetition, repeated: repetition.repeated + 1, last: line }
    this.#repetitions.set(kind, next)
    if (nowMs - repetition.sinceMs >= EVERY_MS) this.#summarize(kind, next, nowMs)
    else this.#log.debug(line.fields, line.message)
  }

  /**
   * Writes the counts of all kinds whose minute is over, and forgets kinds that were not repeated. A timer
   * calls this, so that the last count of an outage is written even if no further line follows.
   */
  flush(): void {
    this.#flush(EVERY_MS)
  }

  /** Writes all counts. */
  end(): void {
    this.#flush(0)
  }

  #flush(ageMs: number): void {
    const nowMs = this.#clock.monotonicMs()
    for (const [kind, repetition] of this.#repetitions.entries().toArray()) {
      if (nowMs - repetition.sinceMs < ageMs) continue
      if (repetition.repeated > 0) this.#summarize(kind, repetition, nowMs)
      else this.#repetitions.delete(kind)
    }
  }

  #summarize(kind: string, { sinceMs, repeated, last }: Repetition, nowMs: number): void {
    const withinMs = Math.round(nowMs - sinceMs)
    this.#log[last.level]({ ...last.fields, repeated, withinMs }, last.message)
    this.#repetitions.set(kind, { sinceMs: nowMs, repeated: 0, last })
  }
}

/** Kind of a failure: the kind of an upstream error, a system error code, or the error's name. */
export function failureKind(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  if (error instanceof UpstreamError) return error.kind
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
