import type { StoredManifests } from '../content/stored-manifests.ts'
import { algorithmOf, type Digest, hexOf } from '../oci/digest.ts'
import { OCI_INDEX } from '../oci/media-type.ts'
import { parseTag, type Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import { parsePushedManifest } from '../oci/pushed-manifest.ts'
import type { Shelf } from './shelf.ts'

/** An entry of a list of referrers, as the image specification writes a descriptor. */
interface ReferrerEntry {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
  readonly artifactType?: string | undefined
  readonly annotations?: Readonly<Record<string, string>> | undefined
}

/** Hexadecimal digits of a digest in a fallback tag. */
const FALLBACK_DIGITS = 64

/**
 * The referrers of a subject as an index: manifests that name it, and those that a client without the
 * referrers API listed under the fallback tag.
 */
export async function listReferrers(
  { shelf, manifests }: { readonly shelf: Shelf; readonly manifests: StoredManifests },
  place: Place,
  { subject, artifactType }: { readonly subject: Digest; readonly artifactType: string | undefined },
): Promise<Uint8Array> {
  const entries = new Map<string, ReferrerEntry>()
  for (const entry of await fallbackEntries({ shelf, manifests }, place, subject))
    entries.set(entry.digest, entry)
  for await (const digest of shelf.referrers(place, subject)) {
    const entry = await entryOf({ shelf, manifests }, place, digest)
    if (entry !== undefined) entries.set(digest, entry)
  }
  const wanted = [...entries.values()].filter(
    entry => artifactType === undefined || entry.artifactType === artifactType,
  )
  wanted.sort((one, other) => (one.digest < other.digest ? -1 : 1))
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: wanted }))
}

/** The tag under which clients list referrers if a registry does not. */
function fallbackTag(subject: Digest): Tag | undefined {
  return parseTag(`${algorithmOf(subject)}-${hexOf(subject).slice(0, FALLBACK_DIGITS)}`)
}

type Parts = Parameters<typeof listReferrers>[0]

/** `undefined` if the repository does not have the manifest any more. */
async function entryOf(
  { shelf, manifests }: Parts,
  place: Place,
  digest: Digest,
): Promise<ReferrerEntry | undefined> {
  const record = await shelf.content({ kind: 'hosted-manifest', ...place, digest })
  const stored = record === undefined ? undefined : await manifests.find(digest)
  if (stored === undefined) return undefined
  const { artifactType, annotations } = parsePushedManifest(stored.bytes)
  return { mediaType: stored.mediaType, digest, size: stored.bytes.byteLength, artifactType, annotations }
}

async function fallbackEntries(
  { shelf, manifests }: Parts,
  place: Place,
  subject: Digest,
): Promise<readonly ReferrerEntry[]> {
  const tag = fallbackTag(subject)
  const record = tag === undefined ? undefined : await shelf.tag(place, tag)
  const stored = record === undefined ? undefined : await manifests.find(record.digest)
  if (stored?.kind !== 'index') return []
  const { manifests: listed = [] } = JSON.parse(Buffer.from(stored.bytes).toString('utf8')) as {
    manifests?: readonly ReferrerEntry[] | null
  }
  const own: ReferrerEntry[] = []
  for (const { mediaType, digest, size, artifactType, annotations } of listed ?? []) {
    const isHere = stored.manifests.some(named => named.digest === digest)
    if (isHere) own.push({ mediaType, digest, size, artifactType, annotations })
  }
  return own
}
