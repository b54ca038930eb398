import { Worker } from 'node:worker_threads'
import type { Digest } from '../../oci/digest.ts'
import type { CatalogueState } from './catalogue.ts'
import type { DigestSlice, ObjectOrder } from './catalogue-queries.ts'
import type {
  CandidateQuery,
  CandidateSlice,
  Change,
  ImageEntry,
  ImagePage,
  ImageQuery,
  ObjectEntry,
  ObjectPage,
  PlaceName,
  ShareSlice,
  ShelfPage,
  ShelfQuery,
  Totals,
} from './change.ts'

/** Calls to the thread that owns the catalogue; {@link Catalogue} describes them. */
export interface CatalogueCalls {
  open(path: string): CatalogueState
  configure(namespaces: readonly string[]): void
  apply(changes: readonly Change[]): Totals
  beginWalk(): void
  unseen(after: number, limit: number): DigestSlice
  unread(after: number, limit: number): DigestSlice
  manifests(after: number, limit: number): DigestSlice
  markNamed(digests: readonly Digest[]): void
  clearNamed(): void
  deadLinks(after: Digest | undefined, limit: number): readonly Digest[]
  countLinks(): number
  shares(after: Digest | undefined, limit: number): ShareSlice
  candidates(query: CandidateQuery): CandidateSlice
  pullBack(nowMs: number): void
  takeLinks(digests: readonly Digest[]): readonly (readonly PlaceName[])[]
  objects(digests: readonly Digest[]): readonly ObjectEntry[]
  listObjects(order: ObjectOrder, after: string | undefined, limit: number): ObjectPage
  objectsByPrefix(hex: string, limit: number): readonly ObjectEntry[]
  listImages(query: ImageQuery): ImagePage
  imagesOf(place: PlaceName): readonly ImageEntry[]
  shelf(query: ShelfQuery): ShelfPage
  /** Repositories of which a tag is cached. */
  cachedPlaces(): readonly PlaceName[]
  /** Brings what is known of images up to date at the end of a walk. */
  settleImages(): void
  /** True if the file still has its name. */
  isThere(): boolean
  startOver(): void
  close(end: { readonly isStale: boolean }): void
}

export interface CatalogueQuestion {
  readonly id: number
  readonly name: keyof CatalogueCalls
  readonly args: readonly unknown[]
}

export type CatalogueAnswer =
  | { readonly id: number; readonly kind: 'value'; readonly value: unknown }
  | { readonly id: number; readonly kind: 'locked' | 'lost' | 'failed'; readonly message: string }

/**
 * The catalogue did not answer. `locked`: another process uses it. `lost`: it was damaged and has been
 * replaced by an empty one. `failed`: any other error, such as a full disk; the call had no effect.
 */
export class CatalogueError extends Error {
  readonly kind: 'locked' | 'lost' | 'failed'

  constructor(kind: CatalogueError['kind'], message: string) {
    super(message)
    this.name = 'CatalogueError'
    this.kind = kind
  }
}

/** The thread that owns the catalogue. It answers calls in their order. */
export class CatalogueClient implements AsyncDisposable {
  readonly #worker: Worker
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  #lastId = 0
  #end: CatalogueError | undefined

  constructor() {
    // Node 24 still announces the module as experimental. The parts used here have not changed since.
    this.#worker = new Worker(threadFile(), {
      execArgv: ['--disable-warning=ExperimentalWarning'],
    })
    this.#worker.on('message', (answer: CatalogueAnswer) => this.#settle(answer))
    this.#worker.on('error', error => this.#fail(String(error)))
    this.#worker.on('exit', () => this.#fail('the index thread has ended'))
  }

  /** True if the thread has ended. */
  get isEnded(): boolean {
    return this.#end !== undefined
  }

  /** Calls the catalogue. Rejects with a {@link CatalogueError}. */
  async call<Name extends keyof CatalogueCalls>(
    name: Name,
    ...args: Parameters<CatalogueCalls[Name]>
  ): Promise<ReturnType<CatalogueCalls[Name]>> {
    if (this.#end !== undefined) throw this.#end
    this.#lastId += 1
    const waiting = Promise.withResolvers<unknown>()
    this.#waiting.set(this.#lastId, waiting)
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is not a window
    this.#worker.postMessage({ id: this.#lastId, name, args } satisfies CatalogueQuestion)
    return (await waiting.promise) as ReturnType<CatalogueCalls[Name]>
  }

  /** Ends the thread. Close the catalogue first, or it counts as stale. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate()
  }

  #settle(answer: CatalogueAnswer): void {
    const waiting = this.#waiting.get(answer.id)
    this.#waiting.delete(answer.id)
    if (answer.kind === 'value') waiting?.resolve(answer.value)
    else waiting?.reject(new CatalogueError(answer.kind, answer.message))
  }

  #fail(message: string): void {
    this.#end ??= new CatalogueError('failed', message)
    for (const waiting of this.#waiting.values()) waiting.reject(this.#end)
    this.#waiting.clear()
  }
}

/** The thread's file, which the build compiles along with this one. */
function threadFile(): URL {
  const source = new URL('./catalogue-thread.ts', import.meta.url)
  return new URL(source.href.replace(/ts$/, import.meta.url.slice(-2)))
}
