import type { KnownTag } from '../content/tags.ts'

/** Terms on which a namespace is mirrored; times in milliseconds. */
export interface Terms {
  readonly manifestInvalidationMs: number
  readonly staleIfErrorMs: number
  /** Longest time a client waits for the revalidation of a cached tag. */
  readonly revalidationWaitMs: number
  /** `keep`: a tag that the upstream has deleted is still served, within the stale limit. */
  readonly deletedTags: 'keep' | 'forget'
  /** Longest time without a byte before a download is abandoned, all its resumes included. */
  readonly silenceMaxMs: number
}

/**
 * `fresh`: served without asking. `stale`: served only if the upstream fails, is slow, or has deleted the
 * tag. `expired`: not served at all.
 */
export type Freshness = 'fresh' | 'stale' | 'expired'

type FreshnessTerms = Pick<Terms, 'manifestInvalidationMs' | 'staleIfErrorMs'>

/**
 * Rates a tag by the time since the upstream last confirmed it. A tag that the upstream has deleted is never
 * fresh.
 */
export function freshnessOf(
  { ageMs, lostForMs, isDoubted }: Omit<KnownTag, 'digest'>,
  { manifestInvalidationMs, staleIfErrorMs }: FreshnessTerms,
): Freshness {
  if (ageMs < manifestInvalidationMs && lostForMs === undefined && isDoubted !== true) return 'fresh'
  return ageMs <= manifestInvalidationMs + staleIfErrorMs ? 'stale' : 'expired'
}
