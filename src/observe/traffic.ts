import type { ThreadMetrics } from './metrics.ts'

/** What clients have asked for since the start, and what registries have sent for it. */
export interface Traffic {
  /** Requests for manifests and blobs that were answered with content. */
  readonly requests: number
  /** Those of them that were answered from the cache. */
  readonly hits: number
  readonly sentBytes: number
  readonly receivedBytes: number
}

const HITS: ReadonlySet<string> = new Set(['hit', 'revalidated', 'stale'])
const CONTENT: ReadonlySet<string> = new Set(['manifest', 'blob'])

/** Sums up the traffic of all threads from their metrics. */
export function trafficOf(threads: readonly ThreadMetrics[]): Traffic {
  let [requests, hits, sentBytes, receivedBytes] = [0, 0, 0, 0]
  for (const { name, value, labels } of threads.flatMap(samplesOf)) {
    const isContent = CONTENT.has(String(labels['resource'])) && labels['outcome'] !== 'none'
    if (name === 'entrepot_upstream_received_bytes_total') receivedBytes += value
    if (!isContent) continue
    if (name === 'entrepot_response_bytes_total') sentBytes += value
    if (name !== 'entrepot_requests_total') continue
    requests += value
    if (HITS.has(String(labels['outcome']))) hits += value
  }
  return { requests, hits, sentBytes, receivedBytes }
}

interface Sample {
  readonly name: string
  readonly value: number
  readonly labels: Readonly<Partial<Record<string, string | number>>>
}

function samplesOf(metrics: ThreadMetrics): readonly Sample[] {
  return metrics.flatMap(({ name, values }) => values.map(({ value, labels }) => ({ name, value, labels })))
}
