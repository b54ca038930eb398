import { join } from 'node:path'
import { HOSTED_OWNER } from '../content/index/catalogue-schema.ts'
import { IndexFeed } from '../content/index/feed.ts'
import { changeDeleted, changeRead, changeWritten } from '../content/index/record-changes.ts'
import type { Incoming, ShownManifest } from '../content/ledger.ts'
import type { Digest } from '../oci/digest.ts'
import type { Place } from '../oci/place.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import type { RecordName, SpoolFile } from '../storage/store.ts'
import { AnnouncedSizes } from './announced-sizes.ts'
import { demandOf, type Filling, isAbove } from './bounds.ts'
import { Claims } from './claims.ts'
import { type Evicted, Evictor, type Others } from './evictor.ts'
import { measureLeftovers } from './leftovers.ts'
import { type Release, RoomBook } from './room-book.ts'
import { measuredOf, type SpaceParts, type SpaceStatus } from './space-terms.ts'
import type { Demand } from './victims.ts'
import { Walks } from './walks.ts'
import type { Claim, Payer } from './watched-spool.ts'
import { chargeSpool, type Gone, WatchedStore, type Watcher } from './watched-store.ts'

/** Interval between measurements of the room and checks of the bounds, in milliseconds. */
const TICK_MS = 5000
/** Ticks between measurements of the leftovers and checks of the index. */
const TICKS_TO_CHECK = 12
/** Ticks between searches for expired content. */
const TICKS_TO_EXPIRE = 360
/** Ticks between walks of the store: other programs may have added or removed content. */
const TICKS_TO_WALK = 8640
/** The same for a bucket, once a day: listing a thousand keys is one request. */
const TICKS_TO_WALK_BUCKET = 17_280

/**
 * Keeps a store within bounds: tracks its content, grants room before it grows, and evicts. Use {@link store}
 * in place of the original store.
 */
export class Space implements AsyncDisposable, Watcher {
  readonly store: WatchedStore
  readonly index: IndexFeed
  readonly #parts: SpaceParts
  readonly #lifetime = new AbortController()
  readonly #book: RoomBook
  readonly #claims: Claims
  readonly #announced = new AnnouncedSizes()
  readonly #walks: Walks
  #evictor: Evictor | undefined
  #ticks = 0
  #timer: NodeJS.Timeout | undefined
  #settling: Promise<void> | undefined

  constructor(parts: SpaceParts) {
    const { store, root, clock, events, bucket } = parts
    this.#parts = parts
    this.store = new WatchedStore(store, this, parts.notices)
    this.#book = new RoomBook(parts)
    this.index = new IndexFeed({
      path: join(root, bucket?.indexName ?? 'index.sqlite'),
      isLazy: bucket?.isLazy ?? false,
      clock,
      events,
      namespaces: () => [...parts.terms().configured],
      onStale: () => this.#walks.want(),
    })
    this.#walks = new Walks(
      {
        store: this.store,
        index: this.index,
        clock,
        events,
        forgetLinks: async digests => await this.#evictor?.forgetLinks(digests),
        onComplete: () => this.#settle(),
      },
      this.#lifetime.signal,
    )
    this.#claims = new Claims({
      book: this.#book,
      index: this.index,
      bounds: parts.bounds,
      clock,
      events,
      filling: () => this.#filling,
      dynamicShare: () => this.#dynamicShare,
      evict: async demand => (await this.#evictor?.evict(demand))?.objects ?? 0,
    })
  }

  /** Starts enforcing the bounds. `others` are further components that reference content. */
  async start(others: Others): Promise<void> {
    const { clock, events, terms, bucket } = this.#parts
    const { store, index } = this
    const perSecond = bucket?.evictionsPerSecond
    const parts = { store, index, others, clock, events, terms, perSecond }
    this.#evictor = new Evictor(parts, this.#lifetime.signal)
    await this.#book.measure()
    this.#timer = setInterval(() => void this.#tick(), TICK_MS).unref()
    if (this.#parts.bounds.maxSize !== undefined) void this.#tick()
  }

  get status(): SpaceStatus {
    const { totals, state, isComplete } = this.index
    return {
      indexState: state,
      isComplete,
      objects: totals.objects,
      storedBytes: this.index.bytes,
      scratchBytes: this.#book.scratchBytes,
      usedBytes: this.#filling.usedBytes,
      maxBytes: this.#book.limits.maxBytes === Infinity ? undefined : this.#book.limits.maxBytes,
      freeBytes: this.#book.room?.freeBytes,
      totalBytes: this.#book.room?.totalBytes,
      minFreeBytes: this.#book.limits.minFreeBytes,
      dynamicBytes: this.#filling.dynamicBytes,
      dynamicShare: this.#dynamicShare,
      bytesByNamespace: Object.fromEntries(totals.bytesByNamespace),
    }
  }

  /** Evicts this number of bytes, or what the bounds require now, as far as possible. */
  async evict(bytes: number | undefined): Promise<Evicted> {
    let all: Evicted = { objects: 0, bytes: 0 }
    await this.index.open()
    await this.index.flush()
    while (this.#evictor !== undefined && !this.#lifetime.signal.aborted) {
      await this.#book.remeasure()
      const rest = bytes === undefined ? undefined : bytes - all.bytes
      if (rest !== undefined && rest <= 0) break
      const demand = (): Demand => (rest === undefined ? this.#demand() : { bytes: rest, dynamicBytes: 0 })
      const evicted = await this.#evictor.evict(demand)
      if (evicted.objects === 0) break
      all = { objects: all.objects + evicted.objects, bytes: all.bytes + evicted.bytes }
    }
    return all
  }

  /** See {@link UploadRoom}. */
  async spare(bytes: number): Promise<boolean> {
    const lacking = (): number => this.#book.limits.minFreeBytes + bytes - (this.#book.freeBytes ?? Infinity)
    await this.#book.measure()
    if (lacking() <= 0) return true
    try {
      await this.index.open()
      if (this.index.state === 'open')
        await this.#evictor?.evict(() => ({ bytes: lacking(), dynamicBytes: 0 }))
    } catch (error) {
      this.#parts.events.storageFailed('evict', error)
    }
    await this.#book.remeasure()
    return lacking() <= 0
  }

  /** True if the index is only opened when it is asked for, and has not been yet. */
  get isAsleep(): boolean {
    return this.#parts.bucket?.isLazy === true && this.index.state === 'absent'
  }

  /** Resolves once the walk of the store that runs now has ended. */
  async walked(): Promise<void> {
    await this.#walks.ended()
  }

  /** What {@link evict} would evict now, if nothing changed meanwhile. */
  async plan(bytes: number | undefined): Promise<Evicted> {
    await this.index.open()
    await this.#book.remeasure()
    const demand = bytes === undefined ? this.#demand() : { bytes, dynamicBytes: 0 }
    return (await this.#evictor?.plan(demand)) ?? { objects: 0, bytes: 0 }
  }

  /** Charges a spool to a namespace and takes its first room; see {@link Ledger}. */
  async makeRoom(spool: SpoolFile, incoming: Incoming): Promise<boolean> {
    const { sizeBytes = this.#announced.of(incoming.digest) } = incoming
    return await chargeSpool(spool, { ...incoming, sizeBytes })
  }

  /** Applies a change of the configured namespaces. */
  async reconfigure(): Promise<void> {
    await this.index.configure().catch(() => undefined)
  }

  payerOf(namespace: string): Payer {
    return { namespace, isDynamic: !this.#parts.terms().configured.has(namespace) }
  }

  async couldFit(claim: Claim): Promise<boolean> {
    return await this.#claims.couldFit(claim)
  }

  async claim(claim: Claim): Promise<boolean> {
    const isTaken = await this.#claims.take(claim)
    if (isTaken && isAbove(this.#filling.usedBytes, this.#book.limits)) this.#settle()
    return isTaken
  }

  reserve(bytes: number): void {
    this.#book.reserve(bytes)
  }

  wrote(bytes: number): void {
    this.#book.wrote(bytes)
  }

  release(release: Release): void {
    this.#book.release(release)
  }

  leftBehind(bytes: number, isDynamic: boolean): void {
    this.#book.leftBehind(bytes, isDynamic)
  }

  tookUp(bytes: number, isDynamic: boolean): void {
    this.#book.tookUp(bytes, isDynamic)
  }

  stored(digest: Digest, sizeBytes: number, namespace: string | undefined): void {
    const atMs = this.#parts.clock.wallMs()
    this.index.note({ kind: 'stored', digest, sizeBytes, atMs, namespace }, sizeBytes)
  }

  removed(digest: Digest, { sizeBytes, namespace }: Gone): void {
    this.index.note({ kind: 'removed', digest, namespace }, -sizeBytes)
  }

  recordWritten(name: RecordName, bytes: Uint8Array): void {
    const change = changeWritten(name, bytes)
    if (change !== undefined) this.index.note(change)
  }

  recordDeleted(name: RecordName): void {
    const change = changeDeleted(name)
    if (change !== undefined) this.index.note(change)
  }

  pushed(digest: Digest, bytes: Uint8Array): void {
    this.index.note(changeRead(digest, bytes))
  }

  /** Records a request for content. */
  used(digest: Digest, use: { readonly hits: number; readonly servedBytes: number }): void {
    const atMs = this.#parts.clock.wallMs()
    this.index.noteUse(digest, { ...use, atMs, isManifest: false })
  }

  /** Records a request for an image. */
  pulled(place: Place, reference: Reference, { hits }: { readonly hits: number }): void {
    this.index.notePull(place, referenceText(reference), { atMs: this.#parts.clock.wallMs(), hits })
  }

  /** Records that a client was sent a manifest: the manifest and what it names are in use. */
  shown({ digest, blobs, manifests }: ShownManifest): void {
    const atMs = this.#parts.clock.wallMs()
    const use = { atMs, hits: 0, servedBytes: 0 }
    const children = manifests.map(named => named.digest)
    const parts = blobs.map(named => ({ digest: named.digest, sizeBytes: named.sizeBytes }))
    this.index.noteUse(digest, { ...use, isManifest: true, manifests: children, blobs: parts })
    for (const named of manifests) this.index.noteUse(named.digest, { ...use, isManifest: true })
    for (const named of blobs) this.index.noteUse(named.digest, { ...use, isManifest: false })
  }

  announced({ blobs }: ShownManifest): void {
    this.#announced.note(blobs)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifetime.abort(new Error('the mirror is shutting down'))
    clearInterval(this.#timer)
    await this.#settling
    await this.#walks.ended()
    await this.#evictor?.settled()
    await this.store[Symbol.asyncDispose]()
    await this.index[Symbol.asyncDispose]()
  }

  get #filling(): Filling {
    const { configured } = this.#parts.terms()
    const others = [...this.index.bytesByNamespace].filter(
      ([name]) => name !== '' && name !== HOSTED_OWNER && !configured.has(name),
    )
    return {
      usedBytes: this.index.bytes + this.#book.scratchBytes,
      dynamicBytes: others.reduce((sum, [, bytes]) => sum + bytes, this.#book.dynamicScratchBytes),
      freeBytes: this.#book.freeBytes,
    }
  }

  /** If nothing but the default is configured, there is no namespace to keep room for. */
  get #dynamicShare(): number {
    return this.#parts.terms().configured.size > 1 ? this.#parts.bounds.dynamicShare : 1
  }

  #demand(): Demand {
    return demandOf(this.#filling, this.#book.limits, this.#dynamicShare)
  }

  async #tick(): Promise<void> {
    const { events, root, bucket } = this.#parts
    try {
      if (this.#ticks % TICKS_TO_CHECK === 0) {
        if (bucket === undefined) this.#book.countedLeftovers(await measureLeftovers(leftoversBelow(root)))
        if (bucket?.isLazy !== true) await this.index.open()
        await this.index.requireFile()
      }
      this.#ticks += 1
      if (this.isAsleep) return
      const everyTicks = bucket === undefined ? TICKS_TO_WALK : TICKS_TO_WALK_BUCKET
      if (this.#walks.isWanted || this.#ticks % everyTicks === 0) this.#walks.start()
      await this.#book.measure()
      events.spaceMeasured(measuredOf(this.status))
      this.#settle()
    } catch (error) {
      if (!this.#lifetime.signal.aborted) events.storageFailed('space', error)
    }
  }

  /** Evicts in the background until the bounds hold with a margin. */
  #settle(): void {
    if (this.#settling !== undefined || this.index.state !== 'open' || this.#lifetime.signal.aborted) return
    const isToExpire = this.#ticks % TICKS_TO_EXPIRE === TICKS_TO_CHECK
    const { bytes, dynamicBytes } = this.#demand()
    if (bytes === 0 && dynamicBytes === 0 && !isToExpire) return
    this.#settling = this.#evictInBackground()
  }

  /** Evicts in turns, so that downloads waiting for room get theirs in between. */
  async #evictInBackground(): Promise<void> {
    let hasProgress = true
    try {
      while (hasProgress && !this.#lifetime.signal.aborted) {
        const evicted = await this.#evictor?.evict(() => this.#demand())
        hasProgress = evicted !== undefined && evicted.objects > 0
      }
    } catch (error) {
      this.#parts.events.storageFailed('evict', error)
    } finally {
      this.#settling = undefined
    }
  }
}

function leftoversBelow(root: string): readonly string[] {
  return [join(root, 'spool', 'kept'), join(root, 'quarantine')]
}
