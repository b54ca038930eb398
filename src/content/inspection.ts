import type { Digest } from '../oci/digest.ts'
import type { Place } from '../oci/place.ts'
import { type Platform, platformsOf } from '../oci/platform.ts'
import type { Reference } from '../oci/reference.ts'
import type { Store } from '../storage/store.ts'
import type { Links } from './links.ts'
import type { StoredManifests } from './stored-manifests.ts'
import type { KnownTag, Tags } from './tags.ts'

export interface InspectionParts {
  readonly store: Pick<Store, 'open'>
  readonly tags: Tags
  readonly links: Links
  readonly manifests: StoredManifests
}

/** A blob that a manifest names. */
interface BlobReport {
  readonly digest: Digest
  readonly sizeBytes: number
  readonly isCached: boolean
}

/** A manifest and the parts of it that are cached. */
export interface ManifestReport {
  readonly digest: Digest
  readonly platform: Platform | undefined
  readonly isCached: boolean
  readonly mediaType: string | undefined
  readonly sizeBytes: number | undefined
  readonly blobs: readonly BlobReport[]
  readonly manifests: readonly ManifestReport[]
}

/** The cached parts of an image. */
export interface CachedImage {
  readonly tag: KnownTag | undefined
  /** True if the repository may see the manifest without asking its upstream. */
  readonly isLinked: boolean
  readonly manifest: ManifestReport | undefined
}

/** Reports what is cached of an image. Asks no upstream and changes nothing. */
export class Inspection {
  readonly #parts: InspectionParts

  constructor(parts: InspectionParts) {
    this.#parts = parts
  }

  async image(place: Place, reference: Reference): Promise<CachedImage> {
    const { tags, links } = this.#parts
    const tag = reference.kind === 'tag' ? await tags.read(place, reference.tag) : undefined
    const digest = reference.kind === 'digest' ? reference.digest : tag?.digest
    return {
      tag,
      isLinked: digest !== undefined && (await links.has(place, digest)),
      manifest: digest === undefined ? undefined : await this.manifest(digest),
    }
  }

  /** A manifest and, for an index, the cached parts of each manifest in it. */
  async manifest(digest: Digest, platform?: Platform): Promise<ManifestReport> {
    const manifest = await this.#parts.manifests.find(digest)
    if (manifest === undefined) return { ...ABSENT, digest, platform }
    const platforms: ReadonlyMap<Digest, Platform> =
      manifest.kind === 'index' ? platformsOf(manifest.bytes) : new Map()
    return {
      digest,
      platform,
      isCached: true,
      mediaType: manifest.mediaType,
      sizeBytes: manifest.bytes.byteLength,
      blobs: await Promise.all(
        manifest.blobs.map(async ({ digest: blob, sizeBytes }) => ({
          digest: blob,
          sizeBytes,
          isCached: await this.isStored(blob),
        })),
      ),
      manifests:
        platform === undefined
          ? await Promise.all(
              manifest.manifests.map(
                async child => await this.manifest(child.digest, platforms.get(child.digest) ?? ''),
              ),
            )
          : [],
    }
  }

  /**
   * Every digest that belongs to an image: its manifests, including those that are not cached, and the blobs
   * they name.
   */
  async digestsOf(digest: Digest): Promise<ReadonlySet<Digest>> {
    const found = new Set<Digest>([digest])
    const manifest = await this.#parts.manifests.find(digest)
    for (const blob of manifest?.blobs ?? []) found.add(blob.digest)
    for (const { digest: child } of manifest?.manifests ?? []) {
      found.add(child)
      for (const blob of (await this.#parts.manifests.find(child))?.blobs ?? []) found.add(blob.digest)
    }
    return found
  }

  /** Counts content as absent if the store cannot be read. */
  async isStored(digest: Digest): Promise<boolean> {
    try {
      await using object = await this.#parts.store.open(digest)
      return object !== undefined
    } catch {
      return false
    }
  }
}

const ABSENT = {
  isCached: false,
  mediaType: undefined,
  sizeBytes: undefined,
  blobs: [],
  manifests: [],
} as const
