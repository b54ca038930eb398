import type { Digest } from '../oci/digest.ts'
import type { UpstreamError } from '../oci/error.ts'
import type { RepositoryName } from '../oci/name.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { Reference } from '../oci/reference.ts'
import type { TagsPage, TagsPageRequest } from '../oci/tags-page.ts'

/**
 * One upstream registry, as the mirror sees it. Every method resolves to `undefined` where the upstream
 * answered a clean 404, throws an `OciError` where policy forbids the connection (code DENIED) and an
 * `UpstreamError` where the upstream is in trouble: unreachable, 401/403 after our best credentials (kind
 * `refused`), 429, 5xx, a broken answer, or left alone by the breaker. Retries that make sense are behind it;
 * an aborted signal ends everything with the signal's reason. Any number may run at once.
 */
export interface Registry {
  readonly namespace: Namespace
  /** True if credentials are configured. A refusal by this upstream then means that they are not enough. */
  readonly hasCredentials: boolean
  /**
   * Which registry this is, and as which user it is asked now. `undefined` if the credentials cannot be read.
   */
  identify(): Promise<RegistryIdentity | undefined>

  /**
   * Asks by HEAD; falls back to nothing: a registry that does not answer HEAD properly gives a head with
   * undefined fields.
   */
  headManifest(
    repository: RepositoryName,
    reference: Reference,
    signal: AbortSignal,
    options?: HeadOptions,
  ): Promise<ManifestHead | undefined>

  /** Fetches a manifest of at most 4 MiB. Does not prove its bytes. */
  getManifest(
    repository: RepositoryName,
    reference: Reference,
    signal: AbortSignal,
  ): Promise<FetchedManifest | undefined>

  /** Asks whether the repository has the blob, following redirects. */
  headBlob(repository: RepositoryName, digest: Digest, signal: AbortSignal): Promise<BlobHead | undefined>

  /**
   * Opens the blob's body from an offset on, following redirects. The caller reads the body to its end or
   * destroys it.
   */
  getBlob(
    repository: RepositoryName,
    digest: Digest,
    from: BlobFrom,
    signal: AbortSignal,
  ): Promise<BlobBody | undefined>

  /** One page of tags. */
  listTags(
    repository: RepositoryName,
    page: TagsPageRequest,
    signal: AbortSignal,
  ): Promise<TagsPage | undefined>

  /**
   * The referrers index as the upstream gives it; `undefined` also where the upstream does not have the API.
   */
  getReferrers(
    repository: RepositoryName,
    digest: Digest,
    artifactType: string | undefined,
    signal: AbortSignal,
  ): Promise<FetchedReferrers | undefined>

  /**
   * The trouble that this upstream is known to be in right now, without asking it: the whole registry is left
   * alone, or this repository is.
   */
  trouble(repository: RepositoryName): UpstreamError | undefined

  /**
   * True if the upstream allows few more pulls: at most a tenth of its `ratelimit-limit`, or at most ten if
   * it states no limit. Every answer with `ratelimit-remaining` updates this, also one to a HEAD, which costs
   * no pull.
   */
  isRunningLow(): boolean

  /** The same registry, asked for one request of a client. */
  onBehalfOf(asker: Asker): Registry
}

/** A registry and the user that asks it. */
export interface RegistryIdentity {
  /** Equal in two processes if they ask the same registry as the same user. Reveals no secret. */
  readonly text: string
  /** True if a registry knows the user by credentials. It knows others by their address. */
  readonly isUser: boolean
}

/** The request for which a registry is asked. */
export interface Asker {
  /**
   * Mirrors that the request has passed. They are named in `CDN-Loop` (RFC 8586) before us, so that each of
   * them recognises its own request when it comes back.
   */
  readonly trail: readonly string[]
  /** Address of the client, for the limits per client. `undefined` for work of our own. */
  readonly client: string | undefined
}

/** Work of our own: no client waits for it, and it has passed no mirror. */
export const OURSELVES: Asker = { trail: [], client: undefined }

export interface HeadOptions {
  /**
   * Ask the upstream even if it said no a moment ago. A 404 is remembered for 30 s and a 401 or 403 for 10 s,
   * which would make the second request that confirms a dropped tag an echo of the first. A breaker that is
   * open is respected all the same.
   */
  readonly isFresh?: boolean
}

/**
 * A manifest's headers. A field is `undefined` if the upstream left it out or sent one that cannot be used.
 */
export interface ManifestHead {
  readonly digest: Digest | undefined
  readonly mediaType: string | undefined
  readonly sizeBytes: number | undefined
  /** Milliseconds since the registry said so, where that was before now: another replica has asked it. */
  readonly ageMs?: number
}

/** A manifest as it came. */
export interface FetchedManifest {
  readonly bytes: Uint8Array
  readonly contentType: string | undefined
  /** The upstream's `Docker-Content-Digest`, to be held against the bytes. */
  readonly claimedDigest: Digest | undefined
  /** True if another replica has stored it in the store that is ours too. */
  readonly isKept?: boolean
}

export interface BlobHead {
  readonly sizeBytes: number | undefined
}

/**
 * Where to start reading a blob; `offset` 0 is the whole blob, and anything else asks by `Range` (and
 * `If-Range` with a validator).
 */
export interface BlobFrom {
  readonly offset: number
  /** A strong ETag of an earlier response of the same fill. */
  readonly validator?: string | undefined
}

/** A blob's body on its way. */
export interface BlobBody extends AsyncDisposable {
  /**
   * Where the body really starts: what was asked for on a proper 206, else 0 (the upstream ignored the
   * Range).
   */
  readonly offset: number
  /** The blob's whole size, where the upstream stated it. */
  readonly sizeBytes: number | undefined
  /** A strong ETag for resuming. */
  readonly validator: string | undefined
  /**
   * The bytes. Throws an `UpstreamError` of kind `cut` if they end before the stated length, and `stalled`
   * after 30 s without a byte or a minute under 10 KiB/s. Iterated at most once; leaving the loop early, or
   * disposing, destroys the connection.
   */
  readonly chunks: AsyncIterable<Uint8Array>
  /** True if nobody else has or keeps the memory of the chunks. */
  readonly areChunksOurs?: true
  /** Called if the bytes turn out not to match the digest; set if they come from another replica. */
  readonly disown?: () => void
  /**
   * Set if another replica is storing the same bytes in a store that is ours too. Resolves with `true` once
   * they are stored, or with `false` if they will not be or the signal aborts. Never rejects.
   */
  readonly isKept?: ((until: AbortSignal) => Promise<boolean>) | undefined
}

/** A referrers index as it came: a JSON image index of at most 4 MiB. */
export interface FetchedReferrers {
  readonly bytes: Uint8Array
  /** True if the upstream has filtered by artifact type (`OCI-Filters-Applied`). */
  readonly isFiltered: boolean
}

/** Finds the registry behind a namespace. */
export interface Registries {
  /**
   * The upstream of a namespace, configured or public; throws an `OciError` DENIED that names the
   * configuration line that would allow it where policy does not.
   */
  get(namespace: Namespace): Registry
}
