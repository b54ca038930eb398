/** What came of loading a server for a while. */
export interface Load {
  /** Answers that came whole. */
  readonly requests: number
  /** Bytes that the client has read. */
  readonly bytes: number
  readonly seconds: number
  /** What the client has worked, in seconds: near `seconds` it is the client that is measured. */
  readonly clientCpuSeconds: number
  readonly p50Ms?: number
  readonly p99Ms?: number
}
