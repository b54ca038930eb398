import { stat } from 'node:fs/promises'
import type { Clock } from '../../lib/clock.ts'
import type { Events } from '../../observe/events.ts'
import type { Digest } from '../../oci/digest.ts'
import type { CatalogueState } from './catalogue.ts'
import { type CatalogueCalls, CatalogueClient, CatalogueError } from './catalogue-client.ts'
import type { Change, NamedBlob, PlaceName, Totals } from './change.ts'

/** Interval between writes of the pending changes, in milliseconds. */
const FLUSH_MS = 2000
/** Number of pending changes that triggers a write earlier. */
const FLUSH_CHANGES = 5000
/** Most changes in one message to the thread: a few milliseconds' work on either side. */
const CHUNK = 1000
/** Delay before opening an index again that was locked or failed to open. */
const RETRY_MS = 60_000

const NOTHING: Totals = { objects: 0, bytes: 0, bytesByNamespace: new Map() }

export interface IndexFeedParts {
  readonly path: string
  readonly clock: Clock
  readonly events: Events
  readonly namespaces: () => readonly string[]
  /** Called when the index is incomplete and only a walk of the store can repair it. */
  readonly onStale: () => void
  /**
   * True if the index opens only when it is asked for. Changes before that are dropped, so that a walk of the
   * store follows each opening.
   */
  readonly isLazy?: boolean
}

interface Use {
  readonly atMs: number
  readonly hits: number
  readonly servedBytes: number
  readonly isManifest: boolean
  /** The manifests that an index names. */
  readonly manifests?: readonly Digest[] | undefined
  /** The blobs that a manifest names. */
  readonly blobs?: readonly NamedBlob[] | undefined
}

interface CountedPulls {
  readonly kind: 'pulled'
  readonly place: PlaceName
  readonly reference: string
  atMs: number
  hits: number
}

interface Pull {
  readonly atMs: number
  readonly hits: number
}

/**
 * `absent`: not opened yet. `locked`: another process uses it, and keeps the store in bounds. `failed`: it
 * could not be opened.
 */
type State = 'absent' | 'open' | 'locked' | 'failed'

/**
 * The index of a store. Gathers changes here, and has a thread write them in batches, so that no request
 * waits for the index.
 */
export class IndexFeed implements AsyncDisposable {
  readonly #parts: IndexFeedParts
  #client: CatalogueClient | undefined
  #state: State = 'absent'
  #totals = NOTHING
  #pending: { readonly change: Change; readonly bytes: number }[] = []
  /** Sum of the sizes of the pending changes. */
  #pendingBytes = 0
  readonly #pendingByNamespace = new Map<string, number>()
  readonly #uses = new Map<Digest, Use>()
  readonly #pulls = new Map<string, CountedPulls>()
  /**
   * During a rebuild the index knows less than is stored. This is the sum before the rebuild, with the
   * changes since.
   */
  #assumedBytes: number | undefined
  #assumedByNamespace: Map<string, number> = new Map()
  #flushing: Promise<void> = Promise.resolve()
  #timer: NodeJS.Timeout | undefined
  #opening: Promise<void> | undefined
  #triedAtMs = -Infinity
  #isComplete = false
  #hasForgotten = false
  #isClosed = false

  constructor(parts: IndexFeedParts) {
    this.#parts = parts
  }

  get state(): State {
    return this.#state
  }

  /** Bytes of all content, pending changes included. */
  get totals(): Totals {
    return this.#totals
  }

  get bytes(): number {
    return Math.max(this.#totals.bytes + this.#pendingBytes, this.#assumedBytes ?? 0, 0)
  }

  /** True if the index knows everything in the store. */
  get isComplete(): boolean {
    return this.#isComplete
  }

  /**
   * Bytes of each namespace, pending changes included. During a rebuild, a namespace known before counts at
   * least its bytes from then.
   */
  get bytesByNamespace(): ReadonlyMap<string, number> {
    const all = new Map(this.#totals.bytesByNamespace)
    for (const [name, bytes] of this.#pendingByNamespace) all.set(name, (all.get(name) ?? 0) + bytes)
    for (const [name, bytes] of this.#assumedByNamespace) all.set(name, Math.max(all.get(name) ?? 0, bytes))
    return all
  }

  /** Records a change; `bytes` is the growth of the store. */
  note(change: Change, bytes = 0): void {
    this.#pendingBytes += bytes
    addTo(this.#pendingByNamespace, change, bytes)
    if (this.#assumedBytes !== undefined) this.#assumedBytes += bytes
    if (this.#assumedByNamespace.size > 0) addTo(this.#assumedByNamespace, change, bytes)
    this.#pending.push({ change, bytes })
    this.#schedule()
  }

  /** Records a request for content; many of these are written as one. */
  noteUse(digest: Digest, use: Use): void {
    const known = this.#uses.get(digest)
    this.#uses.set(
      digest,
      known === undefined
        ? use
        : {
            atMs: Math.max(use.atMs, known.atMs),
            hits: use.hits + known.hits,
            servedBytes: use.servedBytes + known.servedBytes,
            isManifest: use.isManifest || known.isManifest,
            manifests: use.manifests ?? known.manifests,
            blobs: use.blobs ?? known.blobs,
          },
    )
    this.#schedule()
  }

  /** Records a request for an image by a tag or a digest; many of these are written as one. */
  notePull({ namespace, repository }: PlaceName, reference: string, { atMs, hits }: Pull): void {
    const key = `${namespace}/${repository} ${reference}`
    const known = this.#pulls.get(key)
    if (known === undefined) {
      const place = { namespace, repository }
      this.#pulls.set(key, { kind: 'pulled', place, reference, atMs, hits })
    } else {
      known.atMs = Math.max(atMs, known.atMs)
      known.hits += hits
    }
    this.#schedule()
  }

  /** Opens the index unless it is open; never rejects. */
  async open(): Promise<void> {
    if (this.#state === 'open' || this.#isClosed) return
    const { clock } = this.#parts
    if (this.#opening === undefined && clock.monotonicMs() - this.#triedAtMs < RETRY_MS) return
    this.#opening ??= this.#open().finally(() => {
      this.#triedAtMs = clock.monotonicMs()
      this.#opening = undefined
    })
    await this.#opening
  }

  /** Calls the index after writing all pending changes. Rejects with a {@link CatalogueError}. */
  async ask<Name extends keyof CatalogueCalls>(
    name: Name,
    ...args: Parameters<CatalogueCalls[Name]>
  ): Promise<ReturnType<CatalogueCalls[Name]>> {
    await this.flush()
    const client = this.#client
    if (client === undefined || this.#state !== 'open')
      throw new CatalogueError(this.#state === 'locked' ? 'locked' : 'failed', 'the index is not open')
    try {
      return await client.call(name, ...args)
    } catch (error) {
      this.#note(error)
      throw error
    }
  }

  /** Writes the pending changes; never rejects. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#flushing = this.#flushing.then(async () => await this.#flush())
    await this.#flushing
  }

  /** Marks the index as complete after a walk of the store. */
  complete(): void {
    this.#isComplete = true
    this.#assumedBytes = undefined
    this.#assumedByNamespace = new Map()
  }

  /** Starts a new file if the old one has lost its name: nothing written to that one could be found again. */
  async requireFile(): Promise<void> {
    if (this.#state !== 'open' || (await this.ask('isThere'))) return
    await this.ask('startOver')
    this.#becomeStale('the file of the index was removed')
  }

  /** Passes the configured namespaces to the index. */
  async configure(): Promise<void> {
    if (this.#state === 'open') await this.ask('configure', this.#parts.namespaces())
  }

  /** Writes the pending changes. Opens an index that was never opened only if its file exists. */
  async [Symbol.asyncDispose](): Promise<void> {
    const hasNews = this.#waiting > 0
    if (this.#state === 'absent' && hasNews && (await isFile(this.#parts.path))) await this.open()
    this.#isClosed = true
    await this.#opening
    await this.flush()
    const client = this.#client
    if (client === undefined) return
    try {
      if (this.#state === 'open') await client.call('close', { isStale: !this.#isComplete })
    } catch (error) {
      this.#parts.events.storageFailed('index', error)
    }
    await client[Symbol.asyncDispose]()
  }

  /** Number of changes, uses and pulls that are not written yet. */
  get #waiting(): number {
    return this.#pending.length + this.#uses.size + this.#pulls.size
  }

  #schedule(): void {
    const count = this.#waiting
    if (this.#isClosed) return
    if (count >= FLUSH_CHANGES && count % FLUSH_CHANGES === 0) void this.flush()
    else this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS).unref()
  }

  async #open(): Promise<void> {
    try {
      this.#client ??= new CatalogueClient()
      const state: CatalogueState = await this.#client.call('open', this.#parts.path)
      this.#totals = state.totals
      if (state.wasDamaged)
        this.#parts.events.recordDamaged('index', 'rebuilt', new Error('the damaged file was deleted'))
      this.#state = 'open'
      await this.#client.call('configure', this.#parts.namespaces())
      this.#isComplete = !state.isStale && !this.#hasForgotten && this.#parts.isLazy !== true
      this.#hasForgotten = false
      if (!this.#isComplete) this.#parts.onStale()
    } catch (error) {
      const isLocked = error instanceof CatalogueError && error.kind === 'locked'
      if (isLocked && this.#state !== 'locked')
        this.#parts.events.warned(
          'another process uses the index of this store and keeps the store in bounds',
        )
      if (!isLocked) this.#parts.events.storageFailed('index', error)
      this.#state = isLocked ? 'locked' : 'failed'
      const client = this.#client
      this.#client = undefined
      await client?.[Symbol.asyncDispose]()
    }
  }

  async #flush(): Promise<void> {
    if (this.#waiting === 0 && this.#state === 'open') return
    if (this.#parts.isLazy !== true) await this.open()
    if (this.#state !== 'open') {
      this.#forget()
      return
    }
    const uses = [...this.#uses].map(([digest, use]) => ({
      change: { kind: 'used', digest, ...use } as const,
      bytes: 0,
    }))
    const pulls = [...this.#pulls.values()].map(change => ({ change, bytes: 0 }))
    this.#uses.clear()
    this.#pulls.clear()
    const pending = [...this.#pending, ...uses, ...pulls]
    this.#pending = []
    for (let start = 0; start < pending.length; start += CHUNK) {
      const chunk = pending.slice(start, start + CHUNK)
      const bytes = chunk.reduce((sum, entry) => sum + entry.bytes, 0)
      try {
        this.#totals =
          (await this.#client?.call(
            'apply',
            chunk.map(({ change }) => change),
          )) ?? this.#totals
      } catch (error) {
        this.#note(error)
      } finally {
        this.#pendingBytes -= bytes
        for (const entry of chunk) addTo(this.#pendingByNamespace, entry.change, -entry.bytes)
      }
    }
  }

  /**
   * Drops the pending changes if the index cannot take them. A later walk of the store finds what matters.
   */
  #forget(): void {
    this.#hasForgotten = true
    this.#isComplete = false
    this.#pendingBytes = 0
    this.#pendingByNamespace.clear()
    this.#pending = []
    this.#uses.clear()
    this.#pulls.clear()
  }

  /** Updates the state after a failure of the index. */
  #note(error: unknown): void {
    const kind = error instanceof CatalogueError ? error.kind : 'failed'
    this.#parts.events.storageFailed('index', error)
    if (this.#client?.isEnded === true) {
      this.#client = undefined
      this.#state = 'absent'
    }
    if (this.#isClosed) this.#isComplete = false
    else if (kind === 'lost') {
      this.#parts.events.recordDamaged('index', 'rebuilt', error)
      this.#becomeStale('the index was damaged')
    } else {
      // The index now lacks the changes that could not be written.
      this.#assumedBytes ??= this.bytes
      if (this.#assumedByNamespace.size === 0) this.#assumedByNamespace = new Map(this.bytesByNamespace)
      this.#isComplete = false
      this.#parts.onStale()
    }
  }

  #becomeStale(message: string): void {
    this.#parts.events.warned(`${message}; rebuilding it from the store`)
    this.#isComplete = false
    this.#assumedBytes = this.bytes
    this.#assumedByNamespace = new Map(this.bytesByNamespace)
    this.#totals = NOTHING
    this.#parts.onStale()
  }
}

/** Adds to the bytes of the namespace that a change names; does nothing if it names none. */
function addTo(sums: Map<string, number>, change: Change, bytes: number): void {
  const namespace = change.kind === 'stored' || change.kind === 'removed' ? change.namespace : undefined
  if (namespace === undefined || bytes === 0) return
  const sum = (sums.get(namespace) ?? 0) + bytes
  if (sum === 0) sums.delete(namespace)
  else sums.set(namespace, sum)
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}
