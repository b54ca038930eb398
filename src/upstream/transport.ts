import type { Agent, Dispatcher } from 'undici'
import type { Clock } from '../lib/clock.ts'
import { undici } from '../lib/libraries.ts'
import { UpstreamError } from '../oci/error.ts'
import { type AnswerHeaders, discardBody, headerOf, type UpstreamAnswer } from './answer.ts'
import type { Dialer } from './dial/dialer.ts'
import { authorityText, isSameOrigin, originText, resolveTarget, type Target } from './dial/target.ts'
import { isGzipped } from './encoding.ts'
import { asUpstreamError, DowngradeError, isWorthRetrying, Trouble } from './failure.ts'
import { retryAfterMs } from './manners/retry-after.ts'
import { type Asker, OURSELVES } from './registry.ts'
import { traceExchange } from './trace-exchange.ts'

/** One request to an upstream. */
export interface Exchange {
  readonly method: 'GET' | 'HEAD' | 'POST'
  readonly target: Target
  /** Header fields besides those that every request has. */
  readonly headers: Readonly<Record<string, string>>
  /** Sent to the first target only. Dropped for good if a redirect leads to another origin. */
  readonly authorization?: string | undefined
  readonly body?: string
  /** The client request that caused this one. */
  readonly asker?: Asker | undefined
  /** Follow redirects from https to http too: the digest proves the content. */
  readonly followsToHttp?: boolean
}

/** Limits of one exchange, in milliseconds. */
export interface ExchangeTimings {
  /** From the start, including dialling, to the headers of the response. */
  readonly firstByteMs: number
  /** A try that failed later than this is not repeated. */
  readonly retryWithinMs: number
  /** The pause before the second try is between half of this and all of it. */
  readonly retryPauseMs: number
}

/** The first byte must come within 20 s; the other two seconds are for dialling. */
export const EXCHANGE_TIMINGS: ExchangeTimings = {
  firstByteMs: 22_000,
  retryWithinMs: 8000,
  retryPauseMs: 200,
}

const REDIRECTS_MAX = 5
const INTERIM_MAX = 16
const ORIGINS_MAX = 256
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])
const RETRIED: ReadonlySet<number> = new Set([500, 502, 503, 504])

/** How long an idle connection is kept, in milliseconds. */
export interface IdleLimits {
  /** Used if the server does not say how long it keeps the connection. */
  readonly keptMs: number
  /** Upper limit, even if the server keeps it longer. */
  readonly keptMaxMs: number
}

export const IDLE_LIMITS: IdleLimits = { keptMs: 15_000, keptMaxMs: 60_000 }
/** Short, because a registry that a client named must not decide how long we keep its connections. */
export const STRANGER_IDLE_LIMITS: IdleLimits = { keptMs: 2000, keptMaxMs: 2000 }

export interface TransportOptions {
  readonly dialer: Dialer
  readonly clock: Clock
  readonly timings: ExchangeTimings
  readonly idle: IdleLimits
  readonly userAgent: string
  /** Name of this process in `Via` and `CDN-Loop`. */
  readonly instance: string
}

/**
 * HTTP with one upstream and with the hosts that it redirects to. Throws `UpstreamError`s, the dialer's
 * refusals, and the reason of an aborted signal. Knows nothing of registries, and has no cookies and no
 * cache.
 */
export class Transport implements AsyncDisposable {
  readonly #options: TransportOptions
  #agent: Agent | undefined
  /** Agents with requests that have not ended yet. */
  readonly #closing = new Set<Agent>()

  constructor(options: TransportOptions) {
    this.#options = options
  }

  /**
   * Closes idle connections now, and each of the others when its request has ended. The transport stays
   * usable: a download may still resume on a connection of its own. Resolves when all are closed; never
   * rejects.
   */
  async release(): Promise<void> {
    const agent = this.#agent
    if (agent === undefined) return
    this.#agent = undefined
    this.#closing.add(agent)
    try {
      await agent.close()
    } catch {
      // The agent was destroyed while it closed.
    } finally {
      this.#closing.delete(agent)
    }
  }

  /** Breaks off every connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    const agents = [...this.#closing, ...(this.#agent === undefined ? [] : [this.#agent])]
    await Promise.all(agents.map(async agent => await agent.destroy()))
  }

  /** Opened on first use: many registries are named and never asked. */
  #openAgent(): Agent {
    const { dialer, idle } = this.#options
    this.#agent ??= new (undici().Agent)({
      connect: dialer.connect,
      allowH2: false,
      pipelining: 1,
      maxOrigins: ORIGINS_MAX,
      keepAliveTimeout: idle.keptMs,
      keepAliveMaxTimeout: idle.keptMaxMs,
      headersTimeout: 0,
      bodyTimeout: 0,
    })
    return this.#agent
  }

  /** Sends a request and follows redirects: at most five, and from https to http only if that is allowed. */
  async follow(exchange: Exchange, signal: AbortSignal): Promise<UpstreamAnswer> {
    let current = exchange
    for (let hops = 0; hops <= REDIRECTS_MAX; hops += 1) {
      const answer = await this.sendTwice(current, signal)
      if (!REDIRECTS.has(answer.status)) return answer
      discardBody(answer)
      current = redirected(current, headerOf(answer.headers, 'location'))
    }
    throw invalid(exchange.target, `redirects more than ${REDIRECTS_MAX} times`)
  }

  /**
   * Sends a request, and once more if the connection broke before an answer (a kept-alive one that its server
   * has just closed), or if the answer reports a passing trouble of the server.
   */
  async sendTwice(exchange: Exchange, signal: AbortSignal): Promise<UpstreamAnswer> {
    const { clock, timings } = this.#options
    const startMs = clock.monotonicMs()
    const isInTime = (): boolean => clock.monotonicMs() - startMs <= timings.retryWithinMs
    try {
      const answer = await this.send(exchange, signal)
      if (!RETRIED.has(answer.status) || !isInTime() || wantsQuiet(answer.headers, clock)) return answer
      discardBody(answer)
    } catch (error) {
      if (!isWorthRetrying(error) || exchange.method === 'POST' || !isInTime()) throw error
    }
    await clock.delay(timings.retryPauseMs * (0.5 + Math.random() / 2), signal)
    return await this.send(exchange, signal)
  }

  /** One exchange: no retry, no redirect. */
  async send(exchange: Exchange, signal: AbortSignal): Promise<UpstreamAnswer> {
    const { method, target } = exchange
    return await traceExchange({ method, ...target.origin }, () => this.#send(exchange, signal))
  }

  async #send(exchange: Exchange, signal: AbortSignal): Promise<UpstreamAnswer> {
    const { target } = exchange
    const late = new AbortController()
    const timer = setTimeout(
      () => late.abort(new Trouble('timeout', 'did not answer in time')),
      this.#options.timings.firstByteMs,
    )
    try {
      const response = await this.#openAgent().request(
        this.#request(exchange, AbortSignal.any([signal, late.signal]), late),
      )
      // The reader of the body sees its errors. If nothing reads the body, its error must not end the
      // process.
      response.body.on('error', () => undefined)
      return usable({
        status: response.statusCode,
        headers: response.headers,
        body: response.body,
        target,
      })
    } catch (error) {
      const proxy = this.#options.dialer.proxyFor(target.origin)
      throw asUpstreamError(error, authorityText(target.origin), signal, proxy)
    } finally {
      clearTimeout(timer)
    }
  }

  #request(exchange: Exchange, signal: AbortSignal, late: AbortController): Dispatcher.RequestOptions {
    let interim = 0
    const { method, target, headers, authorization, body, asker = OURSELVES } = exchange
    return {
      method,
      origin: originText(target.origin),
      path: target.path,
      headers: {
        'user-agent': this.#options.userAgent,
        'accept-encoding': 'identity',
        via: `1.1 ${this.#options.instance}`,
        'cdn-loop': [...asker.trail, this.#options.instance].join(', '),
        ...headers,
        ...(authorization === undefined ? {} : { authorization }),
      },
      ...(body === undefined ? {} : { body }),
      signal,
      // Keep the connection after a HEAD. undici would close it, because some servers send a body all the
      // same. Such a body arrives on an idle connection here, and undici then destroys it.
      ...(method === 'HEAD' ? { reset: false } : {}),
      onInfo: () => {
        interim += 1
        if (interim > INTERIM_MAX) late.abort(new Trouble('invalid', 'sends interim answers without end'))
      },
    }
  }
}

/** Refuses an answer with any content coding but gzip. */
function usable(answer: UpstreamAnswer): UpstreamAnswer {
  const encoding = answer.headers['content-encoding']
  if (encoding === undefined || encoding === 'identity' || answer.status >= 300) return answer
  if (isGzipped(answer.headers)) return answer
  answer.body.destroy()
  throw new Trouble('invalid', 'sent an encoded answer though it was asked not to')
}

/** True if the server asks for a longer pause than the one before a second try. */
function wantsQuiet(headers: AnswerHeaders, clock: Clock): boolean {
  return (retryAfterMs(headerOf(headers, 'retry-after'), clock.wallMs()) ?? 0) > 1000
}

function redirected(exchange: Exchange, location: string | undefined): Exchange {
  const from = exchange.target
  const to = location === undefined ? undefined : resolveTarget(location, from.origin)
  if (to === undefined) throw invalid(from, 'redirects to where nothing can be')
  const isDowngrade = from.origin.protocol === 'https:' && to.origin.protocol === 'http:'
  if (isDowngrade && exchange.followsToHttp !== true) throw new DowngradeError(authorityText(from.origin))
  const { authorization, ...rest } = exchange
  return { ...rest, target: to, ...(isSameOrigin(from.origin, to.origin) ? { authorization } : {}) }
}

function invalid(target: Target, what: string): UpstreamError {
  return new UpstreamError('invalid', `${authorityText(target.origin)} ${what}`)
}
