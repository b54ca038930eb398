import { unlimitedTurn } from '../../src/content/job-turns.ts'
import type { Collection } from '../../src/hosted/collection.ts'
import type { Publication } from '../../src/hosted/publication.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OciError } from '../../src/oci/error.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { parseConfiguredNamespace } from '../../src/oci/namespace.ts'
import type { Place } from '../../src/oci/place.ts'
import { parsePushedManifest } from '../../src/oci/pushed-manifest.ts'
import { contentKey, recordKey } from '../../src/storage/layout.ts'
import { nameOf } from '../mirror/rig.ts'
import { HEALTHY, SimulatedDisk } from './disk.ts'
import { openRegistry, type Registry } from './hosted-registry.ts'
import { Scheduler } from './scheduler.ts'
import type { Report } from './world.ts'

const DECISIONS_MAX = 200_000
const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
/** A day; claims end within the next two hours. */
const BETWEEN_ROUNDS_MS = 24 * HOUR_MS
/** Longest time between two passes while pushers are at work. */
const PASS_EVERY_MS = 10 * MINUTE_MS
/** Time within which the pushers of a round begin. */
const BEGIN_WITHIN_MS = 20 * MINUTE_MS
/** Longest time between the blobs of a push and its manifest. */
const WAIT_MS_MAX = 30 * MINUTE_MS
/** Longer than a claim lasts. */
const IDLE_MS = 26 * HOUR_MS
/** Content that a stalled removal has marked is refused for ten minutes. */
const ATTEMPTS_MAX = 1000
/** Longest time until a pusher tries a request again. */
const RETRY_MS_MAX = 20_000
const PUSHERS = 4
/** Passes of the collection in the end; it has longer while anything is left. */
const PASSES_MIN = 4
const PASSES_MAX = 60
const HIDDEN_MS = 2 * HOUR_MS
const FOREVER = new AbortController().signal

interface Blob {
  readonly bytes: Buffer
  readonly digest: Digest
}

/** What a run of the hosted world did, besides its {@link Report}. */
export interface HostedReport extends Report {
  /** Requests of pushers. */
  readonly operations: number
  readonly collected: number
}

/**
 * Pushers that ask for blobs by HEAD, upload only what is not there, wait, and push a manifest, against a
 * collection without a grace, unless the disk fails: only claims protect what is not named yet. Manifests
 * of earlier rounds are removed meanwhile. Either two processes share the disk, or one has it alone, and
 * its deletions may take any time. All of them evict what no repository holds.
 */
class HostedWorld {
  readonly scheduler: Scheduler
  readonly disk: SimulatedDisk
  readonly violations: string[] = []
  readonly #place: Place
  readonly #blobs: readonly Blob[]
  readonly #registries: readonly Registry[]
  /** Manifests that were acknowledged, with all that they name. */
  readonly #acknowledged = new Map<Digest, readonly Digest[]>()
  /** All manifests that were ever pushed, and what they name. */
  readonly #published = new Set<Digest>()
  readonly #named = new Map<Digest, readonly Digest[]>()
  /** Removals of each manifest that have begun, and those that have not ended. */
  readonly #withdrawals = new Map<Digest, number>()
  readonly #withdrawing = new Map<Digest, number>()
  readonly #isFaulty: boolean
  operations = 0
  collected = 0
  evicted = 0
  /** Ends when the time without pushes does. */
  #idleTime: AbortController | undefined
  #isOver = false
  #beginWithinMs = BEGIN_WITHIN_MS
  #versions = 0

  constructor(seed: number) {
    // In every other world no step takes time: then much happens between two requests of a pusher. In the
    // others any step may take minutes.
    this.scheduler = new Scheduler(seed, { isPunctual: seed % 2 === 0 })
    const { dice } = this.scheduler
    this.disk = new SimulatedDisk(this.scheduler)
    this.disk.writesAreLate = true
    // Without another process no time limit may matter.
    const processes = dice.onceIn(3) ? [1] : [1, 2]
    this.disk.deletionsStall = processes.length === 1
    this.#isFaulty = dice.onceIn(2)
    // Where a claim could not be written, only the grace protects what HEAD said is here.
    const graceMs = this.#isFaulty ? HOUR_MS : 0
    this.#place = {
      namespace: parseConfiguredNamespace('registry.example.test') ?? unreachable(),
      repository: nameOf('team/app'),
    }
    this.#blobs = Array.from({ length: 3 }, (_, number) => blobOf(`blob ${number} of ${seed}`))
    this.#registries = processes.map(process => openRegistry(this.disk, process, graceMs))
  }

  async run(rounds: number): Promise<void> {
    const driving = this.#drive(rounds)
    if (!(await this.scheduler.run(DECISIONS_MAX * rounds)))
      this.#violate('the world does not come to an end')
    const isDone = await Promise.race([driving.then(() => true), Promise.resolve().then(() => false)])
    if (!isDone) this.#violate('a pusher or the collection waits for ever')
  }

  async #drive(rounds: number): Promise<void> {
    const working = Promise.all([this.#collectAlways(), this.#evictAlways()])
    for (let round = 0; round < rounds; round += 1) {
      this.disk.faults = this.#isFaulty ? { ...HEALTHY, record: this.scheduler.dice.pick([6, 25]) } : HEALTHY
      // All at once, with the first pass of the collection, or one after another.
      this.#beginWithinMs = this.scheduler.dice.pick([1, BEGIN_WITHIN_MS])
      const removals = [...this.#acknowledged.keys()].map(async digest => await this.#removeOld(digest))
      const pushers = Array.from({ length: PUSHERS }, async (_, number) => await this.#push(number))
      await Promise.all([...pushers, ...removals])
      this.disk.faults = HEALTHY
      // The pushers of the next round come when claims end.
      await this.#passIdleTime(BETWEEN_ROUNDS_MS + this.scheduler.dice.below(2 * HOUR_MS))
      if (this.#isFaulty) await this.#hideManifest()
    }
    await this.#removeAll()
    this.#isOver = true
    await working
    await this.#collectTheRest()
    this.#judgeEnd()
  }

  /** One record of a manifest cannot be read for longer than the grace of the collection. */
  async #hideManifest(): Promise<void> {
    const { dice } = this.scheduler
    const acknowledged = [...this.#acknowledged.keys()]
    if (acknowledged.length === 0) return
    this.disk.unreadable = this.#recordKey(dice.pick(acknowledged))
    await this.scheduler.clockOf(1).delay(HIDDEN_MS)
    this.disk.unreadable = undefined
    this.#requireAcknowledged()
  }

  /** The collection runs in all processes, again and again: a lost turn must do no harm. */
  async #collectAlways(): Promise<void> {
    await Promise.all(this.#registries.map(async registry => await this.#collectIn(registry)))
  }

  /** Whatever no repository holds counts as cached, and is evicted in all processes as soon as it may. */
  async #evictAlways(): Promise<void> {
    await Promise.all(this.#registries.map(async registry => await this.#evictIn(registry)))
  }

  async #evictIn({ store, clock }: Registry): Promise<void> {
    while (!this.#isOver) {
      for (const { digest } of this.#blobs)
        try {
          if (await store.evict(digest, { sizeBytes: 0, namespace: undefined })) this.evicted += 1
        } catch {
          // The disk failed; the content is evicted later.
        }
      await this.#pause(clock)
    }
  }

  async #collectIn({ collection, clock }: Registry): Promise<void> {
    while (!this.#isOver) {
      await this.#collectOnce(collection)
      await this.#pause(clock)
    }
  }

  /** The time between two passes. */
  async #pause(clock: Clock): Promise<void> {
    const { signal } = this.#idleTime ?? {}
    if (signal === undefined) await clock.delay(this.scheduler.dice.below(PASS_EVERY_MS))
    else await clock.delay(6 * HOUR_MS, signal).catch(() => undefined)
  }

  async #collectOnce(collection: Collection): Promise<void> {
    try {
      for await (const { action } of collection.collect({ isDry: false }, unlimitedTurn(FOREVER)))
        if (action === 'remove') this.collected += 1
    } catch {
      // The disk failed while the candidates were listed; the next pass tries again.
    }
  }

  /** One push as a client makes it; it may begin anew if the registry fails, but never be refused. */
  async #push(number: number): Promise<void> {
    const { dice } = this.scheduler
    const registry = this.#registries[number % this.#registries.length] ?? unreachable()
    await registry.clock.delay(dice.below(this.#beginWithinMs))
    const chosen = this.#blobs.filter(() => dice.onceIn(2))
    const blobs = chosen.length === 0 ? this.#blobs.slice(0, 1) : chosen
    for (const blob of blobs) await this.#bring(registry, blob)
    await registry.clock.delay(dice.below(WAIT_MS_MAX))
    // Half of the manifests are the same for all pushers of the same blobs.
    this.#versions += 1
    const version = dice.onceIn(2) ? 'always the same' : String(this.#versions)
    const digest = await this.#publish(registry, blobs, version)
    if (digest === undefined) return
    if (dice.onceIn(3)) {
      const other = dice.pick(this.#registries)
      await Promise.all([this.#withdraw(registry, digest), this.#publish(other, blobs, version)])
      return
    }
    if (dice.onceIn(8)) return
    await registry.clock.delay(dice.below(10 * MINUTE_MS))
    await this.#withdraw(registry, digest)
  }

  /** Somebody may remove a manifest of an earlier round, while pushers rely on the blobs that it names. */
  async #removeOld(digest: Digest): Promise<void> {
    const { dice } = this.scheduler
    if (!dice.onceIn(2)) return
    const registry = dice.pick(this.#registries)
    await registry.clock.delay(dice.below(this.#beginWithinMs + WAIT_MS_MAX))
    await this.#withdraw(registry, digest)
  }

  /** An upload, if HEAD says that the blob is not there, or if the client does not ask. */
  async #bring(registry: Registry, { bytes, digest }: Blob): Promise<void> {
    const { shelf, publishing } = registry
    const name = { kind: 'hosted-blob', ...this.#place, digest } as const
    const asks = this.scheduler.dice.onceIn(2)
    const isThere = await this.#again(async () => {
      if (!asks) return false
      const record = await shelf.content(name)
      return record !== undefined && (await publishing.claim(name, record))
    })
    if (isThere === true) {
      this.#requireStored([digest], 'after HEAD said that it is here')
      return
    }
    const actor = { place: this.#place, by: 'pusher' }
    await this.#again(async () => {
      await publishing.link(actor, { digest, sizeBytes: bytes.length }, async () => [
        { kind: 'content', digest, bytes },
      ])
    })
    this.#requireStored([digest], 'after its upload was acknowledged')
  }

  async #publish(registry: Registry, blobs: readonly Blob[], version: string): Promise<Digest | undefined> {
    const publication = { ...manifestOf(blobs, version), place: this.#place, tags: [], by: 'pusher' }
    const { digest } = publication
    const before = this.#withdrawals.get(digest)
    this.#published.add(digest)
    const isDone = await this.#again(async () => {
      await registry.publishing.publish(publication)
      return true
    })
    if (isDone !== true) return undefined
    const named = blobs.map(blob => blob.digest)
    this.#requireStored([digest, ...named], 'after its manifest was acknowledged')
    // Of a push and a removal at the same time, either may be the last one.
    const isCertain = before === this.#withdrawals.get(digest) && !this.#withdrawing.has(digest)
    if (isCertain) this.#acknowledged.set(digest, named)
    this.#named.set(digest, named)
    return digest
  }

  async #withdraw({ publishing }: Registry, digest: Digest): Promise<void> {
    this.#acknowledged.delete(digest)
    this.#withdrawals.set(digest, (this.#withdrawals.get(digest) ?? 0) + 1)
    this.#withdrawing.set(digest, (this.#withdrawing.get(digest) ?? 0) + 1)
    const actor = { place: this.#place, by: 'pusher' }
    await this.#again(async () => await publishing.withdraw(actor, digest))
    const rest = (this.#withdrawing.get(digest) ?? 1) - 1
    if (rest === 0) this.#withdrawing.delete(digest)
    else this.#withdrawing.set(digest, rest)
  }

  /** Repeats a request while the registry fails, as clients do. A refusal is what must not happen. */
  async #again<T>(request: () => Promise<T>): Promise<T | undefined> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      this.operations += 1
      try {
        return await request()
      } catch (error) {
        if (error instanceof OciError && error.code !== 'UNAVAILABLE') {
          this.#violate(`a push was refused: ${error.message}`)
          return undefined
        }
        // Anything but trouble of the disk is a fault of the program.
        if (!(error instanceof OciError) && !(error instanceof Error && 'code' in error)) throw error
      }
      await this.scheduler.clockOf(0).delay(this.scheduler.dice.below(RETRY_MS_MAX))
    }
    this.#violate('a request fails again and again')
    return undefined
  }

  /** A time without pushes. */
  async #passIdleTime(ms: number): Promise<void> {
    const [{ clock } = unreachable()] = this.#registries
    const idleTime = new AbortController()
    this.#idleTime = idleTime
    await clock.delay(ms)
    this.#idleTime = undefined
    // The collection and the eviction are at work again when the first pushers come.
    idleTime.abort()
    this.#requireAcknowledged()
  }

  #requireAcknowledged(): void {
    for (const [digest, named] of this.#acknowledged) {
      this.#requireStored([digest, ...named], 'though an acknowledged manifest names it')
      if (!this.#hasRecord(digest)) this.#violate(`I27: the acknowledged manifest ${digest} is gone`)
    }
    for (const [digest, named] of this.#named)
      if (this.#hasRecord(digest)) this.#requireStored([digest, ...named], 'though a manifest names it')
  }

  async #removeAll(): Promise<void> {
    const [registry = unreachable()] = this.#registries
    for (const digest of this.#published) await this.#withdraw(registry, digest)
  }

  /**
   * A hold that a failed push left goes a day later. A removal in which a deletion stalls gives up, and
   * leaves the rest to the pass after the next one: one deletion in two passes is the least.
   */
  async #collectTheRest(): Promise<void> {
    const [registry = unreachable()] = this.#registries
    for (let pass = 0; pass < PASSES_MIN || (pass < PASSES_MAX && this.#isAnythingLeft()); pass += 1) {
      await this.#passIdleTime(IDLE_MS)
      await this.#collectOnce(registry.collection)
    }
  }

  #isAnythingLeft(): boolean {
    return this.#holdsLeft() > 0 || this.disk.contents.size > 0
  }

  #holdsLeft(): number {
    return [...this.disk.records.keys()].filter(key => key.startsWith('hosted/holds/')).length
  }

  /**
   * In the end nothing is needed, so nothing is held. Nothing is stored either, unless the disk failed in the
   * middle of a removal: then eviction has the rest.
   */
  #judgeEnd(): void {
    const { contents } = this.disk
    const holds = this.#holdsLeft()
    if (holds > 0) this.#violate(`${holds} holds of what nothing needs are left`)
    if (contents.size > 0 && !this.#isFaulty)
      this.#violate(`${contents.size} objects that nothing needs are left`)
    if (this.disk.openObjects.size > 0) this.#violate('objects stay open')
    if (this.disk.openSpools.size > 0) this.#violate('spools stay open')
  }

  #hasRecord(digest: Digest): boolean {
    return this.disk.records.has(this.#recordKey(digest))
  }

  #recordKey(digest: Digest): string {
    return recordKey({ kind: 'hosted-manifest', ...this.#place, digest })
  }

  #requireStored(digests: readonly Digest[], when: string): void {
    for (const digest of digests)
      if (!this.disk.contents.has(contentKey(digest))) this.#violate(`I27: ${digest} is gone ${when}`)
  }

  #violate(what: string): void {
    this.violations.push(what)
  }
}

function manifestOf(
  blobs: readonly Blob[],
  version: string,
): Pick<Publication, 'bytes' | 'digest' | 'manifest'> {
  const named = blobs.map(({ digest, bytes }) => ({ mediaType: 'x/y', digest, size: bytes.length }))
  const [config, ...layers] = named
  const document = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers, annotations: { version } }
  const bytes = Buffer.from(JSON.stringify(document))
  return { bytes, digest: digestOf(bytes), manifest: parsePushedManifest(bytes) }
}

function blobOf(text: string): Blob {
  const bytes = Buffer.from(text)
  return { bytes, digest: digestOf(bytes) }
}

function unreachable(): never {
  throw new Error('the simulation is wrong')
}

/** Runs one seed's world for some rounds of pushes, each followed by a day without. */
export async function simulateHosted(seed: number, rounds = 3): Promise<HostedReport> {
  const world = new HostedWorld(seed)
  await world.run(rounds)
  const { violations, scheduler, operations, collected } = world
  return { violations, decisions: scheduler.decisions, weather: 'hosted', crashes: 0, operations, collected }
}
