import type { IncomingMessage, ServerResponse } from 'node:http'
import { requireAdmissible } from '../http/admit.ts'
import { breakOff, READING_LIMITS, type SendingLimits, send } from '../http/send.ts'
import { SendQueues } from '../http/send-queue.ts'
import type { KeyRefusal } from '../http/tls/shared-key.ts'
import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import type { PeerMetrics } from '../observe/peer-metrics.ts'
import { type Answered, failureAnswer, refusal } from './answered.ts'
import { PEER_FIELD, type PeerKey, type SignedRequest, type StrangerReason } from './peer-key.ts'
import { ANSWER_FIELD, answerText, type PeerAnswer, type PeerQuestion, parseQuestion } from './protocol.ts'

/** Between two signs of life before an answer, in milliseconds. */
const BEAT_MS = 1000

export interface PeerListenerParts {
  readonly key: PeerKey
  /** Name of this process. */
  readonly instance: string
  readonly clock: Clock
  readonly events: Events
  readonly metrics: PeerMetrics
  /** Answers a question. Throws what the mirror throws. */
  readonly respond: (question: PeerQuestion, trail: readonly string[]) => Promise<Answered>
  /** Called with the name of each replica that asks. */
  readonly heard: (instance: string) => void
}

/** Answers other replicas of the cluster. Whoever does not have its secret is refused and counted. */
export class PeerListener {
  readonly #parts: PeerListenerParts
  readonly #limits: SendingLimits
  #running = 0

  constructor(parts: PeerListenerParts) {
    this.#parts = parts
    this.#limits = { queues: new SendQueues(), ...READING_LIMITS }
  }

  /** Number of questions that are being answered. */
  get running(): number {
    return this.#running
  }

  /** Answers one request; never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { key, clock } = this.#parts
    const { method = '', url: target = '' } = request
    const field = request.headers[PEER_FIELD]
    const signed = key.readRequest({ method, target, field }, clock.wallMs())
    if (typeof signed === 'string') {
      this.#refuse(signed, request, response)
      return
    }
    this.#running += 1
    const left = new AbortController()
    response.once('close', () => left.abort(new Error('the replica left')))
    try {
      await this.#answer(signed, { request, response, left: left.signal })
    } catch {
      // The replica learns from its broken connection, and asks elsewhere.
      if (response.headersSent) breakOff(response)
      else response.destroy()
    } finally {
      this.#running -= 1
    }
  }

  async #answer(
    signed: SignedRequest,
    {
      request,
      response,
      left,
    }: {
      readonly request: IncomingMessage
      readonly response: ServerResponse
      readonly left: AbortSignal
    },
  ): Promise<void> {
    const { instance, heard, metrics } = this.#parts
    const question = parseQuestion(signed.target)
    const { answer, content } =
      signed.instance === instance
        ? refusal('loop')
        : question === undefined
          ? refusal('invalid')
          : await this.#respond(question, request, response)
    if (signed.instance !== instance) heard(signed.instance)
    metrics.peerAnswers.inc({ what: question?.kind ?? 'unknown', result: answer.kind })
    if (left.aborted) {
      await content?.[Symbol.asyncDispose]()
      return
    }
    const headers = this.#headers(answer, signed.nonce)
    const status = statusOf(answer)
    if (content === undefined || answer.kind !== 'content') {
      response.writeHead(status, { ...headers, 'Content-Length': '0' })
      response.end()
      return
    }
    const { from, sizeBytes } = answer
    const reply = {
      status,
      headers: sizeBytes === undefined ? headers : { ...headers, 'Content-Length': String(sizeBytes - from) },
      body: { kind: 'content', content, range: { start: from, end: sizeBytes ?? Infinity } },
      outcome: undefined,
    } as const
    await send(response, reply, this.#limits, left)
  }

  /** Answers a question, with a sign of life at once and every second until then. */
  async #respond(
    question: PeerQuestion,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<Answered> {
    const { instance, respond } = this.#parts
    const beat = setInterval(() => {
      if (!response.destroyed) response.writeProcessing()
    }, BEAT_MS)
    try {
      if (question.kind !== 'hello') response.writeProcessing()
      const trail = requireAdmissible(request, instance)
      // The last one is the replica that asks. Its own request to the registry would not name it.
      return await respond(question, trail.slice(0, -1))
    } catch (error) {
      return failureAnswer(error)
    } finally {
      clearInterval(beat)
    }
  }

  #headers(answer: PeerAnswer, nonce: string): Record<string, string> {
    const { key, instance } = this.#parts
    const text = answerText(answer)
    return {
      [PEER_FIELD]: key.signAnswer(instance, nonce, text),
      [ANSWER_FIELD]: text,
      'Cache-Control': 'no-store',
    }
  }

  /** Counts a connection that is refused before it has sent a request. */
  refuseConnection(why: KeyRefusal, from: string | undefined): void {
    this.#count(REASONS[why], from)
  }

  #count(why: StrangerReason, from: string | undefined): void {
    const { events, metrics } = this.#parts
    metrics.peerStrangers.inc({ why })
    events.warned('refused a request at the listener for replicas', { why, from })
  }

  #refuse(why: StrangerReason, { socket }: IncomingMessage, response: ServerResponse): void {
    this.#count(why, socket.remoteAddress)
    response.writeHead(401, { 'Content-Length': '0', Connection: 'close' })
    response.end()
  }
}

const REASONS = {
  plain: 'unsigned',
  handshake: 'secret',
} as const satisfies Record<KeyRefusal, StrangerReason>

/** For people who read the traffic. Replicas read the answer itself. */
function statusOf(answer: PeerAnswer): number {
  if (answer.kind === 'absent') return 404
  if (answer.kind === 'failed') return 502
  if (answer.kind === 'refused') return answer.why === 'loop' ? 508 : 503
  return 200
}
