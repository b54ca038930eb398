import type { Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'
import type { Namespace } from '../oci/namespace.ts'
import { clip, type Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { RecentClients } from './recent-clients.ts'

/** One finished request, as the access log has it. */
export interface FinishedRequest {
  readonly method: string
  readonly resource: string
  readonly status: number
  readonly outcome: Outcome | undefined
  readonly namespace: Namespace | undefined
  readonly repository: string | undefined
  readonly reference: string | undefined
  readonly client: string | undefined
  readonly userAgent: string | undefined
  readonly sentBytes: number
  readonly durationMs: number
  /** What went wrong, for a response that is an error or was broken off. */
  readonly error: unknown
  /** Whether the client left before the end. */
  readonly isAborted: boolean
}

/** How a fill ended. */
export interface FinishedFill {
  readonly namespace: Namespace
  readonly digest: Digest
  readonly sizeBytes: number
  readonly durationMs: number
  readonly resumes: number
  readonly result: 'stored' | 'not-stored' | 'absent' | 'failed' | 'mismatch' | 'abandoned'
  readonly error: unknown
}

/** What happens in the daemon, one function per event: log line and metric together. */
export class Events {
  /** Who has pulled lately. */
  readonly recentClients = new RecentClients()
  readonly #log: Log
  readonly #metrics: Metrics
  #known: ReadonlySet<Namespace> = new Set()
  #isBypassing = false

  constructor(log: Log, metrics: Metrics) {
    this.#log = log
    this.#metrics = metrics
  }

  /** Says which namespaces are configured: these are metric labels, all others together are `other`. */
  nameNamespaces(configured: Iterable<Namespace>): void {
    this.#known = new Set(configured)
  }

  started(fields: {
    readonly listen: string
    readonly adminListen: string | undefined
    readonly store: string
  }): void {
    this.#log.info(fields, 'listening')
  }

  /** What a store says of itself when it is opened: where it is, and what it was found able to do. */
  storeOpened(fields: Readonly<Record<string, unknown>>): void {
    this.#log.info(fields, 'store opened')
  }

  warned(message: string, fields: object = {}): void {
    this.#log.warn(fields, message)
  }

  draining(fields: { readonly requests: number; readonly limitMs: number }): void {
    this.#log.info(fields, 'draining')
  }

  stopped(fields: { readonly cutRequests: number }): void {
    this.#log.info(fields, 'stopped')
  }

  reloaded(fields: { readonly upstreams: number }): void {
    this.#metrics.reloads.inc({ result: 'ok' })
    this.#log.info(fields, 'upstream file reloaded')
  }

  reloadFailed(error: unknown): void {
    this.#metrics.reloads.inc({ result: 'failed' })
    this.#log.error({ err: error }, 'upstream file not reloaded, nothing changed')
  }

  requestStarted(): void {
    this.#metrics.requestsInFlight.inc()
  }

  requestFinished(request: FinishedRequest): void {
    const { resource, outcome, status } = request
    const namespace = this.#label(request.namespace)
    const labels = { resource, outcome: outcome ?? 'none' }
    this.#metrics.requestsInFlight.dec()
    this.#metrics.requests.inc({ ...labels, method: request.method, status, namespace })
    this.#metrics.requestSeconds.observe(labels, request.durationMs / 1000)
    this.#metrics.responseBytes.inc({ ...labels, namespace }, request.sentBytes)
    this.recentClients.saw(request)
    this.#log.info(accessLine(request), 'request')
  }

  upstreamAnswered(answer: {
    readonly namespace: Namespace
    readonly verb: string
    readonly status: number
    readonly durationMs: number
  }): void {
    this.#metrics.upstreamRequests.inc({
      namespace: this.#label(answer.namespace),
      verb: answer.verb,
      result: `${Math.trunc(answer.status / 100)}xx`,
    })
    this.#log.debug(answer, 'upstream answered')
  }

  upstreamFailed(failure: {
    readonly namespace: Namespace
    readonly verb: string
    readonly kind: string
    readonly error: unknown
  }): void {
    this.#metrics.upstreamRequests.inc({
      namespace: this.#label(failure.namespace),
      verb: failure.verb,
      result: failure.kind,
    })
    this.#log.warn(
      { namespace: failure.namespace, verb: failure.verb, kind: failure.kind, err: failure.error },
      'upstream failed',
    )
  }

  upstreamReceived(namespace: Namespace, bytes: number): void {
    this.#metrics.upstreamBytes.inc({ namespace: this.#label(namespace) }, bytes)
  }

  breakerChanged(change: {
    readonly namespace: Namespace
    readonly isOpen: boolean
    readonly forMs: number
  }): void {
    this.#metrics.upstreamBreakerOpen.set({ namespace: this.#label(change.namespace) }, change.isOpen ? 1 : 0)
    this.#log.warn(change, change.isOpen ? 'upstream is left alone' : 'upstream is asked again')
  }

  rateLimitSeen(namespace: Namespace, remaining: number): void {
    this.#metrics.rateLimitRemaining.set({ namespace: this.#label(namespace) }, remaining)
  }

  fillStarted(): void {
    this.#metrics.fillsInFlight.inc()
  }

  fillResumed(resume: {
    readonly namespace: Namespace
    readonly digest: Digest
    readonly offset: number
    readonly error: unknown
  }): void {
    this.#metrics.fillResumes.inc({ namespace: this.#label(resume.namespace) })
    const { error, ...fields } = resume
    this.#log.warn({ ...fields, err: error }, 'fill resumes after upstream trouble')
  }

  fillFinished(fill: FinishedFill): void {
    this.#metrics.fillsInFlight.dec()
    this.#metrics.fills.inc({ namespace: this.#label(fill.namespace), result: fill.result })
    const { error, ...fields } = fill
    if (error === undefined) this.#log.info(fields, 'fill finished')
    else this.#log.warn({ ...fields, err: error }, 'fill failed')
  }

  staleServed(stale: {
    readonly namespace: Namespace
    readonly repository: string
    readonly tag: string
    readonly error: unknown
  }): void {
    this.#metrics.staleAnswers.inc({ namespace: this.#label(stale.namespace) })
    const { error, ...fields } = stale
    this.#log.warn({ ...fields, err: error }, 'stale tag served, upstream in trouble')
  }

  storageFailed(operation: string, error: unknown): void {
    this.#metrics.storageErrors.inc({ operation })
    this.#log.error({ operation, err: error }, 'storage failed')
  }

  /** The store could not be written, or could again: one line per change of state. */
  bypassChanged(isBypassing: boolean): void {
    if (this.#isBypassing === isBypassing) return
    this.#isBypassing = isBypassing
    this.#metrics.bypassing.set(isBypassing ? 1 : 0)
    if (isBypassing) this.#log.error({}, 'store cannot be written: pulls pass through uncached until it can')
    else this.#log.info({}, 'store can be written again')
  }

  quarantined(digest: Digest, error: unknown): void {
    this.#metrics.quarantined.inc()
    this.#log.error({ digest, err: error }, 'stored object is damaged and was quarantined')
  }

  swept(files: number): void {
    if (files > 0) this.#log.info({ files }, 'leftovers of an earlier run were swept')
  }

  #label(namespace: Namespace | undefined): string {
    if (namespace === undefined) return 'none'
    return this.#known.has(namespace) ? namespace : 'other'
  }
}

function accessLine(request: FinishedRequest): object {
  const { error, isAborted, durationMs, repository, reference, userAgent, ...fields } = request
  return {
    ...fields,
    repository: repository === undefined ? undefined : clip(repository),
    reference: reference === undefined ? undefined : clip(reference),
    userAgent: userAgent === undefined ? undefined : clip(userAgent),
    durationMs: Math.round(durationMs * 10) / 10,
    ...(isAborted ? { isAborted } : {}),
    ...(error === undefined ? {} : { err: error }),
  }
}
