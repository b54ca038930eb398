import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import type { PeerMetrics } from '../observe/peer-metrics.ts'
import type { Member, MemberState, Members } from './members.ts'
import { type PeerAddress, PeerTrouble, type PeerWire } from './wire.ts'

/** Between two looks at who is there, in milliseconds. */
const ROUND_MS = 1000
/** Between two greetings of a member that answers. */
const GREET_EVERY_MS = 5000
const GREETINGS_PER_ROUND_MAX = 100
const MEMBERS_MAX = 10_000
const STATES = ['self', 'alive', 'draining', 'unreachable', 'ignored', 'unknown'] as const

export interface RollCallParts {
  readonly members: Members
  readonly wire: Pick<PeerWire, 'ask'>
  readonly clock: Clock
  readonly events: Events
  readonly metrics: PeerMetrics
  /** Name of this process. */
  readonly instance: string
  /** The addresses of all members now. Rejects if they cannot be found out. */
  readonly addresses: () => Promise<readonly PeerAddress[]>
}

/** Keeps the list of members, and finds out which of them are there, which one this process is, and more. */
export class RollCall implements AsyncDisposable {
  readonly #parts: RollCallParts
  readonly #over = new AbortController()
  readonly #greetedAtMs = new WeakMap<Member, number>()
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #isWarned = false
  #heardAtMs = Number.NEGATIVE_INFINITY
  /** True if the next round looks for the one that asked. */
  #isHeard = false

  constructor(parts: RollCallParts) {
    this.#parts = parts
  }

  /** Does a first round, and goes on in the background. */
  async start(): Promise<void> {
    await this.#round()
    this.#timer = setInterval(() => void this.#round(), ROUND_MS)
    this.#timer.unref()
  }

  /**
   * Looks at once if the one that asked is not known to be there, or in the next round if the last look was a
   * moment ago.
   */
  heard(instance: string): void {
    const { members, clock } = this.#parts
    if (this.#isHeard) return
    if (members.all.some(({ met, state }) => met?.instance === instance && state === 'alive')) return
    const nowMs = clock.monotonicMs()
    this.#isHeard = nowMs - this.#heardAtMs < ROUND_MS
    if (this.#isHeard) return
    this.#heardAtMs = nowMs
    for (const member of members.all.filter(isMissing).slice(0, GREETINGS_PER_ROUND_MAX))
      void this.#greet(member).then(() => this.#count())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    this.#over.abort(new Error('the mirror is shutting down'))
    await this.#running
  }

  async #round(): Promise<void> {
    this.#running ??= this.#oneRound().finally(() => {
      this.#running = undefined
    })
    await this.#running
  }

  async #oneRound(): Promise<void> {
    const { members, clock } = this.#parts
    await this.#list()
    const nowMs = clock.monotonicMs()
    const isHeard = this.#isHeard
    this.#isHeard = false
    const due = members.all
      .filter(member => this.#isDue(member, nowMs) || (isHeard && isMissing(member)))
      .toSorted((one, other) => this.#greetedAt(one) - this.#greetedAt(other))
      .slice(0, GREETINGS_PER_ROUND_MAX)
    await Promise.all(due.map(async member => await this.#greet(member)))
    this.#count()
  }

  #greetedAt(member: Member): number {
    return this.#greetedAtMs.get(member) ?? Number.NEGATIVE_INFINITY
  }

  #isDue(member: Member, nowMs: number): boolean {
    if (member.isSelf || member.isIgnored || member.breaker.quiet() !== undefined) return false
    return member.state !== 'alive' || nowMs - this.#greetedAt(member) >= GREET_EVERY_MS
  }

  async #list(): Promise<void> {
    const { members, addresses, events } = this.#parts
    try {
      const found = await addresses()
      members.replace(found.slice(0, MEMBERS_MAX))
      if (found.length === 0 && !this.#isWarned)
        events.warned('no replica is listed: this one works alone until there is one')
      this.#isWarned = found.length === 0
    } catch (error) {
      // The members that are known stay: a name server that fails says nothing about them.
      if (!this.#isWarned) events.warned('the list of replicas cannot be read', { err: error })
      this.#isWarned = true
    }
  }

  async #greet(member: Member): Promise<void> {
    const { wire, clock, instance } = this.#parts
    this.#greetedAtMs.set(member, clock.monotonicMs())
    const before = member.state
    const attempt = member.breaker.begin()
    try {
      const { signal } = this.#over
      const { answer, body, ...met } = await wire.ask(
        member.address,
        { kind: 'hello' },
        { signal, isBrief: true },
      )
      body.resume()
      attempt.succeeded()
      member.isSelf = met.instance === instance
      if (answer.kind === 'hello') {
        const { version, store, isDraining } = answer
        member.meet({ instance: met.instance, version, store, isDraining })
      } else member.meet({ instance: met.instance })
    } catch (error) {
      attempt.failed()
      if (!(error instanceof PeerTrouble)) return
      member.trouble = error.message
      if (error.kind === 'stranger' || error.kind === 'version') member.ignore(error.message)
    }
    this.#report(member, before)
  }

  #report({ name, state, trouble }: Member, before: MemberState): void {
    if (state === before || state === 'self') return
    const { events } = this.#parts
    if (state === 'alive' && before === 'unknown') return
    events.warned('a replica changed its state', { member: name, state, before, why: trouble })
  }

  #count(): void {
    const { members, metrics } = this.#parts
    const counts = new Map<MemberState, number>()
    for (const { state } of members.all) counts.set(state, (counts.get(state) ?? 0) + 1)
    for (const state of STATES) metrics.peerMembers.set({ state }, counts.get(state) ?? 0)
  }
}

function isMissing({ state }: Member): boolean {
  return state === 'unreachable' || state === 'unknown'
}
