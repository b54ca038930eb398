import type { Digest } from '../oci/digest.ts'
import type { Omission, PlannedBlob } from './plan.ts'
import type { TargetError } from './target.ts'

export interface MigrationOptions {
  /** True for repositories, by their names in the source, that are wanted. */
  readonly isWanted: (name: string) => boolean
  /** The name of a repository for the clients of the target. */
  readonly targetName: (name: string) => string
  /** True to leave out manifests that no tag leads to. */
  readonly isTaggedOnly: boolean
  /** True to move tags that have another digest in the target. */
  readonly movesTags: boolean
  /** What to do about a refusal, as the end of a sentence; `undefined` if there is no advice. */
  readonly adviceOn: (refusal: TargetError['concerns'], targetName: string) => string | undefined
}

/** Numbers of what was imported of a repository, or would be. */
export interface Tally {
  tags: number
  manifests: number
  blobs: number
  /** Bytes that were sent for its blobs; those that another repository has already are not sent again. */
  sentBytes: number
}

/** What is counted, and what is not imported. */
export interface MoveReport {
  readonly tally: Tally
  readonly omissions: Omission[]
}

/** Blobs that were looked at, in any repository. */
export interface BlobBook {
  /** Why blobs cannot be imported. */
  readonly refused: Map<Digest, string>
  /** Notes that a blob is done, once. */
  done(blob: PlannedBlob): void
}
