import type { CachedImage, Inspection, ManifestReport } from '../content/inspection.ts'
import type { KnownTag } from '../content/tags.ts'
import { freshnessOf } from '../mirror/freshness.ts'
import type { Source } from '../mirror/sources.ts'
import type { RecentPull } from '../observe/recent-pulls.ts'
import type { Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'
import type { Reference } from '../oci/reference.ts'
import type { ExplainedBlob, Explanation, Extent } from './contract.ts'
import type { ExplainedClaim, ExplainedPull, ExplainedTag } from './explained.ts'
import { isoOf } from './times.ts'

/** The cached part of an image, and the state of its upstream. */
export interface ImageReport extends Omit<CachedImage, 'tag'> {
  readonly tag: ExplainedTag | undefined
  /** See {@link Source.isTrusted}. */
  readonly isTrusted: boolean
  /** The current trouble of the upstream. */
  readonly trouble: string | undefined
}

/** Reports on an image; asks no upstream and changes nothing. */
export async function reportOn(
  inspection: Inspection,
  source: Source,
  reference: Reference,
): Promise<ImageReport> {
  const { tag, ...cached } = await inspection.image(source, reference)
  return {
    ...cached,
    tag: tag === undefined ? undefined : { ...tag, ...standingOf(tag, source.terms) },
    isTrusted: source.isTrusted,
    trouble: source.registry.trouble(source.repository)?.message,
  }
}

function standingOf(
  tag: Omit<KnownTag, 'digest'>,
  terms: Source['terms'],
): Omit<ExplainedTag, keyof KnownTag> {
  const { manifestInvalidationMs, staleIfErrorMs } = terms
  const { ageMs, lostForMs } = tag
  return {
    freshness: freshnessOf(tag, terms),
    freshForMs: lostForMs === undefined ? Math.max(0, manifestInvalidationMs - ageMs) : 0,
    usableForMs: Math.max(0, manifestInvalidationMs + staleIfErrorMs - ageMs),
  }
}

/** Sums up a manifest and everything below it. */
export function extentOf(manifest: ManifestReport): Extent {
  const blobs = new Map<Digest, ExplainedBlob>()
  const manifests = [manifest, ...manifest.manifests]
  for (const each of manifests) for (const blob of each.blobs) blobs.set(blob.digest, blob)
  const sum = (isCached: boolean): number =>
    [...blobs.values()]
      .filter(blob => blob.isCached === isCached)
      .reduce((all, blob) => all + blob.sizeBytes, 0)
  const manifestBytes = manifests.reduce((all, each) => all + (each.sizeBytes ?? 0), 0)
  return {
    cachedBytes: sum(true) + manifestBytes,
    missingBytes: sum(false),
    isWhole: manifests.every(each => each.isCached) && [...blobs.values()].every(blob => blob.isCached),
  }
}

/** Predicts the outcome of the next pull of a name that only pushes can fill. */
function nextHostedPull({ isHere }: ExplainedClaim): Explanation['nextPull'] {
  return isHere
    ? { outcome: 'hit', why: 'it was pushed here' }
    : { outcome: 'failure', why: 'its name is hosted here and it was not pushed: no registry is asked' }
}

/** Predicts the outcome of the next pull of an image. */
export function nextPull(report: ImageReport, claim?: ExplainedClaim): Explanation['nextPull'] {
  if (claim?.isClosed === true) return nextHostedPull(claim)
  const { tag, manifest, trouble } = report
  const isHere = manifest?.isCached === true
  if (manifest === undefined || (tag === undefined && !isHere))
    return { outcome: 'miss', why: 'nothing of it is cached' }
  if (tag !== undefined && tag.freshness !== 'fresh' && trouble !== undefined) {
    if (tag.freshness === 'expired')
      return { outcome: 'failure', why: `the cached tag is too old, and ${trouble}` }
    return isHere
      ? { outcome: 'stale', why: `the tag is due to be checked, but ${trouble}` }
      : { outcome: 'failure', why: `its manifest is not cached, and ${trouble}` }
  }
  if (tag?.lostForMs !== undefined && tag.freshness === 'stale')
    return { outcome: 'stale', why: 'its upstream has deleted the tag, and it is still served for a while' }
  if (tag !== undefined && tag.freshness !== 'fresh')
    return { outcome: 'revalidated', why: 'the tag is due to be checked: one HEAD request to the upstream' }
  if (!isHere) return { outcome: 'miss', why: 'its manifest is not cached' }
  if (!report.isLinked && tag === undefined)
    return report.isTrusted
      ? {
          outcome: 'hit',
          why: 'it is cached for another repository: the upstream is asked whether this one has it',
        }
      : {
          outcome: 'miss',
          why: 'it is cached for another repository, and this registry is not configured: its own bytes must come first',
        }
  return tag === undefined
    ? { outcome: 'hit', why: 'a manifest by digest never changes' }
    : { outcome: 'hit', why: 'the upstream confirmed the tag a moment ago' }
}

const WHY = {
  hit: 'the manifest was cached, and its tag was fresh',
  revalidated: 'the tag was due to be checked; the upstream confirmed that it means the cached manifest',
  miss: 'the manifest was not cached, or the tag had moved: it was fetched',
  joined: 'another client was fetching it',
  stale: 'the upstream was in trouble or slow, or has deleted the tag: it was served as it was last known',
  bypass: 'there was nowhere to store it, so it was passed through',
} as const satisfies Record<Outcome, string>

/** Explains the outcome of an earlier pull. */
export function explainedPull(pull: RecentPull | undefined): ExplainedPull | undefined {
  if (pull === undefined) return undefined
  const { atMs, status, outcome, message } = pull
  return { at: isoOf(atMs), status, outcome, why: outcome === undefined ? message : WHY[outcome] }
}
