import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../../src/lib/clock.ts'
import { Members } from '../../src/peers/members.ts'
import { freePorts } from '../support/replicas.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { pull } from './client.ts'
import { DaemonProcess } from './daemon.ts'
import { type Rig, type RigContext, stopwatch, type Tally } from './rig.ts'
import { blobPath, manifestPath, pullChecked, pullImage, putImage, verifyVisible } from './state.ts'

const MIB = 1024 * 1024
const HOST = '127.0.0.1'
const COUNT = 3
const CLUSTER = 'entrepot'

/** The registry, behind a connection that counts what it sends. */
interface CountedUpstream extends AsyncDisposable {
  readonly upstream: FakeUpstream
  readonly host: string
  sentBytes: number
}

async function startCounted(): Promise<CountedUpstream> {
  const upstream = await startUpstream()
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, socket => {
    const onward = connect({ host: HOST, port: upstream.port, allowHalfOpen: true })
    for (const one of [socket, onward]) {
      sockets.add(one)
      one.on('error', () => undefined).once('close', () => sockets.delete(one))
    }
    socket.once('close', () => onward.destroy())
    onward.once('close', () => socket.destroySoon())
    onward.on('data', (piece: Buffer) => {
      counted.sentBytes += piece.byteLength
    })
    socket.pipe(onward)
    onward.pipe(socket)
  })
  server.listen(0, HOST)
  await once(server, 'listening')
  const counted: CountedUpstream = {
    upstream,
    host: `${HOST}:${(server.address() as AddressInfo).port}`,
    sentBytes: 0,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await upstream[Symbol.asyncDispose]()
    },
  }
  return counted
}

/** Three daemons that know each other. */
class Trio implements AsyncDisposable {
  readonly daemons: DaemonProcess[] = []
  readonly roots: readonly string[]
  readonly #context: RigContext
  readonly #ports: readonly number[]
  readonly #upstream: string
  readonly #ranking = new Members(CLUSTER, systemClock)

  constructor(context: RigContext, ports: readonly number[], upstream: string) {
    this.#context = context
    this.#ports = ports
    this.#upstream = upstream
    this.roots = ports.map((_, index) => join(context.directory, `root-${index}`))
    this.#ranking.replace(ports.map(port => ({ host: HOST, port })))
  }

  static async start(context: RigContext, upstream: string): Promise<Trio> {
    await writeFile(join(context.directory, 'secret'), 'a-secret-of-the-replicas\n')
    const trio = new Trio(context, await freePorts(COUNT), upstream)
    for (let index = 0; index < COUNT; index += 1) await trio.restart(index)
    // Those that started first have been told by the others that they are there.
    await sleep(1500)
    return trio
  }

  /** Starts one of them, for the first time or again. */
  async restart(index: number): Promise<DaemonProcess> {
    const directory = join(this.#context.directory, `replica-${index}`)
    await mkdir(directory, { recursive: true })
    const daemon = await DaemonProcess.start({
      root: this.roots[index] ?? '',
      directory,
      upstream: this.#upstream,
      flags: [
        '--peer-listen',
        `${HOST}:${this.#ports[index]}`,
        '--peers',
        this.#ports.map(port => `${HOST}:${port}`).join(','),
        '--peer-secret-file',
        join(this.#context.directory, 'secret'),
        '--workers',
        '1',
        '--drain-timeout',
        '20s',
      ],
    })
    this.daemons[index] = daemon
    return daemon
  }

  /** The owner of a blob. */
  ownerOf(digest: string): number {
    const [owner] = this.#ranking.candidates(`docker.io@${digest}`)
    return this.#ports.findIndex(port => port === owner?.address.port)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const daemon of this.daemons) {
      daemon.signal('SIGCONT')
      await daemon.kill()
    }
  }
}

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
  for (const root of trio.roots) await verifyVisible(root, tally)
}

function requireAll(came: readonly boolean[], what: string, tally: Tally): void {
  tally.cycles += came.length
  const failed = came.filter(isWhole => !isWhole).length
  if (failed > 0) tally.violate(`${failed} of ${came.length} ${what} failed`)
}

/** The owner of a blob is killed or stopped after a part of it; the clients of the others notice nothing. */
async function owners(context: RigContext): Promise<void> {
  const { random, tally, isSmoke, forMs } = context
  await using counted = await startCounted()
  const { upstream } = counted
  await using trio = await Trio.start(context, counted.host)
  const sizeBytes = (isSmoke ? 8 : 64) * MIB
  upstream.on({ path: /blobs/ }, { drip: { bytes: 128 * 1024, everyMs: isSmoke ? 15 : 4 } })
  const watch = stopwatch(isSmoke ? 0 : forMs)
  do {
    for (const signal of ['SIGKILL', 'SIGSTOP'] as const)
      for (const percent of isSmoke ? [50] : [10, 50, 99])
        await loseOwner({ counted, trio, random, tally }, { signal, percent, sizeBytes })
  } while (!watch.isOver())
  for (const root of trio.roots) await verifyVisible(root, tally)
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
  for (const root of trio.roots) await verifyVisible(root, tally)
}

const rig = (name: string, title: string, run: Rig['run']): Rig => ({ name, title, weight: 0, run })

/** Three replicas with stores of their own. */
export const REPLICAS: readonly Rig[] = [
  rig('replicas', 'clients of three replicas on one cold blob, and manifests', cold),
  rig('replicas-owner', 'the owner of a blob is killed or stopped in the middle of it', owners),
  rig('replicas-rolling', 'a rolling restart of three replicas under load', rolling),
]
