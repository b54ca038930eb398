import type { ThreadMetrics } from './metrics.ts'

/** What clients have asked for since the start, and what registries have sent for it. */
export interface Traffic extends RegistryTraffic {
  /** The same for each registry; those that are not configured are summed up as `other`. */
  readonly registries: ReadonlyMap<string, RegistryTraffic>
}

/** What clients have asked for of one registry, and what it has sent. */
export interface RegistryTraffic {
  /** Requests for manifests and blobs that were answered with content. */
  readonly requests: number
  /** Those of them that were answered from the cache. */
  readonly hits: number
  readonly sentBytes: number
  readonly receivedBytes: number
  /** Requests for manifests and blobs that failed on this side or behind it (5xx). */
  readonly failures: number
  /** Requests to the registry, and those of them that failed: no answer, or one of 5xx. */
  readonly asked: number
  readonly askedInVain: number
}

const HITS: ReadonlySet<string> = new Set(['hit', 'revalidated', 'stale'])
const CONTENT: ReadonlySet<string> = new Set(['manifest', 'blob'])
const ANSWERED = /^[1-4]xx$/

type Sums = { -readonly [Key in keyof RegistryTraffic]: number }

/** Sums up the traffic of all threads from their metrics. */
export function trafficOf(threads: readonly ThreadMetrics[]): Traffic {
  const all = zeros()
  const registries = new Map<string, Sums>()
  for (const sample of threads.flatMap(samplesOf)) {
    const name = sample.labels['namespace']
    add(all, sample)
    if (typeof name !== 'string' || name === 'none') continue
    const sums = registries.get(name) ?? zeros()
    registries.set(name, sums)
    add(sums, sample)
  }
  return { ...all, registries }
}

function zeros(): Sums {
  return {
    requests: 0,
    hits: 0,
    sentBytes: 0,
    receivedBytes: 0,
    failures: 0,
    asked: 0,
    askedInVain: 0,
  }
}

function add(sums: Sums, { name, value, labels }: Sample): void {
  if (name === 'entrepot_upstream_received_bytes_total') sums.receivedBytes += value
  if (name === 'entrepot_upstream_requests_total') {
    sums.asked += value
    if (!ANSWERED.test(String(labels['result']))) sums.askedInVain += value
  }
  if (!CONTENT.has(String(labels['resource']))) return
  const isAnswered = labels['outcome'] !== 'none'
  if (name === 'entrepot_response_bytes_total' && isAnswered) sums.sentBytes += value
  if (name !== 'entrepot_requests_total') return
  if (String(labels['status']).startsWith('5')) sums.failures += value
  if (!isAnswered) return
  sums.requests += value
  if (HITS.has(String(labels['outcome']))) sums.hits += value
}

interface Sample {
  readonly name: string
  readonly value: number
  readonly labels: Readonly<Partial<Record<string, string | number>>>
}

const NAMES: ReadonlySet<string> = new Set([
  'entrepot_upstream_received_bytes_total',
  'entrepot_upstream_requests_total',
  'entrepot_response_bytes_total',
  'entrepot_requests_total',
])

function samplesOf(metrics: ThreadMetrics): readonly Sample[] {
  return metrics
    .filter(({ name }) => NAMES.has(name))
    .flatMap(({ name, values }) => values.map(({ value, labels }) => ({ name, value, labels })))
}
