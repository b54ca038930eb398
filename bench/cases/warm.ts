import type { Bench, Case } from '../bench.ts'
import { ACCEPT, type Item, type Kind, MIB } from '../content.ts'
import { cpuSecondsOf } from '../cpu.ts'
import type { Load } from '../load.ts'
import { watched } from '../loop.ts'
import type { Metric, Results } from '../results.ts'
import type { Room } from '../room.ts'
import { DISTRIBUTION, NGINX_STATIC, onItsCore, REGISTRY, type Server } from '../servers.ts'
import { loadOf, runSink, type SinkRequest } from '../sink.ts'
import type { Comparison } from '../table.ts'
import { runWrk } from '../wrk.ts'

const CONNECTIONS = 32
/** Connections for large bodies: a few streams fill a core. */
const STREAMS = 8

interface LoadOrder {
  readonly address: string
  readonly items: readonly Item[]
  readonly core: number | undefined
  readonly seconds: number
}

type Loader = (room: Room, order: LoadOrder) => Promise<Load>

interface WarmPlan {
  readonly name: string
  readonly title: string
  readonly kind: Kind
  readonly by: 'requests' | 'bytes'
  readonly isLong?: boolean
  readonly load: Loader
}

const PLANS: readonly WarmPlan[] = [
  { name: 'manifest-tag', title: 'Warm manifest by tag', kind: 'manifest-tag', by: 'requests', load: wrk },
  {
    name: 'manifest-digest',
    title: 'Warm manifest by digest',
    kind: 'manifest-digest',
    by: 'requests',
    load: wrk,
  },
  {
    name: 'blobs-small',
    title: 'Warm blobs of 2 KiB to 2 MiB, as many of each size',
    kind: 'small',
    by: 'requests',
    load: wrk,
  },
  {
    name: 'blobs-16m',
    title: 'Warm blob of 16 MiB',
    kind: 'medium',
    by: 'bytes',
    isLong: true,
    load: sink,
  },
  { name: 'blobs-1g', title: 'Warm blob of 1 GiB', kind: 'large', by: 'bytes', load: sink },
  {
    name: 'ranges',
    title: 'Ranges of 1 MiB within a warm blob of 1 GiB',
    kind: 'large',
    by: 'requests',
    load: ranges,
  },
]

/** Content that every server has cached. */
export const WARM_CASES: readonly Case[] = PLANS.map(plan => ({
  name: plan.name,
  title: plan.title,
  isLong: plan.isLong ?? false,
  columns: columnsOf(plan),
  comparisons: comparisonsOf(plan),
  run: async (bench, results) => await run(plan, bench, results),
}))

async function run({ name, kind, load }: WarmPlan, bench: Bench, results: Results): Promise<void> {
  const items = await bench.warmed(kind)
  const { rounds, seconds } = bench.options
  const loadOne = async (server: Server, seconds: number): Promise<Partial<Record<Metric, number>>> =>
    await onItsCore(server, async core => {
      const order = { address: server.address, items, core, seconds }
      return await accounted(server, async () => await load(bench.room, order))
    })
  bench.progress(`${name}: a second for each, which does not count`)
  for (const server of await bench.servers()) await loadOne(server, 1)
  for (let round = 1; round <= rounds; round += 1) {
    for (const server of await bench.servers()) {
      bench.progress(`${name}, round ${round}: ${server.name}`)
      results.add(name, server.name, await loadOne(server, seconds))
    }
  }
}

/** Samples of a load, including the CPU time of the server meanwhile. */
export async function accounted(
  { child: { pid }, loop }: Pick<Server, 'child' | 'loop'>,
  load: () => Promise<Load>,
): Promise<Partial<Record<Metric, number>>> {
  const before = cpuSecondsOf(pid)
  const { loopMs, ...loaded } = await watched({ loop }, load)
  const { requests, bytes, seconds, clientCpuSeconds, p50Ms, p99Ms } = loaded
  const cpuSeconds = cpuSecondsOf(pid) - before
  return {
    requestsPerSecond: requests / seconds,
    bytesPerSecond: bytes / seconds,
    cpuPerThousand: (cpuSeconds / requests) * 1000,
    cpuPerGigabyte: (cpuSeconds / bytes) * 1e9,
    clientCores: clientCpuSeconds / seconds,
    ...(p50Ms === undefined ? {} : { p50Ms }),
    ...(p99Ms === undefined ? {} : { p99Ms }),
    ...(loopMs === undefined ? {} : { loopMs }),
  }
}

async function wrk(room: Room, { items, ...order }: LoadOrder): Promise<Load> {
  const paths = items.map(({ path }) => path)
  return await runWrk(room, { ...order, paths, headers: ACCEPT, connections: CONNECTIONS })
}

async function sink(room: Room, { address, items, core, seconds }: LoadOrder): Promise<Load> {
  return loadOf(await runSink(room, { address, requests: items, connections: STREAMS, seconds }, core))
}

/** Ranges a prime number of MiB apart, which spreads them over the blob. */
async function ranges(room: Room, { address, items, core, seconds }: LoadOrder): Promise<Load> {
  const [item] = items
  if (item === undefined) throw new Error('ranges are of one blob')
  const count = item.sizeBytes / MIB
  const requests: readonly SinkRequest[] = Array.from({ length: count }, (_, index) => {
    const first = ((index * 97) % count) * MIB
    return { path: item.path, headers: { Range: `bytes=${first}-${first + MIB - 1}` } }
  })
  return loadOf(await runSink(room, { address, requests, connections: CONNECTIONS, seconds }, core))
}

function columnsOf({ by }: WarmPlan): readonly Metric[] {
  return by === 'requests'
    ? ['requestsPerSecond', 'bytesPerSecond', 'cpuPerThousand', 'p50Ms', 'p99Ms', 'loopMs', 'clientCores']
    : ['bytesPerSecond', 'cpuPerGigabyte', 'loopMs', 'clientCores']
}

function comparisonsOf({ by }: WarmPlan): readonly Comparison[] {
  const [rate, cost] =
    by === 'requests'
      ? (['requestsPerSecond', 'cpuPerThousand'] as const)
      : (['bytesPerSecond', 'cpuPerGigabyte'] as const)
  return [
    { title: 'of nginx static', metric: rate, with: NGINX_STATIC },
    { title: 'per core', metric: cost, with: NGINX_STATIC, isCost: true },
    { title: 'of docker-registry', metric: rate, with: REGISTRY },
    { title: 'of Distribution 3.1', metric: rate, with: DISTRIBUTION },
  ]
}
