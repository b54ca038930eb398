import { type Counter, type Gauge, Histogram, type Registry } from 'prom-client'
import { declareIn } from './declare.ts'

/** Metrics of requests of clients. `docs/operations.md` explains them. */
export interface ClientMetrics {
  readonly requests: Counter<'method' | 'resource' | 'status' | 'outcome' | 'namespace'>
  readonly requestSeconds: Histogram<'resource' | 'outcome'>
  readonly firstByteSeconds: Histogram<'resource' | 'outcome'>
  readonly refusals: Counter<'code'>
  readonly responseBytes: Counter<'resource' | 'outcome' | 'namespace'>
  readonly requestsInFlight: Gauge
  readonly staleAnswers: Counter<'namespace'>
}

/** Declares the metrics in a registry. */
export function createClientMetrics(registry: Registry): ClientMetrics {
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
