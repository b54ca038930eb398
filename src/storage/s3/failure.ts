import { StoreUnavailableError } from '../../oci/error.ts'

/**
 * Codes of S3 and of servers like it that are worth telling. Any other text is the server's own and may
 * repeat what it was sent: the access key's id, or the string that was signed, session token included.
 */
const KNOWN_CODES: ReadonlySet<string> = new Set([
  'AccessDenied',
  'AccountProblem',
  'AllAccessDisabled',
  'AuthorizationHeaderMalformed',
  'BadDigest',
  'ConditionalRequestConflict',
  'EntityTooLarge',
  'EntityTooSmall',
  'ExpiredToken',
  'Forbidden',
  'IncompleteBody',
  'InternalError',
  'InvalidAccessKeyId',
  'InvalidArgument',
  'InvalidBucketName',
  'InvalidDigest',
  'InvalidPart',
  'InvalidPartOrder',
  'InvalidRange',
  'InvalidRequest',
  'InvalidToken',
  'KeyTooLongError',
  'MalformedXML',
  'MethodNotAllowed',
  'NoSuchBucket',
  'NoSuchKey',
  'NoSuchUpload',
  'NotFound',
  'NotImplemented',
  'OperationAborted',
  'PermanentRedirect',
  'PreconditionFailed',
  'QuotaExceeded',
  'RequestTimeTooSkewed',
  'RequestTimeout',
  'ServiceUnavailable',
  'SignatureDoesNotMatch',
  'SlowDown',
  'TemporaryRedirect',
  'TooManyRequests',
  'UnknownError',
  'XAmzContentSHA256Mismatch',
  'XMinioStorageFull',
])

/** Errors of the SDK and of our own timers, whose words are safe: no server had a part in them. */
const LOCAL_CODES: ReadonlySet<string> = new Set(['AbortError', 'CredentialsProviderError', 'TimeoutError'])
const SYSTEM_CODE = /^E[A-Z0-9_]{2,30}$/
const REGION = /^[a-z0-9-]{1,40}$/
/** Longest message of a local error that is repeated, in characters. */
const WORDS_MAX = 160

/**
 * A request to S3 that failed: the operation, the status and the code, and words of our own machine only. The
 * SDK's errors carry the whole answer of the server.
 */
export class S3Failure extends StoreUnavailableError {
  /** The code of S3, such as `NoSuchKey`, or of the system, such as `ECONNREFUSED`; else `unknown`. */
  readonly code: string
  /** The HTTP status; `undefined` without an answer. */
  readonly status: number | undefined
  /** The bucket's region as the server states it. */
  readonly region: string | undefined
  /** True if the answer has the request id of an S3 server, which a proxy's own answer lacks. */
  readonly isOfS3: boolean

  constructor(operation: string, error: unknown) {
    const { code, status, words, region, isOfS3 } = facts(error)
    const answer = status === undefined ? code : `${status} ${code}`
    super(`S3 ${operation}: ${answer}${words === '' ? '' : `: ${words}`}`)
    this.name = 'S3Failure'
    this.code = code
    this.status = status
    this.region = region
    this.isOfS3 = isOfS3
  }

  /** True if the key does not exist. A missing bucket is another matter. */
  get isAbsent(): boolean {
    return this.status === 404 && (this.code === 'NoSuchKey' || this.code === 'NotFound')
  }

  /** True if S3 did not answer, is in trouble, or is asked too often: trying later may help. */
  get isTrouble(): boolean {
    const { status, code } = this
    if (code === 'CredentialsProviderError') return false
    return status === undefined || status >= 500 || status === 429 || status === 408 || code === 'SlowDown'
  }
}

/** True for a {@link S3Failure} with one of these codes. */
export function hasS3Code(error: unknown, ...codes: readonly string[]): error is S3Failure {
  return error instanceof S3Failure && codes.includes(error.code)
}

/** True for the error of a key that does not exist. */
export function isAbsent(error: unknown): error is S3Failure {
  return error instanceof S3Failure && error.isAbsent
}

interface Facts {
  readonly code: string
  readonly status: number | undefined
  readonly words: string
  readonly region: string | undefined
  readonly isOfS3: boolean
}

/** The part of the SDK's errors that is read. */
interface Thrown {
  readonly name?: unknown
  readonly code?: unknown
  readonly Code?: unknown
  readonly message?: unknown
  readonly Region?: unknown
  readonly $metadata?: { readonly httpStatusCode?: unknown; readonly requestId?: unknown }
}

function facts(error: unknown): Facts {
  if (typeof error !== 'object' || error === null) {
    return { code: UNKNOWN, status: undefined, words: '', region: undefined, isOfS3: false }
  }
  const { name, code, Code, message, Region, $metadata } = error as Thrown
  const status = $metadata?.httpStatusCode
  const isOfS3 = typeof $metadata?.requestId === 'string'
  const region = typeof Region === 'string' && REGION.test(Region) ? Region : undefined
  if (typeof status === 'number') {
    return { code: [name, Code].find(isKnown) ?? UNKNOWN, status, words: '', region, isOfS3 }
  }
  const local = [code, name, Code].find(isLocal)
  const words = local !== undefined && typeof message === 'string' ? oneLine(message) : ''
  return { code: local ?? UNKNOWN, status: undefined, words, region, isOfS3 }
}

const UNKNOWN = 'unknown'

function isKnown(code: unknown): code is string {
  return typeof code === 'string' && KNOWN_CODES.has(code)
}

function isLocal(code: unknown): code is string {
  return typeof code === 'string' && (LOCAL_CODES.has(code) || SYSTEM_CODE.test(code))
}

function oneLine(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ').trim()
  return line.length <= WORDS_MAX ? line : `${line.slice(0, WORDS_MAX)}…`
}
