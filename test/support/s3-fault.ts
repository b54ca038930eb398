/** What a stub does instead of, or around, the honest answer. */
export type S3Fault =
  /** Answers with an error of S3, and does nothing. */
  | { readonly kind: 'error'; readonly status: number; readonly code: string }
  /** Never answers. */
  | { readonly kind: 'silence' }
  /** Breaks the connection before anything is done. */
  | { readonly kind: 'reset' }
  /** Does what is asked, and breaks the connection instead of answering. */
  | { readonly kind: 'lost-answer' }
  /** Does nothing, and answers 200 with an error as its body, as S3 may on Complete. */
  | { readonly kind: 'error-in-200' }
  /** Sends so many bytes of the body and then nothing. */
  | { readonly kind: 'stall'; readonly afterBytes: number }
  /** Sends so many bytes of the body and breaks the connection. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  /** Answers with so many bytes, as if that were all that was asked for. */
  | { readonly kind: 'short'; readonly bytes: number }
  /** Flips a bit of the body. */
  | { readonly kind: 'damage'; readonly atByte: number }
  /** Says another ETag. */
  | { readonly kind: 'etag' }
  /** Waits, then answers honestly. */
  | { readonly kind: 'hold'; readonly until: Promise<void> }

/** The requests of S3's protocol that a stub knows. */
export type S3Operation =
  | 'AbortMultipartUpload'
  | 'CompleteMultipartUpload'
  | 'CreateMultipartUpload'
  | 'DeleteObject'
  | 'GetObject'
  | 'HeadObject'
  | 'ListMultipartUploads'
  | 'ListObjectsV2'
  | 'PutObject'
  | 'UploadPart'

/** A request as a stub received it. */
export interface S3Request {
  readonly operation: S3Operation
  /** Without the bucket; of a listing, its prefix. */
  readonly key: string
  readonly range: string | undefined
  readonly ifMatch: string | undefined
  readonly ifNoneMatch: string | undefined
  readonly partNumber: number | undefined
  readonly uploadId: string | undefined
  readonly accessKeyId: string | undefined
  readonly bodyBytes: number
}
