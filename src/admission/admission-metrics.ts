import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { version } from '../lib/package.ts'
import type { AdmissionVerdict } from './answer.ts'

/** Metrics of the gate. `docs/admission.md` explains them to operators. */
export interface AdmissionMetrics {
  /** The exposition text. */
  render(): Promise<{ readonly contentType: string; readonly text: string }>
  readonly reviews: Counter<'path' | 'verdict'>
  readonly seconds: Histogram
  /** Requests that were no reviews, by status. */
  readonly refusedRequests: Counter<'status'>
  readonly reloads: Counter<'what' | 'result'>
  /** Unix time in seconds. */
  readonly certificateExpiry: Gauge
}

const VERDICTS = [
  'allowed',
  'denied',
  'warned',
  'audited',
  'rewritten',
  'not-judged',
] as const satisfies readonly AdmissionVerdict[]
const BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1] as const

export function createAdmissionMetrics(): AdmissionMetrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  new Gauge({
    name: 'entrepot_build_info',
    help: 'Always 1. The label names the version of this program.',
    labelNames: ['version'],
    registers,
  }).set({ version: version() }, 1)
  const reviews = new Counter({
    name: 'entrepot_admission_reviews_total',
    help: 'Reviews that were answered, by path and verdict.',
    labelNames: ['path', 'verdict'] as const,
    registers,
  })
  for (const verdict of VERDICTS) reviews.inc({ path: 'validate', verdict }, 0)
  return {
    render: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
    reviews,
    seconds: new Histogram({
      name: 'entrepot_admission_seconds',
      help: 'Time from the whole request to its answer.',
      buckets: [...BUCKETS],
      registers,
    }),
    refusedRequests: new Counter({
      name: 'entrepot_admission_refused_requests_total',
      help: 'Requests that were no reviews, by status.',
      labelNames: ['status'] as const,
      registers,
    }),
    reloads: new Counter({
      name: 'entrepot_admission_reloads_total',
      help: 'Reloads of the rules and of the certificate, by result.',
      labelNames: ['what', 'result'] as const,
      registers,
    }),
    certificateExpiry: new Gauge({
      name: 'entrepot_admission_certificate_expiry_seconds',
      help: 'Time at which the certificate expires, in seconds since 1970.',
      registers,
    }),
  }
}
