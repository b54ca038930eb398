import type { Digest } from '../oci/digest.ts'
import type { Store } from '../storage/store.ts'
import type { Manifests, StoredManifest } from './manifests.ts'

const CHILDREN_MAX = 50

/**
 * Whether a pull of the manifest can be completed from the store alone: all blobs of an image, or at least one whole image of an index
 * (which platform a client wants is not known). A store that cannot tell counts as complete: it is not the upstream's trouble.
 */
export async function isComplete(
  manifest: StoredManifest,
  store: Pick<Store, 'open'>,
  manifests: Pick<Manifests, 'find'>,
): Promise<boolean> {
  if (manifest.kind === 'image') {
    const stored = await Promise.all(manifest.blobs.map(blob => isStored(store, blob.digest)))
    return stored.every(Boolean)
  }
  if (manifest.manifests.length === 0) return true
  for (const { digest } of manifest.manifests.slice(0, CHILDREN_MAX)) {
    const child = await manifests.find(digest)
    if (child?.kind === 'image' && (await isComplete(child, store, manifests))) return true
  }
  return false
}

async function isStored(store: Pick<Store, 'open'>, digest: Digest): Promise<boolean> {
  try {
    await using object = await store.open(digest)
    return object !== undefined
  } catch {
    return true
  }
}
