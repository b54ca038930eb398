/** A deviation of a stub from the correct answer. */
export type S3Fault =
  /** Answers with an S3 error and does nothing else. */
  | { readonly kind: 'error'; readonly status: number; readonly code: string }
  /** Answers as a proxy that knows nothing of S3. */
  | { readonly kind: 'foreign'; readonly status: number }
  /** Never answers. */
  | { readonly kind: 'silence' }
  /** Breaks the connection before anything is done. */
  | { readonly kind: 'reset' }
  /** Performs the request, and breaks the connection instead of answering. */
  | { readonly kind: 'lost-answer' }
  /** Does nothing and answers 200 with an error in the body, as S3 may on Complete. */
  | { readonly kind: 'error-in-200' }
  /** Sends this many bytes of the body and then nothing. */
  | { readonly kind: 'stall'; readonly afterBytes: number }
  /** Sends this many bytes of the body and breaks the connection. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  /** Answers with this many bytes as if the request had asked for no more. */
  | { readonly kind: 'short'; readonly bytes: number }
  /** Flips a bit of the body. */
  | { readonly kind: 'damage'; readonly atByte: number }
  /** Sends another ETag. */
  | { readonly kind: 'etag' }
  /** Waits, then answers correctly. */
  | { readonly kind: 'hold'; readonly until: Promise<void> }

/** Requests of the S3 protocol that a stub knows. */
export type S3Operation =
  | 'AbortMultipartUpload'
  | 'CompleteMultipartUpload'
  | 'CreateMultipartUpload'
  | 'DeleteObject'
  | 'DeleteObjects'
  | 'GetObject'
  | 'HeadObject'
  | 'ListMultipartUploads'
  | 'ListObjectsV2'
  | 'PutObject'
  | 'UploadPart'

/** A request as a stub received it. */
export interface S3Request {
  readonly operation: S3Operation
  /** Key without the bucket; for a listing, its prefix. */
  readonly key: string
  readonly range: string | undefined
  readonly ifMatch: string | undefined
  readonly ifNoneMatch: string | undefined
  readonly partNumber: number | undefined
  readonly uploadId: string | undefined
  readonly accessKeyId: string | undefined
  readonly bodyBytes: number
  /** Metadata that is to be kept with the object, by the names of its headers. */
  readonly metadata: Readonly<Record<string, string>>
}
