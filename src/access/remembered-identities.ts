import { hash, randomBytes } from 'node:crypto'
import type { Clock } from '../lib/clock.ts'
import { lruCache } from '../lib/lru.ts'
import type { SharedCount } from '../lib/shared-count.ts'
import type { Identity } from '../oci/identity.ts'
import type { Peer } from './peer.ts'

const ENTRIES_MAX = 10_000
/** Longest use of an entry, in milliseconds; so often at least the last use of a robot token is noted. */
const KEPT_MS = 60_000

interface Entry {
  readonly identity: Identity
  readonly changes: number
  readonly untilMs: number
  readonly untilWallMs: number
}

export interface RememberedIdentitiesParts {
  /** Goes up when an identity that is remembered may have lost what proved it. Threads share it. */
  readonly changes: Pick<SharedCount, 'value'>
  readonly clock: Pick<Clock, 'wallMs' | 'monotonicMs'>
}

/** Identities by the header field that proved them, of which only a keyed hash is kept. */
export class RememberedIdentities {
  readonly #parts: RememberedIdentitiesParts
  readonly #key = randomBytes(32).toString('base64')
  readonly #entries = lruCache<string, Entry>(ENTRIES_MAX)
  /** The latest field of each open connection: comparing it costs less than hashing it. */
  readonly #latest = new WeakMap<Peer, { readonly authorization: string; readonly entry: Entry }>()

  constructor(parts: RememberedIdentitiesParts) {
    this.#parts = parts
  }

  /** Where an identity is kept. */
  placeOf(authorization: string): string {
    return hash('sha256', `${this.#key}${authorization}`, 'base64')
  }

  /** The identity of a field that came on this connection just before; `undefined` if it is not known. */
  findLatest(peer: Peer, authorization: string): Identity | undefined {
    const latest = this.#latest.get(peer)
    if (latest?.authorization !== authorization) return undefined
    return this.#isValid(latest.entry) ? latest.entry.identity : undefined
  }

  find(place: string, peer: Peer, authorization: string): Identity | undefined {
    const entry = this.#entries.get(place)
    if (entry === undefined || !this.#isValid(entry)) return undefined
    this.#latest.set(peer, { authorization, entry })
    return entry.identity
  }

  #isValid({ changes, untilMs, untilWallMs }: Entry): boolean {
    const { changes: current, clock } = this.#parts
    return changes === current.value && clock.monotonicMs() < untilMs && clock.wallMs() < untilWallMs
  }

  /** @param changes the count from before the credentials were checked. */
  keep(
    place: string,
    { identity, untilMs }: { readonly identity: Identity; readonly untilMs: number },
    changes: number,
  ): void {
    const keptUntilMs = this.#parts.clock.monotonicMs() + KEPT_MS
    this.#entries.set(place, { identity, changes, untilMs: keptUntilMs, untilWallMs: untilMs })
  }
}
