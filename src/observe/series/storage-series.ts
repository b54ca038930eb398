import type { Counter, Gauge, Registry } from 'prom-client'
import { declareIn } from './declare.ts'

/** Metrics of the store, of reloads and of certificates. `docs/operations.md` explains them. */
export interface StorageMetrics {
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
}

/** Declares the metrics in a registry. */
export function createStorageMetrics(registry: Registry): StorageMetrics {
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
