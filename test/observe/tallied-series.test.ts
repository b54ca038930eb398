import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AggregatorRegistry, Counter, Histogram, Registry } from 'prom-client'
import { TalliedCounter } from '../../src/observe/series/tallied-counter.ts'
import { TalliedHistogram } from '../../src/observe/series/tallied-histogram.ts'

const TERMS = {
  name: 'took_seconds',
  help: 'Time.',
  labelNames: ['resource', 'outcome'],
  buckets: [0.001, 0.5, 60],
} as const
const LABELS = { resource: 'blob', outcome: 'hit' } as const
const VALUES = [0, 0.0005, 0.001, 0.0011, 0.5, 59.9, 60, 61, 1e9]

test('a tallied histogram is rendered as one of prom-client, alone and summed over threads', async () => {
  const [theirs, ours] = [new Registry(), new Registry()]
  const histogram = new Histogram({
    ...TERMS,
    buckets: [...TERMS.buckets],
    registers: [theirs],
  })
  const tallied = new TalliedHistogram(ours, TERMS)
  for (const outcome of ['hit', 'miss']) {
    // A second look-up gives the same series.
    tallied.series({ ...LABELS, outcome })
    for (const value of VALUES) {
      histogram.observe({ ...LABELS, outcome }, value)
      tallied.series({ ...LABELS, outcome }).observe(value)
    }
  }
  assert.equal(await ours.metrics(), await theirs.metrics())
  const threads = await Promise.all([ours, ours].map(async registry => await registry.getMetricsAsJSON()))
  const expected = await Promise.all(
    [theirs, theirs].map(async registry => await registry.getMetricsAsJSON()),
  )
  assert.equal(
    await AggregatorRegistry.aggregate(threads).metrics(),
    await AggregatorRegistry.aggregate(expected).metrics(),
  )
})

test('a tallied counter hands each count on once, beside what is counted directly', async () => {
  const [theirs, ours] = [new Registry(), new Registry()]
  const terms = { name: 'seen_total', help: 'Seen.', labelNames: ['resource', 'outcome'] as const }
  const counter = new Counter({ ...terms, registers: [theirs] })
  const tallied = new TalliedCounter(ours, terms)
  const [first, second] = [tallied.series(LABELS), tallied.series({ ...LABELS })]
  counter.inc(LABELS, 0)
  tallied.counter.inc(LABELS, 0)
  for (const by of [1, 7]) {
    first.inc(by)
    second.inc(by)
    counter.inc(LABELS, 2 * by)
    assert.equal(await ours.metrics(), await theirs.metrics())
  }
  assert.equal(await ours.metrics(), await theirs.metrics())
})
