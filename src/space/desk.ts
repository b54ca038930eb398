import { type CatalogueCalls, CatalogueError } from '../content/index/catalogue-client.ts'
import type { ObjectOrder } from '../content/index/catalogue-queries.ts'
import type {
  ImageEntry,
  ImagePage,
  ImageQuery,
  ObjectEntry,
  ObjectPage,
  PlaceName,
  Share,
  ShelfPage,
  ShelfQuery,
} from '../content/index/change.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Evicted } from './evictor.ts'
import type { Space } from './space.ts'
import type { SpaceStatus } from './space-terms.ts'

/** Time between two sums of the shares, as a multiple of what one takes: with a million links, seconds. */
const SHARES_PAUSE = 50
/** Links that one call to the index reads. */
const SHARES_SLICE = 5000

const UNANSWERED = {
  locked:
    'another process uses this cache directory and has its index: ask the admin listener of that process',
  lost: 'the index was damaged and is being rebuilt from the store: try again in a moment',
  failed: 'the index of the cache cannot be read: see the log of the mirror',
} as const satisfies Record<CatalogueError['kind'], string>

/**
 * Answers an operator's queries about the cache. Each answer includes everything that happened before it.
 * Rejects with an {@link OciError} that says why if the index cannot be queried.
 */
export class Desk {
  readonly #space: Space
  #shares: { readonly untilMs: number; readonly sums: ReadonlyMap<string, Share> } | undefined

  constructor(space: Space) {
    this.#space = space
  }

  /** False while the index is being rebuilt from the store: lists lack content then. */
  get isComplete(): boolean {
    return this.#space.index.isComplete
  }

  async status(): Promise<SpaceStatus & { readonly links: number | undefined }> {
    const { index } = this.#space
    if (!this.#space.isAsleep) await index.open()
    await index.flush()
    const links = index.state === 'open' ? await this.#ask('countLinks') : undefined
    return { ...this.#space.status, links }
  }

  /**
   * Bytes that each registry may see, whichever is charged for them. They are summed up anew only if that
   * takes little of the time. Empty if the index cannot be queried.
   */
  async shares(): Promise<ReadonlyMap<string, Share>> {
    if (this.#space.isAsleep) return new Map()
    const nowMs = performance.now()
    if (this.#shares === undefined || nowMs >= this.#shares.untilMs) {
      try {
        const sums = await this.#sumShares()
        const endedAtMs = performance.now()
        this.#shares = { untilMs: endedAtMs + (endedAtMs - nowMs) * SHARES_PAUSE, sums }
      } catch (error) {
        if (!(error instanceof OciError)) throw error
      }
    }
    return this.#shares?.sums ?? new Map()
  }

  async #sumShares(): Promise<ReadonlyMap<string, Share>> {
    const sums = new Map<string, Share>()
    let after: Digest | undefined
    do {
      const slice = await this.#ask('shares', after, SHARES_SLICE)
      for (const [name, { bytes, sharedBytes }] of slice.sums) {
        const sum = sums.get(name) ?? { bytes: 0, sharedBytes: 0 }
        sums.set(name, { bytes: sum.bytes + bytes, sharedBytes: sum.sharedBytes + sharedBytes })
      }
      after = slice.next
    } while (after !== undefined)
    return sums
  }

  async listImages(query: ImageQuery): Promise<ImagePage> {
    return await this.#ask('listImages', query)
  }

  /** A page of images for people; see {@link ShelfQuery}. */
  async shelf(query: ShelfQuery): Promise<ShelfPage> {
    return await this.#ask('shelf', query)
  }

  async listObjects(order: ObjectOrder, after: string | undefined, limit: number): Promise<ObjectPage> {
    return await this.#ask('listObjects', order, after, limit)
  }

  async objects(digests: readonly Digest[]): Promise<readonly ObjectEntry[]> {
    return await this.#ask('objects', digests)
  }

  /** Objects whose digest begins with these hexadecimal digits, at most `limit`. */
  async objectsByPrefix(hex: string, limit: number): Promise<readonly ObjectEntry[]> {
    return await this.#ask('objectsByPrefix', hex, limit)
  }

  /** The images of one repository. */
  async imagesOf({ namespace, repository }: PlaceName): Promise<readonly ImageEntry[]> {
    return await this.#ask('imagesOf', { namespace, repository })
  }

  /** What {@link evict} would evict. */
  async plan(bytes: number | undefined): Promise<Evicted> {
    return await this.#space.plan(bytes)
  }

  async evict(bytes: number | undefined): Promise<Evicted> {
    // Asks first: without the index there would be nothing to evict, which is not an answer.
    await this.#ask('isThere')
    return await told(async () => await this.#space.evict(bytes))
  }

  async #ask<Name extends keyof CatalogueCalls>(
    name: Name,
    ...args: Parameters<CatalogueCalls[Name]>
  ): Promise<ReturnType<CatalogueCalls[Name]>> {
    const { index } = this.#space
    await index.open()
    return await told(async () => await index.ask(name, ...args))
  }
}

/** Says why the index cannot be queried. */
async function told<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask()
  } catch (error) {
    if (!(error instanceof CatalogueError)) throw error
    throw new OciError('UNAVAILABLE', UNANSWERED[error.kind], { cause: error })
  }
}
