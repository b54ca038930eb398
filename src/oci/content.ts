import type { Digest } from './digest.ts'

/** Bytes `[start, end)` of a content; `end` is `Infinity` while the size is not known. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/**
 * Bytes that can be served, as http sends them and the mirror returns them. The receiver disposes of the
 * content once.
 */
export interface Content extends AsyncDisposable {
  readonly digest: Digest
  readonly mediaType: string
  /** `undefined` while an upstream that states no length is still sending. */
  readonly sizeBytes: number | undefined
  /** All of the bytes, if they are proved and already in memory. */
  readonly bytes?: Uint8Array
  /** Set only if the content is proved and the store lets clients fetch it directly. */
  readonly redirect?: Redirect | undefined
  /**
   * Yields the bytes of the range, in order. The last 64 KiB of the content are held back until the whole
   * content is proved to match its digest. If it does not match or cannot be completed, this throws before
   * they are given out. Each chunk is valid only until the next is requested. Ends early, without an error,
   * when the signal aborts. `isContinued` says that the reader already has bytes of this content. They must
   * not be completed by bytes from elsewhere unless they are known to be right.
   */
  read(range: ByteRange, signal: AbortSignal, isContinued?: boolean): AsyncIterable<Uint8Array>
  /**
   * Set only if the bytes can be read from a file, in any thread of this process, until the content is
   * disposed of.
   */
  readonly file?: ContentFile | undefined
}

/** Redirects a client to another server for a content. */
interface Redirect {
  /** A URL that needs no credentials and is valid for some minutes; `undefined` if none is available now. */
  locate(): Promise<string | undefined>
}

/**
 * File descriptor of a file with the bytes of a content. `whole`: the file is complete and proved. `growing`:
 * it is still being written, and `progress` says how far.
 */
export type ContentFile =
  | { readonly kind: 'whole'; readonly fd: number }
  | { readonly kind: 'growing'; readonly fd: number; readonly progress: FileProgress }

/** Progress of a file that is being written, as its readers follow it. */
export interface FileProgress {
  /** The same progress for readers in other threads; `undefined` if this one is for them already. */
  readonly shared?: FileProgress
  /** Number of changes so far. Read it before {@link progress} if you intend to {@link wait}. */
  readonly changes: number
  readonly progress: Progress
  /** Resolves once there have been more than `changes` changes. */
  wait(changes: number): Promise<void>
}

/** Progress of writing a content. */
export interface Progress {
  /**
   * `growing`: more bytes may come. `proved`: complete, and it matches its digest. `lost`: the file will not
   * be completed, so only its owner can supply the rest.
   */
  readonly state: 'growing' | 'proved' | 'lost'
  readonly writtenBytes: number
  /** `undefined` while it is not known. */
  readonly sizeBytes: number | undefined
}

/**
 * Reason for the source of an answer: one closed set for the access log, the metric label and `Cache-Status`.
 */
export type Outcome = 'hit' | 'miss' | 'joined' | 'revalidated' | 'stale' | 'bypass'
