import type { Clock } from '../../lib/clock.ts'

/** Length of one interval, in milliseconds. */
const INTERVAL_MS = 500
const INTERVALS = 10

/** The speed of a transfer over the last five seconds. */
export class Speed {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  /** Bytes by the number of the interval, the oldest first. */
  #recent: { readonly interval: number; bytes: number }[] = []
  readonly #startedAtMs: number

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock
    this.#startedAtMs = clock.monotonicMs()
  }

  /** Counts bytes that have arrived now. */
  add(bytes: number): void {
    const interval = this.#interval
    const last = this.#recent.at(-1)
    if (last?.interval === interval) {
      last.bytes += bytes
      return
    }
    this.#recent.push({ interval, bytes })
    if (this.#recent.length > INTERVALS) this.#recent.shift()
  }

  /** Bytes per second; 0 if nothing has arrived for five seconds. */
  get bytesPerSecond(): number {
    const first = this.#interval - INTERVALS + 1
    this.#recent = this.#recent.filter(({ interval }) => interval >= first)
    const bytes = this.#recent.reduce((sum, entry) => sum + entry.bytes, 0)
    const forMs = this.#clock.monotonicMs() - Math.max(this.#startedAtMs, first * INTERVAL_MS)
    return Math.round((bytes * 1000) / Math.max(forMs, INTERVAL_MS))
  }

  get #interval(): number {
    return Math.floor(this.#clock.monotonicMs() / INTERVAL_MS)
  }
}
