import type { Digest } from '../../oci/digest.ts'

/** A change of the store, as the catalogue records it. Times are wall-clock milliseconds since 1970. */
export type Change =
  | {
      readonly kind: 'stored'
      readonly digest: Digest
      readonly sizeBytes: number
      readonly atMs: number
      /** The namespace charged for it, unless links decide otherwise. */
      readonly namespace?: string | undefined
    }
  /** Content found by a walk of the store. New only to a catalogue that had lost it. */
  | { readonly kind: 'found'; readonly digest: Digest; readonly sizeBytes: number; readonly atMs: number }
  | { readonly kind: 'removed'; readonly digest: Digest; readonly namespace?: string | undefined }
  | {
      readonly kind: 'used'
      readonly digest: Digest
      readonly atMs: number
      /** Requests answered from the cache, and the bytes sent from it. */
      readonly hits: number
      readonly servedBytes: number
      readonly isManifest: boolean
      /** The manifests that it names, if it is an index. */
      readonly manifests?: readonly Digest[] | undefined
      /** The blobs that it names, if it is a manifest. */
      readonly blobs?: readonly NamedBlob[] | undefined
    }
  /** What a walk of the store found by reading content that was new to it. */
  | {
      readonly kind: 'read'
      readonly digest: Digest
      /** The manifests that it names; `undefined` if it is not a manifest. */
      readonly manifests: readonly Digest[] | undefined
      readonly blobs?: readonly NamedBlob[] | undefined
    }
  /** Clients asked for an image, by a tag or by a digest. */
  | {
      readonly kind: 'pulled'
      readonly place: PlaceName
      readonly reference: string
      readonly atMs: number
      /** Requests answered from the cache. */
      readonly hits: number
    }
  | { readonly kind: 'linked' | 'unlinked'; readonly place: PlaceName; readonly digest: Digest }
  | {
      readonly kind: 'tagged'
      readonly place: PlaceName
      readonly tag: string
      readonly digest: Digest
      /** When its upstream confirmed it, or when it was pushed. */
      readonly atMs: number
      /** Set for the tag of a hosted repository. */
      readonly isHosted?: true
    }
  | { readonly kind: 'untagged'; readonly place: PlaceName; readonly tag: string; readonly isHosted?: true }
  /** A hosted repository has a manifest, or has it no longer. */
  | { readonly kind: 'published' | 'withdrawn'; readonly place: PlaceName; readonly digest: Digest }
  /** A hosted repository holds the content: it is no cache until the last hold is released. */
  | { readonly kind: 'held' | 'released'; readonly digest: Digest }

/** A blob that a manifest names, with its stated size. */
export interface NamedBlob {
  readonly digest: Digest
  readonly sizeBytes: number
}

/** A repository of a namespace. */
export interface PlaceName {
  readonly namespace: string
  readonly repository: string
}

/** Totals of all content in the catalogue. */
export interface Totals {
  readonly objects: number
  readonly bytes: number
  /**
   * Bytes of each namespace. Content that several share counts for one of them. Content that no repository
   * was ever shown counts under ''.
   */
  readonly bytesByNamespace: ReadonlyMap<string, number>
}

/** Position of a walk in the order of last use. */
interface UseCursor {
  readonly lastUseMs: number
  readonly row: number
}

/** Bytes that a registry may see, and those of them that another registry may see, too. */
export interface Share {
  readonly bytes: number
  readonly sharedBytes: number
}

/** Shares of some digests by registry. `next` is where the following slice starts. */
export interface ShareSlice {
  readonly sums: ReadonlyMap<string, Share>
  readonly next: Digest | undefined
}

/** Content that may be evicted. */
export interface Candidate {
  readonly digest: Digest
  readonly sizeBytes: number
  readonly lastUseMs: number
  readonly isManifest: boolean
  /** The namespace it counts for; empty if it was never shown to a repository. */
  readonly namespace: string
  /** All namespaces with a repository that may see it. */
  readonly linkedNamespaces: readonly string[]
}

/** Selects the candidates of a pass, in the order of last use. */
export interface CandidateQuery {
  readonly isManifest: boolean
  /** Only content last used before this time. */
  readonly usedBeforeMs: number
  /** Only content that counts for one of these namespaces or for none. */
  readonly only: { readonly isOneOf: boolean; readonly namespaces: readonly string[] } | undefined
  readonly after: UseCursor | undefined
  readonly limit: number
}

/** A slice of candidates; `next` is `undefined` at the end. */
export interface CandidateSlice {
  readonly candidates: readonly Candidate[]
  readonly next: UseCursor | undefined
}

/** Data of one object in the catalogue. */
export interface ObjectEntry {
  readonly digest: Digest
  readonly sizeBytes: number
  readonly storedAtMs: number
  readonly lastUseMs: number
  readonly hits: number
  readonly servedBytes: number
  readonly isManifest: boolean
  readonly repositories: readonly string[]
}

/** A page of objects; pass `next` to get the following page. */
export interface ObjectPage {
  readonly objects: readonly ObjectEntry[]
  readonly next: string | undefined
}

/**
 * An image: a tag, or a manifest that no tag leads to. A cached one of these is listed if clients asked for
 * it by digest, a hosted one always.
 */
export interface ImageEntry extends PlaceName {
  /** True for what was pushed here, false for what is cached. */
  readonly isHosted: boolean
  /** `undefined` for an image that is known by its digest only. */
  readonly tag: string | undefined
  readonly digest: Digest
  /** When the upstream last confirmed the tag; `undefined` without a tag, and for a hosted one. */
  readonly checkedAtMs: number | undefined
  /** Last request for this image; `undefined` if nothing is known of any. */
  readonly lastUseMs: number | undefined
  /** Requests for this image that were answered from the cache. */
  readonly hits: number
}

/** Images to list: those that are cached, those that were pushed here, or both. */
export type ImageKind = 'cached' | 'hosted' | undefined

/** Sort order of a listing of images. */
type ImageOrder = 'name' | 'last-use' | 'hits'

/** Selects images. */
export interface ImageQuery {
  readonly kind: ImageKind
  /** As {@link imageMatcher} reads them; an image has to match one of them, if there is any. */
  readonly patterns: readonly string[]
  /** Only images of this registry. */
  readonly namespace: string | undefined
  /** Only images that no tag leads to. */
  readonly isUntagged: boolean
  /** Only images whose last use was before this time. */
  readonly usedBeforeMs: number | undefined
  readonly order: ImageOrder
  /** The `next` of the page before. */
  readonly after: string | undefined
  readonly limit: number
}

/** A page of images; pass `next` to get the following page. */
export interface ImagePage {
  readonly images: readonly ImageEntry[]
  readonly next: string | undefined
  /** Number of images on all pages. Counted for the first page only. */
  readonly total: number | undefined
}

/** Selects a page of images for people. */
export interface ShelfQuery {
  readonly kind: ImageKind
  readonly order: 'name' | 'last-use' | 'size'
  /** A part of the name of a repository, and behind a colon the beginning of a tag; empty for all. */
  readonly search: string
  /** Only images of this registry. */
  readonly namespace: string | undefined
  /** Only images of which everything is stored, or of which something is missing. */
  readonly isWhole: boolean | undefined
  readonly usedBeforeMs: number | undefined
  /** The `next` of the page before. */
  readonly after: string | undefined
  readonly limit: number
}

/** An image on a page. */
export interface ShelvedImage extends ImageEntry {
  /** Other names of the same manifest that are not listed. */
  readonly otherNames: number
  /** How much of it is stored; `undefined` if its manifest was not read yet. */
  readonly extent: StoredExtent | undefined
}

interface StoredExtent {
  readonly cachedBytes: number
  /** Bytes known to be missing: nothing is known of a manifest that is not stored. */
  readonly missingBytes: number
  /** Number of missing blobs and manifests. */
  readonly lacks: number
}

export interface ShelfPage {
  readonly images: readonly ShelvedImage[]
  readonly next: string | undefined
}
