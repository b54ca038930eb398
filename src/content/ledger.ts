import type { Digest } from '../oci/digest.ts'
import type { Manifest } from '../oci/manifest.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'
import type { SpoolFile } from '../storage/store.ts'

/** A manifest and the digests it names. */
export interface ShownManifest extends Pick<Manifest, 'blobs' | 'manifests'> {
  readonly digest: Digest
}

/** Content about to be written, and the namespace charged for it. */
export interface Incoming {
  readonly namespace: string
  /** Undefined if the content is not known by its digest yet. */
  readonly digest?: Digest
  /** `undefined` while it is not known. */
  readonly sizeBytes: number | undefined
}

/** There is no room for these bytes, and nothing may be evicted for them. The store itself is in order. */
export class NoRoomError extends Error {
  constructor() {
    super('the cache has no room for this: everything in it is pinned or in use, or this is too large')
    this.name = 'NoRoomError'
  }
}

/**
 * Records how the cache is used. The methods return at once and only take a note, so that they can be called
 * for every request. Only {@link makeRoom} may take time.
 */
export interface Ledger {
  /** Records that a client was sent a manifest: the manifest and what it names are in use. */
  shown(manifest: ShownManifest): void
  /** Remembers the sizes that a manifest of a trusted registry states, for blobs that come without one. */
  announced(manifest: ShownManifest): void
  /** Adds requests for the content that were answered from the cache, and the bytes sent from it. */
  used(digest: Digest, use: { readonly hits: number; readonly servedBytes: number }): void
  /** Adds requests for an image, and those of them that were answered from the cache. */
  pulled(place: Place, reference: Reference, use: { readonly hits: number }): void
  /**
   * Charges a spool to a namespace and reserves its first bytes, evicting if necessary. Returns `false`
   * without evicting if the content can never fit.
   */
  makeRoom(spool: SpoolFile, incoming: Incoming): Promise<boolean>
}

/** A ledger for a store without bounds of its own. Records nothing and always has room. */
export const NO_LEDGER: Ledger = {
  shown: () => undefined,
  announced: () => undefined,
  used: () => undefined,
  pulled: () => undefined,
  makeRoom: async () => await Promise.resolve(true),
}
