import type { LabelValues, Metric, MetricObjectWithValues, MetricValueWithName, Registry } from 'prom-client'

/** A series of a histogram. */
export interface HistogramSeries {
  observe(value: number): void
}

/** Declaration of a histogram. */
interface HistogramTerms<L extends string> {
  readonly name: string
  readonly help: string
  readonly labelNames: readonly L[]
  /** Upper bounds of the buckets, ascending, without the last one, which is infinite. */
  readonly buckets: readonly number[]
}

/**
 * A histogram for what happens once per request. prom-client's own finds the bucket of a value by the text of
 * its bound, which takes as long as all other counting of a request.
 */
export class TalliedHistogram<L extends string> {
  readonly name: string
  readonly labelNames: readonly L[]
  readonly #terms: HistogramTerms<L>
  readonly #tallies = new Map<string, Tally>()

  constructor(registry: Registry, terms: HistogramTerms<L>) {
    const { name, help, labelNames } = terms
    this.name = name
    this.labelNames = labelNames
    this.#terms = terms
    const metric = { name, help, type: 'histogram', aggregator: 'sum', get: async () => this.#read() }
    // prom-client's types name only its own classes, but it calls nothing of a metric except `get`, which is
    // all that the metrics have which it sums over threads.
    registry.registerMetric(metric as unknown as Metric<L>)
  }

  /** The series of these labels, which come in the same order each time. The caller should keep it. */
  series(labels: LabelValues<L>): HistogramSeries {
    const key = JSON.stringify(labels)
    const tally = this.#tallies.get(key) ?? new Tally(labels, this.#terms.buckets)
    this.#tallies.set(key, tally)
    return tally
  }

  #read(): Omit<MetricObjectWithValues<MetricValueWithName<string>>, 'collect'> {
    const { name, help } = this.#terms
    const values = [...this.#tallies.values()].flatMap(tally => tally.read(name))
    return { name, help, type: 'histogram' as never, aggregator: 'sum', values }
  }
}

class Tally implements HistogramSeries {
  readonly #labels: LabelValues<string>
  readonly #bounds: readonly number[]
  /** Values in each bucket and in no smaller one; the last one has those above all bounds. */
  readonly #counts: Float64Array
  #sum = 0

  constructor(labels: LabelValues<string>, bounds: readonly number[]) {
    this.#labels = labels
    this.#bounds = bounds
    this.#counts = new Float64Array(bounds.length + 1)
  }

  observe(value: number): void {
    const bounds = this.#bounds
    let bucket = 0
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket += 1
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1
    this.#sum += value
  }

  /** The values of the exposition: buckets, which include all smaller ones, then sum and count. */
  read(name: string): MetricValueWithName<string>[] {
    const labels = this.#labels
    let count = 0
    const buckets = [...this.#bounds, '+Inf'].map((le, index) => {
      count += this.#counts[index] ?? 0
      return { metricName: `${name}_bucket`, labels: { le, ...labels }, value: count }
    })
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: this.#sum },
      { metricName: `${name}_count`, labels, value: count },
    ]
  }
}
