import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import type { Clock } from '../../src/lib/clock.ts'
import { type Answered, failureAnswer, refusal } from '../../src/peers/answered.ts'
import type { PeerQuestion } from '../../src/peers/protocol.ts'
import type { Responding } from '../../src/peers/respond.ts'
import { type PeerAddress, type PeerReply, PeerTrouble, type WireOptions } from '../../src/peers/wire.ts'
import type { Scheduler } from './scheduler.ts'

/** Time for an answer, and for a sign of life, as replicas have it, in milliseconds. */
const ANSWER_MS = 15_000
const SIGN_MS = 2000

/** A replica as the others reach it. */
export interface Reachable {
  readonly index: number
  readonly instance: string
  readonly address: PeerAddress
  readonly clock: Clock
  readonly responding: Responding
}

/** State of the way from one replica to another: connections are refused, or everything is lost. */
export type Way = 'reset' | 'lost' | undefined

type Content = NonNullable<Answered['content']>

/** The connections between simulated replicas. */
export class SimulatedWire {
  readonly #scheduler: Scheduler
  readonly #replicas: () => readonly Reachable[]
  readonly #ways = new Map<string, Way>()
  /** The replica that sends wrong bytes. */
  liar: number | undefined

  constructor(scheduler: Scheduler, replicas: () => readonly Reachable[]) {
    this.#scheduler = scheduler
    this.#replicas = replicas
  }

  set(from: number, to: number, way: Way): void {
    this.#ways.set(`${from} ${to}`, way)
  }

  /** Makes all ways well. */
  mend(): void {
    this.#ways.clear()
  }

  /** Takes a question of one replica to another, and its answer back. */
  async ask(
    from: number,
    { host }: PeerAddress,
    question: PeerQuestion,
    { signal, trail = [] }: WireOptions,
  ): Promise<PeerReply> {
    await this.#scheduler.step(from + 1, signal)
    const asked = this.#replicas().find(({ address }) => address.host === host)
    if (asked === undefined) throw new PeerTrouble('unreachable', `there is no ${host}`)
    await this.#pass(from, asked, signal)
    const isSelf = asked.index === from
    const answered = isSelf ? refusal('loop') : await this.#answer(asked, { question, trail, signal })
    try {
      await this.#scheduler.step(from + 1, signal)
      await this.#pass(from, asked, signal)
    } catch (error) {
      await answered.content?.[Symbol.asyncDispose]()
      throw error
    }
    const { answer, content } = answered
    const { from: start, sizeBytes = Infinity } = answer.kind === 'content' ? answer : { from: 0 }
    const left = new AbortController()
    const until = AbortSignal.any([signal, left.signal])
    const pieces =
      content === undefined
        ? undefined
        : this.#send(content, { from, asked, start, end: sizeBytes, signal: until })
    const body = bodyOf(pieces, () => left.abort(new Error('the replica left')))
    return { answer, instance: asked.instance, body }
  }

  /** The answer, unless it takes too long. */
  async #answer(
    { responding, clock }: Reachable,
    {
      question,
      trail,
      signal,
    }: { readonly question: PeerQuestion; readonly trail: readonly string[]; readonly signal: AbortSignal },
  ): Promise<Answered> {
    const isOver = new AbortController()
    const answered = responding.respond(question, trail).catch(failureAnswer)
    const late = clock.delay(ANSWER_MS, AbortSignal.any([signal, isOver.signal])).then(() => undefined)
    late.catch(() => undefined)
    try {
      const first = await Promise.race([answered, late])
      if (first !== undefined) return first
    } catch (error) {
      dropLater(answered)
      throw error
    } finally {
      isOver.abort()
    }
    dropLater(answered)
    throw new PeerTrouble('slow', 'no answer')
  }

  async *#send(
    content: Content,
    {
      from,
      asked,
      start,
      end,
      signal,
    }: {
      readonly from: number
      readonly asked: Reachable
      readonly start: number
      readonly end: number
      readonly signal: AbortSignal
    },
  ): AsyncGenerator<Uint8Array> {
    const { dice } = this.#scheduler
    try {
      for await (const piece of content.read({ start, end }, signal)) {
        await this.#scheduler.step(asked.index + 1, signal)
        while (this.#way(from, asked) === 'lost') await asked.clock.delay(1000, signal)
        if (this.#way(from, asked) === 'reset') throw new Error('the connection broke')
        const sent = Buffer.from(piece)
        if (this.liar === asked.index && dice.onceIn(2)) sent[0] = (sent[0] ?? 0) ^ 0x55
        yield sent
      }
    } finally {
      await content[Symbol.asyncDispose]()
    }
  }

  /** Throws what a replica sees of a broken way. */
  async #pass(from: number, asked: Reachable, signal: AbortSignal): Promise<void> {
    const way = this.#way(from, asked)
    if (way === 'reset') throw new PeerTrouble('unreachable', 'the connection broke')
    if (way !== 'lost') return
    await asked.clock.delay(SIGN_MS, signal)
    throw new PeerTrouble('silent', 'no sign of life')
  }

  #way(from: number, { index }: Reachable): Way {
    return this.#ways.get(`${from} ${index}`)
  }
}

/** Lets the content of an answer go that nobody waits for any more. */
function dropLater(answered: Promise<Answered>): void {
  void answered.then(async ({ content }) => await content?.[Symbol.asyncDispose]())
}

function bodyOf(pieces: AsyncGenerator<Uint8Array> | undefined, onGone: () => void): IncomingMessage {
  const body = new Readable({
    read: () => {
      if (pieces === undefined) body.push(null)
      else
        pieces.next().then(
          ({ done, value }) => body.push(done === true ? null : value),
          (error: unknown) => body.destroy(error as Error),
        )
    },
    destroy: (error, done) => {
      onGone()
      done(error)
    },
  })
  body.on('error', () => undefined)
  return body as unknown as IncomingMessage
}
