import { leftText, speedText } from '../../lib/words/amounts.ts'

/** Speed and time left of a piece of work, from its progress. */
export class Pace {
  readonly #now: () => number
  #first: { readonly atMs: number; readonly doneBytes: number } | undefined

  /** @param now monotonic clock, in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Describes the progress, such as `12.4 MiB/s, 1 min left`; empty until there are two reports. */
  describe(doneBytes: number, totalBytes: number): string {
    const atMs = this.#now()
    this.#first ??= { atMs, doneBytes }
    const [forMs, bytes] = [atMs - this.#first.atMs, doneBytes - this.#first.doneBytes]
    if (forMs <= 0 || bytes <= 0) return ''
    const leftMs = (Math.max(0, totalBytes - doneBytes) * forMs) / bytes
    return `${speedText((bytes * 1000) / forMs)}, ${leftText(leftMs)}`
  }
}
