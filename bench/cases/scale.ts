import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Catalogue } from '../../src/content/index/catalogue.ts'
import type { Change } from '../../src/content/index/change.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { freePort } from '../../test/clients/rig/ports.ts'
import type { Bench, Case } from '../bench.ts'
import { ACCEPT, type Item } from '../content.ts'
import { forgetPeak, residentBytesOf } from '../cpu.ts'
import { startEntrepot, VARIANTS } from '../entrepot.ts'
import type { Metric, Results } from '../results.ts'
import { onItsCore, type Server, untilHit } from '../servers.ts'
import { loadOf, runSink } from '../sink.ts'
import { runWrk } from '../wrk.ts'
import { accounted } from './warm.ts'

/** Numbers of objects; each ten of them make a repository, and the last repository has the tags. */
const SIZES = [10_000, 100_000, 1_000_000] as const
const OBJECTS_PER_REPOSITORY = 10
const TAGS = 10_000
const OBJECT_BYTES = 1_000_000
const BATCH = 50_000
const CONNECTIONS = 32
const MANY_CONNECTIONS = 4000
const NAMESPACES = 10
const SETTLED_MS = 1000

/** What grows with the content of the cache and with the number of clients. */
export const SCALE_CASES: readonly Case[] = [
  {
    name: 'connections',
    title: `Warm manifest by tag, ${MANY_CONNECTIONS} connections`,
    isLong: true,
    columns: ['requestsPerSecond', 'cpuPerThousand', 'p50Ms', 'p99Ms', 'loopMs', 'peakBytes', 'clientCores'],
    comparisons: [],
    run: runConnections,
  },
  {
    name: 'namespaces',
    title: `Warm manifest by tag, ${MANY_CONNECTIONS} connections, of one namespace and of ${NAMESPACES}`,
    isLong: true,
    columns: ['requestsPerSecond', 'cpuPerThousand', 'p50Ms', 'p99Ms', 'loopMs', 'peakBytes'],
    comparisons: [{ title: 'CPU, × one', metric: 'cpuPerThousand', with: namespacesName(1) }],
    run: runNamespaces,
  },
  {
    name: 'scale',
    title: `An index of many objects, a tenth as many repositories, one of them with ${TAGS} tags`,
    isLong: true,
    columns: ['readyMs', 'indexedMs', 'idleBytes', 'requestsPerSecond', 'p50Ms', 'p99Ms', 'listMs', 'tagsMs'],
    comparisons: [],
    run: async (bench, results) => {
      for (const size of SIZES) await runScale(size, bench, results)
    },
  },
]

/** Each address has fewer connections than the mirror allows one client. */
async function runConnections(bench: Bench, results: Results): Promise<void> {
  const items = await bench.warmed('manifest-tag')
  for (const server of await bench.servers()) {
    bench.progress(`connections: ${server.name}`)
    results.add('connections', server.name, await loadMany(bench, server, items))
  }
}

async function loadMany(
  { room, options }: Bench,
  server: Server,
  items: readonly Item[],
): Promise<Partial<Record<Metric, number>>> {
  const { address, child } = server
  const requests = items.map(({ path }) => ({ path, headers: ACCEPT }))
  forgetPeak(child.pid)
  const load = await onItsCore(server, async core => {
    const order = { address, requests, connections: MANY_CONNECTIONS, seconds: options.seconds + 2 }
    return await accounted(server, async () => loadOf(await runSink(room, order, core)))
  })
  return { ...load, peakBytes: residentBytesOf(child.pid).peakBytes }
}

function namespacesName(count: number): string {
  return count === 1 ? 'one namespace' : `${count} namespaces`
}

/** Clients of as many registries as a cluster has, all behind one upstream here. */
async function runNamespaces(bench: Bench, results: Results): Promise<void> {
  const items = await bench.maker.make('manifest-tag')
  for (const count of [1, NAMESPACES]) {
    const namespaces = Array.from({ length: count }, (_, index) => `registry-${index}.example`)
    const running = await startEntrepot(bench.room, `namespaces-${count}`, {
      upstream: bench.origin.address,
      namespaces,
      flags: VARIANTS[0].flags,
    })
    const server: Server = { name: namespacesName(count), readyMs: 0, ...running }
    const asked = namespaces.flatMap(name =>
      items.map(item => ({ ...item, path: `${item.path}?ns=${name}` })),
    )
    for (const item of asked) await untilHit(server, item)
    for (let round = 0; round <= bench.options.rounds; round += 1) {
      bench.progress(`namespaces, round ${round}: ${server.name}`)
      const measured = await loadMany(bench, server, asked)
      if (round > 0) results.add('namespaces', server.name, measured)
    }
    await server.child.stop()
  }
}

async function runScale(size: number, bench: Bench, results: Results): Promise<void> {
  const name = `${size.toLocaleString('en')} objects`
  bench.progress(`scale: writing an index of ${name}`)
  const { room, origin, options } = bench
  const directory = `scale-${size}`
  await mkdir(room.path(directory, 'root'), { recursive: true })
  writeIndex(join(room.path(directory, 'root'), 'index.sqlite'), size)
  const admin = `127.0.0.1:${await freePort()}`
  const startedAtMs = performance.now()
  const [variant] = VARIANTS
  const started = await startEntrepot(room, directory, {
    upstream: origin.address,
    flags: variant.flags,
    admin,
  })
  const readyMs = performance.now() - startedAtMs
  await untilIndexed(admin, size)
  const indexedMs = performance.now() - startedAtMs
  await sleep(SETTLED_MS)
  const idleBytes = residentBytesOf(started.child.pid).nowBytes
  bench.progress(`scale: ${name}`)
  const load = await loadManifests(bench, { name, variant, ...started, readyMs })
  const listMs = await timeOf(admin, 'images?sort=last-use&limit=100')
  const tagsMs = await timeOf(
    admin,
    `images?pattern=${encodeURIComponent(`library/image-${lastOf(size)}*`)}&limit=100`,
  )
  results.add('scale', name, { ...load, readyMs, indexedMs, idleBytes, listMs, tagsMs })
  await started.child.stop()
  bench.progress(`scale: ${name}: done, ${options.seconds} s of load`)
}

async function loadManifests(bench: Bench, server: Server): ReturnType<typeof accounted> {
  const items = await bench.maker.make('manifest-tag')
  for (const item of items) await untilHit(server, item)
  const order = {
    address: server.address,
    paths: items.map(({ path }) => path),
    headers: ACCEPT,
    connections: CONNECTIONS,
    seconds: bench.options.seconds,
  }
  return await onItsCore(server, async core =>
    accounted(server, async () => await runWrk(bench.room, { ...order, core })),
  )
}

function lastOf(size: number): number {
  return size / OBJECTS_PER_REPOSITORY - 1
}

/** Writes an index of content that does not exist, as a process that ended cleanly would leave it. */
function writeIndex(path: string, size: number): void {
  const catalogue = new Catalogue(path)
  for (let start = 0; start < size; start += BATCH) {
    const numbers = Array.from({ length: Math.min(BATCH, size - start) }, (_, index) => start + index)
    catalogue.apply(numbers.flatMap(number => changesOf(number, size)))
  }
  const many = { namespace: 'docker.io', repository: `library/image-${lastOf(size)}` }
  const tags = Array.from({ length: TAGS }, (_, number): Change => {
    const digest = digestAt(size - 1 - (number % OBJECTS_PER_REPOSITORY))
    return { kind: 'tagged', place: many, tag: `v${number}`, digest, atMs: Date.now() }
  })
  catalogue.apply(tags)
  catalogue.close({ isStale: false })
}

function changesOf(number: number, size: number): readonly Change[] {
  const digest = digestAt(number)
  const repository = `library/image-${Math.floor(number / OBJECTS_PER_REPOSITORY)}`
  const atMs = Date.now() - (size - number) * 10
  return [
    { kind: 'linked', place: { namespace: 'docker.io', repository }, digest },
    { kind: 'stored', digest, sizeBytes: OBJECT_BYTES, atMs },
  ]
}

function digestAt(number: number): Digest {
  return `sha256:${createHash('sha256').update(String(number)).digest('hex')}` as Digest
}

/** Waits until the index counts its objects, which it does once it is open. */
async function untilIndexed(admin: string, size: number): Promise<void> {
  for (let tries = 0; tries < 3000; tries += 1) {
    const { space } = (await ask(admin, 'status')) as { readonly space?: { readonly objects?: number } }
    if ((space?.objects ?? 0) >= size) return
    await sleep(10)
  }
  throw new Error('the index does not answer')
}

async function timeOf(admin: string, question: string): Promise<number> {
  const startedAtMs = performance.now()
  await ask(admin, question)
  return performance.now() - startedAtMs
}

async function ask(admin: string, question: string): Promise<unknown> {
  const answer = await fetch(`http://${admin}/_admin/v1/${question}`)
  if (answer.status !== 200) throw new Error(`${question} was answered with ${answer.status}`)
  return await answer.json()
}
