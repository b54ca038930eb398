import { Links } from '../../src/content/links.ts'
import { Proofs } from '../../src/content/proofs.ts'
import { Blobs } from '../../src/mirror/blobs.ts'
import { Bypass } from '../../src/mirror/fill/bypass.ts'
import { Fills } from '../../src/mirror/fill/fills.ts'
import type { Source } from '../../src/mirror/sources.ts'
import type { Content } from '../../src/oci/content.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OciError, UpstreamError } from '../../src/oci/error.ts'
import { parseConfiguredNamespace } from '../../src/oci/namespace.ts'
import { recordKey } from '../../src/storage/layout.ts'
import type { BlobBody, BlobFrom } from '../../src/upstream/registry.ts'
import { nameOf, sourceOf } from '../mirror/rig.ts'
import { blobBody, FakeRegistry } from '../support/fake-registry.ts'
import { seeEvents } from '../support/seen-events.ts'
import { HEALTHY, leftoverKey, SimulatedDisk, SimulatedStore } from './disk.ts'
import { Scheduler } from './scheduler.ts'

const TAIL_BYTES = 64 * 1024
/** A byte that no blob contains. */
const LIE = 0x21
const DECISIONS_MAX = 20_000
/** Sizes at the limits: nothing, less than the tail, the tail, more than the tail, several pieces. */
const SIZES = [0, 1, 1000, TAIL_BYTES - 1, TAIL_BYTES, TAIL_BYTES + 1, 100_000, 160_000, 260_000, 400_000]
/** More than the mirror keeps of a failed fill, and more than it keeps of it in memory. */
const LARGE_BYTES = 1_200_000

/** Faults of a run, besides clients that arrive, read slowly and leave. */
type Weather = 'calm' | 'upstream' | 'disk' | 'storm'
export const WEATHERS: readonly Weather[] = ['calm', 'upstream', 'disk', 'storm']

/** Outcome of a run. */
export interface Report {
  readonly violations: readonly string[]
  readonly decisions: number
  /** Kind of the faults. */
  readonly weather: string
  readonly crashes: number
}

export interface Blob {
  readonly bytes: Buffer
  readonly digest: Digest
}

/** The part of a mirror that serves blobs. */
interface Heart {
  readonly blobs: Blobs
  close(): Promise<void>
}

/** One seed's world: an upstream, a disk, a mirror that may be killed, and clients. */
class World {
  readonly scheduler: Scheduler
  readonly disk: SimulatedDisk
  readonly weather: Weather
  /** True if the registry that has the blobs is configured. */
  readonly #isTrusted: boolean
  readonly violations: string[] = []
  readonly blobs: readonly Blob[]
  crashes = 0
  #process = 0
  #isQuiet = false
  #mirror: Heart
  /**
   * Number of corruptions on the wire or at rest. If there are any, a range without the tail may be wrong.
   */
  #lies = 0
  readonly #fetches = new Map<string, number>()
  readonly #sentBytes = new Map<string, number>()
  readonly #openBodies = new Set<object>()

  constructor(seed: number) {
    this.scheduler = new Scheduler(seed)
    const { dice } = this.scheduler
    this.weather = dice.pick(WEATHERS)
    this.#isTrusted = dice.onceIn(2)
    this.disk = new SimulatedDisk(this.scheduler)
    this.blobs = Array.from({ length: 1 + dice.below(2) }, () =>
      makeBlob(dice.onceIn(12) ? LARGE_BYTES : dice.pick(SIZES), dice.below(250)),
    )
    if (this.#hasDiskFaults) this.disk.faults = this.#diskFaults()
    this.#leaveSomething()
    this.#mirror = this.#boot()
  }

  /** Leaves the bytes of an earlier fill in some worlds; unless the world is calm, they may be wrong. */
  #leaveSomething(): void {
    const { dice } = this.scheduler
    for (const { bytes, digest } of this.blobs) {
      if (bytes.length < 2 || !dice.onceIn(3)) continue
      const leftover = Buffer.from(bytes.subarray(0, 1 + dice.below(bytes.length)))
      if (this.weather !== 'calm' && dice.onceIn(2)) this.#spoil(leftover)
      const { namespace, repository } = this.#source('team/allowed', 0)
      const claimant = this.#isTrusted ? undefined : `${namespace}/${repository}`
      this.disk.leftovers.set(leftoverKey(digest, claimant), leftover)
      // A trusted registry resumes from a leftover only with a link.
      const link = { kind: 'link', namespace, repository, digest } as const
      if (this.#isTrusted && !dice.onceIn(3)) this.disk.records.set(recordKey(link), Buffer.alloc(0))
    }
  }

  #spoil(bytes: Buffer): void {
    this.#lies += 1
    const at = this.scheduler.dice.below(bytes.length)
    bytes[at] = (bytes[at] ?? 0) ^ 0x55
  }

  get #hasDiskFaults(): boolean {
    return this.weather === 'disk' || this.weather === 'storm'
  }

  get #hasUpstreamFaults(): boolean {
    return this.weather === 'upstream' || this.weather === 'storm'
  }

  #diskFaults(): SimulatedDisk['faults'] {
    const { dice } = this.scheduler
    const often = (): number => dice.pick([0, 0, 2, 5, 20])
    return {
      createSpool: often(),
      append: often(),
      readSpool: often(),
      clear: often(),
      adopt: often(),
      open: often(),
      readObject: often(),
      quarantine: often(),
      record: often(),
      room: often(),
      rot: often(),
    }
  }

  /**
   * The parts of a mirror that blobs pass through, with limits so small that a simulated blob reaches them.
   */
  #boot(): Heart {
    this.#process += 1
    const { dice } = this.scheduler
    const { events } = seeEvents()
    const clock = this.scheduler.clockOf(this.#process)
    const store = new SimulatedStore(this.disk, this.#process)
    const limits = { aheadBytes: dice.pick([1000, 150_000]), smallBytes: dice.pick([0, 1000, 100_000]) }
    const proofs = new Proofs({ store, events, isEveryRead: dice.onceIn(4), ...limits })
    const bypass = new Bypass({ events, clock }, 2)
    const ledger = { makeRoom: async () => await store.makeRoom() }
    const fills = new Fills({ store, events, clock, proofs, bypass, ledger })
    const links = new Links(store, events)
    const lifetime = new AbortController()
    return {
      blobs: new Blobs({ fills, links, proofs, events, clock, lifetime: lifetime.signal }),
      close: async () => {
        lifetime.abort(new Error('the end'))
        await fills[Symbol.asyncDispose]()
        await proofs[Symbol.asyncDispose]()
        await links[Symbol.asyncDispose]()
      },
    }
  }

  async run(): Promise<void> {
    const { dice } = this.scheduler
    const clients = Array.from({ length: 2 + dice.below(6) }, (_, index) => this.#client(index))
    if (this.weather === 'storm' && dice.onceIn(2)) void this.#killer()
    void Promise.all(clients)
    if (!(await this.scheduler.run(DECISIONS_MAX))) this.#violate('the run does not end')
    this.#judgeCalm(await Promise.all(clients.map(async client => await settledNow(client))))
    await this.#judgeEnd()
  }

  /** Kills the mirror at a random moment and starts it again. */
  async #killer(): Promise<void> {
    for (let wait = this.scheduler.dice.below(120); wait > 0; wait -= 1) await this.scheduler.step(0)
    this.crashes += 1
    this.scheduler.kill(this.#process)
    this.disk.kill(this.#process)
    this.#openBodies.clear()
    this.#mirror = this.#boot()
    void Promise.all([this.#client(100), this.#client(101)])
  }

  /**
   * Pulls a blob and judges its bytes. `failed`: it saw an error. `left`: it left early. `refused`: it was
   * not allowed to have the blob.
   */
  async #client(index: number): Promise<'right' | 'failed' | 'left' | 'refused'> {
    const process = this.#process
    const { dice } = this.scheduler
    const blob = dice.pick(this.blobs)
    if (dice.onceIn(6)) return await this.#claimer(blob, process)
    const isAllowed = !dice.onceIn(6)
    const source = this.#source(isAllowed ? 'team/allowed' : 'team/denied', process)
    for (let wait = dice.below(4) * dice.below(20); wait > 0; wait -= 1) await this.scheduler.step(process)
    let content: Content
    try {
      ;({ content } = await this.#mirror.blobs.pull({ source, digest: blob.digest }))
    } catch (error) {
      if (error instanceof UpstreamError || error instanceof OciError) return isAllowed ? 'failed' : 'refused'
      this.#violate(`client ${index} was told ${String(error)}`)
      return 'failed'
    }
    if (!isAllowed) this.#violate('I15: a repository was shown a blob that it does not have')
    return await this.#read(content, blob, process)
  }

  /** Pulls through a registry that is not configured, claims every blob, and sends other bytes or none. */
  async #claimer(blob: Blob, process: number): Promise<'refused'> {
    const { dice } = this.scheduler
    const namespace = parseConfiguredNamespace('claims.example.test')
    const lies = Buffer.alloc(blob.bytes.length, LIE)
    const registry = new FakeRegistry(
      {
        headBlob: async () => {
          await this.scheduler.step(process)
          return { sizeBytes: blob.bytes.length }
        },
        getBlob: async ({ offset }, _, signal) => {
          await this.scheduler.step(process, signal)
          return dice.onceIn(3) ? undefined : blobBody(lies, { offset: Math.min(offset, lies.length) })
        },
      },
      namespace === undefined ? {} : { namespace },
    )
    const source = { ...sourceOf(registry), isTrusted: false }
    for (let wait = dice.below(4) * dice.below(20); wait > 0; wait -= 1) await this.scheduler.step(process)
    try {
      await using content = (await this.#mirror.blobs.pull({ source, digest: blob.digest })).content
      const range = { start: 0, end: content.sizeBytes ?? Infinity }
      for await (const piece of content.read(range, new AbortController().signal)) {
        if (piece.some(byte => byte !== LIE))
          this.#violate('T6: a registry got cached bytes by claiming that it has them')
      }
    } catch {
      // The claim may fail in any way.
    }
    return 'refused'
  }

  async #read(content: Content, blob: Blob, process: number): Promise<'right' | 'failed' | 'left'> {
    const { dice } = this.scheduler
    const left = new AbortController()
    const size = content.sizeBytes
    const isWhole = size === undefined || size === 0 || dice.onceIn(2)
    const start = isWhole ? 0 : dice.below(size)
    const end = isWhole ? (size ?? Infinity) : start + 1 + dice.below(size - start)
    const leavesAt = dice.onceIn(4) ? dice.below(blob.bytes.length + 1) : Infinity
    const pace = dice.pick([0, 0, 1, 4])
    const pieces: Buffer[] = []
    let count = 0
    try {
      for await (const piece of content.read({ start, end }, left.signal)) {
        pieces.push(Buffer.from(piece))
        count += piece.byteLength
        for (let wait = pace; wait > 0; wait -= 1) await this.scheduler.step(process)
        if (count >= leavesAt) {
          left.abort(new Error('left'))
          break
        }
      }
    } catch {
      // All bytes are a complete answer, even if an error follows them.
      if (size !== undefined && count > 0 && count >= end - start)
        this.#judgeBytes(Buffer.concat(pieces), blob, { start, end, size })
      return 'failed'
    } finally {
      await content[Symbol.asyncDispose]()
    }
    if (left.signal.aborted) return 'left'
    this.#judgeBytes(Buffer.concat(pieces), blob, { start, end, size })
    return 'right'
  }

  /**
   * A response counts as complete if it has as many bytes as its headers stated, or, if they stated no
   * length, if it ended without an error.
   */
  #judgeBytes(
    got: Buffer,
    blob: Blob,
    { start, end, size }: { readonly start: number; readonly end: number; readonly size: number | undefined },
  ): void {
    const expected = blob.bytes.subarray(start, Math.min(end, blob.bytes.length))
    if (got.equals(expected)) return
    const isComplete = size === undefined || got.byteLength === end - start
    if (!isComplete) {
      this.#violate(`a content of ${end - start} bytes ended after ${got.byteLength} without an error`)
      return
    }
    const isWholeBlob = start === 0 && (size === undefined || end >= size)
    if (isWholeBlob || this.#lies + this.disk.rotted === 0)
      this.#violate('I1: a complete answer has wrong bytes')
  }

  #source(repository: string, process: number): Source {
    const registry = new FakeRegistry({
      headBlob: async () => {
        await this.scheduler.step(process)
        this.#maybeFail()
        return repository === 'team/allowed' ? { sizeBytes: 1 } : undefined
      },
    })
    // A script of the fake registry is not given the digest of the request.
    registry.getBlob = async (_, digest, from, signal) => {
      signal.throwIfAborted()
      await this.scheduler.step(process, signal)
      const blob = this.blobs.find(other => other.digest === digest)
      if (repository !== 'team/allowed' || blob === undefined) return undefined
      this.#maybeFail()
      return this.#body(blob, from, { process, signal })
    }
    return { ...sourceOf(registry), repository: nameOf(repository), isTrusted: this.#isTrusted }
  }

  #maybeFail(): void {
    const { dice } = this.scheduler
    if (!this.#hasUpstreamFaults || this.#isQuiet || !dice.onceIn(8)) return
    throw new UpstreamError(dice.pick(['connect', 'status', 'timeout', 'rate-limited']), 'simulated')
  }

  #body(
    { bytes, digest }: Blob,
    from: BlobFrom,
    { process, signal }: { readonly process: number; readonly signal: AbortSignal },
  ): BlobBody {
    const { dice } = this.scheduler
    const isFaulty = this.#hasUpstreamFaults && !this.#isQuiet
    if (from.offset > 0 && from.offset >= bytes.length)
      throw new UpstreamError('status', 'nothing is there', { status: 416 })
    const offset = isFaulty && dice.onceIn(6) ? 0 : from.offset
    const isSilent = dice.onceIn(5)
    this.#fetches.set(digest, (this.#fetches.get(digest) ?? 0) + 1)
    const body = {
      offset,
      sizeBytes: isSilent ? undefined : bytes.length,
      validator: undefined,
      chunks: this.#chunks({ bytes, digest }, { offset, isFaulty, process }, signal),
      [Symbol.asyncDispose]: async () => {
        this.#openBodies.delete(body)
        await Promise.resolve()
      },
    }
    this.#openBodies.add(body)
    return body
  }

  async *#chunks(
    { bytes, digest }: Blob,
    {
      offset,
      isFaulty,
      process,
    }: { readonly offset: number; readonly isFaulty: boolean; readonly process: number },
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const { dice } = this.scheduler
    const chunkBytes = dice.pick([20_000, 50_000, 70_000]) * (bytes.length > 500_000 ? 3 : 1)
    const liesAt = isFaulty && dice.onceIn(4) ? dice.below(bytes.length) : -1
    for (let position = offset; position < bytes.length; position += chunkBytes) {
      await this.scheduler.step(process, signal)
      if (isFaulty && dice.onceIn(6)) throw new UpstreamError(dice.pick(['cut', 'stalled']), 'simulated')
      const chunk = Buffer.from(bytes.subarray(position, position + chunkBytes))
      if (liesAt >= position && liesAt < position + chunk.length) this.#spoil(chunk)
      this.#sentBytes.set(digest, (this.#sentBytes.get(digest) ?? 0) + chunk.length)
      yield chunk
    }
  }

  /**
   * Without faults, no client fails and nothing is fetched twice, even if clients leave and others are slow.
   */
  #judgeCalm(outcomes: readonly (string | undefined)[]): void {
    if (outcomes.includes(undefined) && this.crashes === 0) this.#violate('a client waits for ever')
    if (this.weather !== 'calm') return
    if (outcomes.includes('failed')) this.#violate('I8: a client failed though nothing went wrong')
    for (const { digest, bytes } of this.blobs) {
      const fetches = this.#fetches.get(digest) ?? 0
      if (fetches > 1) this.#violate(`I7: fetched ${fetches} times`)
      if ((this.#sentBytes.get(digest) ?? 0) > bytes.length)
        this.#violate('I7: more bytes were fetched than there are')
    }
  }

  /**
   * After all faults have ended, every blob can be pulled, nothing stays open, and visible bytes are right.
   */
  async #judgeEnd(): Promise<void> {
    this.#isQuiet = true
    this.disk.faults = HEALTHY
    for (const blob of this.blobs) {
      for (const source of [this.#source('team/allowed', this.#process), this.#another()]) {
        // The first pull may find a rotted object while reading it. The second must succeed, and the third
        // must be served from the store.
        await this.#pullWell(blob, source)
        if ((await this.#pullWell(blob, source)) !== true) this.#violate(`wedged: ${blob.bytes.length} bytes`)
        const fetches = this.#fetches.get(blob.digest)
        await this.#pullWell(blob, source)
        if (fetches !== this.#fetches.get(blob.digest)) this.#violate('what is stored was fetched again')
      }
    }
    const closing = this.#mirror.close()
    if (!(await this.scheduler.run(DECISIONS_MAX))) this.#violate('the mirror does not close')
    if ((await settledNow(closing.then(() => true))) !== true)
      this.#violate('the mirror waits for ever when it closes')
    const { openSpools, openObjects, contents, violations } = this.disk
    if (openSpools.size > 0) this.#violate(`${openSpools.size} spools stay open`)
    if (openObjects.size > 0) this.#violate(`${openObjects.size} objects stay open`)
    if (this.#openBodies.size > 0) this.#violate(`${this.#openBodies.size} bodies of the upstream stay open`)
    for (const { bytes, version } of contents.values()) {
      const isRight = this.blobs.some(blob => blob.bytes.equals(bytes))
      if (!isRight && !version.startsWith('rot')) this.#violate('I2: wrong bytes are visible')
    }
    this.violations.push(...violations)
  }

  /** The same blobs at another registry, which is not configured. */
  #another(): Source {
    const source = this.#source('team/allowed', this.#process)
    const namespace = parseConfiguredNamespace('another.example.test') ?? source.namespace
    return { ...source, namespace, isTrusted: false }
  }

  async #pullWell(blob: Blob, source: Source): Promise<boolean | undefined> {
    const pulling = (async () => {
      const { content } = await this.#mirror.blobs.pull({ source, digest: blob.digest })
      const pieces: Buffer[] = []
      try {
        for await (const piece of content.read(
          { start: 0, end: content.sizeBytes ?? Infinity },
          new AbortController().signal,
        ))
          pieces.push(Buffer.from(piece))
      } finally {
        await content[Symbol.asyncDispose]()
      }
      return Buffer.concat(pieces).equals(blob.bytes)
    })().catch(() => false)
    await this.scheduler.run(DECISIONS_MAX)
    return await settledNow(pulling)
  }

  #violate(what: string): void {
    this.violations.push(what)
  }
}

/** A blob of this size; another salt gives other bytes. */
export function makeBlob(sizeBytes: number, salt: number): Blob {
  const bytes = Buffer.alloc(sizeBytes, `${salt}/${sizeBytes}.`)
  return { bytes, digest: digestOf(bytes) }
}

/** The current result of a promise; `undefined` if it is pending. */
export async function settledNow<T>(promise: Promise<T>): Promise<T | undefined> {
  return await Promise.race([
    promise,
    new Promise<undefined>(resolve => setImmediate(() => resolve(undefined))),
  ])
}

/** Runs one seed's world to its end. */
export async function simulate(seed: number): Promise<Report> {
  const world = new World(seed)
  await world.run()
  const { violations, weather, crashes, scheduler } = world
  return { violations, decisions: scheduler.decisions, weather, crashes }
}
