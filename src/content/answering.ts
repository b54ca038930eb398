import type { Content, Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'
import type { TagsPage, TagsPageRequest } from '../oci/tags-page.ts'
import type { Repeatable } from './epoch.ts'

/** An answer with bytes. The receiver disposes of its content. */
export interface Answer {
  readonly content: Content
  readonly outcome: Outcome
  /** Set if the answer may be given again without asking the mirror. */
  readonly repeatable?: Repeatable | undefined
}

/** Answer to a HEAD: an answer without its bytes. */
export interface Head {
  readonly digest: Digest
  readonly mediaType: string
  readonly sizeBytes: number | undefined
  readonly outcome: Outcome
  readonly repeatable?: Repeatable | undefined
}

/** A listing and the source it came from. */
export interface Listing<T> {
  readonly value: T
  readonly outcome: Outcome
}

/** The repository that a request is about, and the origin of the request. */
export interface Asked extends Place {
  /** Mirrors that have already forwarded the request. */
  readonly trail: readonly string[]
  /** Address of the client, for the limits per client. */
  readonly client?: string | undefined
  /**
   * True if the client wants the upstream's current state (`Cache-Control: no-cache`). Obeyed within bounds.
   */
  readonly wantsFresh?: boolean
  /** Name of the identity that sent the request, for the history of tags and for logs. */
  readonly actor: string
  /** True if that identity may push to this place. */
  readonly mayPush: boolean
}

/**
 * Answers requests for manifests and blobs: the mirror itself, or the mirror as seen from another thread. An
 * `OciError` is a refusal (DENIED where policy forbids the namespace). An `UpstreamError` is an upstream
 * failure that no cached copy could hide. Any other error is a fault of this program.
 */
export interface ContentAnswering {
  pullManifest(asked: Asked, reference: Reference): Promise<Answer>
  headManifest(asked: Asked, reference: Reference): Promise<Head>
  pullBlob(asked: Asked, digest: Digest): Promise<Answer>
  headBlob(asked: Asked, digest: Digest): Promise<Head>
}

/** A question for the manifests that refer to one. */
export interface ReferrersQuestion {
  readonly digest: Digest
  /** The only type that is wanted; all types if it is `undefined`. */
  readonly artifactType: string | undefined
  /** The last one that was looked at for the page before this one. */
  readonly last: Digest | undefined
}

/** A part of the referrers, as an index. */
export interface ReferrersPage {
  readonly index: Uint8Array
  /** The `last` of the next page; `undefined` if there is none. */
  readonly next: Digest | undefined
}

/** Answers all requests about a repository; errors as above. */
export interface Answering extends ContentAnswering {
  listTags(asked: Asked, page: TagsPageRequest): Promise<Listing<TagsPage>>
  referrers(asked: Asked, question: ReferrersQuestion): Promise<Listing<ReferrersPage>>
}
