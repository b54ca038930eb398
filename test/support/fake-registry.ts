import type { Digest } from '../../src/oci/digest.ts'
import { UpstreamError } from '../../src/oci/error.ts'
import type { RepositoryName } from '../../src/oci/name.ts'
import { DOCKER_HUB, type Namespace } from '../../src/oci/namespace.ts'
import { type Reference, referenceText } from '../../src/oci/reference.ts'
import type { TagsPage, TagsPageRequest } from '../../src/oci/tags-page.ts'
import type {
  BlobBody,
  BlobFrom,
  BlobHead,
  FetchedManifest,
  FetchedReferrers,
  ManifestHead,
  Registry,
  RegistryIdentity,
} from '../../src/upstream/registry.ts'

/** Answers of a {@link FakeRegistry}. A missing one is a plain 404. Each may throw. */
export interface RegistryScript {
  headManifest?(reference: string, attempt: number): MaybePromise<ManifestHead | undefined>
  getManifest?(reference: string, attempt: number): MaybePromise<FetchedManifest | undefined>
  headBlob?(digest: Digest): MaybePromise<BlobHead | undefined>
  getBlob?(
    from: BlobFrom,
    attempt: number,
    signal: AbortSignal,
    digest: Digest,
  ): MaybePromise<BlobBody | undefined>
  listTags?(page: TagsPageRequest): MaybePromise<TagsPage | undefined>
  getReferrers?(artifactType: string | undefined): MaybePromise<FetchedReferrers | undefined>
}

type MaybePromise<T> = T | Promise<T>

/** A scriptable registry that records what it was asked. */
export class FakeRegistry implements Registry {
  readonly namespace: Namespace
  readonly hasCredentials: boolean
  script: RegistryScript
  /** Every request: the verb and its subject. */
  readonly asked: string[] = []
  currentTrouble: UpstreamError | undefined
  hasLowBudget = false
  readonly #identity: string
  #count = new Map<string, number>()

  constructor(
    script: RegistryScript = {},
    options: {
      readonly namespace?: Namespace
      readonly hasCredentials?: boolean
      readonly identity?: string
    } = {},
  ) {
    this.#identity = options.identity ?? 'fake'
    this.script = script
    this.namespace = options.namespace ?? DOCKER_HUB
    this.hasCredentials = options.hasCredentials ?? false
  }

  async identify(): Promise<RegistryIdentity> {
    return await Promise.resolve({ text: this.#identity, isUser: this.hasCredentials })
  }

  async headManifest(_: RepositoryName, reference: Reference): Promise<ManifestHead | undefined> {
    const text = referenceText(reference)
    const attempt = this.#ask('head-manifest', text)
    return await this.script.headManifest?.(text, attempt)
  }

  async getManifest(_: RepositoryName, reference: Reference): Promise<FetchedManifest | undefined> {
    const text = referenceText(reference)
    const attempt = this.#ask('get-manifest', text)
    return await this.script.getManifest?.(text, attempt)
  }

  async headBlob(_: RepositoryName, digest: Digest): Promise<BlobHead | undefined> {
    this.#ask('head-blob', digest)
    return await this.script.headBlob?.(digest)
  }

  async getBlob(
    _: RepositoryName,
    digest: Digest,
    from: BlobFrom,
    signal: AbortSignal,
  ): Promise<BlobBody | undefined> {
    signal.throwIfAborted()
    const attempt = this.#ask('get-blob', String(from.offset))
    return await this.script.getBlob?.(from, attempt, signal, digest)
  }

  async listTags(_: RepositoryName, page: TagsPageRequest): Promise<TagsPage | undefined> {
    this.#ask('list-tags', JSON.stringify(page))
    return await this.script.listTags?.(page)
  }

  async getReferrers(
    _: RepositoryName,
    digest: Digest,
    artifactType: string | undefined,
  ): Promise<FetchedReferrers | undefined> {
    this.#ask('referrers', digest)
    return await this.script.getReferrers?.(artifactType)
  }

  trouble(): UpstreamError | undefined {
    return this.currentTrouble
  }

  isRunningLow(): boolean {
    return this.hasLowBudget
  }

  onBehalfOf(): Registry {
    return this
  }

  /** Resets the counts of each verb. */
  #ask(verb: string, about: string): number {
    this.asked.push(`${verb} ${about}`)
    const count = this.#count.get(verb) ?? 0
    this.#count.set(verb, count + 1)
    return count
  }
}

/** Deviations of a scripted body from sending everything at once. */
export interface BodyOptions {
  readonly offset?: number
  /** Stated size; `null` for none. */
  readonly sizeBytes?: number | null
  readonly validator?: string
  readonly chunkBytes?: number
  /** The connection breaks after this many bytes of the body. */
  readonly cutAfter?: number
  /** Nothing is sent before this resolves. */
  readonly gate?: Promise<unknown>
  readonly signal?: AbortSignal
  readonly onDispose?: () => void
}

export function blobBody(bytes: Uint8Array, options: BodyOptions = {}): BlobBody {
  const { offset = 0, sizeBytes = bytes.byteLength, validator, onDispose } = options
  return {
    offset,
    sizeBytes: sizeBytes ?? undefined,
    validator,
    chunks: sendChunks(bytes.subarray(offset), options),
    [Symbol.asyncDispose]: async () => {
      onDispose?.()
      await Promise.resolve()
    },
  }
}

async function* sendChunks(rest: Uint8Array, options: BodyOptions): AsyncGenerator<Uint8Array> {
  const { chunkBytes = 32 * 1024, cutAfter = Infinity, gate, signal } = options
  for (let position = 0; position < Math.min(rest.byteLength, cutAfter); ) {
    signal?.throwIfAborted()
    await gate
    signal?.throwIfAborted()
    const end = Math.min(position + chunkBytes, rest.byteLength, cutAfter)
    yield rest.subarray(position, end)
    position = end
  }
  if (cutAfter < rest.byteLength) throw new UpstreamError('cut', 'the upstream broke off')
}
