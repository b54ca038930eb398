import type { Namespace } from '../namespace.ts'
import type { RuleNames } from './rule-names.ts'

/** What becomes of a Pod with an image that is not allowed. */
export type AdmissionMode = (typeof ADMISSION_MODES)[number]

export const ADMISSION_MODES = ['enforce', 'warn', 'audit'] as const

/** Names of images that may, or may not, be used in some namespaces of a cluster. */
export interface AdmissionRule {
  /** The entry as it is written. */
  readonly text: string
  readonly names: RuleNames
  readonly isAllowed: boolean
  /** Globs of namespaces of the cluster; empty for all of them. */
  readonly namespaces: readonly string[]
  /** Told to the user. */
  readonly reason: string | undefined
}

/** The rules of a cluster's gate. Plain data. */
export interface AdmissionRules {
  readonly mode: AdmissionMode
  /** The verdict on images that no rule names. */
  readonly isAllowedByDefault: boolean
  /** In the order of {@link orderRules}: the first that names an image decides. */
  readonly rules: readonly AdmissionRule[]
  /**
   * Hosts whose repositories stand for those of other registries, such as `mirror/docker.io/library/nginx`.
   */
  readonly mirrors: readonly Namespace[]
}

/**
 * Sorts rules so that the longest match comes first: rules for some namespaces before those for all, then the
 * rule with more characters besides `*`, and of two equal ones the denial.
 */
export function orderRules(rules: readonly AdmissionRule[]): readonly AdmissionRule[] {
  return rules.toSorted(
    (one, other) =>
      Math.min(other.namespaces.length, 1) - Math.min(one.namespaces.length, 1) ||
      literalLength(other) - literalLength(one) ||
      Number(one.isAllowed) - Number(other.isAllowed),
  )
}

function literalLength({ names }: AdmissionRule): number {
  return names.text.replaceAll('*', '').length
}
