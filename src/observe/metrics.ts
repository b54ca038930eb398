import {
  AggregatorRegistry,
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client'
import { version } from '../lib/package.ts'
import { type BucketMetrics, createBucketMetrics } from './bucket-metrics.ts'
import { createPeerMetrics, type PeerMetrics } from './peer-metrics.ts'

/** Metrics of one thread in a form that can be sent to another. */
export type ThreadMetrics = readonly MetricObjectWithValues<MetricValue<string>>[]

/** All metrics of the daemon. `docs/operations.md` explains them to operators. */
export interface Metrics extends PeerMetrics, BucketMetrics {
  /** Renders the exposition text of all metrics, summed with those of other threads. */
  render(others?: readonly ThreadMetrics[]): Promise<{ readonly contentType: string; readonly text: string }>
  /** Reads the number of open connections whenever the metrics are rendered. */
  countConnections(read: () => number): void
  snapshot(): Promise<ThreadMetrics>
  readonly buildInfo: Gauge<'version'>
  readonly connections: Gauge
  readonly requests: Counter<'method' | 'resource' | 'status' | 'outcome' | 'namespace'>
  readonly requestSeconds: Histogram<'resource' | 'outcome'>
  readonly firstByteSeconds: Histogram<'resource' | 'outcome'>
  readonly refusals: Counter<'code'>
  readonly responseBytes: Counter<'resource' | 'outcome' | 'namespace'>
  readonly requestsInFlight: Gauge
  readonly upstreamRequests: Counter<'namespace' | 'verb' | 'result'>
  readonly upstreamSeconds: Histogram<'namespace' | 'verb'>
  readonly upstreamBytes: Counter<'namespace'>
  readonly upstreamBreakerOpen: Gauge<'namespace'>
  readonly rateLimitRemaining: Gauge<'namespace'>
  readonly fills: Counter<'namespace' | 'result'>
  readonly fillsInFlight: Gauge
  readonly fillResumes: Counter<'namespace'>
  readonly staleAnswers: Counter<'namespace'>
  readonly storageErrors: Counter<'operation'>
  readonly quarantined: Counter
  readonly hostedContentLost: Counter
  readonly damagedRecords: Counter<'record' | 'outcome'>
  readonly scrubbed: Counter<'result'>
  readonly bypassing: Gauge
  readonly reloads: Counter<'result'>
  readonly clientLimited: Counter
  readonly certificateLoads: Counter<'result'>
  readonly certificateExpiry: Gauge
  readonly lastReloadOk: Gauge
  readonly lastReloadSeconds: Gauge
  readonly usedBytes: Gauge
  readonly storedObjects: Gauge
  readonly maxBytes: Gauge
  readonly freeBytes: Gauge
  readonly minFreeBytes: Gauge
  readonly indexState: Gauge<'state'>
  readonly evictedObjects: Counter<'reason'>
  readonly evictedBytes: Counter<'reason'>
  readonly roomRefused: Counter
  readonly foreignCredentials: Counter
  readonly pushes: Counter
  readonly tagMoves: Counter<'by'>
  readonly deletions: Counter<'what'>
  readonly quotaRefusals: Counter
  readonly retentionRemovals: Counter
  readonly collectedObjects: Counter
  readonly collectedBytes: Counter
  readonly notifications: Counter<'result'>
  readonly spansDropped: Counter
}

/**
 * Creates metrics in a registry of their own. Those of a further thread leave out the metrics of the process,
 * which the first thread has.
 */
export function createMetrics({ isFurther = false }: { readonly isFurther?: boolean } = {}): Metrics {
  const registry = new Registry()
  if (!isFurther) collectDefaultMetrics({ register: registry })
  const { gauge } = declareIn(registry)
  const connections = gauge('connections', 'Open connections of clients, in all threads.')
  const buildInfo = gauge('build_info', 'Always 1. The label names the version of this program.', ['version'])
  if (!isFurther) buildInfo.set({ version: version() }, 1)
  let readConnections = (): number => 0
  return {
    countConnections: read => {
      readConnections = read
    },
    render: async (others = []) => {
      connections.set(readConnections())
      const { contentType } = registry
      if (others.length === 0) return { contentType, text: await registry.metrics() }
      const all = [await registry.getMetricsAsJSON(), ...others].map(withoutOmissions)
      return { contentType, text: await AggregatorRegistry.aggregate(all).metrics() }
    },
    connections,
    buildInfo,
    snapshot: async () => await registry.getMetricsAsJSON(),
    ...clientMetrics(registry),
    ...upstreamMetrics(registry),
    ...storageMetrics(registry),
    ...spaceMetrics(registry),
    ...changeMetrics(registry),
    ...createPeerMetrics(registry),
    ...createBucketMetrics(registry),
  }
}

/**
 * Keeps metrics that the aggregation would omit because a sum makes no sense, such as the start time of the
 * process. Only the first thread has these.
 */
function withoutOmissions(metrics: ThreadMetrics): MetricObjectWithValues<MetricValue<string>>[] {
  return metrics.map(metric => (metric.aggregator === 'omit' ? { ...metric, aggregator: 'first' } : metric))
}

/** Returns functions that declare counters and gauges in a registry, with the prefix `entrepot_`. */
function declareIn(registry: Registry): {
  counter: <L extends string>(name: string, help: string, labelNames?: readonly L[]) => Counter<L>
  gauge: <L extends string>(name: string, help: string, labelNames?: readonly L[]) => Gauge<L>
} {
  return {
    counter: (name, help, labelNames = []) =>
      new Counter({ name: `entrepot_${name}`, help, labelNames, registers: [registry] }),
    gauge: (name, help, labelNames = []) =>
      new Gauge({ name: `entrepot_${name}`, help, labelNames, registers: [registry] }),
  }
}

type ClientMetrics = Pick<
  Metrics,
  | 'requests'
  | 'requestSeconds'
  | 'firstByteSeconds'
  | 'refusals'
  | 'responseBytes'
  | 'requestsInFlight'
  | 'staleAnswers'
>

function clientMetrics(registry: Registry): ClientMetrics {
  const { counter, gauge } = declareIn(registry)
  return {
    requests: counter('requests_total', 'Requests of clients.', [
      'method',
      'resource',
      'status',
      'outcome',
      'namespace',
    ]),
    requestSeconds: new Histogram({
      name: 'entrepot_request_duration_seconds',
      help: 'Time from a request to the end of its response.',
      labelNames: ['resource', 'outcome'],
      buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600],
      registers: [registry],
    }),
    firstByteSeconds: new Histogram({
      name: 'entrepot_first_byte_seconds',
      help: 'Time from a request to the beginning of its response.',
      labelNames: ['resource', 'outcome'],
      buckets: [0.0005, 0.002, 0.01, 0.05, 0.25, 1, 5, 25],
      registers: [registry],
    }),
    refusals: counter('refusals_total', 'Requests of clients that were refused, by the code of the error.', [
      'code',
    ]),
    responseBytes: counter('response_bytes_total', 'Body bytes sent to clients.', [
      'resource',
      'outcome',
      'namespace',
    ]),
    requestsInFlight: gauge('requests_in_flight', 'Requests being answered.'),
    staleAnswers: counter('stale_answers_total', 'Answers served stale, the upstream being in trouble.', [
      'namespace',
    ]),
  }
}

type UpstreamMetrics = Pick<
  Metrics,
  | 'upstreamRequests'
  | 'upstreamBytes'
  | 'upstreamSeconds'
  | 'upstreamBreakerOpen'
  | 'rateLimitRemaining'
  | 'fills'
  | 'fillsInFlight'
  | 'fillResumes'
>

function upstreamMetrics(registry: Registry): UpstreamMetrics {
  const { counter, gauge } = declareIn(registry)
  return {
    upstreamRequests: counter('upstream_requests_total', 'Requests to upstreams.', [
      'namespace',
      'verb',
      'result',
    ]),
    upstreamSeconds: new Histogram({
      name: 'entrepot_upstream_request_seconds',
      help: 'Time from a request to an upstream to the headers of its answer.',
      labelNames: ['namespace', 'verb'],
      buckets: [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25],
      registers: [registry],
    }),
    upstreamBytes: counter('upstream_received_bytes_total', 'Blob bytes received from upstreams.', [
      'namespace',
    ]),
    upstreamBreakerOpen: gauge('upstream_breaker_open', '1 while an upstream is left alone after failures.', [
      'namespace',
    ]),
    rateLimitRemaining: gauge('upstream_ratelimit_remaining', "What is left of an upstream's pull budget.", [
      'namespace',
    ]),
    fills: counter('fills_total', 'Downloads of blobs from upstreams, by how they ended.', [
      'namespace',
      'result',
    ]),
    fillsInFlight: gauge('fills_in_flight', 'Downloads of blobs that are running.'),
    fillResumes: counter('fill_resumes_total', 'Downloads continued by Range after a cut or stall.', [
      'namespace',
    ]),
  }
}

type StorageMetrics = Pick<
  Metrics,
  | 'lastReloadOk'
  | 'lastReloadSeconds'
  | 'storageErrors'
  | 'quarantined'
  | 'hostedContentLost'
  | 'damagedRecords'
  | 'scrubbed'
  | 'bypassing'
  | 'reloads'
  | 'clientLimited'
  | 'certificateLoads'
  | 'certificateExpiry'
>

function storageMetrics(registry: Registry): StorageMetrics {
  const { counter, gauge } = declareIn(registry)
  return {
    storageErrors: counter('storage_errors_total', 'Operations of the store that failed.', ['operation']),
    hostedContentLost: counter(
      'hosted_content_lost_total',
      'Requests for hosted content whose bytes are damaged or gone.',
    ),
    quarantined: counter('quarantined_objects_total', 'Stored objects found damaged.'),
    damagedRecords: counter('damaged_records_total', 'Records of the mirror itself found damaged.', [
      'record',
      'outcome',
    ]),
    scrubbed: counter('scrubbed_objects_total', 'Objects that the scrub has looked at.', ['result']),
    bypassing: gauge('storage_bypass', '1 while the store cannot be written and pulls pass through.'),
    reloads: counter('config_reloads_total', 'Reloads of the upstream file.', ['result']),
    clientLimited: counter('client_limited_total', 'Requests refused because a client is over its limit.'),
    certificateLoads: counter('tls_certificate_loads_total', 'Loads of the TLS certificate.', ['result']),
    certificateExpiry: gauge(
      'tls_certificate_expiry_seconds',
      'When the TLS certificate expires; 0 without one.',
    ),
    lastReloadOk: gauge('config_last_reload_successful', '1 if the upstream file in force is the latest.'),
    lastReloadSeconds: gauge(
      'config_last_reload_success_timestamp_seconds',
      'Time at which the upstream file in force was read, in seconds since 1970.',
    ),
  }
}

type SpaceMetrics = Pick<
  Metrics,
  | 'minFreeBytes'
  | 'indexState'
  | 'usedBytes'
  | 'storedObjects'
  | 'maxBytes'
  | 'freeBytes'
  | 'evictedObjects'
  | 'evictedBytes'
  | 'roomRefused'
>

function spaceMetrics(registry: Registry): SpaceMetrics {
  const { counter, gauge } = declareIn(registry)
  return {
    usedBytes: gauge('cache_used_bytes', 'What the cache takes up, downloads under way included.'),
    storedObjects: gauge('cache_objects', 'Blobs and manifests in the cache.'),
    maxBytes: gauge('cache_max_bytes', 'What the cache may take up, where that is bounded.'),
    freeBytes: gauge('cache_free_bytes', 'What is free on the file system of the cache.'),
    minFreeBytes: gauge('cache_min_free_bytes', 'What is to stay free on that file system.'),
    indexState: gauge(
      'index_state',
      '1 for the state of the index: absent (not opened yet), open, rebuilding, locked or failed.',
      ['state'],
    ),
    evictedObjects: counter('evicted_objects_total', 'Objects evicted, by why.', ['reason']),
    evictedBytes: counter('evicted_bytes_total', 'Bytes evicted, by why.', ['reason']),
    roomRefused: counter('room_refused_total', 'Downloads that were not cached for want of room.'),
  }
}

type ChangeMetrics = Pick<
  Metrics,
  | 'foreignCredentials'
  | 'pushes'
  | 'tagMoves'
  | 'deletions'
  | 'quotaRefusals'
  | 'retentionRemovals'
  | 'notifications'
  | 'spansDropped'
  | 'collectedObjects'
  | 'collectedBytes'
>

function changeMetrics(registry: Registry): ChangeMetrics {
  const { counter } = declareIn(registry)
  return {
    foreignCredentials: counter(
      'foreign_credentials_total',
      'Public requests with credentials that mean nothing here, which were ignored.',
    ),
    pushes: counter('pushed_manifests_total', 'Manifests that clients pushed.'),
    tagMoves: counter('tag_moves_total', 'Tags that got another digest, by the upstream or a client.', [
      'by',
    ]),
    deletions: counter('deletions_total', 'Tags, manifests and blobs deleted on request.', ['what']),
    quotaRefusals: counter('quota_refusals_total', 'Pushes refused because a quota is used up.'),
    retentionRemovals: counter('retention_removed_tags_total', 'Tags that a retention rule removed.'),
    collectedObjects: counter('collected_objects_total', 'Objects that nothing hosted needed any more.'),
    collectedBytes: counter('collected_bytes_total', 'Bytes of collected objects.'),
    notifications: counter('notifications_total', 'Notifications to endpoints, by result.', ['result']),
    spansDropped: counter('trace_spans_dropped_total', 'Spans that did not reach the collector of traces.'),
  }
}
