import type { RuleNames } from './rules/rule-names.ts'

/** Action of a request at a place, as a word of the rules. */
export type Right = 'pull' | 'push' | 'delete' | 'admin'

/** A right to some names that an identity has by itself, such as a robot token's. */
export interface Grant {
  readonly right: Right
  readonly names: RuleNames
}

/** The sender of a request, as rules and logs name it. Plain data, so it can go to another thread. */
export interface Identity {
  /**
   * `anonymous`, a user such as `alice`, or a kind and a name: `robot:ci`, `cert:build-7`, or a token's
   * issuer as in `github:acme/app@refs/heads/main` and `k8s:prod/default`.
   */
  readonly name: string
  readonly groups: readonly string[]
  /** Rights that it has where no rule decides: those of a robot token. */
  readonly grants?: readonly Grant[] | undefined
  /**
   * True if it sent credentials that are not of this mirror, which happens to mirrors by accident. It is
   * anonymous then.
   */
  readonly isForeign?: boolean | undefined
}

/** The sender of a request without credentials. */
export const ANONYMOUS: Identity = { name: 'anonymous', groups: [] }
