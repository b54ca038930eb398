import type { Gauge } from 'prom-client'
import { OciError } from '../oci/error.ts'
import type { Namespace } from '../oci/namespace.ts'
import {
  type Event,
  type EventDetails,
  type EventHandlers,
  type EventSink,
  type FinishedFill,
  type FinishedRequest,
  handleEvent,
  INDEX_STATES,
  UPSTREAM_ACTOR,
} from './event.ts'
import { initialiseNamespace, initialiseSeries } from './initial-series.ts'
import type { Metrics } from './metrics.ts'
import type { CounterSeries } from './series/tallied-counter.ts'
import type { HistogramSeries } from './series/tallied-histogram.ts'

interface RequestSeries {
  readonly requests: CounterSeries
  readonly seconds: HistogramSeries
  readonly firstByte: HistogramSeries
  readonly bytes: CounterSeries
}

/** Counts events in the metrics. */
export class MetricsSink implements EventSink {
  readonly #metrics: Metrics
  #known: ReadonlySet<Namespace> = new Set()
  readonly #requestSeries = new Map<string, RequestSeries>()
  readonly #handlers: EventHandlers = {
    leaving: undefined,
    draining: undefined,
    stopped: undefined,
    warned: undefined,
    'certificate-loaded': ({ notAfterMs }) => {
      this.#metrics.certificateExpiry.set(Math.round(notAfterMs / 1000))
      this.#metrics.certificateLoads.inc({ result: 'ok' })
    },
    'certificate-failed': () => this.#metrics.certificateLoads.inc({ result: 'failed' }),
    started: () => this.#reloaded(),
    reloaded: () => {
      this.#metrics.reloads.inc({ result: 'ok' })
      this.#reloaded()
    },
    'reload-failed': () => {
      this.#metrics.reloads.inc({ result: 'failed' })
      this.#metrics.lastReloadOk.set(0)
    },
    'upstream-answered': answer => this.#upstreamAnswered(answer),
    'upstream-failed': ({ namespace, verb, kind }) =>
      this.#metrics.upstreamRequests.inc({ namespace: this.#label(namespace), verb, result: kind }),
    'breaker-changed': ({ namespace, isOpen }) =>
      this.#metrics.upstreamBreakerOpen.set({ namespace: this.#label(namespace) }, isOpen ? 1 : 0),
    'rate-limit-seen': ({ namespace, remaining }) =>
      this.#metrics.rateLimitRemaining.set({ namespace: this.#label(namespace) }, remaining),
    'fill-started': () => this.#metrics.fillsInFlight.inc(),
    'fill-resumed': ({ namespace }) => this.#metrics.fillResumes.inc({ namespace: this.#label(namespace) }),
    'fill-finished': fill => this.#fillFinished(fill),
    'stale-served': ({ namespace }) => this.#metrics.staleAnswers.inc({ namespace: this.#label(namespace) }),
    'tag-lost': undefined,
    'store-opened': undefined,
    's3-answered': ({ operation, result, durationMs }) =>
      this.#metrics.s3Seconds.observe({ operation, result }, durationMs / 1000),
    'storage-failed': ({ operation }) => this.#metrics.storageErrors.inc({ operation }),
    'bypass-changed': ({ isBypassing }) => this.#metrics.bypassing.set(isBypassing ? 1 : 0),
    'hosted-content-lost': () => this.#metrics.hostedContentLost.inc(),
    quarantined: () => this.#metrics.quarantined.inc(),
    'record-damaged': ({ record, outcome }) => this.#metrics.damagedRecords.inc({ record, outcome }),
    scrubbed: ({ result }) => this.#metrics.scrubbed.inc({ result }),
    'scrub-ended': undefined,
    'space-measured': space => this.#spaceMeasured(space),
    evicted: slice => this.#evicted(slice),
    'room-refused': () => this.#metrics.roomRefused.inc(),
    'index-walked': undefined,
    swept: undefined,
    'client-limited': () => this.#metrics.clientLimited.inc(),
    audited: undefined,
    'foreign-credentials': () => this.#metrics.foreignCredentials.inc(),
    pushed: () => this.#metrics.pushes.inc(),
    'tag-moved': ({ by }) =>
      this.#metrics.tagMoves.inc({ by: by === UPSTREAM_ACTOR ? UPSTREAM_ACTOR : 'client' }),
    deleted: ({ what }) => this.#metrics.deletions.inc({ what }),
    'quota-reached': ({ isRefused }) => {
      if (isRefused) this.#metrics.quotaRefusals.inc()
    },
    collected: ({ bytes }) => {
      this.#metrics.collectedObjects.inc()
      this.#metrics.collectedBytes.inc(bytes)
    },
    'retention-removed': () => this.#metrics.retentionRemovals.inc(),
    'notification-sent': ({ result }) => this.#metrics.notifications.inc({ result }),
    'endpoint-disabled': undefined,
    'spans-dropped': ({ count }) => this.#metrics.spansDropped.inc(count),
    'notifications-dropped': ({ count }) => this.#metrics.notifications.inc({ result: 'dropped' }, count),
  }

  constructor(metrics: Metrics) {
    this.#metrics = metrics
    initialiseSeries(metrics)
  }

  take(event: Event): void {
    handleEvent(this.#handlers, event)
  }

  /** Sets the namespaces that are metric labels. All others share the label `other`. */
  nameNamespaces(configured: Iterable<Namespace>): void {
    this.#known = new Set(configured)
    for (const namespace of [...this.#known, 'other']) initialiseNamespace(this.#metrics, namespace)
  }

  requestStarted(): void {
    this.#metrics.requestsInFlight.inc()
  }

  requestFinished(request: FinishedRequest): void {
    const { requests, seconds, firstByte, bytes } = this.#series(request)
    this.#metrics.requestsInFlight.dec()
    requests.inc(1)
    seconds.observe(request.durationMs / 1000)
    if (request.firstByteMs !== undefined) firstByte.observe(request.firstByteMs / 1000)
    if (request.error instanceof OciError) this.#metrics.refusals.inc({ code: request.error.code })
    bytes.inc(request.sentBytes)
  }

  upstreamReceived(namespace: Namespace, resource: 'blob' | 'manifest', bytes: number): void {
    this.#metrics.upstreamBytes.inc({ namespace: this.#label(namespace), resource }, bytes)
  }

  /**
   * Metric series of a request. They are kept by their labels, which are closed sets, because looking them up
   * costs more than counting.
   */
  #series(request: FinishedRequest): RequestSeries {
    const { method, resource, status, outcome = 'none' } = request
    const namespace = this.#label(request.namespace)
    const key = `${method} ${resource} ${status} ${outcome} ${namespace}`
    const known = this.#requestSeries.get(key)
    if (known !== undefined) return known
    const series = {
      requests: this.#metrics.requests.series({ method, resource, status, outcome, namespace }),
      seconds: this.#metrics.requestSeconds.series({ resource, outcome }),
      firstByte: this.#metrics.firstByteSeconds.series({ resource, outcome }),
      bytes: this.#metrics.responseBytes.series({ resource, outcome, namespace }),
    }
    this.#requestSeries.set(key, series)
    return series
  }

  #reloaded(): void {
    this.#metrics.lastReloadOk.set(1)
    this.#metrics.lastReloadSeconds.setToCurrentTime()
  }

  #upstreamAnswered({ namespace, verb, status, durationMs }: EventDetails['upstream-answered']): void {
    const result = `${Math.trunc(status / 100)}xx`
    const label = this.#label(namespace)
    this.#metrics.upstreamRequests.inc({ namespace: label, verb, result })
    this.#metrics.upstreamSeconds.observe({ namespace: label, verb }, durationMs / 1000)
  }

  #fillFinished({ namespace, result }: FinishedFill): void {
    this.#metrics.fillsInFlight.dec()
    this.#metrics.fills.inc({ namespace: this.#label(namespace), result })
  }

  #spaceMeasured(measured: EventDetails['space-measured']): void {
    const { usedBytes, objects, maxBytes, freeBytes, minFreeBytes, index } = measured
    setKnown(this.#metrics.usedBytes, usedBytes)
    setKnown(this.#metrics.storedObjects, objects)
    setKnown(this.#metrics.maxBytes, maxBytes)
    setKnown(this.#metrics.freeBytes, freeBytes)
    this.#metrics.minFreeBytes.set(minFreeBytes)
    for (const state of INDEX_STATES) this.#metrics.indexState.set({ state }, state === index ? 1 : 0)
  }

  #evicted({ reason, objects, bytes }: EventDetails['evicted']): void {
    this.#metrics.evictedObjects.inc({ reason }, objects)
    this.#metrics.evictedBytes.inc({ reason }, bytes)
  }

  #label(namespace: Namespace | undefined): string {
    if (namespace === undefined) return 'none'
    return this.#known.has(namespace) ? namespace : 'other'
  }
}

/** Sets a gauge, or leaves it out of the scrape: 0 would be a claim. */
function setKnown(gauge: Gauge, value: number | undefined): void {
  if (value === undefined) gauge.remove()
  else gauge.set(value)
}
