import type { ReferrersPage, ReferrersQuestion } from '../content/answering.ts'
import type { StoredManifests } from '../content/stored-manifests.ts'
import { algorithmOf, type Digest, hexOf } from '../oci/digest.ts'
import { MANIFEST_SIZE_MAX } from '../oci/manifest.ts'
import { OCI_INDEX } from '../oci/media-type.ts'
import { parseTag, type Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import { parsePushedManifest } from '../oci/pushed-manifest.ts'
import type { Shelf } from './shelf.ts'

/** An entry of a list of referrers, as the image specification writes a descriptor. */
interface ReferrerEntry {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
  readonly artifactType?: string | undefined
  readonly annotations?: Readonly<Record<string, string>> | undefined
}

/** Hexadecimal digits of a digest in a fallback tag. */
const FALLBACK_DIGITS = 64

/** Manifests that are looked at for one page. */
const LOOKED_AT_MAX = 1_000
/** Clients read an index of 4 MiB at most, as any other manifest. */
const PAGE_BYTES_MAX = MANIFEST_SIZE_MAX
/** Room for the members of the index itself. */
const FRAME_BYTES = 1024

/**
 * A page of the referrers of a subject as an index, by their digests: manifests that name it, and those that
 * a client without the referrers API listed under the fallback tag. A page may be empty and have a next one,
 * if nothing on it is of the type that is asked for.
 */
export async function listReferrers(
  parts: { readonly shelf: Shelf; readonly manifests: StoredManifests },
  place: Place,
  { digest: subject, artifactType, last }: ReferrersQuestion,
): Promise<ReferrersPage> {
  const listed = new Map<Digest, ReferrerEntry>()
  for (const entry of await fallbackEntries(parts, place, subject)) listed.set(entry.digest, entry)
  const pushed = new Set(await Array.fromAsync(parts.shelf.referrers(place, subject)))
  const all = [...new Set([...listed.keys(), ...pushed])].filter(
    digest => last === undefined || digest > last,
  )
  const entries: string[] = []
  let [lookedAt, bytes] = [0, FRAME_BYTES]
  let end: Digest | undefined
  for (const digest of all.sort()) {
    const found = pushed.has(digest) ? await entryOf(parts, place, digest) : undefined
    const entry = found ?? listed.get(digest)
    const text = entry === undefined || !isWanted(entry, artifactType) ? '' : textOf(entry)
    if (bytes + text.length > PAGE_BYTES_MAX) break
    if (text !== '') entries.push(text)
    bytes += text.length + 1
    lookedAt += 1
    end = digest
    if (lookedAt === LOOKED_AT_MAX) break
  }
  const index = `{"schemaVersion":2,"mediaType":"${OCI_INDEX}","manifests":[${entries.join(',')}]}`
  return { index: Buffer.from(index, 'latin1'), next: lookedAt < all.length ? end : undefined }
}

function isWanted(entry: ReferrerEntry, artifactType: string | undefined): boolean {
  return artifactType === undefined || entry.artifactType === artifactType
}

/**
 * An entry as a text of its bytes. One that would fill a page alone goes without its annotations, which are
 * in its manifest.
 */
function textOf(entry: ReferrerEntry): string {
  const text = bytesText(entry)
  return text.length <= PAGE_BYTES_MAX - FRAME_BYTES ? text : bytesText({ ...entry, annotations: undefined })
}

function bytesText(entry: ReferrerEntry): string {
  return Buffer.from(JSON.stringify(entry)).toString('latin1')
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
