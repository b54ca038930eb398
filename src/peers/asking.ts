import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import type { PeerMetrics } from '../observe/peer-metrics.ts'
import { UpstreamError } from '../oci/error.ts'
import type { Member, Members } from './members.ts'
import type { PeerQuestion } from './protocol.ts'
import { type PeerReply, PeerTrouble, type PeerWire, type WireOptions } from './wire.ts'

/** Members that do not answer one question, before the registry itself is asked. */
const FAILURES_MAX = 2
/** Longest time until another replica has noticed that the owner has failed, in milliseconds. */
const NOTICING_MS = 2500
const AGAIN_MS = 50
/** Members that are asked one question, whatever they answer. */
const ASKED_MAX = 4
/** From here on no further member is asked, in milliseconds: the client still waits for its first byte. */
const ASKING_MS = 5000

export interface PeerAskingParts {
  readonly members: Members
  readonly wire: Pick<PeerWire, 'ask'>
  readonly metrics: PeerMetrics
  readonly events: Events
  readonly clock: Clock
  /** Name of this process. */
  readonly instance: string
  /** True while this process leaves: it then owns nothing any more. */
  readonly isLeaving: () => boolean
}

/** What was tried for one thing that is wanted, so that a resumed download does not go in circles. */
export class Journey {
  readonly asked = new Set<Member>()
  failures = 0
  /** True once the registry itself was asked. */
  isDirect = false
}

/** An answer to a question, and the member that gave it. */
export interface Found extends PeerReply {
  readonly member: Member
}

interface AskOptions extends WireOptions {
  readonly journey?: Journey
  /**
   * True if the registry counts the requests of all replicas together, since they ask as one user. Requests
   * without credentials are counted by address, and each replica may have its own.
   */
  readonly sharesLimits?: boolean
}

/** Asks the members for something, in the order in which they own it. */
export class PeerAsking {
  readonly parts: PeerAskingParts

  constructor(parts: PeerAskingParts) {
    this.parts = parts
  }

  /**
   * The answer of the first member that has one: content, a head, or that the registry does not have it.
   * `undefined` if this process should ask the registry itself: it owns the key, nobody else answers, or the
   * registry failed the owner, which may be the owner's own trouble. If the registry counts what both ask
   * together and wants a pause, throws that answer: another request would not help.
   */
  async ask(key: string, question: PeerQuestion, options: AskOptions): Promise<Found | undefined> {
    const { members, isLeaving } = this.parts
    const { journey = new Journey(), sharesLimits = false } = options
    if (journey.isDirect) return undefined
    const untilMs = this.parts.clock.monotonicMs() + ASKING_MS
    for (const member of members.candidates(key, isLeaving())) {
      if (journey.asked.has(member)) continue
      if (journey.failures >= FAILURES_MAX || journey.asked.size >= ASKED_MAX) break
      if (this.parts.clock.monotonicMs() >= untilMs) break
      journey.asked.add(member)
      const found = await this.#patiently(member, key, { question, options })
      if (found === undefined) journey.failures += 1
      if (found === undefined || found.answer.kind === 'refused') continue
      if (found.answer.kind !== 'failed') return found
      if (sharesLimits) requireNoPause(found)
      break
    }
    journey.isDirect = true
    return undefined
  }

  /**
   * If the owner has failed, the next one in order may not have noticed that yet: it still follows the owner,
   * and says so. Both would then ask the registry. So it is asked again until it has noticed. An owner that
   * follows another replica has another list of members, which does not change soon.
   */
  async #patiently(
    member: Member,
    key: string,
    { question, options }: { readonly question: PeerQuestion; readonly options: WireOptions },
  ): Promise<Found | undefined> {
    const { clock, members } = this.parts
    const untilMs = clock.monotonicMs() + NOTICING_MS
    for (;;) {
      const found = await this.#askOne(member, question, options)
      const isFollowing = found?.answer.kind === 'refused' && found.answer.why === 'following'
      if (!isFollowing || clock.monotonicMs() >= untilMs || members.ownerOf(key) === member) return found
      await clock.delay(AGAIN_MS, options.signal)
    }
  }

  /** `undefined` if the member does not answer. An answer without content has no body left. */
  async #askOne(member: Member, question: PeerQuestion, options: WireOptions): Promise<Found | undefined> {
    const { wire, metrics } = this.parts
    const what = question.kind
    const attempt = member.breaker.begin()
    try {
      const reply = await wire.ask(member.address, question, options)
      attempt.succeeded()
      this.#meet(member, reply)
      const { kind } = reply.answer
      metrics.peerQuestions.inc({ what, result: kind })
      if (kind !== 'content') reply.body.resume()
      return { ...reply, member }
    } catch (error) {
      if (!(error instanceof PeerTrouble)) {
        attempt.abandoned()
        throw error
      }
      if (error.kind === 'full' || error.kind === 'slow') attempt.abandoned()
      else attempt.failed()
      metrics.peerQuestions.inc({ what, result: error.kind })
      this.#note(member, error)
      return undefined
    }
  }

  #meet(member: Member, { answer, instance }: PeerReply): void {
    member.counts.asked += 1
    const isLoop = answer.kind === 'refused' && answer.why === 'loop'
    if (instance === this.parts.instance || isLoop) member.isSelf = instance === this.parts.instance
    const isDraining = answer.kind === 'refused' && answer.why === 'draining'
    member.meet({ instance, ...(isDraining ? { isDraining } : {}) })
  }

  #note(member: Member, error: PeerTrouble): void {
    member.counts.failures += 1
    member.trouble = error.message
    if (error.kind === 'stranger' || error.kind === 'version') member.ignore(error.message)
    this.parts.events.warned('another replica did not answer', { member: member.name, err: error })
  }
}

/** Throws if the registry has asked the owner for a pause. */
function requireNoPause({ answer }: Found): void {
  if (answer.kind !== 'failed' || answer.error !== 'rate-limited') return
  const { message, retryAfterMs } = answer
  throw new UpstreamError('rate-limited', message, { retryAfterMs })
}
