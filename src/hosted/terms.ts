import type { Tag } from '../oci/name.ts'
import { matchesGlob, matchesName, type NamePattern } from '../oci/name-pattern.ts'
import type { Place } from '../oci/place.ts'

/** Rules of an operator for hosted repositories. */
export interface HostedTerms {
  /** The repositories that they are for. */
  readonly names: NamePattern
  /** Globs of tags that keep their first digest for ever. */
  readonly immutableTags: readonly string[]
  /** Most bytes that all of the repositories may have together. */
  readonly quotaBytes: number | undefined
  /** True if nothing may be pushed or deleted. */
  readonly isReadOnly: boolean
  readonly retention: RetentionTerms | undefined
}

/** Which tags stay. A tag of which {@link tags} does not speak always does. */
export interface RetentionTerms {
  /** Globs of the tags that may go. */
  readonly tags: readonly string[]
  /** The most recently pushed tags that stay, of each repository. */
  readonly keepPushed: number
  /** Tags that were pushed within this time stay. */
  readonly pushedWithinMs: number
  /** The most recently pulled tags that stay, of each repository. */
  readonly keepPulled: number
  /** Tags that were pulled within this time stay. */
  readonly pulledWithinMs: number
  /** Tags such as `v1.2.3` stay. */
  readonly keepsVersions: boolean
}

/** The terms of a repository: the first that name it. */
export function termsOf(all: readonly HostedTerms[], place: Place): HostedTerms | undefined {
  return all.find(({ names }) => matchesName(names, place))
}

/** True if the tag keeps its first digest. */
export function isImmutable(all: readonly HostedTerms[], place: Place, tag: Tag): boolean {
  return termsOf(all, place)?.immutableTags.some(glob => matchesGlob(glob, tag)) ?? false
}
