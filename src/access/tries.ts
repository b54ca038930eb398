import type { Clock } from '../lib/clock.ts'
import { addressBytes } from '../lib/ip-address.ts'
import { lruCache } from '../lib/lru.ts'

/** Wrong passwords in a row before the next one has to wait, and the time that earns another. */
const BURST = 5
const REFILL_MS = 2000
const KEYS_MAX = 10_000

interface Bucket {
  wrong: number
  atMs: number
}

/**
 * Slows down guessing of passwords. Wrong ones are counted for each network and for each user name, and drain
 * away with time. A client that once knew the password of a name is not slowed by the guesses of others at
 * that name.
 */
export class Tries {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #buckets = lruCache<string, Bucket>(KEYS_MAX)
  readonly #knowing = lruCache<string, true>(KEYS_MAX)

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock
  }

  /** Time to wait before this client may try this name, in milliseconds; 0 if it may try now. */
  waitMs(client: string | undefined, user: string): number {
    return Math.max(0, ...this.#keys(client, user).map(key => this.#waitOf(key)))
  }

  wrong(client: string | undefined, user: string): void {
    const nowMs = this.#clock.monotonicMs()
    for (const key of this.#keys(client, user))
      this.#buckets.set(key, { wrong: this.#wrongOf(key) + 1, atMs: nowMs })
  }

  /** Takes back a {@link wrong} that was counted before the check: the password was right. */
  right(client: string | undefined, user: string): void {
    const nowMs = this.#clock.monotonicMs()
    for (const key of this.#keys(client, user))
      this.#buckets.set(key, { wrong: Math.max(0, this.#wrongOf(key) - 1), atMs: nowMs })
    this.#knowing.set(pairOf(client, user), true)
  }

  #keys(client: string | undefined, user: string): readonly string[] {
    const pair = pairOf(client, user)
    if (this.#knowing.has(pair)) return [pair]
    return [`address ${networkOf(client)}`, `user ${user}`]
  }

  #waitOf(key: string): number {
    return Math.ceil((this.#wrongOf(key) - BURST + 1) * REFILL_MS)
  }

  #wrongOf(key: string): number {
    const bucket = this.#buckets.get(key)
    if (bucket === undefined) return 0
    return Math.max(0, bucket.wrong - (this.#clock.monotonicMs() - bucket.atMs) / REFILL_MS)
  }
}

function pairOf(client: string | undefined, user: string): string {
  return `pair ${networkOf(client)} ${user}`
}

/** An IPv6 client has at least a /64. */
function networkOf(client: string | undefined): string {
  if (client === undefined || !client.includes(':') || client.includes('.')) return client ?? ''
  return addressBytes(client).slice(0, 8).join(':')
}
