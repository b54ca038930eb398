import { atOnce } from '../lib/semaphore.ts'
import type { Digest } from '../oci/digest.ts'
import { type FoundRepository, type MigrationSource, SourceError } from './source.ts'
import { type CacheTarget, TargetError } from './target.ts'
import type { BlobBook, MoveReport } from './terms.ts'

const BLOBS_AT_ONCE = 4

export interface CacheMoveParts {
  readonly source: MigrationSource
  readonly cache: CacheTarget
  readonly book: BlobBook
}

/**
 * Moves one repository into the cache: each manifest, then the blobs of it that are here and not there, then
 * the tags. What is missing here is no loss: the mirror fetches it when it is asked for.
 */
export class CacheMove {
  readonly #parts: CacheMoveParts
  readonly #repository: { readonly name: string; readonly found: FoundRepository }
  readonly #report: MoveReport
  /** Blobs that were looked at. A manifest may name one twice, and a dry run leaves them missing. */
  readonly #seen = new Set<Digest>()

  constructor(
    parts: CacheMoveParts,
    repository: { readonly name: string; readonly found: FoundRepository },
    report: MoveReport,
  ) {
    this.#parts = parts
    this.#repository = repository
    this.#report = report
  }

  async run(): Promise<void> {
    const { found } = this.#repository
    this.#report.omissions.push(...found.troubles.map(why => ({ what: 'manifest', why })))
    for (const digest of found.manifests)
      await this.#orOmit(`manifest ${digest}`, async () => await this.#takeManifest(digest))
    for (const { tag, digest, setAtMs } of found.tags.toSorted((one, other) => one.setAtMs - other.setAtMs))
      await this.#orOmit(`tag ${tag}`, async () => {
        const taken = await this.#send({ reference: tag, digest, confirmedAtMs: setAtMs })
        if (taken.tag === 'set') this.#report.tally.tags += 1
      })
  }

  async #takeManifest(digest: Digest): Promise<void> {
    const { isNew, missing } = await this.#send({ reference: digest, digest })
    if (isNew) this.#report.tally.manifests += 1
    const wanted = missing.filter(({ digest: blob }) => !this.#seen.has(blob))
    const blobs = new Map(wanted.map(blob => [blob.digest, blob]))
    for (const blob of blobs.keys()) this.#seen.add(blob)
    await atOnce([...blobs.values()], BLOBS_AT_ONCE, async blob => {
      await this.#orOmit(`blob ${blob.digest}`, async () => await this.#takeBlob(blob.digest))
      this.#parts.book.done(blob)
    })
  }

  async #takeBlob(digest: Digest): Promise<void> {
    const { source, cache, book } = this.#parts
    if (book.refused.has(digest)) return
    await using file = await source.openBlob(digest)
    if (file === undefined) return
    await cache.takeBlob(this.#repository.name, digest, file)
    this.#report.tally.blobs += 1
    this.#report.tally.sentBytes += file.sizeBytes
  }

  async #send({
    digest,
    ...rest
  }: { readonly digest: Digest } & Omit<Parameters<CacheTarget['takeManifest']>[1], 'bytes'>): ReturnType<
    CacheTarget['takeManifest']
  > {
    const { name, found } = this.#repository
    const bytes = await found.readManifest(digest)
    if (bytes === undefined) throw new SourceError('its manifest is not imported')
    return await this.#parts.cache.takeManifest(name, { ...rest, bytes })
  }

  /** Notes what is damaged or refused, and goes on. */
  async #orOmit(what: string, action: () => Promise<void>): Promise<void> {
    try {
      await action()
    } catch (error) {
      const isOfItem =
        (error instanceof SourceError && !error.isPassing) ||
        (error instanceof TargetError && error.concerns === 'item')
      if (!isOfItem) throw error
      this.#report.omissions.push({ what, why: error.message })
    }
  }
}
