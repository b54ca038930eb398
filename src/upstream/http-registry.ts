import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import { type Digest, matchesDigest, parseDigest } from '../oci/digest.ts'
import type { UpstreamError } from '../oci/error.ts'
import { MANIFEST_SIZE_MAX } from '../oci/manifest.ts'
import { essenceOf, isManifestType, MANIFEST_ACCEPT, OCI_INDEX } from '../oci/media-type.ts'
import type { RepositoryName } from '../oci/name.ts'
import type { Namespace } from '../oci/namespace.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import type { TagsPage, TagsPageRequest } from '../oci/tags-page.ts'
import { headerOf, headersOf, lengthOf, readWhole, type UpstreamAnswer } from './answer.ts'
import { blobExtentOf, UpstreamBlob } from './blob-body.ts'
import { isSameOrigin } from './dial/target.ts'
import { blobOfGzip, gunzipWithin, isGzipped } from './encoding.ts'
import { Asking, type AskingParts, type Question } from './manners/asking.ts'
import type { PaceLimits } from './paced-body.ts'
import { nextPage, parseTags, tagsQuery } from './pages.ts'
import {
  type Asker,
  type BlobBody,
  type BlobFrom,
  type BlobHead,
  type FetchedManifest,
  type FetchedReferrers,
  type HeadOptions,
  type ManifestHead,
  OURSELVES,
  type Registry,
} from './registry.ts'

export interface HttpRegistryParts extends AskingParts {
  readonly hasCredentials: boolean
  readonly identify: Registry['identify']
  readonly paceLimits: PaceLimits
  readonly clock: Clock
  readonly events: Events
}

const TAGS_SIZE_MAX = 4 * 1024 * 1024

/** An upstream that speaks the OCI distribution specification over HTTP. */
export class HttpRegistry implements Registry {
  readonly #parts: HttpRegistryParts
  readonly #asking: Asking
  readonly #asker: Asker

  constructor(parts: HttpRegistryParts, asking: Asking = new Asking(parts), asker: Asker = OURSELVES) {
    this.#parts = parts
    this.#asking = asking
    this.#asker = asker
  }

  get namespace(): Namespace {
    return this.#parts.namespace
  }

  get hasCredentials(): boolean {
    return this.#parts.hasCredentials
  }

  async identify(): ReturnType<Registry['identify']> {
    return await this.#parts.identify()
  }

  trouble(repository: RepositoryName): UpstreamError | undefined {
    return this.#asking.trouble(repository)
  }

  isRunningLow(): boolean {
    return this.#asking.isRunningLow
  }

  onBehalfOf(asker: Asker): HttpRegistry {
    return new HttpRegistry(this.#parts, this.#asking, asker)
  }

  async headManifest(
    repository: RepositoryName,
    reference: Reference,
    signal: AbortSignal,
    options: HeadOptions = {},
  ): Promise<ManifestHead | undefined> {
    const { isFresh = false } = options
    const question = manifestQuestion(repository, reference)
    const accepts = ({ status }: UpstreamAnswer): boolean => status === 405 || status === 501
    return await this.#asking.ask(
      { ...question, asker: this.#asker, verb: 'head-manifest', method: 'HEAD', isFresh, accepts },
      signal,
      answer => this.#manifestHead(repository, answer),
    )
  }

  async getManifest(
    repository: RepositoryName,
    reference: Reference,
    signal: AbortSignal,
  ): Promise<FetchedManifest | undefined> {
    const question = { ...manifestQuestion(repository, reference), asker: this.#asker }
    return await this.#asking.ask(question, signal, async answer => {
      const claimed = parseDigest(headerOf(answer.headers, 'docker-content-digest') ?? '')
      const wanted = reference.kind === 'digest' ? reference.digest : claimed
      const { events, namespace } = this.#parts
      const onBytes = (count: number): void => events.upstreamReceived(namespace, 'manifest', count)
      const bytes = await this.#readContent(answer, MANIFEST_SIZE_MAX, { digest: wanted, onBytes })
      const isTrue = claimed === undefined || matchesDigest(bytes, claimed)
      if (!isTrue) this.#noteMisstated(repository)
      return {
        bytes,
        contentType: headerOf(answer.headers, 'content-type'),
        claimedDigest: isTrue ? claimed : undefined,
      }
    })
  }

  /**
   * A generic type tells nothing: the manifest itself does. Neither does a digest of a repository whose
   * digests were wrong, and the length of a packed body.
   */
  #manifestHead(repository: RepositoryName, { status, headers }: UpstreamAnswer): ManifestHead {
    const digest = parseDigest(headerOf(headers, 'docker-content-digest') ?? '')
    const mediaType = headerOf(headers, 'content-type')
    return {
      digest: this.#asking.misstated.has(repository) ? undefined : digest,
      mediaType: status === 200 && isManifestType(mediaType) ? mediaType : undefined,
      sizeBytes: status === 200 && !isGzipped(headers) ? lengthOf(headers) : undefined,
    }
  }

  #noteMisstated(repository: RepositoryName): void {
    const { events, namespace } = this.#parts
    this.#asking.misstated.note(repository)
    const what = 'the upstream states another digest than its manifest has; the digest of the bytes counts'
    events.warned(what, { namespace, repository })
  }

  async headBlob(
    repository: RepositoryName,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<BlobHead | undefined> {
    // A URL that was presigned for GET is refused for HEAD. The registry only gives one for a blob it has.
    const accepts = (answer: UpstreamAnswer): boolean =>
      (answer.status === 403 || answer.status === 405) &&
      !isSameOrigin(answer.target.origin, this.#parts.origin)
    return await this.#asking.ask(
      {
        ...blobQuestion(repository, digest),
        asker: this.#asker,
        verb: 'head-blob',
        method: 'HEAD',
        slot: 'short',
        accepts,
      },
      signal,
      ({ status, headers }) => ({
        sizeBytes: status === 200 && !isGzipped(headers) ? lengthOf(headers) : undefined,
      }),
    )
  }

  async getBlob(
    repository: RepositoryName,
    digest: Digest,
    from: BlobFrom,
    signal: AbortSignal,
  ): Promise<BlobBody | undefined> {
    const question = { ...blobQuestion(repository, digest), asker: this.#asker }
    if (from.offset === 0) return await this.#openBlob(question, { ...from, digest }, signal)
    const ranged = {
      ...question,
      headers: {
        ...question.headers,
        range: `bytes=${from.offset}-`,
        ...(from.validator === undefined ? {} : { 'if-range': from.validator }),
      },
      accepts: ({ status }: UpstreamAnswer) => status === 206 || status === 416,
    }
    return await this.#openBlob(ranged, { ...from, digest }, signal)
  }

  /**
   * Asks for the whole if the range is not the one that was asked for. Ranges are never spliced.
   */
  async #openBlob(
    question: Question,
    from: BlobFrom & { readonly digest: Digest },
    signal: AbortSignal,
  ): Promise<BlobBody | undefined> {
    const opened = await this.#asking.open(question, signal)
    if (opened === undefined) return undefined
    const { answer, release } = opened
    const extent = blobExtentOf(answer, from)
    if (extent === undefined) {
      answer.body.destroy()
      release()
      const { headers: _ranged, accepts: _accepts, ...whole } = question
      return await this.#openBlob(
        { ...whole, headers: BLOB_HEADERS },
        { offset: 0, digest: from.digest },
        signal,
      )
    }
    const { clock, events, namespace, paceLimits } = this.#parts
    const body = new UpstreamBlob(answer, extent, {
      clock,
      limits: paceLimits,
      signal,
      onBytes: bytes => events.upstreamReceived(namespace, 'blob', bytes),
      onEnd: release,
    })
    return isGzipped(answer.headers) ? await blobOfGzip(body, from.digest) : body
  }

  async listTags(
    repository: RepositoryName,
    page: TagsPageRequest,
    signal: AbortSignal,
  ): Promise<TagsPage | undefined> {
    const question = {
      verb: 'tags',
      method: 'GET',
      repository,
      path: `/v2/${repository}/tags/list${tagsQuery(page)}`,
      headers: { accept: 'application/json' },
      slot: 'short',
      key: `tags ${repository}`,
      asker: this.#asker,
    } as const
    return await this.#asking.ask(question, signal, async answer => ({
      tags: parseTags(await this.#readContent(answer, TAGS_SIZE_MAX)),
      next: nextPage(headerOf(answer.headers, 'link'), answer.target),
    }))
  }

  async getReferrers(
    repository: RepositoryName,
    digest: Digest,
    artifactType: string | undefined,
    signal: AbortSignal,
  ): Promise<FetchedReferrers | undefined> {
    const query = artifactType === undefined ? '' : `?${new URLSearchParams({ artifactType }).toString()}`
    const question = {
      verb: 'referrers',
      method: 'GET',
      repository,
      path: `/v2/${repository}/referrers/${digest}${query}`,
      headers: { accept: OCI_INDEX },
      slot: 'short',
      key: `referrers ${repository} ${digest}`,
      asker: this.#asker,
      accepts: ({ status }: UpstreamAnswer) => status === 400 || status === 405 || status === 501,
    } as const
    return await this.#asking.ask(question, signal, async answer => {
      if (answer.status !== 200 || essenceOf(headerOf(answer.headers, 'content-type')) !== OCI_INDEX) {
        return undefined
      }
      return {
        bytes: await this.#readContent(answer, MANIFEST_SIZE_MAX),
        isFiltered: headersOf(answer.headers, 'oci-filters-applied').join(',').includes('artifactType'),
      }
    })
  }

  /** The body, unpacked if it came packed unasked; as it came if it has the digest that way. */
  async #readContent(
    answer: UpstreamAnswer,
    sizeMax: number,
    {
      digest,
      onBytes,
    }: { readonly digest?: Digest | undefined; readonly onBytes?: (count: number) => void } = {},
  ): Promise<Uint8Array> {
    const { clock, paceLimits } = this.#parts
    const bytes = await readWhole(answer, { sizeMax, limits: paceLimits, clock })
    onBytes?.(bytes.byteLength)
    const isContent = !isGzipped(answer.headers) || (digest !== undefined && matchesDigest(bytes, digest))
    return isContent ? bytes : await gunzipWithin(bytes, sizeMax)
  }
}

const BLOB_HEADERS = { accept: '*/*' } as const

function manifestQuestion(repository: RepositoryName, reference: Reference): Question {
  const name = referenceText(reference)
  return {
    verb: 'get-manifest',
    method: 'GET',
    repository,
    path: `/v2/${repository}/manifests/${name}`,
    headers: { accept: MANIFEST_ACCEPT },
    slot: 'short',
    isProved: reference.kind === 'digest',
    key: `manifest ${repository} ${name}`,
  }
}

function blobQuestion(repository: RepositoryName, digest: Digest): Question {
  return {
    verb: 'get-blob',
    method: 'GET',
    repository,
    path: `/v2/${repository}/blobs/${digest}`,
    headers: BLOB_HEADERS,
    slot: 'body',
    isProved: true,
    key: `blob ${repository} ${digest}`,
  }
}
