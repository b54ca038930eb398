import { Breaker } from '../lib/breaker.ts'
import type { Clock } from '../lib/clock.ts'
import { inOrder, type Seed, seedOf } from './rendezvous.ts'
import type { PeerAddress } from './wire.ts'

/** Time for which a replica that cannot be talked to is not asked, in milliseconds. */
const IGNORED_MS = 60_000

const SAMPLES = 500

/** How another replica last answered. */
export interface Acquaintance {
  /** Name of its process. */
  readonly instance: string
  /** Version of the program that it runs; `undefined` until it has said hello. */
  readonly version?: string | undefined
  /** Identity of its store; `undefined` for a store of its own. */
  readonly store?: string | undefined
  readonly isDraining?: boolean
}

/** Counts about one member since the start. */
export interface MemberCounts {
  asked: number
  receivedBytes: number
  failures: number
  lies: number
}

/**
 * State of a member. `unknown`: not asked yet. `ignored`: of another version or cluster, or it sent wrong
 * bytes.
 */
export type MemberState = 'self' | 'alive' | 'draining' | 'unreachable' | 'ignored' | 'unknown'

/** One replica of the cluster, by an address of the list. */
export class Member {
  /** Its address as text: the same in all replicas. */
  readonly name: string
  readonly address: PeerAddress
  readonly seed: Seed
  readonly breaker: Breaker
  readonly counts: MemberCounts = { asked: 0, receivedBytes: 0, failures: 0, lies: 0 }
  isSelf = false
  met: Acquaintance | undefined
  /** Why it was last not asked, or did not answer. */
  trouble: string | undefined
  readonly #clock: Pick<Clock, 'monotonicMs'>
  #ignoredUntilMs = Number.NEGATIVE_INFINITY

  constructor(name: string, address: PeerAddress, clock: Pick<Clock, 'monotonicMs'>) {
    this.name = name
    this.address = address
    this.seed = seedOf(name)
    this.#clock = clock
    this.breaker = new Breaker({ clock, failuresMax: 1 })
  }

  get state(): MemberState {
    if (this.isSelf) return 'self'
    if (this.isIgnored) return 'ignored'
    if (this.breaker.isOpen) return 'unreachable'
    if (this.met === undefined) return 'unknown'
    return this.met.isDraining === true ? 'draining' : 'alive'
  }

  get isIgnored(): boolean {
    return this.#ignoredUntilMs > this.#clock.monotonicMs()
  }

  /** Leaves the member alone for a minute. */
  ignore(why: string): void {
    this.trouble = why
    this.#ignoredUntilMs = this.#clock.monotonicMs() + IGNORED_MS
  }

  /** Notes an answer. */
  meet(met: Acquaintance): void {
    this.met = { ...this.met, ...met }
    this.trouble = undefined
  }
}

/** The members as they are known now. Replicas may differ in that for some seconds. */
export class Members {
  readonly #cluster: string
  readonly #clock: Pick<Clock, 'monotonicMs'>
  #members: ReadonlyMap<string, Member> = new Map()

  constructor(cluster: string, clock: Pick<Clock, 'monotonicMs'>) {
    this.#cluster = cluster
    this.#clock = clock
  }

  get all(): readonly Member[] {
    return [...this.#members.values()]
  }

  /**
   * True if no living member has a name before that of this process: it then does what only one of them may.
   * A replica that is not in the list leaves it to those that are.
   */
  get isFirst(): boolean {
    const living = this.all.filter(({ state }) => state === 'self' || state === 'alive')
    return living.toSorted((one, other) => (one.name < other.name ? -1 : 1))[0]?.isSelf === true
  }

  /** Sets the addresses of all members. Those that stay keep what is known of them. */
  replace(addresses: Iterable<PeerAddress>): void {
    const next = new Map<string, Member>()
    for (const address of addresses) {
      const name = memberName(address)
      next.set(name, this.#members.get(name) ?? new Member(name, address, this.#clock))
    }
    this.#members = next
  }

  /**
   * Yields the members that may be asked for a key, the owner first. Ends at this process: it then asks the
   * registry itself. Members that are ignored, known to be unreachable, or a second address of another member
   * are left out.
   */
  *candidates(key: string, isSelfLeaving = false): Generator<Member> {
    const seen = new Set<string>()
    // Left out before they are put in order: thousands of dead members would be passed one by one.
    const able = this.all.filter(member => (member.isSelf ? !isSelfLeaving : mayAsk(member)))
    for (const member of inOrder(able, seedOf(`${this.#cluster}\n${key}`))) {
      if (member.isSelf) return
      const instance = member.met?.instance
      if (instance !== undefined && seen.has(instance)) continue
      if (instance !== undefined) seen.add(instance)
      yield member
    }
  }

  /** The member that owns a key as long as all are well. */
  ownerOf(key: string): Member | undefined {
    const [owner] = inOrder(this.all, seedOf(`${this.#cluster}\n${key}`))
    return owner
  }

  /** Share of all keys that each member owns now, measured by a sample. */
  shares(): ReadonlyMap<string, number> {
    const able = this.all.filter(({ state }) => state === 'self' || state === 'alive')
    const counts = new Map<string, number>()
    for (let sample = 0; sample < SAMPLES; sample += 1) {
      const [owner] = inOrder(able, seedOf(`${this.#cluster}\n${sample}`))
      if (owner !== undefined) counts.set(owner.name, (counts.get(owner.name) ?? 0) + 1 / SAMPLES)
    }
    return counts
  }
}

function mayAsk({ isIgnored, breaker }: Member): boolean {
  return !isIgnored && breaker.quiet() === undefined
}

/** The text of an address, by which all replicas know a member. */
function memberName({ host, port }: PeerAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
