import type { Answer, Head, Listing } from '../content/answering.ts'
import { Epoch, type Repeatable } from '../content/epoch.ts'
import { Inspection } from '../content/inspection.ts'
import { type Ledger, NO_LEDGER } from '../content/ledger.ts'
import { Links } from '../content/links.ts'
import { memoryContent } from '../content/memory-content.ts'
import { Pins } from '../content/pins.ts'
import { Proofs } from '../content/proofs.ts'
import { StoredManifests } from '../content/stored-manifests.ts'
import type { TagMove } from '../content/tag-history.ts'
import { type KnownTag, type LostTag, Tags } from '../content/tags.ts'
import type { Clock } from '../lib/clock.ts'
import type { BufferPool } from '../lib/reader-buffers.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import { OCTET_STREAM } from '../oci/media-type.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'
import type { TagsPage, TagsPageRequest } from '../oci/tags-page.ts'
import type { Store } from '../storage/store.ts'
import { Blobs } from './blobs.ts'
import { Fills, type Flow } from './fill/fills.ts'
import { type FindOptions, type FoundManifest, ManifestFinder } from './finder.ts'
import { Intake } from './intake.ts'
import { Listings } from './listings.ts'
import { Manifests } from './manifests.ts'
import { PeerView } from './peer-view.ts'
import type { Source } from './sources.ts'
import { TagResolver } from './tag-resolver.ts'

export interface MirrorParts {
  readonly store: Store
  readonly events: Events
  readonly clock: Clock
  readonly checkCacheDigest: boolean
  /** Send a range of a running fill only after the whole blob is proved. */
  readonly provesRanges?: boolean
  /** Records what is used; nothing is recorded if it is left out. */
  readonly ledger?: Ledger
  /** Changes whenever answers may have changed. */
  readonly epoch?: Epoch
  /** Buffers for the readers of running downloads. The daemon has one pool for all readers. */
  readonly buffers?: BufferPool
}

/** What is known of a tag, and its moves. */
interface TagPast {
  readonly known: KnownTag | undefined
  readonly moves: readonly TagMove[]
}

/** A tag and the digest that it is fixed to. */
interface HeldTag {
  readonly tag: Tag
  readonly digest: Digest
}

/**
 * The pull-through cache. Each method takes a source and a request, and returns the answer or throws: an
 * `OciError` for a refusal, an `UpstreamError` if the upstream failed and no cached copy could be served, and
 * anything else for a fault of our own.
 */
export class Mirror implements AsyncDisposable {
  readonly #parts: MirrorParts
  readonly #links: Links
  readonly #tags: Tags
  readonly #stored: StoredManifests
  readonly #resolver: TagResolver
  readonly #finder: ManifestFinder
  readonly #proofs: Proofs
  readonly #fills: Fills
  readonly #blobs: Blobs
  readonly #listings: Listings
  readonly #ledger: Ledger
  readonly #epoch: Epoch
  /** Shows what is cached of an image. */
  readonly inspection: Inspection
  readonly pins: Pins
  /** Takes cached content that administrators bring. */
  readonly intake: Intake
  /** For other replicas. */
  readonly peerView: PeerView
  readonly #lifetime = new AbortController()

  constructor(parts: MirrorParts) {
    const { store, events, clock, buffers, ledger = NO_LEDGER, epoch = new Epoch() } = parts
    const lifetime = this.#lifetime.signal
    this.#parts = parts
    this.#ledger = ledger
    this.#epoch = epoch
    this.#links = new Links(store, events, epoch)
    this.#tags = new Tags(store, events, clock, epoch)
    this.#stored = new StoredManifests({ store, events, ledger })
    const kept = { links: this.#links, tags: this.#tags, stored: this.#stored }
    const manifests = new Manifests({ ...kept, lifetime, ledger })
    this.#resolver = new TagResolver({ ...kept, manifests, events, clock, lifetime })
    this.#finder = new ManifestFinder({
      ...kept,
      store,
      manifests,
      resolver: this.#resolver,
      clock,
      lifetime,
    })
    this.#proofs = new Proofs({ store, events, isEveryRead: parts.checkCacheDigest })
    this.#fills = new Fills({
      store,
      events,
      clock,
      proofs: this.#proofs,
      ledger,
      ...(buffers === undefined ? {} : { buffers }),
    })
    this.#blobs = new Blobs({
      fills: this.#fills,
      links: this.#links,
      proofs: this.#proofs,
      provesRanges: parts.provesRanges ?? false,
      events,
      clock,
      lifetime,
    })
    this.#listings = new Listings({ manifests, clock, lifetime })
    this.peerView = new PeerView({
      ...kept,
      store,
      manifests,
      fills: this.#fills,
      blobs: this.#blobs,
      proofs: this.#proofs,
      epoch,
    })
    this.inspection = new Inspection({
      store,
      tags: this.#tags,
      links: this.#links,
      manifests: this.#stored,
    })
    this.intake = new Intake({ ...kept, store, manifests, inspection: this.inspection, clock, ledger })
    this.pins = new Pins({ store, tags: this.#tags, inspection: this.inspection, clock, events })
  }

  /** Returns the current manifest of a reference for this source. */
  async pullManifest(source: Source, reference: Reference, options?: FindOptions): Promise<Answer> {
    const epoch = this.#epoch.now
    const found = await this.#finder.find(source, reference, options)
    const shown = await this.#finder.completable(source, reference, found)
    const repeatable = this.#show(source, reference, { ...shown, epoch })
    return { content: memoryContent(shown.manifest), outcome: shown.outcome, repeatable }
  }

  /** Answers a HEAD of the manifest. Asks the upstream by HEAD for one that is not cached. */
  async headManifest(source: Source, reference: Reference, options?: FindOptions): Promise<Head> {
    const epoch = this.#epoch.now
    const found = await this.#finder.head(source, reference, options)
    if (!('manifest' in found)) return { ...found, outcome: 'miss' }
    const repeatable = this.#show(source, reference, { ...found, epoch })
    const { digest, mediaType, bytes } = found.manifest
    return { digest, mediaType, sizeBytes: bytes.byteLength, outcome: found.outcome, repeatable }
  }

  /** Returns the blob, from the store or as it arrives from the upstream. */
  async pullBlob(source: Source, digest: Digest): Promise<Answer> {
    const epoch = this.#epoch.now
    const answer = await this.#blobs.pull({ source, digest })
    const isAtHand = answer.outcome === 'hit' && answer.content.bytes !== undefined
    return isAtHand ? { ...answer, repeatable: { epoch, forMs: Infinity } } : answer
  }

  /** True if the content is stored, now or by the download that runs. */
  async isKept(source: Source, digest: Digest): Promise<boolean> {
    await this.#fills.running(source.namespace, digest)?.ended
    return await this.inspection.isStored(digest)
  }

  /** Answers a HEAD of the blob. Asks the upstream by HEAD for one that is not cached, and starts no fill. */
  async headBlob(source: Source, digest: Digest): Promise<Head> {
    const mediaType = OCTET_STREAM
    const isLinked = await this.#links.has(source, digest)
    // Ask the upstream first: neither the size nor the time of a refusal may reveal what is cached.
    const asked = isLinked ? undefined : await this.#blobs.ask(source, digest)
    const isVisible = isLinked || source.isTrusted
    await using stored = isVisible ? await this.#blobs.openStored(digest) : undefined
    if (stored !== undefined) return { digest, mediaType, sizeBytes: stored.sizeBytes, outcome: 'hit' }
    const { sizeBytes } = asked ?? (await this.#blobs.ask(source, digest))
    return { digest, mediaType, sizeBytes, outcome: 'miss' }
  }

  /** Records that a remembered answer has shown a manifest again, so that eviction keeps what clients use. */
  async shownAgain(digest: Digest): Promise<void> {
    const manifest = await this.#stored.find(digest)
    if (manifest !== undefined) this.#ledger.shown(manifest)
  }

  /** Returns one page of the repository's tags. */
  async listTags(source: Source, page: TagsPageRequest): Promise<Listing<TagsPage>> {
    return await this.#listings.listTags(source, page)
  }

  /** Returns the image index of what refers to a digest. */
  async referrers(
    source: Source,
    digest: Digest,
    artifactType: string | undefined,
  ): Promise<Listing<Uint8Array>> {
    return await this.#listings.referrers(source, digest, artifactType)
  }

  /**
   * Removes a tag, or a manifest by digest: its bytes, and this source's right to see it. `false` if there
   * was nothing to remove.
   */
  async forgetManifest(source: Source, reference: Reference): Promise<boolean> {
    if (reference.kind === 'tag') return await this.#tags.remove(source, reference.tag)
    this.#stored.forget(reference.digest)
    return await this.forgetBlob(source, reference.digest)
  }

  /** Removes a blob: its bytes, and this source's right to see it. `false` if there was nothing to remove. */
  async forgetBlob(source: Source, digest: Digest): Promise<boolean> {
    const wasLinked = await this.#links.remove(source, digest)
    this.#proofs.forget(digest)
    try {
      const wasStored = await this.#parts.store.delete(digest)
      return wasLinked || wasStored
    } finally {
      this.#epoch.bump({ kind: 'digest', digest })
    }
  }

  /** Takes this source's right to see a digest that others still need. */
  async unlink(source: Source, digest: Digest): Promise<void> {
    await this.#links.remove(source, digest)
    this.#epoch.bump({ kind: 'digest', digest })
  }

  /**
   * Forgets an evicted digest and the right of places to see it. Memory is cleared before the first await: a
   * repository that fetches the content again meanwhile must not lose it.
   */
  async forgetEvicted(digest: Digest, places: readonly Place[]): Promise<void> {
    this.#stored.forget(digest)
    this.#proofs.forget(digest)
    await Promise.all(places.map(async place => await this.#links.remove(place, digest)))
    this.#epoch.bump({ kind: 'digest', digest })
  }

  /**
   * Tags that are still served although their upstreams have deleted them, as far as this process has seen
   * them.
   */
  get lostTags(): readonly LostTag[] {
    return this.#tags.lost
  }

  /** What is known of a tag here, and every move of it, the newest first. */
  async tagHistory(source: Source, tag: Tag): Promise<TagPast> {
    const known = await this.#tags.read(source, tag)
    return { known, moves: await this.#tags.history.read(source, tag) }
  }

  /**
   * Fixes a tag to a digest of this repository: it does not follow its upstream until {@link releaseTag}, and
   * its image is protected from eviction. Returns the digest that it had before. Throws if the repository has
   * no such manifest.
   */
  async holdTag(source: Source, { tag, digest }: HeldTag, by: string): Promise<Digest | undefined> {
    await this.#finder.find(source, { kind: 'digest', digest })
    const before = await this.#tags.hold(source, tag, digest, by)
    await this.pins.add(source, { kind: 'tag', tag })
    return before
  }

  /** Lets a tag follow its upstream again; `false` if it was not held. */
  async releaseTag(source: Source, tag: Tag): Promise<boolean> {
    const wasHeld = await this.#tags.release(source, tag)
    if (wasHeld) await this.pins.remove(source, { kind: 'tag', tag })
    return wasHeld
  }

  /** The running downloads. */
  get flows(): readonly Flow[] {
    return this.#fills.flows
  }

  /** Ends the running downloads of a digest; returns how many there were. */
  cancelDownloads(digest: Digest): number {
    return this.#fills.cancel(digest)
  }

  /** Abandons the running fills and waits for pending writes. Requests must have ended before. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifetime.abort(new Error('the mirror is shutting down'))
    await this.#resolver[Symbol.asyncDispose]()
    await this.#fills[Symbol.asyncDispose]()
    await this.#proofs[Symbol.asyncDispose]()
    await this.#links[Symbol.asyncDispose]()
    await this.#tags.history.settled()
  }

  /**
   * Records that a manifest is shown. The answer may be repeated if it is a hit and the upstream is not
   * failing; otherwise each request is examined by itself.
   */
  #show(
    source: Source,
    reference: Reference,
    { manifest, outcome, forMs, staleness, epoch }: FoundManifest & Pick<Repeatable, 'epoch'>,
  ): Repeatable | undefined {
    const { namespace, repository, registry } = source
    if (source.isTrusted) this.#ledger.announced(manifest)
    this.#ledger.shown(manifest)
    if (staleness !== undefined && reference.kind === 'tag') {
      const { error } = staleness
      this.#parts.events.staleServed({ namespace, repository, tag: reference.tag, error })
    }
    const isSteady = this.#stored.isStored(manifest.digest) && registry.trouble(repository) === undefined
    if (outcome !== 'hit' || !isSteady) return undefined
    // Keep only the digest: a remembered answer must not hold the manifest in memory with all that it names.
    const { digest } = manifest
    return { epoch, forMs, again: () => void this.shownAgain(digest) }
  }
}
