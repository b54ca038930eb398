import type {
  Answer,
  Answering,
  Asked,
  Head,
  Listing,
  ReferrersPage,
  ReferrersQuestion,
} from '../content/answering.ts'
import type {
  Hosting,
  IncomingBytes,
  IncomingManifest,
  MountRequest,
  PartOutcome,
  PublishedManifest,
  UploadPart,
  UploadState,
} from '../content/hosting.ts'
import type { Digest, DigestAlgorithm } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { matchesName, type NamePattern } from '../oci/name-pattern.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'
import type { TagsPage, TagsPageRequest } from '../oci/tags-page.ts'
import type { UploadId } from '../oci/upload-id.ts'
import type { Hosted } from './hosted.ts'

/** Names that are hosted, and the registry for repositories that never had a push, if there is one. */
interface NameClaim {
  readonly names: NamePattern
  readonly fallback: Namespace | undefined
}

/** The claim that a repository falls to: the one with the longest pattern; `undefined` if it is mirrored. */
function claimOf(claims: readonly NameClaim[], place: Place): NameClaim | undefined {
  let best: NameClaim | undefined
  for (const claim of claims) {
    const isLonger = best === undefined || claim.names.text.length > best.names.text.length
    if (isLonger && matchesName(claim.names, place)) best = claim
  }
  return best
}

/** How a claim decides about an image. */
export interface ClaimVerdict {
  /** The pattern of the claim. */
  readonly names: string
  readonly fallback: Namespace | undefined
  /** Shorter patterns that match too. */
  readonly others: readonly string[]
  /** True if only what was pushed is served. */
  readonly isClosed: boolean
  /** True if the image was pushed here. */
  readonly isHere: boolean
}

export interface ClaimedParts {
  readonly hosted: Hosted
  readonly mirror: Answering
  readonly claims: () => readonly NameClaim[]
}

/**
 * Decides for each request whether its repository is hosted or mirrored. A claimed name is closed: the mirror
 * never learns of it, whether it exists here or not. Only where the operator names a fallback, a repository
 * that never had a push is mirrored from there.
 */
export class Claimed implements Answering, Hosting {
  readonly #parts: ClaimedParts

  constructor(parts: ClaimedParts) {
    this.#parts = parts
  }

  async pullManifest(asked: Asked, reference: Reference): Promise<Answer> {
    const { from, as } = await this.#source(asked)
    return await from.pullManifest(as, reference)
  }

  async headManifest(asked: Asked, reference: Reference): Promise<Head> {
    const { from, as } = await this.#source(asked)
    return await from.headManifest(as, reference)
  }

  async pullBlob(asked: Asked, digest: Digest): Promise<Answer> {
    const { from, as } = await this.#source(asked)
    return await from.pullBlob(as, digest)
  }

  /** A client that may push asks whether it has to upload the blob: only what is hosted counts for that. */
  async headBlob(asked: Asked, digest: Digest): Promise<Head> {
    const isPushing = asked.mayPush && this.#claimOf(asked) !== undefined
    const { from, as } = isPushing ? { from: this.#parts.hosted, as: asked } : await this.#source(asked)
    return await from.headBlob(as, digest)
  }

  async listTags(asked: Asked, page: TagsPageRequest): Promise<Listing<TagsPage>> {
    const { from, as } = await this.#source(asked)
    return await from.listTags(as, page)
  }

  async referrers(asked: Asked, question: ReferrersQuestion): Promise<Listing<ReferrersPage>> {
    const { from, as } = await this.#source(asked)
    return await from.referrers(as, question)
  }

  /** The claim that a name falls to, and what that means for a pull; `undefined` for a mirrored name. */
  async verdictOn(place: Place, reference: Reference): Promise<ClaimVerdict | undefined> {
    const { hosted, claims } = this.#parts
    const claim = this.#claimOf(place)
    if (claim === undefined) return undefined
    const others = claims().filter(other => other !== claim && matchesName(other.names, place))
    const isClosed = claim.fallback === undefined || (await hosted.shelf.knows(place))
    return {
      names: claim.names.text,
      fallback: claim.fallback,
      others: others.map(({ names }) => names.text),
      isClosed,
      isHere: isClosed && (await hosted.has(place, reference)),
    }
  }

  /**
   * True if the mirror answers for the repository: no claim covers it, or one that falls back to its registry
   * covers it and it never had a push.
   */
  async isMirrored(place: Place): Promise<boolean> {
    const claim = this.#claimOf(place)
    if (claim === undefined) return true
    return claim.fallback === place.namespace && !(await this.#parts.hosted.shelf.knows(place))
  }

  /** True if the repository falls to a claim. */
  isClaimed(place: Place): boolean {
    return this.#claimOf(place) !== undefined
  }

  requireHosted(place: Place): void {
    if (this.#claimOf(place) !== undefined) return
    // Anybody may get here, so it must not say which names are hosted.
    throw new OciError(
      'UNSUPPORTED',
      `${place.namespace}/${place.repository} is only mirrored here: no claim of hosted names covers it`,
    )
  }

  async beginUpload(asked: Asked, algorithm: DigestAlgorithm | undefined): Promise<UploadState> {
    return await this.#hosted(asked).beginUpload(asked, algorithm)
  }

  async uploadState(asked: Asked, id: UploadId): Promise<UploadState> {
    return await this.#hosted(asked).uploadState(asked, id)
  }

  async appendUpload(asked: Asked, id: UploadId, part: UploadPart): Promise<PartOutcome> {
    return await this.#hosted(asked).appendUpload(asked, id, part)
  }

  async finishUpload(
    asked: Asked,
    upload: { readonly id: UploadId; readonly digest: Digest },
    part: UploadPart,
  ): Promise<PartOutcome | undefined> {
    return await this.#hosted(asked).finishUpload(asked, upload, part)
  }

  async cancelUpload(asked: Asked, id: UploadId): Promise<void> {
    await this.#hosted(asked).cancelUpload(asked, id)
  }

  async pushBlob(asked: Asked, digest: Digest, bytes: IncomingBytes): Promise<void> {
    await this.#hosted(asked).pushBlob(asked, digest, bytes)
  }

  async mountBlob(asked: Asked, request: MountRequest): Promise<boolean> {
    return await this.#hosted(asked).mountBlob(asked, request)
  }

  async pushManifest(asked: Asked, manifest: IncomingManifest): Promise<PublishedManifest> {
    return await this.#hosted(asked).pushManifest(asked, manifest)
  }

  async deleteManifest(asked: Asked, reference: Reference): Promise<void> {
    await this.#hosted(asked).deleteManifest(asked, reference)
  }

  async deleteBlob(asked: Asked, digest: Digest): Promise<void> {
    await this.#hosted(asked).deleteBlob(asked, digest)
  }

  #claimOf(place: Place): NameClaim | undefined {
    return claimOf(this.#parts.claims(), place)
  }

  #hosted(place: Place): Hosted {
    this.requireHosted(place)
    return this.#parts.hosted
  }

  /** What answers a pull, and the repository that it is asked for. */
  async #source(asked: Asked): Promise<{ readonly from: Answering; readonly as: Asked }> {
    const { hosted, mirror } = this.#parts
    const claim = this.#claimOf(asked)
    if (claim === undefined) return { from: mirror, as: asked }
    const { fallback } = claim
    if (fallback === undefined || (await hosted.shelf.knows(asked))) return { from: hosted, as: asked }
    return { from: mirror, as: { ...asked, namespace: fallback } }
  }
}
