import type { Counter, Gauge, Registry } from 'prom-client'
import { declareIn } from './declare.ts'
import { TalliedCounter } from './tallied-counter.ts'
import { TalliedHistogram } from './tallied-histogram.ts'

/** Metrics of requests of clients. `docs/operations.md` explains them. */
export interface ClientMetrics {
  readonly requests: TalliedCounter<'method' | 'resource' | 'status' | 'outcome' | 'namespace'>
  readonly requestSeconds: TalliedHistogram<'resource' | 'outcome'>
  readonly firstByteSeconds: TalliedHistogram<'resource' | 'outcome'>
  readonly refusals: Counter<'code'>
  readonly responseBytes: TalliedCounter<'resource' | 'outcome' | 'namespace'>
  readonly requestsInFlight: Gauge
  readonly staleAnswers: Counter<'namespace'>
}

/** Declares the metrics in a registry. */
export function createClientMetrics(registry: Registry): ClientMetrics {
  const { counter, gauge } = declareIn(registry)
  return {
    requests: new TalliedCounter(registry, {
      name: 'entrepot_requests_total',
      help: 'Requests of clients.',
      labelNames: ['method', 'resource', 'status', 'outcome', 'namespace'],
    }),
    requestSeconds: new TalliedHistogram(registry, {
      name: 'entrepot_request_duration_seconds',
      help: 'Time from a request to the end of its response.',
      labelNames: ['resource', 'outcome'],
      buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600],
    }),
    firstByteSeconds: new TalliedHistogram(registry, {
      name: 'entrepot_first_byte_seconds',
      help: 'Time from a request to the beginning of its response.',
      labelNames: ['resource', 'outcome'],
      buckets: [0.0005, 0.002, 0.01, 0.05, 0.25, 1, 5, 25],
    }),
    refusals: counter('refusals_total', 'Requests of clients that were refused, by the code of the error.', [
      'code',
    ]),
    responseBytes: new TalliedCounter(registry, {
      name: 'entrepot_response_bytes_total',
      help: 'Body bytes sent to clients.',
      labelNames: ['resource', 'outcome', 'namespace'],
    }),
    requestsInFlight: gauge('requests_in_flight', 'Requests being answered.'),
    staleAnswers: counter('stale_answers_total', 'Answers served stale, the upstream being in trouble.', [
      'namespace',
    ]),
  }
}
