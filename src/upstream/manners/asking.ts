import { randomUUID } from 'node:crypto'
import type { Clock } from '../../lib/clock.ts'
import type { Events } from '../../observe/events.ts'
import { OciError, UpstreamError } from '../../oci/error.ts'
import type { Namespace } from '../../oci/namespace.ts'
import { discardBody, type UpstreamAnswer } from '../answer.ts'
import { authorityText, isSameOrigin, type Origin } from '../dial/target.ts'
import { asUpstreamError, DowngradeError } from '../failure.ts'
import type { Asker } from '../registry.ts'
import { isServerTrouble } from '../session.ts'
import { answerError, QUIET_MS, withTlsHint } from './answer-error.ts'
import { Budget } from './budget.ts'
import type { Gate, Slot } from './gate.ts'
import { Misstated } from './misstated.ts'
import type { NegativeCache } from './negative.ts'
import { type Inquiry, type Outage, type Outages, wasAsked } from './outages.ts'
import { Patience } from './patience.ts'

/** One question to an upstream, in the terms of the distribution specification. */
export interface Question {
  /** For metrics and logs: one of a closed set. */
  readonly verb: 'head-manifest' | 'get-manifest' | 'head-blob' | 'get-blob' | 'tags' | 'referrers'
  readonly method: 'GET' | 'HEAD'
  readonly repository: string
  /** Path and query on the upstream's own origin. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly slot: Slot
  /** The digest that is asked for proves the answer, whichever host sends it. */
  readonly isProved?: boolean
  /** Key under which a denial is remembered. HEAD and GET of one thing share it. */
  readonly key: string
  /** The request for which this is asked. */
  readonly asker?: Asker
  /** Ask although a denial is remembered. */
  readonly isFresh?: boolean
  /** True for answers other than 200 that are good for this question. */
  readonly accepts?: (answer: UpstreamAnswer) => boolean
}

/** An accepted answer. `release` frees its place among the upstream's requests. */
export interface Opened {
  readonly answer: UpstreamAnswer
  readonly release: () => void
}

export interface AskingParts {
  readonly namespace: Namespace
  readonly origin: Origin
  readonly hasCredentials: boolean
  readonly events: Events
  readonly clock: Clock
  readonly gate: Gate
  readonly outages: Outages
  readonly negative: NegativeCache
  /** Longest silence that is waited out within a request, in milliseconds. */
  readonly retryAfterMaxMs: number
  /** {@link Asking.trouble} has changed. */
  readonly onTrouble: () => void
  /** Gets an answer, with all redirects and credentials that it takes. */
  readonly exchange: (question: Question, signal: AbortSignal) => Promise<UpstreamAnswer>
}

/** Time for which a registry counts as in trouble after a redirect to http that is not allowed. */
const DOWNGRADE_MS = 10 * 60_000

/**
 * Asks an upstream considerately: remembers denials, leaves it alone while it is in trouble, and limits the
 * number of requests at once.
 */
export class Asking {
  readonly #parts: AskingParts
  /** Tells the entries of this upstream from those of others in the shared cache. */
  readonly #id = randomUUID()
  readonly #budget = new Budget()
  /** Repositories whose stated digests were wrong. */
  readonly misstated: Misstated
  /** A blob was last redirected to http, which is not allowed: pulls of this registry cannot be completed. */
  #downgrade: { readonly error: UpstreamError; readonly untilMs: number } | undefined

  /** Message of the last failure for which the registry may be left alone. */
  #lastOutage: string | undefined

  constructor(parts: AskingParts) {
    this.#parts = parts
    this.misstated = new Misstated(parts.clock)
  }

  /** True if the upstream allows few more pulls. */
  get isRunningLow(): boolean {
    return this.#budget.isLow
  }

  /** The trouble that the upstream is known to be in, as far as it concerns a repository. */
  trouble(repository: string): UpstreamError | undefined {
    const outage = this.#parts.outages.quiet(repository)
    if (outage !== undefined && !this.#isWaitedOut(outage)) return this.#quietError(outage, repository)
    const isDowngraded = (this.#downgrade?.untilMs ?? 0) > this.#parts.clock.monotonicMs()
    return isDowngraded ? this.#downgrade?.error : undefined
  }

  /** Asks and reads the answer. Asks once more if the answer breaks off. */
  async ask<T>(
    question: Question,
    signal: AbortSignal,
    read: (answer: UpstreamAnswer) => Promise<T> | T,
  ): Promise<T | undefined> {
    for (let isLast = false; ; isLast = true) {
      const opened = await this.open(question, signal)
      if (opened === undefined) return undefined
      try {
        return await read(opened.answer)
      } catch (thrown) {
        const error = asUpstreamError(thrown, authorityText(opened.answer.target.origin), signal)
        const isCut = error instanceof UpstreamError && error.kind === 'cut'
        if (isLast || !isCut) throw this.#reported(question, error)
      } finally {
        discardBody(opened.answer)
        opened.release()
      }
    }
  }

  /** Asks. The caller reads the body and calls `release`. */
  async open(question: Question, signal: AbortSignal): Promise<Opened | undefined> {
    const patience = new Patience(this.#parts.clock, this.#parts.retryAfterMaxMs)
    for (;;) {
      try {
        return await this.#openNow(question, signal)
      } catch (error) {
        await patience.wait(error, signal)
      }
    }
  }

  async #openNow(question: Question, signal: AbortSignal): Promise<Opened | undefined> {
    if (this.#isKnownAbsent(question)) return undefined
    await this.#requirePeace(question, signal)
    const release = await this.#parts.gate.enter(question.slot, signal)
    try {
      // Trouble may have begun during the wait.
      await this.#requirePeace(question, signal)
      const answer = await this.#exchange(question, signal)
      if (answer === undefined) release()
      return answer === undefined ? undefined : { answer, release }
    } catch (error) {
      release()
      throw error
    }
  }

  #isKnownAbsent(question: Question): boolean {
    const refusal = question.isFresh === true ? undefined : this.#parts.negative.find(this.#key(question))
    if (refusal !== 'refused') return refusal === 'absent'
    throw new UpstreamError('refused', `${authorityText(this.#parts.origin)} refused this a moment ago`)
  }

  #key(question: Question): string {
    return `${this.#id} ${question.key}`
  }

  async #requirePeace({ repository }: Question, signal: AbortSignal): Promise<void> {
    this.#throwTrouble(repository)
    await this.#parts.outages.probed(signal)
    this.#throwTrouble(repository)
  }

  #throwTrouble(repository: string): void {
    const outage = this.#parts.outages.quiet(repository)
    if (outage !== undefined) throw this.#quietError(outage, repository)
  }

  #isWaitedOut({ kind, forMs }: Outage): boolean {
    return kind === 'rate-limited' && forMs <= this.#parts.retryAfterMaxMs
  }

  async #exchange(question: Question, signal: AbortSignal): Promise<UpstreamAnswer | undefined> {
    const { outages, events, namespace, clock, exchange } = this.#parts
    const inquiry = outages.begin(question.repository)
    const startMs = clock.monotonicMs()
    try {
      const answer = await exchange(question, signal)
      events.upstreamAnswered({
        namespace,
        verb: question.verb,
        status: answer.status,
        durationMs: clock.monotonicMs() - startMs,
      })
      return this.#judge(question, answer, inquiry)
    } catch (thrown) {
      const error = this.#withHint(question, thrown)
      this.#learn(inquiry, error, this.#key(question))
      throw this.#reported(question, error)
    } finally {
      inquiry.abandoned()
    }
  }

  /** `undefined` for a clean 404. Throws for any other answer that the question does not accept. */
  #judge(question: Question, answer: UpstreamAnswer, inquiry: Inquiry): UpstreamAnswer | undefined {
    const { events, negative, namespace } = this.#parts
    const budget = this.#isRegistry(answer) ? this.#budget.note(answer.headers) : undefined
    if (budget !== undefined) events.rateLimitSeen({ namespace, ...budget })
    if (answer.status === 200 || question.accepts?.(answer) === true) {
      inquiry.succeeded()
      negative.forget(this.#key(question))
      if (question.verb === 'get-blob') this.#noteDowngrade(undefined)
      return answer
    }
    discardBody(answer)
    if (answer.status === 404 && this.#isRegistry(answer)) {
      inquiry.succeeded()
      negative.remember(this.#key(question), 'absent')
      return undefined
    }
    throw answerError(answer, this.#parts, this.#isRegistry(answer))
  }

  /** True if a registry answered. The word of a storage service on what exists does not count. */
  #isRegistry({ target }: UpstreamAnswer): boolean {
    return isSameOrigin(target.origin, this.#parts.origin) || target.path.startsWith('/v2/')
  }

  #learn(inquiry: Inquiry, error: unknown, key: string): void {
    const { outages, negative, origin } = this.#parts
    if (!(error instanceof UpstreamError)) return
    const outage = outageOf(error, authorityText(origin))
    if (outage !== undefined) this.#lastOutage = error.message
    if (outage === 'registry') inquiry.registryFailed()
    else if (outage === 'repository') inquiry.repositoryFailed()
    else if (error.kind !== 'token' && wasAsked(error)) inquiry.succeeded()
    if (error.kind === 'refused') negative.remember(key, 'refused')
    if (error.kind === 'rate-limited') outages.beQuiet(error.retryAfterMs ?? QUIET_MS)
  }

  /** Names the setting that may help. If it is to follow redirects to http, remembers that blobs need it. */
  #withHint({ isProved, verb }: Question, error: unknown): unknown {
    if (!(error instanceof DowngradeError) || isProved !== true) return withTlsHint(error, this.#parts.origin)
    const hint = `"allow_http_redirects: true" in the entry "- namespace: ${this.#parts.namespace}" of the upstream file`
    const { host, message } = error
    const hinted = new UpstreamError(
      'invalid',
      `${message}; to allow it for content with a digest: ${hint}`,
      { host },
    )
    if (verb === 'get-blob' || verb === 'head-blob') this.#noteDowngrade(hinted)
    return hinted
  }

  #noteDowngrade(error: UpstreamError | undefined): void {
    const wasNoted = this.#downgrade !== undefined
    const untilMs = this.#parts.clock.monotonicMs() + DOWNGRADE_MS
    this.#downgrade = error === undefined ? undefined : { error, untilMs }
    if (wasNoted !== (error !== undefined)) this.#parts.onTrouble()
  }

  #reported(question: Question, error: unknown): unknown {
    const { events, namespace } = this.#parts
    const isOurs = error instanceof OciError && error.code === 'DENIED'
    if (error instanceof UpstreamError || isOurs) {
      const kind = error instanceof UpstreamError ? error.kind : 'denied'
      events.upstreamFailed({ namespace, verb: question.verb, kind, error })
    }
    return error
  }

  #quietError({ kind, forMs, scope }: Outage, repository: string): UpstreamError {
    const host = authorityText(this.#parts.origin)
    const why = kind === 'breaker' ? 'it failed several times in a row' : 'it asked for that'
    const last = kind === 'breaker' && this.#lastOutage !== undefined ? `, at last: ${this.#lastOutage}` : ''
    const what =
      scope === 'registry'
        ? `${host} is left alone for now, because ${why}${last}`
        : `${host} is not asked for ${repository} for now, because that failed several times in a row`
    return new UpstreamError(kind, what, { retryAfterMs: forMs })
  }
}

/**
 * The part of an upstream that an error shows to be down. A connection that cannot be made to the registry
 * itself concerns all its repositories; a host that one of them redirects to does not.
 */
function outageOf(
  { kind, status, host }: UpstreamError,
  registry: string,
): 'registry' | 'repository' | undefined {
  switch (kind) {
    case 'connect':
    case 'dns':
    case 'tls':
      return host === registry ? 'registry' : 'repository'
    case 'cut':
    case 'stalled':
    case 'timeout':
      return 'repository'
    case 'status':
      return isServerTrouble(status ?? 500) ? 'repository' : undefined
    case 'breaker':
    case 'invalid':
    case 'mismatch':
    case 'offline':
    case 'not-public':
    case 'rate-limited':
    case 'refused':
    case 'token':
    case 'too-many':
      return undefined
    default:
      return kind satisfies never
  }
}
