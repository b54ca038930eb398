import { algorithmOf, type Digest, hexOf } from '../oci/digest.ts'
import type { RecordName } from './store.ts'

/**
 * The key of content, blobs and manifests alike. It is the one that mcronce/oci-registry 0.4 gives to blobs, below its `--root` and
 * in its bucket, so that a cache of that program is warm at once.
 */
export function contentKey(digest: Digest): string {
  const hex = hexOf(digest)
  return `blobs/${algorithmOf(digest)}/${hex.slice(0, 2)}/${hex.slice(2)}`
}

/**
 * The key of a record. Two names never share a key, and no key is a directory of another: a namespace holds no `/`, and no component
 * of a repository name starts with `_`, so the first component that does ends the repository. Keys that differ only in case (tags
 * may) are two: a file system that folds case is not fit for a store.
 */
export function recordKey(name: RecordName): string {
  const repository = `repositories/${name.namespace}/${name.repository}`
  switch (name.kind) {
    case 'tag':
      return `${repository}/_tags/${name.tag}`
    case 'link':
      return `${repository}/_links/${algorithmOf(name.digest)}/${hexOf(name.digest)}`
    default:
      return name satisfies never
  }
}

/** A digest as one component of a file name: `<algorithm>-<hex>`. */
export function digestFileName(digest: Digest): string {
  return `${algorithmOf(digest)}-${hexOf(digest)}`
}

/** The most that a record may hold, in bytes; a larger one is broken. */
export const RECORD_BYTES_MAX = 64 * 1024
