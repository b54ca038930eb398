import type { Digest } from '../oci/digest.ts'
import type { UpstreamError } from '../oci/error.ts'
import type { RepositoryName } from '../oci/name.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'
import type { TagsPage, TagsPageRequest } from '../oci/tags-page.ts'
import type {
  Asker,
  BlobBody,
  BlobFrom,
  BlobHead,
  FetchedManifest,
  FetchedReferrers,
  HeadOptions,
  ManifestHead,
  Registries,
  Registry,
} from '../upstream/registry.ts'
import { type Found, Journey } from './asking.ts'
import { contentKeyOf, type OwnedTags, tagKey } from './owned-tags.ts'
import { PeerContent, type PeerContentParts } from './peer-content.ts'
import type { PeerQuestion } from './protocol.ts'
import { isShort, provedAhead } from './proved.ts'

export interface PeerRegistryParts extends PeerContentParts {
  readonly tags: OwnedTags
  /** True if this process knows that the repository may see the digest. */
  readonly isLinked: (place: Place, digest: Digest) => Promise<boolean>
}

/** Registries of which each thing is asked by the replica that owns it. */
export class PeerRegistries implements Registries {
  readonly #parts: PeerRegistryParts
  readonly #registries: Registries

  constructor(parts: PeerRegistryParts, registries: Registries) {
    this.#parts = parts
    this.#registries = registries
  }

  get(namespace: Namespace): Registry {
    return new PeerRegistry(this.#parts, this.#registries.get(namespace))
  }
}

const NOBODY: Asker = { trail: [], client: undefined }

/**
 * A registry behind the replica that owns what is wanted. The owner is asked first; if it does not answer, so
 * is the next one, and then the registry itself. A replica saves work and never costs a pull: whatever goes
 * wrong with it, the registry is asked as if there were none.
 */
class PeerRegistry implements Registry {
  readonly #parts: PeerRegistryParts
  readonly #content: PeerContent
  readonly #registry: Registry
  readonly #asker: Asker
  /** Downloads of this request that began. */
  readonly #journeys = new Map<Digest, Journey>()

  constructor(parts: PeerRegistryParts, registry: Registry, asker: Asker = NOBODY) {
    this.#parts = parts
    this.#content = new PeerContent(parts)
    this.#registry = registry
    this.#asker = asker
  }

  get namespace(): Namespace {
    return this.#registry.namespace
  }

  get hasCredentials(): boolean {
    return this.#registry.hasCredentials
  }

  async identify(): ReturnType<Registry['identify']> {
    return await this.#registry.identify()
  }

  trouble(repository: RepositoryName): UpstreamError | undefined {
    return this.#registry.trouble(repository)
  }

  isRunningLow(): boolean {
    return this.#registry.isRunningLow()
  }

  onBehalfOf(asker: Asker): Registry {
    return new PeerRegistry(this.#parts, this.#registry.onBehalfOf(asker), asker)
  }

  async headManifest(
    repository: RepositoryName,
    reference: Reference,
    signal: AbortSignal,
    options: HeadOptions = {},
  ): Promise<ManifestHead | undefined> {
    const place = { namespace: this.namespace, repository }
    if (reference.kind === 'digest') {
      const { digest } = reference
      const found = await this.#ask({ kind: 'manifest-head', ...place, digest }, signal)
      if (found === undefined)
        return await this.#registry.headManifest(repository, reference, signal, options)
      return headOf(found)
    }
    const { tag } = reference
    const { isFresh = false } = options
    const found = await this.#ask({ kind: 'tag', ...place, tag, isFresh }, signal)
    if (found !== undefined) return headOf(found)
    return await this.#parts.tags.head(this.#registry, place, { tag, isFresh }, this.#asker.trail)
  }

  async getManifest(
    repository: RepositoryName,
    reference: Reference,
    signal: AbortSignal,
  ): Promise<FetchedManifest | undefined> {
    if (reference.kind === 'digest') {
      const { digest } = reference
      const found = await this.#ask(
        { kind: 'manifest', namespace: this.namespace, repository, digest },
        signal,
      )
      if (found?.answer.kind === 'absent') return undefined
      const manifest = found === undefined ? undefined : await this.#content.manifest(found, digest)
      if (manifest !== undefined) return manifest
    }
    return await this.#registry.getManifest(repository, reference, signal)
  }

  async headBlob(
    repository: RepositoryName,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<BlobHead | undefined> {
    const found = await this.#ask(
      { kind: 'blob-head', namespace: this.namespace, repository, digest },
      signal,
    )
    if (found === undefined) return await this.#registry.headBlob(repository, digest, signal)
    return found.answer.kind === 'head' ? { sizeBytes: found.answer.sizeBytes } : undefined
  }

  async getBlob(
    repository: RepositoryName,
    digest: Digest,
    from: BlobFrom,
    signal: AbortSignal,
  ): Promise<BlobBody | undefined> {
    const journey = this.#journeyOf(digest)
    if (!journey.isDirect) {
      const body = await this.#bodyFromPeers(repository, { digest, from, journey }, signal)
      if (body === 'absent') return undefined
      if (body !== undefined) return body
      journey.isDirect = true
    }
    return await this.#registry.getBlob(repository, digest, from, signal)
  }

  async listTags(
    repository: RepositoryName,
    page: TagsPageRequest,
    signal: AbortSignal,
  ): Promise<TagsPage | undefined> {
    return await this.#registry.listTags(repository, page, signal)
  }

  async getReferrers(
    repository: RepositoryName,
    digest: Digest,
    artifactType: string | undefined,
    signal: AbortSignal,
  ): Promise<FetchedReferrers | undefined> {
    return await this.#registry.getReferrers(repository, digest, artifactType, signal)
  }

  #journeyOf(digest: Digest): Journey {
    const known = this.#journeys.get(digest) ?? new Journey()
    this.#journeys.set(digest, known)
    return known
  }

  async #ask(question: PeerQuestion, signal: AbortSignal, journey?: Journey): Promise<Found | undefined> {
    const { trail, client } = this.#asker
    using _ = this.#parts.following.begin(keyOfQuestion(question))
    // Without credentials that can be read, the registry's answer to another replica says nothing about ours.
    const identity = await this.#registry.identify()
    if (identity === undefined) return undefined
    const options = {
      signal,
      trail,
      sharesLimits: identity.isUser,
      ...(journey === undefined ? {} : { journey }),
    }
    const asked = 'repository' in question ? { ...question, client, registry: identity.text } : question
    return await this.#parts.asking.ask(keyOfQuestion(question), asked, options)
  }

  async #bodyFromPeers(
    repository: RepositoryName,
    {
      digest,
      from,
      journey,
    }: { readonly digest: Digest; readonly from: BlobFrom; readonly journey: Journey },
    signal: AbortSignal,
  ): Promise<BlobBody | 'absent' | undefined> {
    const { isLinked } = this.#parts
    const place = { namespace: this.namespace, repository }
    const isKnown = await isLinked(place, digest)
    const question = { kind: 'blob', ...place, digest, from: from.offset, isLinked: isKnown } as const
    for (;;) {
      const found = await this.#ask(question, signal, journey)
      if (found === undefined) return undefined
      // In the middle of a blob this is a contradiction, which the registry decides.
      if (found.answer.kind === 'absent') return from.offset === 0 ? 'absent' : undefined
      const body = this.#content.open(found, question, signal)
      if (body === undefined) continue
      const usable = isShort(body) ? await provedAhead(body, digest) : body
      if (usable !== undefined) return usable
    }
  }
}

/** The key by which members own what a question is about. */
function keyOfQuestion(question: PeerQuestion): string {
  if (question.kind === 'tag') return tagKey(question, question.tag)
  return 'digest' in question ? contentKeyOf(question.namespace, question.digest) : ''
}

function headOf({ answer }: Found): ManifestHead | undefined {
  if (answer.kind !== 'head') return undefined
  const { digest, mediaType, sizeBytes, ageMs } = answer
  return { digest, mediaType, sizeBytes, ageMs }
}
