import type { Digest } from './digest.ts'

/** Bytes `[start, end)` of a content; `end` is `Infinity` while the size is not known. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/**
 * Bytes that can be served: the one thing that http writes and mirror returns. Whoever receives one disposes of it once.
 */
export interface Content extends AsyncDisposable {
  readonly digest: Digest
  readonly mediaType: string
  /** `undefined` while an upstream that states no length is still sending. */
  readonly sizeBytes: number | undefined
  /** All of it, where it is proved and in memory anyway. */
  readonly bytes?: Uint8Array
  /** A URL by which the client can GET it elsewhere without credentials, where it is proved and clients are to be sent there. */
  readonly locate?: (() => Promise<string | undefined>) | undefined
  /**
   * The bytes of the range, in order. The last 64 KiB of the content are given out only once the whole content is proved
   * to match its digest; if it does not, or cannot be completed, this throws before they are. Each chunk is only valid until
   * the next is asked for. Ends early, without an error, when the signal aborts.
   */
  read(range: ByteRange, signal: AbortSignal): AsyncIterable<Uint8Array>
}

/** Why an answer came from where it came; one closed set for the access log, the metric label and `Cache-Status`. */
export type Outcome = 'hit' | 'miss' | 'joined' | 'revalidated' | 'stale' | 'bypass'
