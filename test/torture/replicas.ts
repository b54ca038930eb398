import { setTimeout as sleep } from 'node:timers/promises'
import { pull } from './client.ts'
import { split } from './replicas-split.ts'
import { type Rig, type RigContext, stopwatch, type Tally } from './rig.ts'
import { blobPath, manifestPath, pullChecked, pullImage, putImage } from './state.ts'
import { COUNT, type CountedUpstream, startCounted, Trio } from './trio.ts'
import { type BucketServer, directories, oneBucket } from './trio-stores.ts'

const MIB = 1024 * 1024
/** Cold blobs for each figure of first bytes. */
const FIRST_BYTES = 21
const [KILL, STOP] = ['SIGKILL', 'SIGSTOP'] as const

/** Many clients of each replica on one cold blob, and many manifests: everything is fetched once. */
async function cold(context: RigContext): Promise<void> {
  const { random, tally, isSmoke } = context
  await using counted = await startCounted()
  const { upstream } = counted
  await using trio = await Trio.start(context, counted.host)
  const [clients, sizeBytes, manifests] = isSmoke ? [10, 16 * MIB, 60] : [50, 256 * MIB, 300]
  const digest = upstream.putBlob(random.bytes(sizeBytes))
  const startedAtMs = performance.now()
  const came = await Promise.all(
    trio.daemons.flatMap(({ address }) =>
      Array.from(
        { length: clients },
        async () => await pullChecked(address, blobPath(digest), tally, { patienceMs: 600_000 }),
      ),
    ),
  )
  tally.figure('last client, s', ((performance.now() - startedAtMs) / 1000).toFixed(1))
  requireAll(came, 'pulls of the blob', tally)
  const gets = upstream.count({ method: 'GET', path: blobPath(digest) })
  tally.figure('fetches of the blob', gets)
  tally.figure('times its bytes', (counted.sentBytes / sizeBytes).toFixed(3))
  if (gets !== 1) tally.violate(`the blob was fetched ${gets} times`)
  const resident = trio.daemons.map(daemon => Math.round(daemon.residentMaxBytes / MIB))
  tally.figure('resident, max MiB', resident.join('/'))
  await compareFirstBytes({ trio, upstream, random, tally })
  const tags = Array.from({ length: manifests }, (_, index) => {
    const { manifest } = upstream.putImage({ config: { index, salt: random.bytes(8).toString('hex') } })
    upstream.tag('team/app', `m${index}`, manifest)
    return { tag: `m${index}`, manifest }
  })
  const pulled = await Promise.all(
    trio.daemons.map(async ({ address }) => {
      const whole: boolean[] = []
      for (const { tag, manifest } of random.shuffle(tags)) {
        const named = await pullChecked(address, manifestPath(manifest), tally)
        const byTag = await pull(address, manifestPath(tag))
        whole.push(named && byTag.digest === manifest)
      }
      return whole
    }),
  )
  requireAll(pulled.flat(), 'pulls of manifests', tally)
  for (const { tag, manifest } of tags) {
    const heads = upstream.count({ method: 'HEAD', path: manifestPath(tag) })
    const fetches = upstream.count({ method: 'GET', path: manifestPath(manifest) })
    if (heads !== 1) tally.violate(`tag ${tag}: ${heads} HEADs`)
    if (fetches !== 1) tally.violate(`manifest of ${tag}: ${fetches} fetches`)
  }
  tally.figure('clients', clients * COUNT)
  tally.figure('manifests', manifests)
  await trio.verifyStored(tally)
}

/** The first byte of cold blobs at their owner, and of others at a replica that follows it. */
async function compareFirstBytes({
  trio,
  upstream,
  random,
  tally,
}: Pick<CountedUpstream, 'upstream'> &
  Pick<RigContext, 'random' | 'tally'> & { readonly trio: Trio }): Promise<void> {
  const times: { readonly owner: number[]; readonly follower: number[] } = { owner: [], follower: [] }
  for (let round = 0; round < FIRST_BYTES; round += 1) {
    for (const kind of ['owner', 'follower'] as const) {
      const digest = upstream.putBlob(random.bytes(MIB))
      const index = (trio.ownerOf(digest) + (kind === 'owner' ? 0 : 1)) % COUNT
      const startedAtMs = performance.now()
      let firstMs = Number.NaN
      const onResponse = (): void => {
        firstMs = performance.now() - startedAtMs
      }
      const { address = '' } = trio.daemons[index] ?? {}
      await pull(address, blobPath(digest), { onResponse })
      times[kind].push(firstMs)
    }
  }
  for (const kind of ['owner', 'follower'] as const)
    tally.figure(`first header, ${kind}, median ms`, (medianOf(times[kind]) ?? Number.NaN).toFixed(1))
}

function medianOf(values: readonly number[]): number | undefined {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)]
}

function requireAll(came: readonly boolean[], what: string, tally: Tally): void {
  tally.cycles += came.length
  const failed = came.filter(isWhole => !isWhole).length
  if (failed > 0) tally.violate(`${failed} of ${came.length} ${what} failed`)
}

/** The owner of a blob is killed or stopped after a part of it; the clients of the others notice nothing. */
async function owners(context: RigContext, bucket?: BucketServer): Promise<void> {
  const { random, tally, isSmoke, forMs, directory } = context
  await using stores = bucket === undefined ? directories(directory) : await oneBucket(bucket, directory)
  await using counted = await startCounted()
  const { upstream } = counted
  await using trio = await Trio.start(context, counted.host, { stores })
  const sizeBytes = (isSmoke ? 8 : 64) * MIB
  upstream.on({ path: /blobs/ }, { drip: { bytes: 128 * 1024, everyMs: isSmoke ? 15 : 4 } })
  const watch = stopwatch(isSmoke ? 0 : forMs)
  do {
    for (const signal of isSmoke && bucket !== undefined ? [KILL] : [KILL, STOP])
      for (const percent of isSmoke ? [50] : [10, 50, 99])
        await loseOwner({ counted, trio, random, tally }, { signal, percent, sizeBytes })
  } while (!watch.isOver())
  await trio.verifyStored(tally)
}

async function loseOwner(
  {
    counted,
    trio,
    random,
    tally,
  }: Pick<RigContext, 'random' | 'tally'> & {
    readonly counted: CountedUpstream
    readonly trio: Trio
  },
  {
    signal,
    percent,
    sizeBytes,
  }: { readonly signal: 'SIGKILL' | 'SIGSTOP'; readonly percent: number; readonly sizeBytes: number },
): Promise<void> {
  const { upstream } = counted
  const digest = upstream.putBlob(random.bytes(sizeBytes))
  const owner = trio.ownerOf(digest)
  const before = counted.sentBytes
  const pulls = trio.daemons.flatMap(({ address }, index) =>
    index === owner ? [] : [0, 1, 2].map(async () => await pullChecked(address, blobPath(digest), tally)),
  )
  const limit = (sizeBytes * percent) / 100
  while (counted.sentBytes - before < limit) await sleep(2)
  const startedAtMs = performance.now()
  if (signal === 'SIGKILL') await trio.daemons[owner]?.kill()
  else trio.daemons[owner]?.signal('SIGSTOP')
  const atBytes = counted.sentBytes - before
  requireAll(await Promise.all(pulls), `pulls with ${signal} of the owner at ${percent} %`, tally)
  const times = (counted.sentBytes - before) / sizeBytes
  tally.figure(
    `${signal} at ${percent} %`,
    `${times.toFixed(2)}×, ${((performance.now() - startedAtMs) / 1000).toFixed(1)} s`,
  )
  // What a stopped owner has in the buffers of its connection counts too.
  const slack = 0.1 + (signal === 'SIGSTOP' ? (4 * MIB) / sizeBytes : 0)
  if (times > 1 + atBytes / sizeBytes + slack)
    tally.violate(`${signal} at ${percent} %: ${times.toFixed(2)} times the bytes`)
  if (signal === 'SIGSTOP') trio.daemons[owner]?.signal('SIGCONT')
  else await trio.restart(owner)
  upstream.blobs.delete(digest)
  await sleep(2500)
}

/** All replicas restart one after the other while clients pull, each from any replica that answers. */
async function rolling(context: RigContext): Promise<void> {
  const { random, tally, isSmoke } = context
  await using counted = await startCounted()
  const { upstream } = counted
  await using trio = await Trio.start(context, counted.host)
  const over = new AbortController()
  let images = 0
  const client = async (): Promise<void> => {
    while (!over.signal.aborted) {
      images += 1
      const tag = `r${images}`
      const image = putImage(upstream, random, tag)
      const order = random.shuffle([0, 1, 2])
      let isWhole = false
      for (const index of order) {
        const { address } = trio.daemons[index] ?? {}
        isWhole = address !== undefined && (await pullImage(address, image, tag, tally))
        if (isWhole) break
      }
      tally.cycles += 1
      if (!isWhole) tally.wedge(`image ${tag} during a restart`)
    }
  }
  const clients = Array.from({ length: 4 }, client)
  for (let round = 0; round < (isSmoke ? 1 : 3); round += 1) {
    for (let index = 0; index < COUNT; index += 1) {
      await sleep(1000)
      const code = await trio.daemons[index]?.stop(30_000)
      if (code !== 0) tally.violate(`a replica ended with ${String(code)}`)
      await trio.restart(index)
    }
  }
  over.abort()
  await Promise.all(clients)
  tally.figure('restarts', COUNT * (isSmoke ? 1 : 3))
  tally.figure('images', images)
  await trio.verifyStored(tally)
}

const rig = (name: string, title: string, run: Rig['run']): Rig => ({ name, title, weight: 0, run })

/** Three replicas, with stores of their own if the title says nothing else. */
export const REPLICAS: readonly Rig[] = [
  rig('replicas', 'clients of three replicas on one cold blob, and manifests', cold),
  rig(
    'replicas-owner',
    'the owner of a blob is killed or stopped in the middle of it',
    async context => await owners(context),
  ),
  rig(
    'replicas-owner-radosgw',
    'the same with one bucket of radosgw for all replicas',
    async context => await owners(context, 'radosgw'),
  ),
  {
    ...rig(
      'replicas-owner-swift',
      'the same with one bucket of Swift for all replicas',
      async context => await owners(context, 'Swift'),
    ),
    isLong: true,
  },
  rig('replicas-split', 'packets between three replicas are lost in the middle of a blob', split),
  rig('replicas-rolling', 'a rolling restart of three replicas under load', rolling),
]
