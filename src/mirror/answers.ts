import type {
  Answer,
  Answering,
  Asked,
  Head,
  Listing,
  ReferrersPage,
  ReferrersQuestion,
} from '../content/answering.ts'
import type { Digest } from '../oci/digest.ts'
import type { Reference } from '../oci/reference.ts'
import type { TagsPage, TagsPageRequest } from '../oci/tags-page.ts'
import type { Mirror } from './mirror.ts'
import { type Directory, type Source, sourceAt } from './sources.ts'

export interface AnswersParts {
  readonly mirror: Mirror
  /** The current directory; a reload replaces it. */
  readonly directory: () => Directory
}

/** Answers requests by name: resolves the source of each one and asks the mirror. */
export class Answers implements Answering {
  readonly #parts: AnswersParts

  constructor(parts: AnswersParts) {
    this.#parts = parts
  }

  async pullManifest(asked: Asked, reference: Reference): Promise<Answer> {
    return await this.#parts.mirror.pullManifest(this.#source(asked), reference, asked)
  }

  async headManifest(asked: Asked, reference: Reference): Promise<Head> {
    return await this.#parts.mirror.headManifest(this.#source(asked), reference, asked)
  }

  async pullBlob(asked: Asked, digest: Digest): Promise<Answer> {
    return await this.#parts.mirror.pullBlob(this.#source(asked), digest)
  }

  async headBlob(asked: Asked, digest: Digest): Promise<Head> {
    return await this.#parts.mirror.headBlob(this.#source(asked), digest)
  }

  async listTags(asked: Asked, page: TagsPageRequest): Promise<Listing<TagsPage>> {
    return await this.#parts.mirror.listTags(this.#source(asked), page)
  }

  /** All of them on one page, as the registry has them. */
  async referrers(
    asked: Asked,
    { digest, artifactType }: ReferrersQuestion,
  ): Promise<Listing<ReferrersPage>> {
    const { value, outcome } = await this.#parts.mirror.referrers(this.#source(asked), digest, artifactType)
    return { value: { index: value, next: undefined }, outcome }
  }

  #source({ namespace, repository, trail, client }: Asked): Source {
    const source = sourceAt(this.#parts.directory(), { namespace, repository })
    return { ...source, registry: source.registry.onBehalfOf({ trail, client }), trail }
  }
}
