import { get, type IncomingMessage } from 'node:http'
import { makeBucket } from '../../test/s3/rig/bucket.ts'
import { startRadosgw } from '../../test/s3/rig/radosgw.ts'
import type { Bench, Case } from '../bench.ts'
import { ACCEPT, type Item, type Kind } from '../content.ts'
import { startEntrepot, VARIANTS } from '../entrepot.ts'
import { BUCKET_PROGRAMS } from '../programs.ts'
import type { Results } from '../results.ts'
import { type Started } from '../room.ts'
import { check, untilHit } from '../servers.ts'
import { loadOf, runSink } from '../sink.ts'
import { accounted } from './warm.ts'

const STREAMS = 8
const DIRECT = 'radosgw itself'

interface Way {
  readonly name: string
  readonly flags: readonly string[]
}

const WAYS: readonly Way[] = [
  { name: 'Entrepot, proxied', flags: [] },
  { name: 'Entrepot, redirected', flags: ['--redirect'] },
]

/** Small content with local copies, for which all of it is small enough, and without. */
const COPYING: readonly Way[] = [
  { name: 'Entrepot, bucket alone', flags: [] },
  { name: 'Entrepot, with --s3-cache', flags: ['--s3-cache', '256MiB'] },
]

/** A cache in a bucket of a real S3 server that shares the cores with Entrepot and its clients. */
export const S3_CASES: readonly Case[] = [
  {
    name: 's3',
    isLong: true,
    programs: BUCKET_PROGRAMS,
    title: 'Warm blob of 16 MiB in a bucket (radosgw)',
    columns: ['bytesPerSecond', 'requestsPerSecond', 'cpuPerGigabyte', 'cpuPerThousand', 'clientCores'],
    comparisons: [{ title: 'of radosgw', metric: 'bytesPerSecond', with: DIRECT }],
    run: async (bench, results) => {
      bench.progress('s3: starting radosgw')
      await using server = await startRadosgw()
      const bucket = await makeBucket(server)
      const [item] = await bench.maker.make('medium')
      if (item === undefined) throw new Error('there is a blob of 16 MiB')
      const started: (Way & Started)[] = []
      for (const [index, way] of WAYS.entries()) {
        const running = await startOn(bench, bucket, { ...way, group: `s3-${index}` })
        if (index === 0) await check({ ...way, ...running }, item)
        await untilHit({ ...way, ...running }, item)
        started.push({ ...way, ...running })
      }
      await measure(bench, results, { item, started, gateway: new URL(server.endpoint).host })
      for (const { child } of started) await child.stop()
    },
  },
  smallCase('s3-blobs-small', 'Warm blobs of 2 KiB to 2 MiB in a bucket (radosgw)', 'small'),
  smallCase('s3-manifest', 'Warm manifest by digest in a bucket (radosgw)', 'manifest-digest'),
]

/** Small content of a bucket, with local copies and without. */
function smallCase(name: string, title: string, kind: Kind): Case {
  return {
    name,
    isLong: true,
    programs: BUCKET_PROGRAMS,
    title,
    columns: ['requestsPerSecond', 'bytesPerSecond', 'cpuPerThousand', 'clientCores'],
    comparisons: [
      { title: 'of the bucket alone', metric: 'requestsPerSecond', with: COPYING[0]?.name ?? '' },
    ],
    run: async (bench, results) => {
      bench.progress(`${name}: starting radosgw`)
      await using server = await startRadosgw()
      const items = await bench.maker.make(kind)
      const started: (Way & Started)[] = []
      for (const [index, way] of COPYING.entries()) {
        const running = await startOn(bench, await makeBucket(server), { ...way, group: `${name}-${index}` })
        for (const item of items) await untilHit({ ...way, ...running }, item)
        started.push({ ...way, ...running })
      }
      await measureSmall(bench, results, { name, items, started })
      for (const { child } of started) await child.stop()
    },
  }
}

async function measureSmall(
  bench: Bench,
  results: Results,
  plan: {
    readonly name: string
    readonly items: readonly Item[]
    readonly started: readonly (Way & Started)[]
  },
): Promise<void> {
  const { room, options } = bench
  for (let round = 1; round <= options.rounds; round += 1) {
    for (const { name, address, ...server } of plan.started) {
      bench.progress(`${plan.name}, round ${round}: ${name}`)
      const requests = plan.items.map(({ path }) => ({ path, headers: ACCEPT }))
      const order = { address, requests, connections: STREAMS, seconds: options.seconds }
      results.add(plan.name, name, await accounted(server, async () => loadOf(await runSink(room, order))))
    }
  }
}

async function startOn(
  { room, origin }: Bench,
  { bucket, endpoint = '', prefix, credentials }: Awaited<ReturnType<typeof makeBucket>>,
  { group, flags }: { readonly group: string; readonly flags: readonly string[] },
): Promise<Started> {
  const place = ['--bucket', bucket, '--host', endpoint, '--prefix', prefix]
  const { accessKeyId = '', secretAccessKey = '' } = credentials ?? {}
  return await startEntrepot(room, group, {
    upstream: origin.address,
    store: ['s3', ...place, '--spool-dir', room.path(group, 'spool')],
    flags: [...VARIANTS[0].flags, ...flags],
    env: { S3_ACCESS_KEY: accessKeyId, S3_SECRET_KEY: secretAccessKey },
  })
}

interface S3Plan {
  readonly item: Item
  readonly started: readonly (Way & Started)[]
  readonly gateway: string
}

async function measure(bench: Bench, results: Results, { item, started, gateway }: S3Plan): Promise<void> {
  const { room, options } = bench
  const redirecting = started.at(-1)?.address ?? ''
  for (let round = 1; round <= options.rounds; round += 1) {
    for (const { name, address, ...server } of started) {
      bench.progress(`s3, round ${round}: ${name}`)
      const order = { address, requests: [item], connections: STREAMS, seconds: options.seconds }
      results.add('s3', name, await accounted(server, async () => loadOf(await runSink(room, order))))
    }
    bench.progress(`s3, round ${round}: ${DIRECT}`)
    const requests = [{ path: await presignedPath(redirecting, item) }]
    const order = { address: gateway, requests, connections: STREAMS, seconds: options.seconds }
    const { bytes, seconds, requests: count, clientCpuSeconds } = loadOf(await runSink(room, order))
    results.add('s3', DIRECT, {
      bytesPerSecond: bytes / seconds,
      requestsPerSecond: count / seconds,
      clientCores: clientCpuSeconds / seconds,
    })
  }
}

/** URL that a redirecting mirror sends its clients to. */
async function presignedPath(address: string, { path }: Item): Promise<string> {
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    get(`http://${address}${path}`, { agent: false }, resolve).on('error', reject)
  })
  answer.destroy()
  const location = answer.headers.location
  if (location === undefined)
    throw new Error(`${path} was answered with ${answer.statusCode}, not redirected`)
  const { pathname, search } = new URL(location)
  return pathname + search
}
