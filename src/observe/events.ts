import { type Clock, systemClock } from '../lib/clock.ts'
import type { Digest } from '../oci/digest.ts'
import type { Namespace } from '../oci/namespace.ts'
import { DESCRIPTORS_REMEDY, lacksDescriptors } from './descriptors.ts'
import type {
  AuditEntry,
  DamageOutcome,
  Event,
  EventDetails,
  EventSink,
  FinishedFill,
  FinishedRequest,
  OwnRecord,
} from './event.ts'
import { Health } from './health.ts'
import type { Log } from './log.ts'
import { LogSink } from './log-sink.ts'
import type { Metrics } from './metrics.ts'
import { MetricsSink } from './metrics-sink.ts'
import { RecentClients } from './recent-clients.ts'
import type { Tracing } from './tracing/tracing.ts'

/** Kinds of writes to the store. A probe is a few KiB that are removed at once. */
type Writing = 'blobs' | 'manifests' | 'probe'

/** Damage to records of one kind since the start. */
export interface DamagedRecord {
  readonly record: OwnRecord
  /** Outcome of the latest damage. */
  readonly outcome: DamageOutcome
  readonly count: number
}

/**
 * Reports what happens in the daemon, one method per event. Each method builds one {@link Event} and hands it
 * to all sinks: the metrics, the log, then any further ones.
 *
 * `requestStarted`, `requestFinished` and `upstreamReceived` call the metrics and the log directly, because
 * they run once per request or piece of a download. Further sinks do not see these.
 */
export class Events {
  /** Clients that pulled recently. */
  readonly recentClients = new RecentClients()
  /** State of the registries and of the daemon, for operators. */
  readonly health = new Health()
  readonly #metrics: MetricsSink
  readonly #log: LogSink
  readonly #sinks: readonly EventSink[]
  /** Set before anything is served, if requests are traced. */
  tracing: Tracing | undefined
  /** What the store failed to take at the last attempt, with the failure. */
  readonly #unwritable = new Map<Writing, unknown>()
  readonly #damagedRecords = new Map<OwnRecord, DamagedRecord>()

  constructor(
    log: Log,
    metrics: Metrics,
    clock: Pick<Clock, 'monotonicMs'> = systemClock,
    furtherSinks: readonly EventSink[] = [],
  ) {
    this.#metrics = new MetricsSink(metrics)
    this.#log = new LogSink(log, clock)
    this.#sinks = [this.#metrics, this.#log, this.health, ...furtherSinks]
  }

  /** Writes the counts of repeated log lines that are due. A timer calls this. */
  flushRepeated(): void {
    this.#log.flushRepeated()
  }

  /** Sets the configured namespaces. They are metric labels; all others share the label `other`. */
  nameNamespaces(configured: Iterable<Namespace>): void {
    this.#metrics.nameNamespaces(configured)
  }

  started(details: EventDetails['started']): void {
    this.#emit({ kind: 'started', details })
  }

  storeOpened(details: EventDetails['store-opened']): void {
    this.#emit({ kind: 'store-opened', details })
  }

  warned(message: string, fields: object = {}): void {
    this.#emit({ kind: 'warned', details: { message, fields } })
  }

  leaving(details: EventDetails['leaving']): void {
    this.#emit({ kind: 'leaving', details })
  }

  draining(details: EventDetails['draining']): void {
    this.#emit({ kind: 'draining', details })
  }

  stopped(details: EventDetails['stopped']): void {
    this.#emit({ kind: 'stopped', details })
  }

  reloaded(details: EventDetails['reloaded']): void {
    this.#emit({ kind: 'reloaded', details })
  }

  reloadFailed(error: unknown): void {
    this.#emit({ kind: 'reload-failed', details: { error } })
  }

  certificateLoaded(details: EventDetails['certificate-loaded']): void {
    this.#emit({ kind: 'certificate-loaded', details })
  }

  certificateFailed(error: unknown): void {
    this.#emit({ kind: 'certificate-failed', details: { error } })
  }

  requestStarted(): void {
    this.#metrics.requestStarted()
  }

  requestFinished(request: FinishedRequest): void {
    this.#metrics.requestFinished(request)
    this.recentClients.saw(request)
    this.#log.requestFinished(request)
    this.tracing?.requestFinished(request)
  }

  upstreamAnswered(details: EventDetails['upstream-answered']): void {
    this.#emit({ kind: 'upstream-answered', details })
  }

  upstreamFailed(details: EventDetails['upstream-failed']): void {
    this.#emit({ kind: 'upstream-failed', details })
  }

  /** Bytes that came from a registry, as they came. */
  upstreamReceived(namespace: Namespace, resource: 'blob' | 'manifest', bytes: number): void {
    this.#metrics.upstreamReceived(namespace, resource, bytes)
  }

  breakerChanged(details: EventDetails['breaker-changed']): void {
    this.#emit({ kind: 'breaker-changed', details })
  }

  rateLimitSeen(details: EventDetails['rate-limit-seen']): void {
    this.#emit({ kind: 'rate-limit-seen', details })
  }

  fillStarted(): void {
    this.#emit({ kind: 'fill-started', details: undefined })
  }

  fillResumed(details: EventDetails['fill-resumed']): void {
    this.#emit({ kind: 'fill-resumed', details })
  }

  fillFinished(details: FinishedFill): void {
    this.#emit({ kind: 'fill-finished', details })
    this.tracing?.fillFinished(details)
  }

  staleServed(details: EventDetails['stale-served']): void {
    this.#emit({ kind: 'stale-served', details })
  }

  /** Reports a tag that its upstream has deleted and that is still served from the cache. */
  tagLost(details: EventDetails['tag-lost']): void {
    this.#emit({ kind: 'tag-lost', details })
  }

  /** Reports spans that did not reach the collector of traces. */
  spansDropped(count: number, error?: unknown): void {
    this.#emit({ kind: 'spans-dropped', details: { count, error } })
  }

  /** Reports a request to the bucket. */
  s3Answered(details: EventDetails['s3-answered']): void {
    this.#emit({ kind: 's3-answered', details })
  }

  storageFailed(operation: string, error: unknown): void {
    this.#emit({ kind: 'storage-failed', details: { operation, error } })
  }

  /** Notes that the store refused a write or took one. Only a change of state is an event. */
  bypassChanged(isBypassing: boolean, what: Writing = 'blobs', error?: unknown): void {
    const wasBypassing = this.#unwritable.size > 0
    if (isBypassing) this.#unwritable.set(what, error)
    // A disk with room for a manifest or a probe may have none for a blob, but not the other way round.
    else if (what === 'blobs') this.#unwritable.clear()
    else this.#unwritable.delete(what)
    if (this.#unwritable.size > 0 === wasBypassing) return
    const details = error === undefined ? { isBypassing } : { isBypassing, error }
    this.#emit({ kind: 'bypass-changed', details })
  }

  /** Why the store takes nothing at present; `undefined` if it takes everything. */
  get storeTrouble(): string | undefined {
    if (this.#unwritable.size === 0) return undefined
    const [error] = [...this.#unwritable.values()].filter(known => known !== undefined)
    if (lacksDescriptors(error)) return `this process has too many files open: ${DESCRIPTORS_REMEDY}`
    return error instanceof Error ? error.message : 'the last write failed'
  }

  /** Content that a client pushed is damaged or gone: only a push of it heals that. */
  hostedContentLost(lost: EventDetails['hosted-content-lost']): void {
    this.#emit({ kind: 'hosted-content-lost', details: lost })
  }

  quarantined(digest: Digest, error: unknown): void {
    this.#emit({ kind: 'quarantined', details: { digest, error } })
  }

  /** Reports a record of the mirror that differs from what was written. */
  recordDamaged(record: OwnRecord, outcome: DamageOutcome, error: unknown): void {
    const count = (this.#damagedRecords.get(record)?.count ?? 0) + 1
    this.#damagedRecords.set(record, { record, outcome, count })
    this.#emit({ kind: 'record-damaged', details: { record, outcome, error } })
  }

  /** Kinds of records that were found damaged since the start. */
  get damagedRecords(): readonly DamagedRecord[] {
    return [...this.#damagedRecords.values()]
  }

  /** Reports one object that the scrub has checked. */
  scrubbed(result: EventDetails['scrubbed']['result']): void {
    this.#emit({ kind: 'scrubbed', details: { result } })
  }

  /** Reports the end of a round of the scrub, with the counts since this process began or resumed it. */
  scrubEnded(details: EventDetails['scrub-ended']): void {
    this.#emit({ kind: 'scrub-ended', details })
  }

  /** Reports a new measurement of the cache's size. */
  spaceMeasured(details: EventDetails['space-measured']): void {
    this.#emit({ kind: 'space-measured', details })
  }

  /** Reports one slice of an eviction. An empty slice is not an event. */
  evicted(details: EventDetails['evicted']): void {
    if (details.objects > 0) this.#emit({ kind: 'evicted', details })
  }

  /** Reports a download that is passed through uncached because eviction could not make room for it. */
  roomRefused(bytes: number): void {
    this.#emit({ kind: 'room-refused', details: { bytes } })
  }

  /** Reports that the index was brought up to date with the store. */
  indexWalked(details: EventDetails['index-walked']): void {
    this.#emit({ kind: 'index-walked', details })
  }

  /** Reports leftover files that were removed at the start. */
  swept(files: number): void {
    if (files > 0) this.#emit({ kind: 'swept', details: { files } })
  }

  /** Reports a manifest that a client pushed, once it is durable. */
  pushed(details: EventDetails['pushed']): void {
    this.#emit({ kind: 'pushed', details })
  }

  /** Reports a tag that has a new digest, once this is durable. */
  tagMoved(details: EventDetails['tag-moved']): void {
    this.#emit({ kind: 'tag-moved', details })
  }

  /** Reports content that was deleted on request. */
  deleted(details: EventDetails['deleted']): void {
    this.#emit({ kind: 'deleted', details })
  }

  quotaReached(details: EventDetails['quota-reached']): void {
    this.#emit({ kind: 'quota-reached', details })
  }

  /** Reports content that the collection of hosted repositories removed. */
  collected(details: EventDetails['collected']): void {
    this.#emit({ kind: 'collected', details })
  }

  retentionRemoved(details: EventDetails['retention-removed']): void {
    this.#emit({ kind: 'retention-removed', details })
  }

  notificationSent(details: EventDetails['notification-sent']): void {
    this.#emit({ kind: 'notification-sent', details })
  }

  endpointDisabled(endpoint: string): void {
    this.#emit({ kind: 'endpoint-disabled', details: { endpoint } })
  }

  notificationsDropped(details: EventDetails['notifications-dropped']): void {
    if (details.count > 0) this.#emit({ kind: 'notifications-dropped', details })
  }

  /** Reports a request that was refused because its client is over a limit. */
  clientLimited(): void {
    this.#emit({ kind: 'client-limited', details: undefined })
  }

  /** Reports something that the audit log has to tell. The log and the metrics ignore it. */
  audited(entry: AuditEntry): void {
    this.#emit({ kind: 'audited', details: entry })
  }

  /** Reports that a public request came with credentials of which nothing is known here. */
  foreignCredentials(): void {
    this.#emit({ kind: 'foreign-credentials', details: undefined })
  }

  #emit(event: Event): void {
    for (const sink of this.#sinks) {
      try {
        sink.take(event)
      } catch (error) {
        this.#sinkFailed(event, error)
      }
    }
  }

  /** Logs that a sink threw. Reporting an event must not break the work that it reports. */
  #sinkFailed({ kind }: Event, error: unknown): void {
    try {
      this.#log.sinkFailed(kind, error)
    } catch {
      // The log itself is broken, so the failure cannot be reported.
    }
  }
}
