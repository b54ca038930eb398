import { existsSync, rmSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { Catalogue } from './catalogue.ts'
import type { CatalogueAnswer, CatalogueCalls, CatalogueQuestion } from './catalogue-client.ts'
import { OtherVersionError } from './catalogue-schema.ts'

/** SQLite result codes for a file that another process has locked, and for a file that is unusable. */
const SQLITE_BUSY = 5
const SQLITE_LOCKED = 6
const LOST: ReadonlySet<number> = new Set([
  10 /* SQLITE_IOERR */, 11 /* SQLITE_CORRUPT */, 14 /* SQLITE_CANTOPEN */, 26 /* SQLITE_NOTADB */,
])

/**
 * The catalogue of this thread. A damaged file is deleted and started anew, since a walk of the store can
 * rebuild it.
 */
class Host {
  #path = ''
  #namespaces: readonly string[] = []
  #catalogue: Catalogue | undefined

  readonly calls: {
    readonly [Name in keyof CatalogueCalls]: (...args: Parameters<CatalogueCalls[Name]>) => unknown
  } = {
    open: path => {
      this.#path = path
      const { catalogue, wasDamaged } = openOrDrop(path)
      this.#catalogue = catalogue
      return { ...catalogue.state, wasDamaged }
    },
    configure: namespaces => {
      this.#namespaces = namespaces
      this.#open.configure(namespaces)
      return undefined
    },
    apply: changes => this.#open.apply(changes),
    beginWalk: () => this.#open.beginWalk(),
    unseen: (after, limit) => this.#open.unseen(after, limit),
    cachedPlaces: () => this.#open.queries.cachedPlaces(),
    unread: (after, limit) => this.#open.queries.unread(after, limit),
    manifests: (after, limit) => this.#open.queries.manifests(after, limit),
    markNamed: digests => this.#open.queries.markNamed(digests),
    clearNamed: () => this.#open.queries.clearNamed(),
    deadLinks: (after, limit) => this.#open.queries.deadLinks(after, limit),
    countLinks: () => this.#open.queries.countLinks(),
    shares: (after, limit) => this.#open.shares.slice(after, limit),
    candidates: query => this.#open.queries.candidates(query),
    pullBack: nowMs => this.#open.queries.pullBack(nowMs),
    takeLinks: digests => digests.map(digest => this.#open.takeLinks(digest)),
    objects: digests => this.#open.queries.objects(digests),
    listObjects: (order, after, limit) => this.#open.queries.listObjects(order, after, limit),
    objectsByPrefix: (hex, limit) => this.#open.queries.objectsByPrefix(hex, limit),
    listImages: query => this.#open.images.list(query),
    imagesOf: place => this.#open.images.ofPlace(place),
    settleImages: () => this.#open.settleImages(),
    shelf: query => this.#open.shelves.page(query),
    isThere: () => existsSync(this.#path),
    startOver: () => this.startOver(),
    close: end => {
      this.#catalogue?.close(end)
      this.#catalogue = undefined
      return undefined
    },
  }

  /** Deletes the file in any state and starts a new one. */
  startOver(): void {
    try {
      this.#catalogue?.close({ isStale: true })
    } catch {
      // Closing a damaged file may fail; it is deleted next.
    }
    this.#catalogue = undefined
    removeFiles(this.#path)
    this.#catalogue = new Catalogue(this.#path)
    this.#catalogue.configure(this.#namespaces)
  }

  get #open(): Catalogue {
    if (this.#catalogue === undefined) throw new Error('the index is not open')
    return this.#catalogue
  }
}

function openOrDrop(path: string): { readonly catalogue: Catalogue; readonly wasDamaged: boolean } {
  // SQLite would replay a log left without its file into the next file of this name.
  if (!existsSync(path)) removeFiles(path)
  try {
    return { catalogue: new Catalogue(path), wasDamaged: false }
  } catch (error) {
    if (failureOf(error) === 'locked') throw error
    removeFiles(path)
    return { catalogue: new Catalogue(path), wasDamaged: !(error instanceof OtherVersionError) }
  }
}

function removeFiles(path: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { recursive: true, force: true })
}

function failureOf(error: unknown): 'locked' | 'lost' | 'failed' {
  const code = Number((error as { readonly errcode?: unknown } | null)?.errcode ?? 0) & 0xff
  if (code === SQLITE_BUSY || code === SQLITE_LOCKED) return 'locked'
  return LOST.has(code) ? 'lost' : 'failed'
}

const host = new Host()

parentPort?.on('message', ({ id, name, args }: CatalogueQuestion) => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is not a window
  parentPort?.postMessage(answer(id, name, args))
})

function answer(id: number, name: CatalogueQuestion['name'], args: readonly unknown[]): CatalogueAnswer {
  try {
    const call = host.calls[name] as (...given: readonly unknown[]) => unknown
    return { id, kind: 'value', value: call(...args) }
  } catch (error) {
    const failure = failureOf(error)
    if (failure === 'lost' && name !== 'open' && name !== 'close') {
      try {
        host.startOver()
      } catch {
        // The disk has failed: every call fails until it recovers.
      }
    }
    return { id, kind: failure, message: error instanceof Error ? error.message : String(error) }
  }
}
