import { lruCache } from '../lib/lru.ts'
import type { Digest } from '../oci/digest.ts'
import type { Descriptor } from '../oci/manifest.ts'

/** About 2 MiB. */
const SIZES_MAX = 10_000

/**
 * Sizes of blobs as the manifests of trusted registries state them. Some registries send blobs without a
 * `Content-Length`, and a download of unknown size gets no room that has to be made first.
 */
export class AnnouncedSizes {
  readonly #sizes = lruCache<Digest, number>(SIZES_MAX)

  note(descriptors: readonly Descriptor[]): void {
    for (const { digest, sizeBytes } of descriptors) this.#sizes.set(digest, sizeBytes)
  }

  of(digest: Digest | undefined): number | undefined {
    return digest === undefined ? undefined : this.#sizes.get(digest)
  }
}
