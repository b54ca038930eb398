import type { Clock } from '../../lib/clock.ts'
import { lruCache } from '../../lib/lru.ts'

/** A remembered answer: 404 is `absent`, 401 and 403 are `refused`. */
export type Denial = 'absent' | 'refused'

const LIFE_MS = { absent: 30_000, refused: 10_000 } as const satisfies Record<Denial, number>
const ENTRIES_MAX = 10_000

interface Held {
  readonly denial: Denial
  readonly untilMs: number
}

/** Remembers denials for a short while, so that a client that keeps asking costs the upstream nothing. */
export class NegativeCache {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #entries = lruCache<string, Held>(ENTRIES_MAX)

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock
  }

  find(key: string): Denial | undefined {
    const held = this.#entries.get(key)
    if (held === undefined) return undefined
    if (held.untilMs > this.#clock.monotonicMs()) return held.denial
    this.#entries.delete(key)
    return undefined
  }

  remember(key: string, denial: Denial): void {
    this.#entries.set(key, { denial, untilMs: this.#clock.monotonicMs() + LIFE_MS[denial] })
  }

  forget(key: string): void {
    this.#entries.delete(key)
  }
}
