import type { Clock } from '../lib/clock.ts'
import { type Digest, matchesDigest } from '../oci/digest.ts'
import type { UpstreamError } from '../oci/error.ts'
import { MANIFEST_SIZE_MAX } from '../oci/manifest.ts'
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
import { type Found, Journey, type PeerAsking } from './asking.ts'
import type { Following } from './following.ts'
import type { Member } from './members.ts'
import { contentKeyOf, type OwnedTags, tagKey } from './owned-tags.ts'
import { PEER_PACE, PeerBody, type PeerPace } from './peer-body.ts'
import type { PeerQuestion } from './protocol.ts'
import { isShort, provedAhead, readUpTo } from './proved.ts'

export interface PeerRegistryParts {
  readonly asking: PeerAsking
  readonly following: Following
  readonly tags: OwnedTags
  readonly clock: Pick<Clock, 'monotonicMs' | 'delay'>
  /** True if this process knows that the repository may see the digest. */
  readonly isLinked: (place: Place, digest: Digest) => Promise<boolean>
  /** Identity of the store; `undefined` for a store that no other replica has. */
  readonly store: string | undefined
  readonly pace?: PeerPace
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
  readonly #registry: Registry
  readonly #asker: Asker
  /** Downloads of this request that began. */
  readonly #journeys = new Map<Digest, Journey>()

  constructor(parts: PeerRegistryParts, registry: Registry, asker: Asker = NOBODY) {
    this.#parts = parts
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
      const manifest = found === undefined ? undefined : await this.#manifestOf(found, digest)
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
      const body = this.#openBody(found, question, signal)
      if (body === undefined) continue
      const usable = isShort(body) ? await provedAhead(body, digest) : body
      if (usable !== undefined) return usable
    }
  }

  #openBody(
    { answer, body, member }: Found,
    question: BlobQuestion,
    signal: AbortSignal,
  ): PeerBody | undefined {
    if (answer.kind !== 'content' || answer.from !== question.from) {
      body.destroy()
      return undefined
    }
    const { clock, pace = PEER_PACE, asking, following } = this.#parts
    const { metrics } = asking.parts
    const { namespace, digest } = question
    const mark = following.begin(contentKeyOf(namespace, digest))
    const isShared = this.#parts.store !== undefined && member.met?.store === this.#parts.store
    return new PeerBody(
      body,
      { offset: answer.from, sizeBytes: answer.sizeBytes },
      {
        clock,
        pace,
        name: member.name,
        probe: async () => await this.#progressOf(member, question, signal),
        onBytes: bytes => {
          member.counts.receivedBytes += bytes
          metrics.peerReceivedBytes.inc(bytes)
        },
        onSilent: () => member.breaker.begin().failedBadly(),
        onEnd: () => mark[Symbol.dispose](),
        disown: () => this.#distrust(member, digest),
        ...(isShared
          ? { isKept: async (until: AbortSignal) => await this.#isKept(member, question, until) }
          : {}),
      },
    )
  }

  /** Offset up to which the member could send the blob now; `undefined` if it does not answer. */
  async #progressOf(
    member: Member,
    { namespace, repository, digest }: BlobQuestion,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { wire } = this.#parts.asking.parts
    const question = { kind: 'progress', namespace, repository, digest, untilStored: false } as const
    try {
      const { answer, body } = await wire.ask(member.address, question, { signal, isBrief: true })
      body.resume()
      return answer.kind === 'progress' ? answer.readableBytes : 0
    } catch {
      return undefined
    }
  }

  /** Resolves when the member has stored the blob, or will not. */
  async #isKept(
    member: Member,
    { namespace, repository, digest }: BlobQuestion,
    until: AbortSignal,
  ): Promise<boolean> {
    const { wire } = this.#parts.asking.parts
    const question = { kind: 'progress', namespace, repository, digest, untilStored: true } as const
    try {
      const signal = AbortSignal.any([until, AbortSignal.timeout(STORING_MS)])
      const options = { signal, isBrief: true, isPatient: true }
      const { answer, body } = await wire.ask(member.address, question, options)
      body.resume()
      return answer.kind === 'progress' && answer.state === 'stored'
    } catch {
      return false
    }
  }

  /** The manifest that a member sent, if it is the right one. */
  async #manifestOf({ answer, body, member }: Found, digest: Digest): Promise<FetchedManifest | undefined> {
    if (answer.kind !== 'content') return undefined
    const { pace = PEER_PACE } = this.#parts
    const bytes = await readUpTo(body, MANIFEST_SIZE_MAX, pace.manifestMs)
    if (bytes === undefined) return undefined
    this.#parts.asking.parts.metrics.peerReceivedBytes.inc(bytes.byteLength)
    member.counts.receivedBytes += bytes.byteLength
    if (!matchesDigest(bytes, digest)) {
      this.#distrust(member, digest)
      return undefined
    }
    const isShared = this.#parts.store !== undefined && member.met?.store === this.#parts.store
    return {
      bytes,
      contentType: answer.mediaType,
      claimedDigest: digest,
      isKept: isShared && answer.isStored,
    }
  }

  /** The member sent other bytes than it was asked for. */
  #distrust(member: Member, digest: Digest): void {
    const { metrics, events } = this.#parts.asking.parts
    member.counts.lies += 1
    metrics.peerWrongContent.inc()
    member.ignore('it sent content that does not match its digest')
    events.warned('another replica sent content that does not match its digest', {
      member: member.name,
      digest,
    })
  }
}

/** Longest time that a follower waits for the owner to store a blob, in milliseconds. */
const STORING_MS = 10 * 60_000

type BlobQuestion = Extract<PeerQuestion, { readonly kind: 'blob' }>

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
