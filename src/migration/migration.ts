import type { Digest } from '../oci/digest.ts'
import { parseImageName } from '../oci/image-name.ts'
import { parseRepositoryName } from '../oci/name.ts'
import { CacheMove } from './cache-move.ts'
import { type Omission, planRepository } from './plan.ts'
import { RepositoryMove } from './repository-move.ts'
import type { FoundRepository, MigrationSource } from './source.ts'
import { type CacheTarget, type MigrationTarget, TargetError } from './target.ts'
import type { BlobBook, MigrationOptions, MoveReport, Tally } from './terms.ts'

/** Receives what happens, for people. */
export interface MigrationWitness {
  /** A repository begins. */
  began(name: string): void
  /** Bytes of blobs that are sent, there already, or given up. */
  progressed(doneBytes: number): void
  /** A repository is done, with everything of it that is not imported. */
  ended(name: string, tally: Tally, omissions: readonly Omission[]): void
}

/** What a source has. */
export interface Survey {
  repositories: number
  /** Each blob once. */
  bytes: number
}

/** Where content comes from, and where it goes. */
interface MigrationEnds {
  readonly source: MigrationSource
  readonly target: MigrationTarget
  /** Where the content of a cache goes, unless its name is hosted in the target. */
  readonly cache: CacheTarget
}

/**
 * Takes everything that another registry has into a target, repository by repository. What is there already
 * is skipped, so a run that was cut off is simply run again.
 */
export class Migration {
  readonly #ends: MigrationEnds
  readonly #options: MigrationOptions
  readonly #witness: MigrationWitness
  readonly #book: BlobBook

  constructor(ends: MigrationEnds, options: MigrationOptions, witness: MigrationWitness) {
    this.#ends = ends
    this.#options = options
    this.#witness = witness
    this.#book = blobBook(witness)
  }

  /** Counts what there is to do. */
  async survey(): Promise<Survey> {
    const survey = { repositories: 0, bytes: 0 }
    const seen = new Set<Digest>()
    for await (const found of this.#ends.source.repositories()) {
      if ('kind' in found || !this.#options.isWanted(found.name)) continue
      survey.repositories += 1
      const { levels } = await planRepository(found, this.#options)
      for (const { digest, sizeBytes } of levels
        .flat()
        .flatMap(({ blobs, foreign }) => [...blobs, ...foreign])) {
        if (seen.has(digest)) continue
        seen.add(digest)
        survey.bytes += sizeBytes
      }
    }
    return survey
  }

  /** Imports everything. Throws a {@link TargetError} if the target cannot be used any more. */
  async run(): Promise<void> {
    for await (const found of this.#ends.source.repositories()) {
      if ('kind' in found) this.#witness.ended(found.path, emptyTally(), [{ what: '', why: found.why }])
      else if (this.#options.isWanted(found.name)) await this.#take(found)
    }
  }

  async #take(found: FoundRepository): Promise<void> {
    const name = this.#options.targetName(found.name)
    this.#witness.began(name)
    const tally = emptyTally()
    const omissions: Omission[] = []
    try {
      await this.#move({ name, found }, { tally, omissions })
    } catch (error) {
      if (!(error instanceof TargetError) || error.concerns === 'all') throw error
      const advice = this.#options.adviceOn(error.concerns, name)
      omissions.push({ what: '', why: advice === undefined ? error.message : `${error.message}; ${advice}` })
    }
    this.#witness.ended(name, tally, omissions)
  }

  async #move(
    { name, found }: { readonly name: string; readonly found: FoundRepository },
    report: MoveReport,
  ): Promise<void> {
    const { source, cache } = this.#ends
    const isName = source.isCache ? parseImageName(found.name)?.host : parseRepositoryName(found.name)
    if (isName === undefined) throw new TargetError('item', 'it is not the name of a repository')
    if (source.isCache && (await cache.isMirrored(name))) {
      await new CacheMove({ source, cache, book: this.#book }, { name, found }, report).run()
      return
    }
    const plan = await planRepository(found, this.#options)
    report.omissions.push(...plan.omissions)
    const parts = { ...this.#ends, book: this.#book, options: this.#options }
    if (plan.levels.length > 0) await new RepositoryMove(parts, { name, found, plan }, report).run()
  }
}

function emptyTally(): Tally {
  return { tags: 0, manifests: 0, blobs: 0, sentBytes: 0 }
}

function blobBook(witness: MigrationWitness): BlobBook {
  const seen = new Set<Digest>()
  let doneBytes = 0
  return {
    refused: new Map(),
    done: ({ digest, sizeBytes }) => {
      if (seen.has(digest)) return
      seen.add(digest)
      doneBytes += sizeBytes
      witness.progressed(doneBytes)
    },
  }
}
