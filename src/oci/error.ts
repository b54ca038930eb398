/** Error codes of the OCI distribution specification, and further ones in common use. */
export type OciErrorCode =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DENIED'
  | 'DIGEST_INVALID'
  | 'HEADERS_TOO_LARGE'
  | 'LOOP_DETECTED'
  | 'MANIFEST_BLOB_UNKNOWN'
  | 'MANIFEST_INVALID'
  | 'BODY_TOO_LARGE'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'RANGE_INVALID'
  /** A client is over its own limit; TOOMANYREQUESTS is about a registry's. */
  | 'RATE_LIMITED'
  | 'REQUEST_INVALID'
  | 'SIZE_INVALID'
  | 'TAG_IMMUTABLE'
  | 'TAG_INVALID'
  | 'TOOMANYREQUESTS'
  | 'UNAUTHORIZED'
  | 'UNAVAILABLE'
  | 'UNSUPPORTED'
  | 'URI_TOO_LONG'

/** The request was understood and is refused. The message is meant for the client. */
export class OciError extends Error {
  readonly code: OciErrorCode
  /** Time the client should wait before a retry, in milliseconds. */
  readonly retryAfterMs: number | undefined

  constructor(code: OciErrorCode, message: string, options: ErrorOptions & { retryAfterMs?: number } = {}) {
    super(message, options)
    this.name = 'OciError'
    this.code = code
    this.retryAfterMs = options.retryAfterMs
  }
}

/** Time after which a client may retry a request refused for lack of room, in milliseconds. */
export const BUSY_RETRY_MS = 5000

/** Refusal of a request over the limit of concurrent operations. */
export function overloaded(): OciError {
  return new OciError('UNAVAILABLE', 'the mirror is busy: too many operations of this kind are running', {
    retryAfterMs: BUSY_RETRY_MS,
  })
}

/** A delay as the value of `Retry-After`: whole seconds, at least one. */
export function retryAfterText(delayMs: number = BUSY_RETRY_MS): string {
  return String(Math.max(1, Math.ceil(delayMs / 1000)))
}

/**
 * Kinds of upstream failure. `refused`: the upstream answered 401 or 403 to the best credentials that we
 * have. `invalid`: the answer breaks the specification. `mismatch`: the bytes do not hash to the requested
 * digest. `breaker`: the upstream was not asked because it has just failed. `not-public`: a client supplied a
 * name that has no public address. `too-many`: the upstream was not asked because a limit for registries that
 * are not configured is reached.
 */
export type UpstreamErrorKind =
  | 'breaker'
  | 'connect'
  | 'cut'
  | 'dns'
  | 'invalid'
  | 'mismatch'
  | 'offline'
  | 'not-public'
  | 'rate-limited'
  | 'refused'
  | 'stalled'
  | 'status'
  | 'timeout'
  | 'tls'
  | 'token'
  | 'too-many'

/**
 * A failure of the upstream: neither "absent" (`undefined`) nor a refusal of ours ({@link OciError}). It is
 * defined here and not in upstream/ because the mirror branches on it and http maps it to a status, and
 * neither may import upstream code. Its message names the upstream's host and what went wrong, and may be
 * shown to a client.
 */
export class UpstreamError extends Error {
  readonly kind: UpstreamErrorKind
  /** The upstream's HTTP status, if it sent one. */
  readonly status: number | undefined
  /** Time the upstream asked us to wait before a retry, in milliseconds. */
  readonly retryAfterMs: number | undefined
  /** `host:port` of the server that failed, if known. After a redirect it may not be the registry. */
  readonly host: string | undefined
  /** True if the upstream refuses our user name and password, whatever they are for. */
  readonly refusesLogin: boolean

  constructor(
    kind: UpstreamErrorKind,
    message: string,
    options: ErrorOptions & {
      status?: number | undefined
      retryAfterMs?: number | undefined
      host?: string | undefined
      refusesLogin?: boolean
    } = {},
  ) {
    super(message, options)
    this.name = 'UpstreamError'
    this.kind = kind
    this.status = options.status
    this.retryAfterMs = options.retryAfterMs
    this.host = options.host
    this.refusesLogin = options.refusesLogin === true
  }
}

/**
 * The store could not be reached or did not answer: neither "absent" nor damage, and it says nothing about
 * the content under a digest. It is defined here because the mirror branches on it and may not import a
 * store's code.
 */
export class StoreUnavailableError extends Error {
  constructor(message: string, options: ErrorOptions = {}) {
    super(message, options)
    this.name = 'StoreUnavailableError'
  }
}

/**
 * The store cannot be used as configured, and waiting will not help. Its message says what to change, and may
 * be shown.
 */
export class StoreUnusableError extends Error {
  constructor(message: string, options: ErrorOptions = {}) {
    super(message, options)
    this.name = 'StoreUnusableError'
  }
}
