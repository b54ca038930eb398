import { DIRECT, herdName } from './cases/cold.ts'
import { PUSHED_TO } from './cases/push.ts'
import { VARIANTS, type Variant } from './entrepot.ts'
import { METRICS, type Metric, type Results, ratiosOf } from './results.ts'
import { DISTRIBUTION, NGINX_CACHE, NGINX_STATIC, REGISTRY } from './servers.ts'
import { spreadOf } from './statistics.ts'

/** A target for the variants of Entrepot. */
interface Target {
  readonly title: string
  readonly bound: { readonly atLeast: number } | { readonly atMost: number }
  /** Formats a value. */
  readonly unit: '×' | ' ms' | ' MiB'
  readonly of: (results: Results, variant: Variant) => number | undefined
}

type Sampler = (results: Results, server: string) => readonly number[]

function metric(caseName: string, name: Metric): Sampler {
  return (results, server) => results.samplesOf(caseName, server, name)
}

function median(sampler: Sampler): Target['of'] {
  return (results, { name }) => spreadOf(sampler(results, name))?.median
}

/** Ratios to another server, round by round; inverted for costs. */
function ratio(sampler: Sampler, other: string, kind: 'rate' | 'cost' = 'rate'): Target['of'] {
  return (results, { name }) => {
    const [own, others] = [sampler(results, name), sampler(results, other)]
    return spreadOf(kind === 'rate' ? ratiosOf(own, others) : ratiosOf(others, own))?.median
  }
}

function mebibytes(sampler: Sampler): Target['of'] {
  return (results, variant) => {
    const bytes = median(sampler)(results, variant)
    return bytes === undefined ? undefined : bytes / 1024 ** 2
  }
}

/** Compares one core with one core: with several workers, costs count and throughput does not. */
function ofOneWorker(of: Target['of']): Target['of'] {
  return (results, variant) => (variant.workers === 1 ? of(results, variant) : undefined)
}

/** The worst of all cold blobs, herds or not. */
function worstShare(results: Results, { name }: Variant): number | undefined {
  const cases = ['cold', 'cold-paced', 'cold-small', herdName(20), herdName(100), herdName(1000)]
  return spreadOf(cases.flatMap(one => results.samplesOf(one, name, 'upstreamShare')))?.max
}

/** The worst event loop of all cases; those that are not about variants count for one worker. */
function worstLoop(results: Results, { name, workers }: Variant): number | undefined {
  const isOther = (server: string): boolean => VARIANTS.every(variant => variant.name !== server)
  const all = results.measurements.filter(
    ({ server }) => server === name || (workers === 1 && isOther(server)),
  )
  return spreadOf(all.flatMap(({ samples }) => samples.loopMs ?? []))?.max
}

/** Throughput of the workers of a variant, as a multiple of the first variant's. */
function speedUp(sampler: Sampler): Target['of'] {
  return (results, variant) =>
    variant.workers === 1 ? undefined : ratio(sampler, VARIANTS[0].name)(results, variant)
}

/**
 * Throughput if each worker had a core of its own: their number, divided by how much more CPU time a request
 * costs.
 */
function speedUpByCost(sampler: Sampler): Target['of'] {
  return (results, variant) => {
    if (variant.workers === 1) return undefined
    const each = ratio(sampler, VARIANTS[0].name, 'cost')(results, variant)
    return each === undefined ? undefined : each * variant.workers
  }
}

const SPEED_UPS = [
  { name: 'manifest-digest', rate: 'requestsPerSecond', cost: 'cpuPerThousand' },
  { name: 'blobs-small', rate: 'requestsPerSecond', cost: 'cpuPerThousand' },
  { name: 'blobs-1g', rate: 'bytesPerSecond', cost: 'cpuPerGigabyte' },
] as const

const PUSHES = [
  { name: 'push-manifests-disk', rate: 'requestsPerSecond' },
  { name: 'push-manifests-bucket', rate: 'requestsPerSecond' },
  { name: 'push-blob-disk', rate: 'bytesPerSecond' },
  { name: 'push-blob-bucket', rate: 'bytesPerSecond' },
] as const

const BYTES = metric('blobs-1g', 'bytesPerSecond')

/** All targets. They are ratios within one run, except for memory and start. */
const TARGETS: readonly Target[] = [
  ...(['manifest-tag', 'manifest-digest'] as const).flatMap((name): readonly Target[] => [
    {
      title: `${name}: requests for the same CPU time, of nginx static`,
      bound: { atLeast: 0.6 },
      unit: '×',
      of: ratio(metric(name, 'cpuPerThousand'), NGINX_STATIC, 'cost'),
    },
    {
      title: `${name}: p99 with 32 connections`,
      bound: { atMost: 3 },
      unit: ' ms',
      of: ofOneWorker(median(metric(name, 'p99Ms'))),
    },
    {
      title: `${name}: requests/s, of docker-registry`,
      bound: { atLeast: 20 },
      unit: '×',
      of: ratio(metric(name, 'requestsPerSecond'), REGISTRY),
    },
  ]),
  {
    title: 'manifest-tag: requests/s, of Distribution 3.1',
    bound: { atLeast: 60 },
    unit: '×',
    of: ratio(metric('manifest-tag', 'requestsPerSecond'), DISTRIBUTION),
  },
  {
    title: 'blobs-small: requests for the same CPU time, of nginx static',
    bound: { atLeast: 0.7 },
    unit: '×',
    of: ratio(metric('blobs-small', 'cpuPerThousand'), NGINX_STATIC, 'cost'),
  },
  {
    title: 'blobs-small: requests/s, of docker-registry',
    bound: { atLeast: 5 },
    unit: '×',
    of: ratio(metric('blobs-small', 'requestsPerSecond'), REGISTRY),
  },
  {
    title: 'blobs-1g: bytes/s, of nginx static',
    bound: { atLeast: 1 },
    unit: '×',
    of: ofOneWorker(ratio(BYTES, NGINX_STATIC)),
  },
  {
    title: 'blobs-1g: CPU time, of nginx static',
    bound: { atMost: 1.1 },
    unit: '×',
    of: (results, { name }) => {
      const sampler = metric('blobs-1g', 'cpuPerGigabyte')
      return spreadOf(ratiosOf(sampler(results, name), sampler(results, NGINX_STATIC)))?.median
    },
  },
  {
    title: 'cold, and herds: upstream bytes, of the blob, at worst',
    bound: { atMost: 1.001 },
    unit: '×',
    of: worstShare,
  },
  {
    title: 'cold-small: first byte, after that of the upstream',
    bound: { atMost: 5 },
    unit: ' ms',
    of: median(metric('cold-small', 'laterMs')),
  },
  {
    title: 'herd-1000: time of the last byte, of nginx proxy_cache',
    bound: { atMost: 1.3 },
    unit: '×',
    of: (results, { name }) => {
      const sampler = metric(herdName(1000), 'tookMs')
      return spreadOf(ratiosOf(sampler(results, name), sampler(results, NGINX_CACHE)))?.median
    },
  },
  {
    title: 'herd-1000: peak of memory',
    bound: { atMost: 200 },
    unit: ' MiB',
    of: mebibytes(metric(herdName(1000), 'peakBytes')),
  },
  ...(['cold', 'cold-paced'] as const).map(
    (name): Target => ({
      title: `${name}: time of one client, of ${DIRECT}`,
      bound: { atMost: 1.1 },
      unit: '×',
      of: median(metric(name, 'timesDirect')),
    }),
  ),
  {
    title: 'memory, idle',
    bound: { atMost: 70 },
    unit: ' MiB',
    of: mebibytes(metric('fresh', 'idleBytes')),
  },
  {
    title: 'memory, 100 streams',
    bound: { atMost: 120 },
    unit: ' MiB',
    of: mebibytes(metric('fresh', 'streamsBytes')),
  },
  {
    title: 'memory, 1,000 clients',
    bound: { atMost: 160 },
    unit: ' MiB',
    of: mebibytes(metric('fresh', 'clientsBytes')),
  },
  ...SPEED_UPS.flatMap(({ name, rate, cost }): readonly Target[] => [
    {
      title: `${name}: ${METRICS[rate].title}, of one worker; the client is on the same cores`,
      bound: { atLeast: 1.8 },
      unit: '×',
      of: speedUp(metric(name, rate)),
    },
    {
      title: `${name}: the same by CPU time, as if the client were elsewhere`,
      bound: { atLeast: 1.8 },
      unit: '×',
      of: speedUpByCost(metric(name, cost)),
    },
  ]),
  {
    title: 'rules: CPU time of a manifest, of a mirror without rules',
    bound: { atMost: 1.1 },
    unit: '×',
    of: ofOneWorker(results => {
      const [own, others] = ['rules', 'no rules'].map(name =>
        results.samplesOf('rules', name, 'cpuPerThousand'),
      )
      return spreadOf(ratiosOf(own ?? [], others ?? []))?.median
    }),
  },
  {
    title: 'gate: p99 of a review, the slowest load',
    bound: { atMost: 10 },
    unit: ' ms',
    of: ofOneWorker(results => {
      const loads = results.serversOf('gate').map(load => results.samplesOf('gate', load, 'p99Ms'))
      return spreadOf(loads.map(samples => spreadOf(samples)?.median ?? Number.NaN))?.max
    }),
  },
  ...PUSHES.map(
    ({ name, rate }): Target => ({
      title: `${name}: ${METRICS[rate].title}, of ${PUSHED_TO}`,
      bound: { atLeast: 1.5 },
      unit: '×',
      of: ofOneWorker(ratio(metric(name, rate), PUSHED_TO)),
    }),
  ),
  {
    title: 'all cases: lateness of the event loop, p99.9 at worst',
    bound: { atMost: 50 },
    unit: ' ms',
    of: worstLoop,
  },
  {
    title: 'start',
    bound: { atMost: 500 },
    unit: ' ms',
    of: median(metric('fresh', 'readyMs')),
  },
]

/** A target and its outcome. */
export interface Outcome {
  readonly target: string
  readonly bound: string
  readonly variant: string
  readonly value: number
  readonly isReached: boolean
  /** The formatted value. */
  readonly text: string
}

/** Outcomes of the targets that a run measured. */
export function outcomesOf(results: Results): readonly Outcome[] {
  return TARGETS.flatMap(({ title, bound, unit, of }) =>
    VARIANTS.flatMap((variant): readonly Outcome[] => {
      const value = of(results, variant)
      if (value === undefined) return []
      const isReached = 'atLeast' in bound ? value >= bound.atLeast : value <= bound.atMost
      const text = `${unit === '×' ? value.toFixed(2) : value.toFixed(unit === ' ms' ? 1 : 0)}${unit}`
      const limit = 'atLeast' in bound ? `≥ ${bound.atLeast}${unit}` : `≤ ${bound.atMost}${unit}`
      return [{ target: title, bound: limit, variant: variant.name, value, isReached, text }]
    }),
  )
}

/** A Markdown table of the targets: one row each, or one per variant if the variants differ. */
export function targetsTable(outcomes: readonly Outcome[]): string {
  const rows = outcomes.map(
    ({ target, bound, variant, text, isReached }) =>
      `| ${target} | ${variant} | ${bound} | ${text} | ${isReached ? 'reached' : '**not reached**'} |`,
  )
  const head = ['| target | | | measured | |', '| --- | --- | --: | --: | --- |']
  return `### Targets\n\n${[...head, ...rows].join('\n')}\n`
}
