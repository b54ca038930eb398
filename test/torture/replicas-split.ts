import { spawnSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { NotRun, type RigContext, type Tally } from './rig.ts'
import { blobPath, pullChecked } from './state.ts'
import { COUNT, type CountedUpstream, type ReplicaPlace, startCounted, Trio } from './trio.ts'

const MIB = 1024 * 1024
const PEER_PORT = 8082
/** A hardware address that nobody has: frames to it are lost without a word. */
const NOBODY = '02:00:00:00:00:fe'

/**
 * A network of this machine with a namespace for each replica, behind a bridge that this process and the
 * registry are on.
 */
class Networks implements Disposable {
  readonly #name = `entr${process.pid % 100_000}`
  readonly #base = `10.231.${process.pid % 250}`
  readonly #undo = new DisposableStack()

  constructor() {
    this.#ip(`link add ${this.#name} type bridge`)
    this.#undo.defer(() => this.#ip(`link del ${this.#name}`))
    this.#ip(`addr add ${this.host}/24 dev ${this.#name}`)
    this.#ip(`link set ${this.#name} up`)
    for (let index = 0; index < COUNT; index += 1) this.#add(index)
  }

  /** Address of this process in it. */
  get host(): string {
    return `${this.#base}.1`
  }

  get places(): readonly ReplicaPlace[] {
    return Array.from({ length: COUNT }, (_, index) => ({
      host: this.#hostOf(index),
      port: PEER_PORT,
      through: ['ip', 'netns', 'exec', this.#spaceOf(index)],
    }))
  }

  /** Loses everything between two replicas. */
  cut(one: number, other: number): void {
    this.#ip(`${this.#in(one)} neigh replace ${this.#hostOf(other)} lladdr ${NOBODY} dev eth0 nud permanent`)
    this.#ip(`${this.#in(other)} neigh replace ${this.#hostOf(one)} lladdr ${NOBODY} dev eth0 nud permanent`)
  }

  mend(one: number, other: number): void {
    this.#ip(`${this.#in(one)} neigh del ${this.#hostOf(other)} dev eth0`)
    this.#ip(`${this.#in(other)} neigh del ${this.#hostOf(one)} dev eth0`)
  }

  [Symbol.dispose](): void {
    this.#undo.dispose()
  }

  #add(index: number): void {
    const [space, outer] = [this.#spaceOf(index), `${this.#name}-${index}`]
    this.#ip(`netns add ${space}`)
    this.#undo.defer(() => this.#ip(`netns del ${space}`))
    this.#ip(`link add ${outer} type veth peer name eth0 netns ${space}`)
    this.#ip(`link set ${outer} master ${this.#name} up`)
    this.#ip(`${this.#in(index)} addr add ${this.#hostOf(index)}/24 dev eth0`)
    this.#ip(`${this.#in(index)} link set eth0 up`)
    this.#ip(`${this.#in(index)} link set lo up`)
  }

  #hostOf(index: number): string {
    return `${this.#base}.${10 + index}`
  }

  #spaceOf(index: number): string {
    return `${this.#name}-space-${index}`
  }

  #in(index: number): string {
    return `-n ${this.#spaceOf(index)}`
  }

  #ip(words: string): void {
    const { status, stderr, error } = spawnSync('ip', words.split(' '), { encoding: 'utf8' })
    if (status === 0) return
    this.#undo.dispose()
    throw new NotRun(`ip ${words}: ${error?.message ?? stderr.trim()}`)
  }
}

/**
 * Packets between the owner of a blob and one replica, or both others, are lost from a moment on. All clients
 * get their blob, and each side fetches it once at most.
 */
export async function split(context: RigContext): Promise<void> {
  const { random, tally, isSmoke } = context
  using networks = new Networks()
  await using counted = await startCounted(networks.host)
  await using trio = await Trio.start(context, counted.host, { places: networks.places })
  const sizeBytes = (isSmoke ? 8 : 64) * MIB
  counted.upstream.on({ path: /blobs/ }, { drip: { bytes: 128 * 1024, everyMs: isSmoke ? 15 : 4 } })
  for (const from of ['one', 'both'] as const)
    for (const percent of isSmoke ? [50] : [0, 50, 99]) {
      const digest = counted.upstream.putBlob(random.bytes(sizeBytes))
      await splitOnce({ networks, counted, trio, tally }, { from, percent, digest, sizeBytes })
    }
  await trio.verifyStored(tally)
}

interface Splitting {
  readonly from: 'one' | 'both'
  readonly percent: number
  readonly digest: string
  readonly sizeBytes: number
}

async function splitOnce(
  {
    networks,
    counted,
    trio,
    tally,
  }: {
    readonly networks: Networks
    readonly counted: CountedUpstream
    readonly trio: Trio
    readonly tally: Tally
  },
  { from, percent, digest, sizeBytes }: Splitting,
): Promise<void> {
  const owner = trio.ownerOf(digest)
  const others = [0, 1, 2].filter(index => index !== owner).slice(0, from === 'one' ? 1 : 2)
  const cut = (): void => others.forEach(other => networks.cut(owner, other))
  const before = counted.sentBytes
  if (percent === 0) cut()
  const startedAtMs = performance.now()
  const pulls = trio.daemons.flatMap(({ address }) =>
    [0, 1].map(async () => await pullChecked(address, blobPath(digest), tally)),
  )
  if (percent > 0) {
    while (counted.sentBytes - before < (sizeBytes * percent) / 100) await sleep(2)
    cut()
  }
  const came = await Promise.all(pulls)
  tally.cycles += came.length
  const failed = came.filter(isWhole => !isWhole).length
  if (failed > 0) tally.violate(`${failed} pulls failed with ${from} cut off at ${percent} %`)
  const times = (counted.sentBytes - before) / sizeBytes
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(1)
  tally.figure(`${from} cut off at ${percent} %`, `${times.toFixed(2)}×, ${seconds} s`)
  // With both cut off, the two fetch the rest once between them. What is on its way counts too.
  if (times > 2 - percent / 100 + 0.2) tally.violate(`${from} at ${percent} %: ${times.toFixed(2)} times`)
  for (const other of others) networks.mend(owner, other)
  await sleep(3000)
}
