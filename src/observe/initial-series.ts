import type { Outcome } from '../oci/content.ts'
import { INDEX_STATES } from './event.ts'
import type { Metrics } from './metrics.ts'

const VERBS = ['head-manifest', 'get-manifest', 'head-blob', 'get-blob'] as const
const RESOURCES = ['manifest', 'blob'] as const
const SERVED = ['hit', 'miss'] as const satisfies readonly Outcome[]
const FAILED = ['500', '502', '503', '504'] as const

/**
 * Sets the series that alerts and panels read to 0. A counter that begins with its first event has no
 * increase then, so an alert would miss that event, and a panel would show "No data" until it.
 */
export function initialiseSeries(metrics: Metrics): void {
  for (const result of ['ok', 'failed']) metrics.reloads.inc({ result }, 0)
  for (const reason of ['expired', 'share', 'room']) {
    metrics.evictedObjects.inc({ reason }, 0)
    metrics.evictedBytes.inc({ reason }, 0)
  }
  for (const state of INDEX_STATES) metrics.indexState.set({ state }, 0)
  // They would be 0 until they are known. A cache without a maximum, and a bucket, never state some of them.
  for (const gauge of [metrics.usedBytes, metrics.storedObjects, metrics.maxBytes, metrics.freeBytes])
    gauge.remove()
  for (const result of ['good', 'damaged', 'unreadable', 'gone']) metrics.scrubbed.inc({ result }, 0)
  for (const operation of ['write-spool', 'store-manifest']) metrics.storageErrors.inc({ operation }, 0)
  for (const code of ['DENIED', 'UNAUTHORIZED', 'UNAVAILABLE', 'TOOMANYREQUESTS'])
    metrics.refusals.inc({ code }, 0)
}

/** Does the same for the series of one namespace. */
export function initialiseNamespace(metrics: Metrics, namespace: string): void {
  metrics.upstreamBreakerOpen.inc({ namespace }, 0)
  for (const resource of ['blob', 'manifest']) metrics.upstreamBytes.inc({ namespace, resource }, 0)
  metrics.staleAnswers.inc({ namespace }, 0)
  metrics.fillResumes.inc({ namespace }, 0)
  for (const result of ['stored', 'not-stored', 'failed', 'mismatch'])
    metrics.fills.inc({ namespace, result }, 0)
  for (const verb of VERBS) {
    metrics.upstreamRequests.inc({ namespace, verb, result: '2xx' }, 0)
    metrics.upstreamRequests.inc({ namespace, verb, result: 'connect' }, 0)
  }
  for (const resource of RESOURCES) {
    const request = { method: 'GET', resource, namespace } as const
    for (const outcome of SERVED) {
      metrics.requests.counter.inc({ ...request, status: '200', outcome }, 0)
      metrics.responseBytes.counter.inc({ resource, outcome, namespace }, 0)
    }
    for (const status of FAILED) metrics.requests.counter.inc({ ...request, status, outcome: 'none' }, 0)
  }
}
