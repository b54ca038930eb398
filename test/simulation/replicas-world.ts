import { Mirror } from '../../src/mirror/mirror.ts'
import type { Directory } from '../../src/mirror/sources.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import { PeerAsking } from '../../src/peers/asking.ts'
import { Following } from '../../src/peers/following.ts'
import { Members } from '../../src/peers/members.ts'
import { OwnedTags } from '../../src/peers/owned-tags.ts'
import { PeerRegistries } from '../../src/peers/peer-registry.ts'
import type { PeerQuestion } from '../../src/peers/protocol.ts'
import { Responding } from '../../src/peers/respond.ts'
import type { PeerAddress, WireOptions } from '../../src/peers/wire.ts'
import type { Registry } from '../../src/upstream/registry.ts'
import { sourceOf, TERMS } from '../mirror/rig.ts'
import { FakeRegistry, type RegistryScript } from '../support/fake-registry.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'
import { type Reachable, SimulatedWire } from './replicas-wire.ts'
import { Scheduler } from './scheduler.ts'
import { type Blob, makeBlob, type Report, settledNow } from './world.ts'

const DECISIONS_MAX = 60_000
const SIZES = [0, 1000, 64 * 1024, 100_000, 300_000]
const PIECE_BYTES = 50_000
const METRICS = createMetrics()

/**
 * What goes wrong. `views`: the replicas see different lists of members, which change. `dead`: one replica
 * does not answer from the start. `split`: connections between replicas break or lose everything. `lies`: one
 * replica sends wrong bytes. `strangers`: one replica asks another registry, which has nothing.
 */
type Trouble = 'none' | 'views' | 'dead' | 'split' | 'lies' | 'strangers'
export const TROUBLES: readonly Trouble[] = ['none', 'views', 'dead', 'split', 'lies', 'strangers']

/** Longest time that any pull may take, in milliseconds, by trouble. The registry itself takes no time. */
const LONGEST_MS: Readonly<Record<Trouble, number>> = {
  none: 0,
  views: 4000,
  dead: 4000,
  split: 40_000,
  lies: 4000,
  strangers: 4000,
}

interface Replica extends Reachable {
  readonly members: Members
  readonly mirror: Mirror
  readonly registry: Registry
  /** Downloads from the registry that began, and the bytes that came, by digest. */
  readonly fetches: Map<Digest, number>
  readonly fetchedBytes: Map<Digest, number>
}

/** One seed's cluster: a registry, replicas that know each other more or less, and clients. */
class ReplicasWorld {
  readonly scheduler: Scheduler
  readonly trouble: Trouble
  readonly violations: string[] = []
  readonly #blobs: readonly Blob[]
  readonly #replicas: readonly Replica[]
  /** The replica that is dead, lies, or asks another registry. */
  readonly #odd: number
  readonly #wire: SimulatedWire
  #isQuiet = false

  constructor(seed: number) {
    this.scheduler = new Scheduler(seed, { isPunctual: true })
    this.#wire = new SimulatedWire(this.scheduler, () => this.#replicas)
    const { dice } = this.scheduler
    this.trouble = dice.pick(TROUBLES)
    const count = 2 + dice.below(3)
    this.#odd = dice.below(count)
    this.#blobs = Array.from({ length: 1 + dice.below(2) }, () => makeBlob(dice.pick(SIZES), dice.below(250)))
    this.#replicas = Array.from({ length: count }, (_, index) => this.#boot(index))
    for (const replica of this.#replicas) this.#view(replica)
    if (this.trouble === 'dead')
      for (const { index } of this.#replicas) this.#wire.set(index, this.#odd, 'reset')
    if (this.trouble === 'lies') this.#wire.liar = this.#odd
  }

  #boot(index: number): Replica {
    const process = index + 1
    const clock = this.scheduler.clockOf(process)
    const { events } = seeEvents()
    const instance = `entrepot-00000000000${index}`
    const members = new Members('simulated', clock)
    const mirror = new Mirror({ store: new MemoryStore(clock), events, clock, checkCacheDigest: false })
    const fetches = new Map<Digest, number>()
    const fetchedBytes = new Map<Digest, number>()
    const registry = this.#registryOf(index, { fetches, fetchedBytes })
    const lifetime = new AbortController().signal
    const tags = new OwnedTags({ clock, freshForMs: () => 0, lifetime })
    const following = new Following()
    const wire = {
      ask: async (address: PeerAddress, question: PeerQuestion, options: WireOptions) =>
        await this.#wire.ask(index, address, question, options),
    }
    const isLeaving = (): boolean => false
    const asking = new PeerAsking({ members, wire, metrics: METRICS, events, clock, instance, isLeaving })
    const registries = new PeerRegistries(
      {
        asking,
        following,
        tags,
        clock,
        isLinked: async (place, digest) => await mirror.peerView.isLinked(place, digest),
        store: undefined,
      },
      { get: () => registry },
    )
    const directory: Directory = {
      registries: { get: () => registry },
      terms: new Map([[DOCKER_HUB, TERMS]]),
      defaultTerms: TERMS,
      defaultNamespace: DOCKER_HUB,
    }
    const responding = new Responding({
      mirror,
      isMirrored: async () => await Promise.resolve(true),
      directory: () => directory,
      following,
      tags,
      version: 'simulated',
      store: undefined,
      isLeaving,
      changed: () => undefined,
    })
    const address = { host: `replica-${index}`, port: 8082 }
    const front = registries.get(DOCKER_HUB)
    return {
      index,
      instance,
      address,
      clock,
      members,
      mirror,
      registry: front,
      responding,
      fetches,
      fetchedBytes,
    }
  }

  /** The registry as one replica reaches it. */
  #registryOf(index: number, seen: Pick<Replica, 'fetches' | 'fetchedBytes'>): Registry {
    const process = index + 1
    const isOther = this.trouble === 'strangers' && index === this.#odd
    const find = (digest: Digest): Blob | undefined =>
      isOther ? undefined : this.#blobs.find(blob => blob.digest === digest)
    const identity = isOther ? 'another registry' : 'the registry'
    const script: RegistryScript = {
      headBlob: async digest => {
        await this.scheduler.step(process)
        const blob = find(digest)
        return blob === undefined ? undefined : { sizeBytes: blob.bytes.length }
      },
      getBlob: async ({ offset }, _, signal, digest) => {
        await this.scheduler.step(process, signal)
        const blob = find(digest)
        if (blob === undefined) return undefined
        seen.fetches.set(digest, (seen.fetches.get(digest) ?? 0) + 1)
        return {
          offset,
          sizeBytes: blob.bytes.length,
          validator: undefined,
          chunks: this.#download(blob, { offset, process, seen }, signal),
          [Symbol.asyncDispose]: async () => await Promise.resolve(),
        }
      },
    }
    return new FakeRegistry(script, { identity })
  }

  async *#download(
    { bytes, digest }: Blob,
    {
      offset,
      process,
      seen,
    }: {
      readonly offset: number
      readonly process: number
      readonly seen: Pick<Replica, 'fetchedBytes'>
    },
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    for (let position = offset; position < bytes.length; position += PIECE_BYTES) {
      await this.scheduler.step(process, signal)
      const piece = bytes.subarray(position, position + PIECE_BYTES)
      seen.fetchedBytes.set(digest, (seen.fetchedBytes.get(digest) ?? 0) + piece.length)
      yield piece
    }
  }

  /** Gives a replica a list of members: all of them, or in a world of views those that it happens to see. */
  #view({ members, index, instance }: Replica): void {
    const { dice } = this.scheduler
    const isWhole = this.trouble !== 'views' || this.#isQuiet
    const seen = this.#replicas.filter(() => isWhole || !dice.onceIn(3))
    members.replace(seen.map(({ address }) => address))
    for (const member of members.all) {
      const isSelf = member.name.startsWith(`replica-${index}:`)
      // It may not have found itself yet.
      if (isSelf && (isWhole || !dice.onceIn(4))) {
        member.isSelf = true
        member.meet({ instance })
      }
    }
  }

  async run(): Promise<void> {
    const { dice } = this.scheduler
    const clients = Array.from({ length: 3 + dice.below(6) }, async (_, index) => await this.#client(index))
    void this.#unsettle()
    void Promise.all(clients)
    if (!(await this.scheduler.run(DECISIONS_MAX))) this.#violate('the run does not end')
    for (const client of clients)
      if ((await settledNow(client)) === undefined) this.#violate('a client waits for ever')
    this.#judgeFetches()
    await this.#judgeEnd()
  }

  /** Changes the views, or breaks and mends ways, some times. */
  async #unsettle(): Promise<void> {
    const { dice } = this.scheduler
    if (this.trouble !== 'views' && this.trouble !== 'split') return
    for (let change = 2 + dice.below(6); change > 0; change -= 1) {
      for (let wait = dice.below(30); wait > 0; wait -= 1) await this.scheduler.step(0)
      if (this.trouble === 'views') this.#view(dice.pick(this.#replicas))
      else {
        const [from, to] = [dice.pick(this.#replicas), dice.pick(this.#replicas)]
        this.#wire.set(from.index, to.index, dice.pick(['reset', 'lost', undefined]))
      }
    }
    // A way that stays lost would keep its reader waiting for the end of the world.
    await this.scheduler.clockOf(0).delay(60_000)
    this.#wire.mend()
  }

  async #client(index: number): Promise<true> {
    const { dice } = this.scheduler
    const blob = dice.pick(this.#blobs)
    const able = this.#replicas.filter(replica => !this.#isOdd(replica))
    const replica = dice.pick(able)
    for (let wait = dice.below(4) * dice.below(20); wait > 0; wait -= 1)
      await this.scheduler.step(replica.index + 1)
    const sinceMs = replica.clock.monotonicMs()
    let came = await this.#pull(replica, blob)
    // A large blob may fail once: its first bytes have been sent before they are proved.
    if (came === 'failed' && this.trouble === 'lies' && blob.bytes.length > 64 * 1024)
      came = await this.#pull(replica, blob)
    const tookMs = replica.clock.monotonicMs() - sinceMs
    if (came === 'failed') this.#violate(`I30: client ${index} failed`)
    if (came === 'wrong') this.#violate('I1: a client got wrong bytes')
    if (tookMs > LONGEST_MS[this.trouble]) this.#violate(`I30: client ${index} took ${tookMs} ms`)
    return true
  }

  /** True for the replica that has no clients, since it is dead or asks another registry. */
  #isOdd({ index }: Replica): boolean {
    return index === this.#odd && (this.trouble === 'dead' || this.trouble === 'strangers')
  }

  async #pull({ mirror, registry, index }: Replica, blob: Blob): Promise<'right' | 'wrong' | 'failed'> {
    const { signal } = new AbortController()
    const pieces: Buffer[] = []
    try {
      const source = sourceOf(registry.onBehalfOf({ trail: [], client: undefined }))
      const { content } = await mirror.pullBlob(source, blob.digest)
      try {
        const range = { start: 0, end: content.sizeBytes ?? Infinity }
        for await (const piece of content.read(range, signal)) {
          pieces.push(Buffer.from(piece))
          if (this.scheduler.dice.onceIn(4)) await this.scheduler.step(index + 1)
        }
      } finally {
        await content[Symbol.asyncDispose]()
      }
    } catch {
      return 'failed'
    }
    return Buffer.concat(pieces).equals(blob.bytes) ? 'right' : 'wrong'
  }

  /**
   * With one list in all replicas, the registry is asked once for each blob. With different lists, it is
   * asked once by each replica at most, and after broken connections only for the rest.
   */
  #judgeFetches(): void {
    const isOnce = this.trouble === 'none' || this.trouble === 'dead'
    for (const { digest, bytes } of this.#blobs) {
      const counts = this.#replicas.map(({ fetches }) => fetches.get(digest) ?? 0)
      const total = counts.reduce((sum, count) => sum + count, 0)
      if (isOnce && total > 1) this.#violate(`I7: fetched ${total} times`)
      if (this.trouble === 'lies') continue
      for (const { fetchedBytes } of this.#replicas)
        if ((fetchedBytes.get(digest) ?? 0) > bytes.length)
          this.#violate('I7: a replica fetched more bytes than there are')
      if (this.trouble === 'views' && counts.some(count => count > 1))
        this.#violate(`I7: one replica fetched ${Math.max(...counts)} times`)
    }
  }

  /** Once all is well, every replica serves every blob. */
  async #judgeEnd(): Promise<void> {
    this.#isQuiet = true
    this.#wire.mend()
    this.#wire.liar = undefined
    for (const replica of this.#replicas) this.#view(replica)
    for (const replica of this.#replicas.filter(one => this.trouble !== 'strangers' || !this.#isOdd(one)))
      for (const blob of this.#blobs) {
        const pulling = this.#pull(replica, blob)
        await this.scheduler.run(DECISIONS_MAX)
        if ((await settledNow(pulling)) !== 'right') this.#violate('wedged: a replica does not serve a blob')
      }
    const closing = Promise.all(
      this.#replicas.map(async ({ mirror }) => await mirror[Symbol.asyncDispose]()),
    ).then(() => true)
    await this.scheduler.run(DECISIONS_MAX)
    if ((await settledNow(closing)) !== true) this.#violate('a replica does not close')
  }

  #violate(what: string): void {
    this.violations.push(what)
  }
}

/** Runs one seed's world of replicas to its end. */
export async function simulateReplicas(seed: number): Promise<Report> {
  const world = new ReplicasWorld(seed)
  await world.run()
  const { violations, trouble: weather, scheduler } = world
  return { violations, decisions: scheduler.decisions, weather, crashes: 0 }
}
