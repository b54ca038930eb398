import type { Digest } from '../../oci/digest.ts'
import { algorithmOf, hexOf } from '../../oci/digest.ts'
import { OciError } from '../../oci/error.ts'
import type { Place } from '../../oci/place.ts'
import type { AdminPageParts } from './page-parts.ts'

/** A manifest about another one that is here. */
export interface Referrer {
  readonly image: string
  /** What it is, in a word. */
  readonly what: string
}

const LISTED_MAX = 50
const KINDS: ReadonlyMap<string, string> = new Map([
  ['sig', 'signature'],
  ['att', 'attestation'],
  ['sbom', 'SBOM'],
])

/**
 * What is here about a manifest: pushed referrers of a hosted repository, and in a mirrored one the tags by
 * which cosign names signatures. No upstream is asked.
 */
export async function referrersOf(
  { hosting, desk }: Pick<AdminPageParts, 'hosting' | 'desk'>,
  place: Place,
  digest: Digest,
): Promise<readonly Referrer[]> {
  const name = `${place.namespace}/${place.repository}`
  const found: Referrer[] = []
  if (hosting.isClaimed(place)) {
    for await (const referrer of hosting.hosted.shelf.referrers(place, digest)) {
      found.push({ image: `${name}@${referrer}`, what: 'referrer' })
      if (found.length >= LISTED_MAX) break
    }
    return found
  }
  const tags = new RegExp(`^${algorithmOf(digest)}-${hexOf(digest)}(?:\\.([a-z]{1,10}))?$`)
  for (const { tag = '' } of await imagesOf(desk, place)) {
    const [match, kind = ''] = tags.exec(tag) ?? []
    if (match !== undefined) found.push({ image: `${name}:${tag}`, what: KINDS.get(kind) ?? 'referrers' })
    if (found.length >= LISTED_MAX) break
  }
  return found
}

/** Empty without an index. */
async function imagesOf(
  desk: AdminPageParts['desk'],
  place: Place,
): Promise<readonly { readonly tag: string | undefined }[]> {
  try {
    return (await desk?.imagesOf(place)) ?? []
  } catch (error) {
    if (error instanceof OciError) return []
    throw error
  }
}
