import type { Digest } from '../../oci/digest.ts'
import { type Manifest, parseManifest } from '../../oci/manifest.ts'
import type { RecordName } from '../../storage/store.ts'
import { readHostedTag, readTagRecord } from '../tag-record.ts'
import type { Change, PlaceName } from './change.ts'

type TagRecordName = RecordName & { readonly kind: 'tag' | 'hosted-tag' }
type Tagged = Change & { readonly kind: 'tagged' }

/** What a record that was written means for the index; `undefined` if it means nothing. */
export function changeWritten(name: RecordName, bytes: Uint8Array): Change | undefined {
  const { kind } = name
  if (kind === 'link') return { kind: 'linked', place: placeOf(name), digest: name.digest }
  if (kind === 'hosted-hold') return { kind: 'held', digest: name.digest }
  if (kind === 'hosted-manifest') return { kind: 'published', place: placeOf(name), digest: name.digest }
  return kind === 'tag' || kind === 'hosted-tag' ? tagChange(name, bytes) : undefined
}

/** What a record that was removed means for the index. */
export function changeDeleted(name: RecordName): Change | undefined {
  const { kind } = name
  if (kind === 'link') return { kind: 'unlinked', place: placeOf(name), digest: name.digest }
  if (kind === 'hosted-hold') return { kind: 'released', digest: name.digest }
  if (kind === 'hosted-manifest') return { kind: 'withdrawn', place: placeOf(name), digest: name.digest }
  if (kind === 'tag') return { kind: 'untagged', place: placeOf(name), tag: name.tag }
  if (kind !== 'hosted-tag') return undefined
  return { kind: 'untagged', place: placeOf(name), tag: name.tag, isHosted: true }
}

/** The change described by the record of a tag; `undefined` if it is damaged. */
export function tagChange(name: TagRecordName, bytes: Uint8Array): Tagged | undefined {
  const [place, { tag }] = [placeOf(name), name]
  try {
    if (name.kind === 'hosted-tag') {
      const { digest, movedAtMs } = readHostedTag(bytes)
      return { kind: 'tagged', place, tag, digest, atMs: movedAtMs, isHosted: true }
    }
    const { digest, checkedAtMs } = readTagRecord(bytes)
    return { kind: 'tagged', place, tag, digest, atMs: checkedAtMs }
  } catch {
    return undefined
  }
}

/** What the bytes of stored content mean for the index: it is a manifest, or it is not. */
export function changeRead(digest: Digest, bytes: Uint8Array): Change {
  return readChange(digest, parsed(bytes))
}

/** The same for content that was read and parsed. */
export function readChange(digest: Digest, manifest: Manifest | undefined): Change {
  const manifests = manifest?.manifests.map(child => child.digest)
  const blobs = manifest?.blobs.map(blob => ({ digest: blob.digest, sizeBytes: blob.sizeBytes }))
  return { kind: 'read', digest, manifests, blobs }
}

function parsed(bytes: Uint8Array): Manifest | undefined {
  try {
    return parseManifest(bytes)
  } catch {
    return undefined
  }
}

function placeOf({ namespace, repository }: PlaceName): PlaceName {
  return { namespace, repository }
}
