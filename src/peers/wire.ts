import type { ClientRequest, IncomingMessage } from 'node:http'
import { Agent, request as openRequest } from 'node:https'
import type { Socket } from 'node:net'
import { sharedKeyConnecting } from '../http/tls/shared-key.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { PEER_FIELD, type PeerKey } from './peer-key.ts'
import { ANSWER_FIELD, type PeerAnswer, type PeerQuestion, parseAnswer, targetOf } from './protocol.ts'

/** Limits of a question to another replica, in milliseconds. */
export interface WireLimits {
  readonly connectMs: number
  /** From the question to the first sign of life: the answer, or an interim response. */
  readonly signMs: number
  /** Between two signs of life. An answering replica sends one every second. */
  readonly beatMs: number
  /** For a free connection, if all of them are in use. */
  readonly freeMs: number
  /**
   * For the answer as a whole, however many signs of life come before it. Leaves time to ask the registry
   * before a client gives up.
   */
  readonly answerMs: number
}

const WIRE_LIMITS: WireLimits = {
  connectMs: 300,
  signMs: 2000,
  beatMs: 4000,
  freeMs: 1000,
  answerMs: 15_000,
}

const SOCKETS_PER_MEMBER_MAX = 256
const IDLE_PER_MEMBER_MAX = 8

/**
 * Why another replica did not answer. `unreachable`: no connection. `silent`: connected, but no sign of life.
 * `broken`: the connection broke. `stranger`: its answer is not signed with our secret. `version`: it speaks
 * another version of the protocol. `full`: all connections to it are in use. `slow`: signs of life, but no
 * answer.
 */
type TroubleKind = 'unreachable' | 'silent' | 'broken' | 'stranger' | 'version' | 'full' | 'slow'

/** Another replica did not answer. */
export class PeerTrouble extends Error {
  readonly kind: TroubleKind

  constructor(kind: TroubleKind, message: string, options: ErrorOptions = {}) {
    super(message, options)
    this.name = 'PeerTrouble'
    this.kind = kind
  }
}

/** A signed answer. Whoever gets it reads the body or destroys it. */
export interface PeerReply {
  readonly answer: PeerAnswer
  /** Name of the process that answered. */
  readonly instance: string
  readonly body: IncomingMessage
}

/** Address of another replica. */
export interface PeerAddress {
  readonly host: string
  readonly port: number
}

export interface WireParts {
  readonly key: PeerKey
  /** Name of this process. */
  readonly instance: string
  readonly clock?: Clock
  readonly limits?: WireLimits
}

export interface WireOptions {
  readonly signal: AbortSignal
  /** Mirrors that the client's request has passed. */
  readonly trail?: readonly string[]
  /** Closes the connection afterwards. */
  readonly isBrief?: boolean
  /** Waits for the answer until the signal aborts, as long as there are signs of life. */
  readonly isPatient?: boolean
}

/** Asks other replicas, over HTTP/1.1 in TLS by the cluster's secret. Opens the sockets between replicas. */
export class PeerWire implements Disposable {
  readonly #parts: WireParts
  readonly #clock: Clock
  readonly #limits: WireLimits
  readonly #agent: Agent
  readonly #secrecy: ReturnType<typeof sharedKeyConnecting>

  constructor(parts: WireParts) {
    this.#parts = parts
    this.#clock = parts.clock ?? systemClock
    this.#limits = parts.limits ?? WIRE_LIMITS
    this.#secrecy = sharedKeyConnecting(parts.key.tls)
    this.#agent = new Agent({
      // Node opens a connection for each request that brings a `checkServerIdentity` of its own, and counts
      // it toward no limit.
      ...this.#secrecy,
      keepAlive: true,
      maxSockets: SOCKETS_PER_MEMBER_MAX,
      maxFreeSockets: IDLE_PER_MEMBER_MAX,
      maxCachedSessions: 0,
    })
  }

  /**
   * Asks a replica. Throws a {@link PeerTrouble} if it gives no signed answer, and the reason of the signal
   * if that aborts.
   */
  async ask(address: PeerAddress, question: PeerQuestion, options: WireOptions): Promise<PeerReply> {
    try {
      return await this.#askOnce(address, question, options)
    } catch (error) {
      // An idle connection was closed by the other side while the question was on its way.
      if (!(error instanceof StaleConnection)) throw error
      return await this.#askOnce(address, question, { ...options, isBrief: true })
    }
  }

  [Symbol.dispose](): void {
    this.#agent.destroy()
  }

  async #askOnce(address: PeerAddress, question: PeerQuestion, options: WireOptions): Promise<PeerReply> {
    const { key, instance } = this.#parts
    const { signal, trail = [], isBrief = false, isPatient = false } = options
    const limits = isPatient ? { ...this.#limits, answerMs: undefined } : this.#limits
    signal.throwIfAborted()
    const method = question.kind === 'changed' ? 'POST' : 'GET'
    const target = targetOf(question)
    const { field, nonce } = key.signRequest({ method, target, instance, atMs: this.#clock.wallMs() })
    const request = openRequest({
      ...(isBrief ? { ...this.#secrecy, agent: false } : { agent: this.#agent }),
      ...address,
      method,
      path: target,
      headers: { [PEER_FIELD]: field, 'cdn-loop': [...trail, instance].join(', ') },
      signal,
    })
    const where = `${address.host}:${address.port}`
    const response = await responseTo(request, where, { signal, limits })
    return this.#read(response, nonce, where)
  }

  #read(response: IncomingMessage, nonce: string, where: string): PeerReply {
    const { headers } = response
    // The reader of the body sees its errors. If nothing reads it, its error must not end the process.
    response.on('error', () => undefined)
    const text = headers[ANSWER_FIELD]
    const signer = this.#parts.key.readAnswer(headers[PEER_FIELD], nonce, String(text))
    const answer = typeof signer === 'string' ? undefined : parseAnswer(text)
    if (typeof signer !== 'string' && answer !== undefined)
      return { answer, instance: signer.instance, body: response }
    response.destroy()
    if (signer === 'secret')
      throw new PeerTrouble('stranger', `${where} does not answer with the secret of this cluster`)
    throw new PeerTrouble('version', `${where} speaks another version of the protocol between replicas`)
  }
}

async function responseTo(
  request: ClientRequest,
  where: string,
  { signal, limits }: { readonly signal: AbortSignal; readonly limits: WatchLimits },
): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  request.once('response', resolve)
  // Errors after the response belong to the reader of its body.
  request.on('error', reject)
  using _ = watchFor(request, where, limits)
  let isHeard = false
  request.once('information', () => {
    isHeard = true
  })
  request.end()
  try {
    return await promise
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof PeerTrouble) throw error
    if (request.reusedSocket && !isHeard) throw new StaleConnection(`${where} closed an idle connection`)
    const { code = '', syscall } = error as NodeJS.ErrnoException
    const isStranger = code.startsWith('ERR_SSL') || code === 'EPROTO'
    const kind = isStranger ? 'stranger' : syscall === 'connect' ? 'unreachable' : 'broken'
    throw new PeerTrouble(kind, `${where} cannot be asked: ${(error as Error).message}`, { cause: error })
  }
}

/** A kept connection turned out to be closed. */
class StaleConnection extends PeerTrouble {
  constructor(message: string) {
    super('broken', message)
  }
}

type WatchLimits = Omit<WireLimits, 'answerMs'> & { readonly answerMs: number | undefined }

/** Destroys the request if the other side does not connect, or gives no sign of life in time. */
function watchFor(request: ClientRequest, where: string, limits: WatchLimits): Disposable {
  let timer: NodeJS.Timeout | undefined
  let steps = 0
  const expect = (afterMs: number, kind: TroubleKind, what: string): void => {
    clearTimeout(timer)
    steps += 1
    const step = steps
    // If this thread was busy, what came meanwhile is seen only after the timers.
    const check = (): unknown => setImmediate(() => setImmediate(expire))
    const expire = (): void => {
      if (step === steps) request.destroy(new PeerTrouble(kind, `${where} ${what} in ${afterMs} ms`))
    }
    timer = setTimeout(check, afterMs)
  }
  const awaitSign = (): void => expect(limits.signMs, 'silent', 'gave no sign of life')
  request.once('socket', (socket: Socket) => {
    if (!socket.connecting) awaitSign()
    else {
      expect(limits.connectMs, 'unreachable', 'cannot be connected to')
      socket.once('connect', awaitSign)
    }
  })
  request.on('information', () => expect(limits.beatMs, 'silent', 'gave no further sign of life'))
  expect(limits.freeMs, 'full', 'has no free connection')
  const { answerMs } = limits
  const giveUp = (): unknown =>
    request.destroy(new PeerTrouble('slow', `${where} gave no answer in ${answerMs} ms`))
  const whole = answerMs === undefined ? undefined : setTimeout(giveUp, answerMs)
  return {
    [Symbol.dispose]: () => {
      steps += 1
      clearTimeout(timer)
      clearTimeout(whole)
    },
  }
}
