/** Action of a request at a place, as a word of the rules. */
export type Right = 'pull' | 'push' | 'delete' | 'admin'

/** The sender of a request, as rules and logs name it. Plain data, so it can go to another thread. */
export interface Identity {
  /**
   * `anonymous`, a user such as `alice`, or a kind and a name: `robot:ci`, `cert:build-7`, or a token's
   * issuer as in `github:acme/app@refs/heads/main` and `k8s:prod/default`.
   */
  readonly name: string
  readonly groups: readonly string[]
}

/** The sender of a request without credentials. */
export const ANONYMOUS: Identity = { name: 'anonymous', groups: [] }
