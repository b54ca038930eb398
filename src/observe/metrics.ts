import {
  AggregatorRegistry,
  collectDefaultMetrics,
  type Gauge,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client'
import { version } from '../lib/package.ts'
import { type BucketMetrics, createBucketMetrics } from './bucket-metrics.ts'
import { createPeerMetrics, type PeerMetrics } from './peer-metrics.ts'
import { type ChangeMetrics, createChangeMetrics } from './series/change-series.ts'
import { type ClientMetrics, createClientMetrics } from './series/client-series.ts'
import { declareIn } from './series/declare.ts'
import { createSpaceMetrics, type SpaceMetrics } from './series/space-series.ts'
import { createStorageMetrics, type StorageMetrics } from './series/storage-series.ts'
import { createUpstreamMetrics, type UpstreamMetrics } from './series/upstream-series.ts'

/** Metrics of one thread in a form that can be sent to another. */
export type ThreadMetrics = readonly MetricObjectWithValues<MetricValue<string>>[]

/** All metrics of the daemon. `docs/operations.md` explains them to operators. */
export interface Metrics
  extends ClientMetrics,
    UpstreamMetrics,
    StorageMetrics,
    SpaceMetrics,
    ChangeMetrics,
    PeerMetrics,
    BucketMetrics {
  /** Renders the exposition text of all metrics, summed with those of other threads. */
  render(others?: readonly ThreadMetrics[]): Promise<{ readonly contentType: string; readonly text: string }>
  /** Reads the number of open connections whenever the metrics are rendered. */
  countConnections(read: () => number): void
  snapshot(): Promise<ThreadMetrics>
  readonly buildInfo: Gauge<'version'>
  readonly connections: Gauge
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
    ...createClientMetrics(registry),
    ...createUpstreamMetrics(registry),
    ...createStorageMetrics(registry),
    ...createSpaceMetrics(registry),
    ...createChangeMetrics(registry),
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
