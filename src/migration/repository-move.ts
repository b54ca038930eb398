import { atOnce } from '../lib/semaphore.ts'
import type { Digest } from '../oci/digest.ts'
import type { PlannedBlob, PlannedManifest, RepositoryPlan } from './plan.ts'
import {
  type FoundRepository,
  type FoundTag,
  type MigrationSource,
  SourceError,
  type SourceFile,
} from './source.ts'
import { type MigrationTarget, type MovedManifest, TargetError } from './target.ts'
import type { BlobBook, MigrationOptions, MoveReport } from './terms.ts'

const BLOBS_AT_ONCE = 4
const MANIFESTS_AT_ONCE = 8

export interface MoveParts {
  readonly source: MigrationSource
  readonly target: MigrationTarget
  readonly book: BlobBook
  readonly options: Pick<MigrationOptions, 'movesTags'>
}

export interface MovedRepository {
  /** The name for the clients of the target. */
  readonly name: string
  readonly found: FoundRepository
  readonly plan: RepositoryPlan
}

/**
 * Moves one repository: blobs, then manifests, those that an index names before it, then tags, in the order
 * in which they were set. Throws a {@link TargetError} if the target refuses the repository or cannot be
 * used.
 */
export class RepositoryMove {
  readonly #parts: MoveParts
  readonly #repository: MovedRepository
  readonly #report: MoveReport
  /** Manifests that are not imported. */
  readonly #missing = new Set<Digest>()
  /** Blobs that the target refuses in this repository. */
  readonly #refused = new Map<Digest, string>()
  /**
   * True once the target has anything of the repository. Before that, a repository with a fallback is
   * mirrored, so that what a HEAD finds may be another registry's.
   */
  #isHosted = false

  constructor(parts: MoveParts, repository: MovedRepository, report: MoveReport) {
    this.#parts = parts
    this.#repository = repository
    this.#report = report
  }

  async run(): Promise<void> {
    const { name, plan } = this.#repository
    await this.#parts.target.requirePush(name)
    const blobs = new Map<Digest, PlannedBlob>()
    for (const manifest of plan.levels.flat())
      for (const blob of [...manifest.blobs, ...manifest.foreign]) blobs.set(blob.digest, blob)
    await atOnce([...blobs.values()], BLOBS_AT_ONCE, async blob => await this.#takeBlob(blob))
    for (const level of plan.levels)
      await atOnce(level, MANIFESTS_AT_ONCE, async manifest => await this.#takeManifest(manifest))
    const planned = new Map(plan.levels.flat().map(manifest => [manifest.digest, manifest]))
    for (const tag of plan.tags) await this.#takeTag(tag, planned.get(tag.digest))
  }

  async #takeBlob(blob: PlannedBlob): Promise<void> {
    const { target, book, source } = this.#parts
    const { name } = this.#repository
    const { digest } = blob
    if (book.refused.has(digest)) return
    try {
      if (await target.hasBlob(name, digest)) this.#isHosted = true
      else {
        const open = async (): Promise<SourceFile> => await opened(source, digest)
        const sentBytes = await target.pushBlob(name, { digest, open })
        this.#report.tally.sentBytes += sentBytes
        this.#report.tally.blobs += 1
        this.#isHosted ||= !target.isDry
      }
    } catch (error) {
      if (error instanceof SourceError && !error.isPassing) book.refused.set(digest, error.message)
      else this.#refused.set(digest, refusal(error))
    }
    book.done(blob)
  }

  async #takeManifest(manifest: PlannedManifest): Promise<void> {
    const { target } = this.#parts
    const { name } = this.#repository
    const { digest } = manifest
    const why = this.#whyImpossible(manifest)
    if (why !== undefined) {
      this.#omitManifest(digest, why)
      return
    }
    if (this.#isHosted && (await target.digestOf(name, digest)) === digest) return
    try {
      await target.pushManifest(name, await this.#moved(manifest))
      this.#report.tally.manifests += 1
      this.#isHosted ||= !target.isDry
    } catch (error) {
      this.#omitManifest(digest, refusal(error))
    }
  }

  async #takeTag({ tag, digest }: FoundTag, manifest: PlannedManifest | undefined): Promise<void> {
    const { target, options } = this.#parts
    const { name } = this.#repository
    const omit = (why: string): void => void this.#report.omissions.push({ what: `tag ${tag}`, why })
    if (manifest === undefined || this.#missing.has(digest)) {
      omit(`its manifest ${digest} is not imported`)
      return
    }
    const current = this.#isHosted ? await target.digestOf(name, tag) : undefined
    if (current === digest) return
    if (current !== undefined && !options.movesTags) {
      omit(`it names ${current} there, and ${digest} here: it is not moved without --move-tags`)
      return
    }
    try {
      await target.setTag(name, tag, await this.#moved(manifest))
      this.#report.tally.tags += 1
    } catch (error) {
      omit(refusal(error))
    }
  }

  #whyImpossible({ blobs, children }: PlannedManifest): string | undefined {
    for (const { digest } of blobs) {
      const why = this.#parts.book.refused.get(digest) ?? this.#refused.get(digest)
      if (why !== undefined) return `blob ${digest}: ${why}`
    }
    const child = children.find(digest => this.#missing.has(digest))
    return child === undefined ? undefined : `it names the manifest ${child}, which is not imported`
  }

  #omitManifest(digest: Digest, why: string): void {
    this.#missing.add(digest)
    this.#report.omissions.push({ what: `manifest ${digest}`, why })
  }

  /** It was read and proved for the plan; the target proves it again. */
  async #moved({ digest, mediaType }: PlannedManifest): Promise<MovedManifest> {
    const bytes = await this.#repository.found.readManifest(digest)
    if (bytes === undefined) throw new TargetError('item', 'it was removed meanwhile')
    return { digest, mediaType, bytes }
  }
}

async function opened(source: MigrationSource, digest: Digest): Promise<SourceFile> {
  const file = await source.openBlob(digest)
  if (file === undefined) throw new SourceError('its bytes are missing')
  return file
}

/** The words of a refusal of one item; throws every other error. */
function refusal(error: unknown): string {
  if (error instanceof TargetError && error.concerns === 'item') return error.message
  throw error
}
