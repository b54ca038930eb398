import type { Epoch } from '../content/epoch.ts'
import type { Links } from '../content/links.ts'
import type { Proofs } from '../content/proofs.ts'
import type { StoredManifest, StoredManifests } from '../content/stored-manifests.ts'
import type { Tags } from '../content/tags.ts'
import { readableBytes } from '../content/tail.ts'
import type { Digest } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'
import type { Store } from '../storage/store.ts'
import type { Blobs, ServedBlob } from './blobs.ts'
import type { Fills } from './fill/fills.ts'
import type { Manifests } from './manifests.ts'
import type { Source } from './sources.ts'

export interface PeerViewParts {
  readonly store: Pick<Store, 'copies'>
  readonly links: Links
  readonly stored: StoredManifests
  readonly manifests: Manifests
  readonly fills: Fills
  readonly blobs: Pick<Blobs, 'pullShared'>
  readonly tags: Pick<Tags, 'doubt'>
  readonly proofs: Pick<Proofs, 'forget'>
  readonly epoch: Epoch
}

/** What other replicas of the cluster need of the mirror besides what clients get. */
export class PeerView {
  readonly #parts: PeerViewParts

  constructor(parts: PeerViewParts) {
    this.#parts = parts
  }

  /** True if the repository is known to see the digest. */
  async isLinked(place: Place, digest: Digest): Promise<boolean> {
    return await this.#parts.links.has(place, digest)
  }

  /** Believes another replica that the repository may see the digest, if the registry is trusted. */
  link(source: Source, digest: Digest): void {
    if (source.isTrusted) this.#parts.links.add(source, [digest])
  }

  /**
   * The manifest, without a HEAD: if the repository is not known to see it, the registry is asked for the
   * manifest itself, which proves that it may.
   */
  async manifest(source: Source, digest: Digest): Promise<StoredManifest | undefined> {
    const { links, stored, manifests } = this.#parts
    const here = (await links.has(source, digest)) ? await stored.find(digest) : undefined
    return here ?? (await manifests.fetch(source, { kind: 'digest', digest }))
  }

  /**
   * The blob from the store or a download that all share. `undefined` if it cannot be stored: to pass it on
   * would cost a download all the same, and the places for these are few.
   */
  async blob(source: Source, digest: Digest): Promise<ServedBlob | undefined> {
    return await this.#parts.blobs.pullShared({ source, digest })
  }

  /** True if the manifest outlives this process. */
  isStored(digest: Digest): boolean {
    return this.#parts.stored.isStored(digest)
  }

  /** True if a download of the blob runs. */
  isFilling(namespace: Namespace, digest: Digest): boolean {
    return this.#parts.fills.running(namespace, digest) !== undefined
  }

  /** Another replica has seen a tag move or content deleted: nothing is repeated that may be out of date. */
  async changed(
    place: Place,
    { tag, digest }: { readonly tag: Tag | undefined; readonly digest: Digest | undefined },
  ): Promise<void> {
    const { store, tags, stored, proofs, epoch } = this.#parts
    if (tag !== undefined) await tags.doubt(place, tag, digest)
    else if (digest !== undefined) {
      await store.copies?.drop(digest)
      stored.forget(digest)
      proofs.forget(digest)
      epoch.bump({ kind: 'digest', digest })
    }
    epoch.bump({ kind: 'place', place })
  }

  /** Offset up to which a running download could be read; `undefined` if none runs. */
  readableBytes(namespace: Namespace, digest: Digest): number | undefined {
    const fill = this.#parts.fills.running(namespace, digest)
    if (fill === undefined) return undefined
    const { writtenBytes, sizeBytes } = fill.progress
    return readableBytes(false, writtenBytes, sizeBytes)
  }
}
