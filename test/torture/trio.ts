import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../../src/lib/clock.ts'
import { Members } from '../../src/peers/members.ts'
import { freePorts } from '../support/replicas.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { DaemonProcess } from './daemon.ts'
import type { RigContext, Tally } from './rig.ts'
import { directories, type TrioStores } from './trio-stores.ts'

const HOST = '127.0.0.1'
/** Replicas of a rig. */
export const COUNT = 3
const CLUSTER = 'entrepot'

/** The registry, behind a connection that counts what it sends. */
export interface CountedUpstream extends AsyncDisposable {
  readonly upstream: FakeUpstream
  readonly host: string
  sentBytes: number
}

/** @param listenHost address at which the replicas reach it. */
export async function startCounted(listenHost = HOST): Promise<CountedUpstream> {
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
  server.listen(0, listenHost)
  await once(server, 'listening')
  const counted: CountedUpstream = {
    upstream,
    host: `${listenHost}:${(server.address() as AddressInfo).port}`,
    sentBytes: 0,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await upstream[Symbol.asyncDispose]()
    },
  }
  return counted
}

/** Where a replica runs. */
export interface ReplicaPlace {
  readonly host: string
  /** Port of its listener for the others. */
  readonly port: number
  /** Command that starts it there. */
  readonly through?: readonly string[]
}

export interface TrioOptions {
  /** Free ports of this machine by default. */
  readonly places?: readonly ReplicaPlace[]
  /** A directory for each by default. */
  readonly stores?: TrioStores
}

/** Three daemons that know each other. */
export class Trio implements AsyncDisposable {
  readonly daemons: DaemonProcess[] = []
  readonly #context: Pick<RigContext, 'directory'>
  readonly #stores: TrioStores
  readonly #places: readonly ReplicaPlace[]
  readonly #upstream: string
  readonly #ranking = new Members(CLUSTER, systemClock)

  private constructor(
    context: Pick<RigContext, 'directory'>,
    upstream: string,
    { places, stores }: Required<TrioOptions>,
  ) {
    this.#context = context
    this.#places = places
    this.#upstream = upstream
    this.#stores = stores
    this.#ranking.replace(places)
  }

  static async start(
    context: Pick<RigContext, 'directory'>,
    upstream: string,
    options: TrioOptions = {},
  ): Promise<Trio> {
    await writeFile(join(context.directory, 'secret'), 'a-secret-of-the-replicas\n')
    const places = options.places ?? (await freePorts(COUNT)).map(port => ({ host: HOST, port }))
    const { stores = directories(context.directory) } = options
    const trio = new Trio(context, upstream, { places, stores })
    for (const index of places.keys()) await trio.restart(index)
    // Those that started first have been told by the others that they are there.
    await sleep(1500)
    return trio
  }

  /** Starts one of them, for the first time or again. */
  async restart(index: number): Promise<DaemonProcess> {
    const directory = join(this.#context.directory, `replica-${index}`)
    await mkdir(directory, { recursive: true })
    const { host, port, through = [] } = this.#places[index] ?? { host: HOST, port: 0 }
    const daemon = await DaemonProcess.start({
      ...this.#stores.of(index),
      directory,
      upstream: this.#upstream,
      listen: `${host}:0`,
      through,
      flags: [
        '--peer-listen',
        `${host}:${port}`,
        '--peers',
        this.#places.map(place => `${place.host}:${place.port}`).join(','),
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

  /** Compares everything that is stored under a digest with that digest. */
  async verifyStored(tally: Tally): Promise<void> {
    await this.#stores.verify(tally)
  }

  /** The owner of a blob. */
  ownerOf(digest: string): number {
    const [owner] = this.#ranking.candidates(`docker.io@${digest}`)
    return this.#places.findIndex(
      ({ host, port }) => port === owner?.address.port && host === owner.address.host,
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const daemon of this.daemons) {
      daemon.signal('SIGCONT')
      await daemon.kill()
    }
  }
}
