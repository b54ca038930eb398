import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench, Case } from '../bench.ts'
import { type Item, MIB } from '../content.ts'
import { forgetPeak, residentBytesOf } from '../cpu.ts'
import { watched } from '../loop.ts'
import { type Sent, sentOf } from '../registry.ts'
import { startPacedRelay } from '../relay.ts'
import type { Metric, Results } from '../results.ts'
import { check, DISTRIBUTION, NGINX_STATIC, REGISTRY, type Server } from '../servers.ts'
import { runSink, type SinkReport, type SinkRequest } from '../sink.ts'
import { spreadOf } from '../statistics.ts'

const COLD_BYTES = 64 * MIB
/** 1 Gbit/s, as from an upstream over a good line. */
const PACE_BYTES_PER_SECOND = 125_000_000
/**
 * Number of small blobs, requested one after the other. The median counts, since a single first byte says
 * little.
 */
const SMALL_ONES = 32
/**
 * Most clients for Distribution: it fetches about once per client, so that more would only take longer.
 */
const REGISTRY_HERD_MAX = 100
const REGISTRIES: ReadonlySet<string> = new Set([REGISTRY, DISTRIBUTION])
/** With this many clients, one round takes about a minute per server. */
const LONG_HERD = 1000
const SETTLED_MS = 300

/** Name of the upstream itself in results. */
export const DIRECT = 'the upstream itself'

/** Name of the case with this number of clients. */
export function herdName(clients: number): string {
  return `herd-${clients}`
}

const COLUMNS: readonly Metric[] = [
  'firstByteMs',
  'laterMs',
  'tookMs',
  'timesDirect',
  'upstreamRequests',
  'upstreamShare',
  'loopMs',
]

/** New content, which no server has yet. */
export const COLD_CASES: readonly Case[] = [
  {
    name: 'cold',
    title: 'Cold blob of 64 MiB, one client, an upstream as fast as this machine',
    columns: COLUMNS,
    comparisons: [],
    run: async (bench, results) =>
      await runCold('cold', { bench, results, upstream: bench.origin.address }, await bench.servers()),
  },
  {
    name: 'cold-paced',
    isLong: true,
    title: 'Cold blob of 64 MiB, one client, an upstream of 1 Gbit/s',
    columns: COLUMNS,
    comparisons: [],
    run: async (bench, results) => {
      const upstream = await startPacedRelay(bench.room, bench.origin.address, PACE_BYTES_PER_SECOND)
      const servers = await bench.startServers('paced', upstream.address)
      // The first request to an upstream since the start loads its client.
      const [small] = await makeCold(bench, 1, MIB)
      for (const server of mirrors(servers)) await check(server, small)
      await runCold('cold-paced', { bench, results, upstream: upstream.address }, servers)
      for (const { child } of [...servers, upstream]) await child.stop()
    },
  },
  {
    name: 'cold-small',
    title: `${SMALL_ONES} cold blobs of 1 MiB, one client, one after the other`,
    columns: COLUMNS,
    comparisons: [],
    run: async (bench, results) => await runSmall('cold-small', 'GET', { bench, results }),
  },
  {
    name: 'head-cold',
    title: `HEAD of ${SMALL_ONES} cold blobs of 1 MiB, one client, one after the other`,
    columns: COLUMNS.filter(metric => metric !== 'firstByteMs' && metric !== 'laterMs'),
    comparisons: [],
    run: async (bench, results) => await runSmall('head-cold', 'HEAD', { bench, results }),
  },
  ...[20, 100, LONG_HERD].map(
    (clients): Case => ({
      name: herdName(clients),
      isLong: clients >= REGISTRY_HERD_MAX,
      title: `${clients} clients at once, one cold blob of 64 MiB`,
      columns: ['firstByteMs', 'tookMs', 'upstreamRequests', 'upstreamShare', 'peakBytes', 'loopMs'],
      comparisons: [],
      run: async (bench, results) => await runHerd(clients, bench, results),
    }),
  ),
]

interface ColdPlan {
  readonly bench: Bench
  readonly results: Results
  readonly upstream: string
}

async function runCold(
  name: string,
  { bench, results, upstream }: ColdPlan,
  servers: readonly Server[],
): Promise<void> {
  for (let round = 1; round <= bench.options.rounds; round += 1) {
    const item = await makeCold(bench, 1, COLD_BYTES)
    const direct = await pullOnce(bench, upstream, item)
    results.add(name, DIRECT, direct)
    for (const server of mirrors(servers)) {
      bench.progress(`${name}, round ${round}: ${server.name}`)
      const before = sentOfOrigin(bench, item)
      const own = await watched(server, async () => await pullOnce(bench, server.address, item))
      const sent = await sentSince(bench, item, before)
      results.add(name, server.name, { ...own, ...besides(own, direct), ...sent })
      await check(server, item[0])
    }
  }
}

async function runSmall(
  name: string,
  method: 'GET' | 'HEAD',
  { bench, results }: Omit<ColdPlan, 'upstream'>,
): Promise<void> {
  for (let round = 1; round <= bench.options.rounds; round += 1) {
    const items = await makeCold(bench, SMALL_ONES, MIB)
    const requests = items.map(({ path }): SinkRequest => ({ method, path }))
    const middle = async (address: string): Promise<Pulled> => {
      const order = { address, requests, connections: 1, times: SMALL_ONES }
      return pulled(await runSink(bench.room, order), samples => spreadOf(samples)?.median ?? Number.NaN)
    }
    const direct = await middle(bench.origin.address)
    results.add(name, DIRECT, direct)
    for (const server of mirrors(await bench.servers())) {
      bench.progress(`${name}, round ${round}: ${server.name}`)
      const before = sentOfOrigin(bench, items)
      const own = await watched(server, async () => await middle(server.address))
      const sent = await sentSince(bench, items, before)
      results.add(name, server.name, { ...own, ...besides(own, direct), ...sent })
    }
  }
}

async function runHerd(clients: number, bench: Bench, results: Results): Promise<void> {
  const name = herdName(clients)
  const rounds = clients >= LONG_HERD ? 1 : bench.options.rounds
  for (let round = 1; round <= rounds; round += 1) {
    const item = await makeCold(bench, 1, COLD_BYTES)
    for (const server of mirrors(await bench.servers())) {
      if (REGISTRIES.has(server.name) && clients > REGISTRY_HERD_MAX) continue
      bench.progress(`${name}, round ${round}: ${server.name}`)
      const before = sentOfOrigin(bench, item)
      forgetPeak(server.child.pid)
      const order = { address: server.address, requests: item, connections: clients, times: 1 }
      const { loopMs, ...report } = await watched(server, async () => await runSink(bench.room, order))
      const { peakBytes } = residentBytesOf(server.child.pid)
      const { firstByteMs, tookMs } = slowestOf(report)
      results.add(name, server.name, {
        firstByteMs,
        tookMs,
        peakBytes,
        ...(loopMs === undefined ? {} : { loopMs }),
        ...(await sentSince(bench, item, before)),
      })
      await check(server, item[0])
    }
  }
}

/** Servers that can be cold: files that nginx serves directly never are. */
function mirrors(servers: readonly Server[]): readonly Server[] {
  return servers.filter(({ name }) => name !== NGINX_STATIC)
}

/** New content of the origin, which no mirror has yet. */
export async function makeCold(
  bench: Bench,
  count: number,
  sizeBytes: number,
): Promise<readonly [Item, ...Item[]]> {
  const first = await bench.maker.makeBlob(sizeBytes)
  const rest: Item[] = []
  while (rest.length < count - 1) rest.push(await bench.maker.makeBlob(sizeBytes))
  await bench.settle()
  return [first, ...rest]
}

/**
 * Times of the first and the last byte since the request, in milliseconds: of one client, or the median or
 * last of many.
 */
interface Pulled {
  readonly firstByteMs: number
  readonly tookMs: number
}

async function pullOnce({ room }: Bench, address: string, requests: readonly Item[]): Promise<Pulled> {
  return slowestOf(await runSink(room, { address, requests, connections: 1, times: 1 }))
}

function slowestOf(report: SinkReport): Pulled {
  return pulled(report, samples => Math.max(...samples))
}

function pulled({ firstByteMs, tookMs }: SinkReport, choose: (samples: readonly number[]) => number): Pulled {
  return { firstByteMs: choose(firstByteMs), tookMs: choose(tookMs) }
}

function besides(own: Pulled, direct: Pulled): { readonly laterMs: number; readonly timesDirect: number } {
  return { laterMs: own.firstByteMs - direct.firstByteMs, timesDirect: own.tookMs / direct.tookMs }
}

/** What the origin has sent of these items so far. */
export function sentOfOrigin({ origin }: Bench, items: readonly Item[]): Sent {
  return sentOf(
    readFileSync(origin.child.log, 'utf8'),
    items.map(({ path }) => path),
  )
}

/** What the origin has sent since then, after everything under way has ended. */
export async function sentSince(
  bench: Bench,
  items: readonly Item[],
  before: Sent,
): Promise<{ readonly upstreamRequests: number; readonly upstreamShare: number }> {
  await sleep(SETTLED_MS)
  const { requests, bytes } = sentOfOrigin(bench, items)
  const sizeBytes = items.reduce((sum, item) => sum + item.sizeBytes, 0)
  return {
    upstreamRequests: requests - before.requests,
    upstreamShare: (bytes - before.bytes) / sizeBytes,
  }
}
