/** The replicas of a mirror, as one of them sees them. */
export interface ReplicasReport {
  readonly cluster: string
  /** Downloads that this replica gets from others now. */
  readonly following: number
  readonly members: readonly ReplicaReport[]
}

/** One replica. Counts are of what this one has asked it for, since the start. */
interface ReplicaReport {
  readonly address: string
  readonly state: 'self' | 'alive' | 'draining' | 'unreachable' | 'ignored' | 'unknown'
  /** Version of its program; absent until it has answered. */
  readonly version?: string | undefined
  /** Share of all content that it owns, from 0 to 1; absent with more than a hundred replicas. */
  readonly owns?: number | undefined
  readonly asked: number
  readonly receivedBytes: number
  readonly failures: number
  readonly wrongContent: number
  /** Why it was last not asked, or did not answer. */
  readonly trouble?: string | undefined
}
