import type { StoredManifest, StoredManifests } from '../content/stored-manifests.ts'
import type { Digest } from '../oci/digest.ts'
import type { Store } from '../storage/store.ts'

const CHILDREN_MAX = 50

export interface CompletenessParts {
  readonly store: Pick<Store, 'open'>
  readonly manifests: Pick<StoredManifests, 'find'>
  /** True if stored content with this digest may be served for this request. */
  readonly isVisible: (digest: Digest) => Promise<boolean>
}

/**
 * True if a pull of the manifest can be completed from the store alone: all blobs of an image or of a build
 * cache, or at least one whole image of an index (the platform that the client wants is not known). A store
 * that fails counts as complete: the upstream is not at fault.
 */
export async function isComplete(manifest: StoredManifest, parts: CompletenessParts): Promise<boolean> {
  if (manifest.manifests.length === 0) {
    const servable = await Promise.all(manifest.blobs.map(blob => isServable(parts, blob.digest)))
    return servable.every(Boolean)
  }
  for (const { digest } of manifest.manifests.slice(0, CHILDREN_MAX)) {
    if (!(await parts.isVisible(digest))) continue
    const child = await parts.manifests.find(digest)
    if (child?.kind === 'image' && (await isComplete(child, parts))) return true
  }
  return false
}

async function isServable({ store, isVisible }: CompletenessParts, digest: Digest): Promise<boolean> {
  if (!(await isVisible(digest))) return false
  try {
    await using object = await store.open(digest)
    return object !== undefined
  } catch {
    return true
  }
}
