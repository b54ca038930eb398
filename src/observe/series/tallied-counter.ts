import { Counter, type LabelValues, type Registry } from 'prom-client'

/** A series of a counter, or of anything else that grows. */
export interface CounterSeries {
  inc(by: number): void
}

/** Declaration of a counter. */
interface CounterTerms<L extends string> {
  readonly name: string
  readonly help: string
  readonly labelNames: readonly L[]
}

/**
 * A counter for what happens once per request. Its series count in plain numbers, which prom-client gets when
 * the metrics are read. Counting in prom-client makes the text of all labels each time, and V8 keeps such a
 * text with the old objects, so that it has to mark them all the more often.
 */
export class TalliedCounter<L extends string> {
  readonly name: string
  readonly labelNames: readonly L[]
  /** For series that are not counted once per request. */
  readonly counter: Counter<L>
  readonly #tallies: Tally<L>[] = []

  constructor(registry: Registry, terms: CounterTerms<L>) {
    this.name = terms.name
    this.labelNames = terms.labelNames
    this.counter = new Counter({ ...terms, registers: [registry], collect: () => this.#handOn() })
  }

  /** What is counted here is added to the series of these labels. The caller keeps it. */
  series(labels: LabelValues<L>): CounterSeries {
    const tally = new Tally(labels)
    this.#tallies.push(tally)
    return tally
  }

  #handOn(): void {
    for (const tally of this.#tallies) this.counter.inc(tally.labels, tally.take())
  }
}

class Tally<L extends string> implements CounterSeries {
  readonly labels: LabelValues<L>
  #count = 0

  constructor(labels: LabelValues<L>) {
    this.labels = labels
  }

  inc(by: number): void {
    this.#count += by
  }

  take(): number {
    const count = this.#count
    this.#count = 0
    return count
  }
}
