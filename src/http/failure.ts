import {
  BUSY_RETRY_MS,
  OciError,
  type OciErrorCode,
  retryAfterText,
  UpstreamError,
  type UpstreamErrorKind,
} from '../oci/error.ts'
import { jsonReply, type Reply } from './reply.ts'

/** A failure as the client sees it. */
export interface Failure {
  readonly status: number
  readonly code: OciErrorCode | 'UNKNOWN'
  readonly message: string
  readonly retryAfterMs: number | undefined
  /** True if the connection must not be used again. */
  readonly mustClose: boolean
}

const STATUS = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DENIED: 403,
  DIGEST_INVALID: 400,
  HEADERS_TOO_LARGE: 431,
  LOOP_DETECTED: 508,
  MANIFEST_BLOB_UNKNOWN: 400,
  MANIFEST_INVALID: 400,
  BODY_TOO_LARGE: 413,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  RANGE_INVALID: 416,
  // Only where an operator has set a limit for each client.
  RATE_LIMITED: 429,
  REQUEST_INVALID: 400,
  SIZE_INVALID: 400,
  // The specification has no code of its own for it; it goes out as DENIED.
  TAG_IMMUTABLE: 409,
  TAG_INVALID: 400,
  // Not 429: containerd repeats a request five times within milliseconds after a 429, and dockerd hangs on
  // one. After a 503 both go to the origin.
  TOOMANYREQUESTS: 503,
  UNAUTHORIZED: 401,
  UNAVAILABLE: 503,
  UNSUPPORTED: 405,
  URI_TOO_LONG: 414,
} as const satisfies Record<OciErrorCode, number>

/** Codes that the specification does not have, and those that stand for them. */
const SENT_AS: ReadonlyMap<OciErrorCode, OciErrorCode> = new Map([
  ['BODY_TOO_LARGE', 'SIZE_INVALID'],
  ['TAG_IMMUTABLE', 'DENIED'],
])

const UPSTREAM = {
  breaker: { status: 502, code: 'UNAVAILABLE' },
  connect: { status: 502, code: 'UNAVAILABLE' },
  cut: { status: 502, code: 'UNAVAILABLE' },
  dns: { status: 502, code: 'UNAVAILABLE' },
  invalid: { status: 502, code: 'UNAVAILABLE' },
  mismatch: { status: 502, code: 'UNAVAILABLE' },
  // The same as a refusal by policy, so that it does not reveal if an internal name exists.
  'not-public': { status: 403, code: 'DENIED' },
  offline: { status: 404, code: 'MANIFEST_UNKNOWN' },
  'rate-limited': { status: 503, code: 'TOOMANYREQUESTS' },
  refused: { status: 403, code: 'DENIED' },
  stalled: { status: 502, code: 'UNAVAILABLE' },
  status: { status: 502, code: 'UNAVAILABLE' },
  timeout: { status: 504, code: 'UNAVAILABLE' },
  tls: { status: 502, code: 'UNAVAILABLE' },
  token: { status: 502, code: 'UNAVAILABLE' },
  'too-many': { status: 503, code: 'TOOMANYREQUESTS' },
} as const satisfies Record<UpstreamErrorKind, { readonly status: number; readonly code: OciErrorCode }>

const RETRIED: ReadonlySet<number> = new Set([429, 503])

/** The upstream detected a loop. Clients behind us in the loop get the same answer. */
const LOOP = { status: 508, code: 'LOOP_DETECTED' } as const

const CLOSING: ReadonlySet<OciErrorCode> = new Set<OciErrorCode>([
  'HEADERS_TOO_LARGE',
  'LOOP_DETECTED',
  'REQUEST_INVALID',
  'UNSUPPORTED',
  'URI_TOO_LONG',
])

/**
 * The only table from errors to what the client sees. An error that is neither a refusal nor upstream trouble
 * is a 500 without its own text.
 */
export function failureOf(error: unknown): Failure {
  if (error instanceof OciError) {
    const { code, message, retryAfterMs } = error
    const status = STATUS[code]
    return {
      status,
      code: SENT_AS.get(code) ?? code,
      message,
      retryAfterMs: RETRIED.has(status) ? (retryAfterMs ?? BUSY_RETRY_MS) : undefined,
      mustClose: CLOSING.has(code),
    }
  }
  if (error instanceof UpstreamError) {
    const { status, code } = error.status === 508 ? LOOP : UPSTREAM[error.kind]
    const retryAfterMs = status === 403 || status === 404 ? undefined : (error.retryAfterMs ?? BUSY_RETRY_MS)
    return { status, code, message: error.message, retryAfterMs, mustClose: false }
  }
  return {
    status: 500,
    code: 'UNKNOWN',
    message: 'internal error',
    retryAfterMs: undefined,
    mustClose: false,
  }
}

/** The response to a failure; `headers` are added to it. */
export function failureReply(failure: Failure, headers: Readonly<Record<string, string>> = {}): Reply {
  const { status, retryAfterMs, mustClose } = failure
  return jsonReply(status, failureBody(failure), {
    ...(mustClose ? { Connection: 'close' } : {}),
    ...(retryAfterMs === undefined ? {} : { 'Retry-After': retryAfterText(retryAfterMs) }),
    ...(status === 405 ? { Allow: 'GET, HEAD' } : {}),
    ...headers,
  })
}

/** The error body of the distribution specification. */
export function failureBody({ code, message }: Pick<Failure, 'code' | 'message'>): string {
  // The specification has one code for both.
  return JSON.stringify({ errors: [{ code: code === 'RATE_LIMITED' ? 'TOOMANYREQUESTS' : code, message }] })
}
