import type { Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'

/** A claim of hosted names, as it decides about an image. */
export interface ExplainedClaim {
  readonly names: string
  readonly fallback?: string | undefined
  /** Shorter patterns that match too. */
  readonly others: readonly string[]
  /** True if only what was pushed is served. */
  readonly isClosed: boolean
  /** True if the image was pushed here. */
  readonly isHere: boolean
}

/** A cached tag, judged by the freshness settings of its upstream. */
export interface ExplainedTag {
  readonly digest: Digest
  /** Time since the upstream confirmed the tag. */
  readonly ageMs: number
  /** Time since the upstream was found to have deleted the tag. */
  readonly lostForMs?: number | undefined
  readonly freshness: 'fresh' | 'stale' | 'expired'
  /** Time for which it is still served without asking the upstream. */
  readonly freshForMs: number
  /** Time for which it is still served if the upstream is in trouble. */
  readonly usableForMs: number
}

export interface ExplainedPull {
  readonly at: string
  readonly status: number
  readonly outcome?: Outcome | undefined
  readonly why?: string | undefined
}
