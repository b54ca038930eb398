import { type Counter, type Gauge, Histogram, type Registry } from 'prom-client'
import { declareIn } from './declare.ts'

/** Metrics of requests to registries, and of downloads. `docs/operations.md` explains them. */
export interface UpstreamMetrics {
  readonly upstreamRequests: Counter<'namespace' | 'verb' | 'result'>
  readonly upstreamSeconds: Histogram<'namespace' | 'verb'>
  readonly upstreamBytes: Counter<'namespace' | 'resource'>
  readonly upstreamBreakerOpen: Gauge<'namespace'>
  readonly rateLimitRemaining: Gauge<'namespace'>
  readonly fills: Counter<'namespace' | 'result'>
  readonly fillsInFlight: Gauge
  readonly fillResumes: Counter<'namespace'>
}

/** Declares the metrics in a registry. */
export function createUpstreamMetrics(registry: Registry): UpstreamMetrics {
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
    upstreamBytes: counter(
      'upstream_received_bytes_total',
      'Bytes of blobs and manifests received from upstreams.',
      ['namespace', 'resource'],
    ),
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
