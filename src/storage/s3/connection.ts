import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import { untilAborted } from '../../lib/abort.ts'
import { type Attempt, Breaker } from '../../lib/breaker.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import type { Events } from '../../observe/events.ts'
import { StoreUnavailableError } from '../../oci/error.ts'
import { CutError, WrongAnswerError } from './body.ts'
import { type CallOptions, DirectRequests } from './direct.ts'
import { S3Failure } from './failure.ts'
import { type RequestLimits, S3_LIMITS, type S3Limits } from './limits.ts'

/** A bucket, and our credentials for it. */
export interface S3Address {
  readonly bucket: string
  readonly region: string
  /** A URL of scheme, host and port; `undefined` is Amazon's own. */
  readonly endpoint: string | undefined
  readonly isPathStyle: boolean
  /** Prefix of every key: empty, or ending with a slash. */
  readonly prefix: string
  /**
   * `undefined` asks the SDK's chain: environment, files, web identity (IRSA), container and instance
   * profiles.
   */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string } | undefined
}

export interface S3ConnectionOptions {
  readonly address: S3Address
  readonly events: Pick<Events, 'warned'> & Partial<Pick<Events, 's3Answered'>>
  readonly clock?: Clock
  readonly limits?: Partial<S3Limits>
}

/** One request, or several in one. May be called again after its body was cut. */
export type Call<T> = (client: S3Client, options: CallOptions) => Promise<T>

/** One body for each of at most 4,096 clients, and requests of our own. */
const SOCKETS_MAX = 4_096 + 256
const CONNECT_MS = 3_000
/** Longer than our own timers, so that it only ends what they have missed. */
const SOCKET_IDLE_MS = 120_000
const ATTEMPTS_MAX = 3
/** Quick failures in a row after which S3 is left alone for a while. */
const FAILURES_MAX = 5
/** Grace period for aborting uploads after {@link S3Connection.cut}. */
const TIDYING_MS = 2_000
const SILENT = {
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

interface OneRequest {
  readonly operation: string
  readonly limits: RequestLimits
}

/**
 * Requests to one bucket: within time limits, with retries, and refused at once while S3 is dead.
 */
export class S3Connection implements Disposable {
  readonly address: S3Address
  readonly limits: S3Limits
  readonly clock: Clock
  /** For requests that are made very often. */
  readonly direct: DirectRequests
  readonly #client: S3Client
  readonly #breaker: Breaker
  readonly #events: S3ConnectionOptions['events']
  readonly #cut = new AbortController()
  readonly #end = new AbortController()
  #tidying: NodeJS.Timeout | undefined

  constructor({ address, events, clock = systemClock, limits }: S3ConnectionOptions) {
    this.address = address
    this.limits = { ...S3_LIMITS, ...limits }
    this.clock = clock
    this.#events = events
    this.#client = new S3Client(clientConfig(address))
    this.direct = new DirectRequests(this.#client)
    this.#breaker = new Breaker({
      clock,
      failuresMax: FAILURES_MAX,
      onChange: ({ isOpen, wasOpen, forMs }) => {
        if (!isOpen) events.warned('S3 answers again')
        else if (!wasOpen) events.warned('S3 does not answer; it is left alone for now', { forMs })
      },
    })
  }

  get bucket(): string {
    return this.address.bucket
  }

  /** The bucket's key for a key of the layout. */
  key(name: string): string {
    return `${this.address.prefix}${name}`
  }

  /** A client of the same bucket that signs for another host, by the same credentials. */
  clientFor(endpoint: string | undefined): S3Client {
    if (endpoint === undefined) return this.#client
    return new S3Client({
      ...clientConfig({ ...this.address, endpoint }),
      credentials: this.#client.config.credentials,
    })
  }

  /** The wall clock of S3: the SDK learns the offset of ours. */
  nowMs(): number {
    return this.clock.wallMs() + (this.#client.config.systemClockOffset ?? 0)
  }

  /**
   * Asks S3. Throws a {@link S3Failure} if the request fails, the signal's reason if it aborts first, or the
   * call's own error. The time limit includes a body that the call reads, but not one that it returns;
   * {@link cut} ends both.
   */
  async send<T>(operation: string, limits: RequestLimits, call: Call<T>, signal?: AbortSignal): Promise<T> {
    const { signal: cut } = this.#cut
    return await this.#measured(
      { operation, limits },
      call,
      signal === undefined ? cut : AbortSignal.any([signal, cut]),
    )
  }

  /** Sends a request that should run even after {@link cut}, which leaves it two seconds. */
  async tidy<T>(operation: string, call: Call<T>): Promise<T> {
    return await this.#measured({ operation, limits: this.limits.quick }, call, this.#end.signal)
  }

  /** Aborts all requests and refuses further ones, with a `StoreUnavailableError`. */
  cut(): void {
    if (this.#cut.signal.aborted) return
    const reason = new StoreUnavailableError('the store is being closed, and does not wait for S3 any more')
    this.#cut.abort(reason)
    this.#tidying = setTimeout(() => this.#end.abort(reason), TIDYING_MS).unref()
  }

  /** Reports the time of a request. An answer such as 404 is no failure of S3. */
  async #measured<T>(request: OneRequest, call: Call<T>, signal: AbortSignal): Promise<T> {
    const startedAtMs = this.clock.monotonicMs()
    const report = (result: 'ok' | 'failed'): void => {
      const durationMs = this.clock.monotonicMs() - startedAtMs
      this.#events.s3Answered?.({ operation: request.operation, result, durationMs })
    }
    try {
      const value = await this.#send(request, call, signal)
      report('ok')
      return value
    } catch (error) {
      if (error instanceof S3Failure) report(error.isTrouble ? 'failed' : 'ok')
      throw error
    }
  }

  async #send<T>({ operation, limits }: OneRequest, call: Call<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted()
    const attempt = this.#begin()
    const startedAtMs = this.clock.monotonicMs()
    const late = new AbortController()
    const timer = setTimeout(
      () => late.abort(named('TimeoutError', `took longer than ${limits.totalMs} ms`)),
      limits.totalMs,
    )
    const abortSignal = AbortSignal.any([signal, late.signal])
    try {
      const options = { abortSignal, requestTimeout: limits.attemptMs }
      const result = await untilAborted(this.#attempt(call, options), abortSignal)
      attempt.succeeded()
      return result
    } catch (error) {
      if (signal.aborted) {
        attempt.abandoned()
        throw signal.reason
      }
      if (error instanceof WrongAnswerError) {
        attempt.succeeded()
        throw error
      }
      const failure = new S3Failure(operation, late.signal.aborted ? late.signal.reason : error)
      if (!failure.isTrouble) attempt.succeeded()
      else if (this.clock.monotonicMs() - startedAtMs >= this.limits.quick.attemptMs) attempt.failedBadly()
      else attempt.failed()
      throw failure
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * A pull asks the store several times before its first header, so a dead S3 must fail at once: one request
   * that took its whole time opens the breaker, as do five quick failures in a row.
   */
  #begin(): Attempt {
    if (this.#breaker.quiet() === undefined) return this.#breaker.begin()
    throw new StoreUnavailableError('S3 is left alone for a moment because it did not answer')
  }

  /** The SDK retries until it has headers, but not when a body is cut. */
  async #attempt<T>(call: Call<T>, options: CallOptions): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await call(this.#client, options)
      } catch (error) {
        if (!(error instanceof CutError) || attempt === ATTEMPTS_MAX) throw error
      }
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#tidying)
    this.#client.destroy()
  }
}

function named(name: string, message: string): Error {
  return Object.assign(new Error(message), { name })
}

function clientConfig({ region, endpoint, isPathStyle, credentials }: S3Address): S3ClientConfig {
  const agent = { keepAlive: true, maxSockets: SOCKETS_MAX, maxFreeSockets: 256, scheduling: 'lifo' } as const
  return {
    region,
    forcePathStyle: isPathStyle,
    maxAttempts: ATTEMPTS_MAX,
    retryMode: 'standard',
    // radosgw and Swift refuse the checksums that the SDK adds by itself, and the framing that goes with
    // them; every body is signed.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    logger: SILENT,
    requestHandler: {
      connectionTimeout: CONNECT_MS,
      socketTimeout: SOCKET_IDLE_MS,
      throwOnRequestTimeout: true,
      httpAgent: agent,
      httpsAgent: agent,
      logger: SILENT,
    },
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(credentials === undefined ? {} : { credentials }),
  }
}
