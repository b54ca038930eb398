/** The metrics of a server: the heading of each in a table, and the format of its values. */
export const METRICS = {
  requestsPerSecond: { title: 'requests/s', show: value => group(value) },
  bytesPerSecond: { title: 'GB/s', show: value => (value / 1e9).toFixed(2) },
  cpuPerThousand: { title: 'CPU s per 1,000', show: value => significant(value) },
  cpuPerGigabyte: { title: 'CPU s per GB', show: value => value.toFixed(2) },
  clientCores: { title: 'client, cores', show: value => value.toFixed(2) },
  p50Ms: { title: 'p50, ms', show: value => significant(value) },
  p99Ms: { title: 'p99, ms', show: value => significant(value) },
  loopMs: { title: 'event loop, p99.9, ms', show: value => group(value) },
  firstByteMs: { title: 'first byte, ms', show: value => value.toFixed(1) },
  laterMs: { title: 'later than direct, ms', show: value => value.toFixed(1) },
  tookMs: { title: 'last byte, ms', show: value => significant(value) },
  timesDirect: { title: 'time, × direct', show: value => value.toFixed(2) },
  upstreamRequests: { title: 'upstream fetches', show: value => group(value) },
  upstreamShare: { title: 'upstream bytes, × the content', show: value => value.toFixed(2) },
  peakBytes: { title: 'peak, MiB', show: value => mebibytes(value) },
  readyMs: { title: 'start, ms', show: value => group(value) },
  idleBytes: { title: 'idle, MiB', show: value => mebibytes(value) },
  streamsBytes: { title: '100 streams, MiB', show: value => mebibytes(value) },
  listMs: { title: 'a page of ls, ms', show: value => significant(value) },
  tagsMs: { title: 'a page of 10,000 tags, ms', show: value => significant(value) },
  indexedMs: { title: 'until the index answers, ms', show: value => group(value) },
  clientsBytes: { title: '1,000 clients, MiB', show: value => mebibytes(value) },
} as const satisfies Record<string, { readonly title: string; readonly show: (value: number) => string }>

export type Metric = keyof typeof METRICS

/** All samples of one case for one server; samples of one round have the same index. */
export interface Measurement {
  readonly case: string
  readonly server: string
  readonly samples: Partial<Record<Metric, number[]>>
}

/** Everything that was measured. */
export class Results {
  readonly #measurements: Measurement[] = []

  get measurements(): readonly Measurement[] {
    return this.#measurements
  }

  /** Adds the samples of one round of a case for a server. */
  add(caseName: string, server: string, values: Partial<Record<Metric, number>>): void {
    const { samples } = this.#measurementOf(caseName, server)
    for (const [metric, value] of Object.entries(values) as [Metric, number][]) {
      samples[metric] = [...(samples[metric] ?? []), value]
    }
  }

  /** Names of the servers that a case has measured, in the order of their first rounds. */
  serversOf(caseName: string): readonly string[] {
    return this.#measurements.filter(one => one.case === caseName).map(({ server }) => server)
  }

  /** One value per round; empty if nothing was measured. */
  samplesOf(caseName: string, server: string, metric: Metric): readonly number[] {
    const found = this.#measurements.find(one => one.case === caseName && one.server === server)
    return found?.samples[metric] ?? []
  }

  #measurementOf(caseName: string, server: string): Measurement {
    const found = this.#measurements.find(one => one.case === caseName && one.server === server)
    if (found !== undefined) return found
    const made: Measurement = { case: caseName, server, samples: {} }
    this.#measurements.push(made)
    return made
  }
}

/** One ratio for each round that has both values: within a round the machine was in the same state. */
export function ratiosOf(samples: readonly number[], others: readonly number[]): readonly number[] {
  const count = Math.min(samples.length, others.length)
  return samples.slice(0, count).map((sample, index) => sample / (others[index] ?? Number.NaN))
}

function group(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}

function significant(value: number): string {
  return value >= 100 ? group(value) : value.toPrecision(2)
}

function mebibytes(value: number): string {
  return group(value / 1024 ** 2)
}
