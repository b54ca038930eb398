import { OciError, UpstreamError, type UpstreamErrorKind } from '../oci/error.ts'

/**
 * The reason with which our own timers and checks abort a request. {@link asUpstreamError} adds the name of
 * the upstream.
 */
export class Trouble extends Error {
  readonly kind: UpstreamErrorKind

  constructor(kind: UpstreamErrorKind, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'Trouble'
    this.kind = kind
  }
}

/** An https server redirects to http although that is not allowed. */
export class DowngradeError extends UpstreamError {
  constructor(host: string) {
    super('invalid', `${host} redirects from https to http`, { host })
    this.name = 'DowngradeError'
  }
}

/**
 * Converts anything thrown by a request to `host`. Our own refusals and the reason of the caller's signal are
 * returned unchanged; everything else becomes an `UpstreamError`. The message never repeats text that the
 * upstream sent. It names the proxy, if there is one on the way.
 */
export function asUpstreamError(
  error: unknown,
  host: string,
  signal?: AbortSignal,
  proxy?: { readonly host: string },
): unknown {
  if (signal?.aborted === true) return signal.reason
  if (error instanceof OciError || error instanceof UpstreamError) return error
  const { kind, message } = troubleOf(error)
  const way = proxy === undefined ? host : `${host} through proxy ${proxy.host}`
  return new UpstreamError(kind, `${way} ${message}`, { cause: error, host })
}

/** The kind of a failed connection, and what happened as the end of a sentence that begins with a host. */
export function troubleOf(error: unknown): Pick<Trouble, 'kind' | 'message'> {
  if (error instanceof Trouble) return error
  const code = codeOf(error)
  const kind = kindOf(code)
  const cause = CAUSES.get(code)
  return { kind, message: cause === undefined ? DESCRIBED[kind] : `${DESCRIBED[kind]}: ${cause}` }
}

/**
 * True if an immediate second try makes sense: the connection broke before an answer. This happens to a
 * kept-alive connection when its server closes it.
 */
export function isWorthRetrying(error: unknown): boolean {
  return (
    error instanceof UpstreamError && (error.kind === 'cut' || error.kind === 'connect') && !isTimeout(error)
  )
}

function isTimeout(error: UpstreamError): boolean {
  return error.cause instanceof Trouble
}

function codeOf(error: unknown): string {
  for (
    let current = error, depth = 0;
    current instanceof Error && depth < 4;
    current = current.cause, depth += 1
  ) {
    if ('code' in current && typeof current.code === 'string') return current.code
  }
  return ''
}

const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  ['ECONNREFUSED', 'connect'],
  ['EHOSTUNREACH', 'connect'],
  ['ENETUNREACH', 'connect'],
  ['EADDRNOTAVAIL', 'connect'],
  ['EMFILE', 'connect'],
  ['ERR_PACKAGE_NOT_LOADED', 'connect'],
  ['ETIMEDOUT', 'timeout'],
  ['ECONNRESET', 'cut'],
  ['EPIPE', 'cut'],
  ['UND_ERR_SOCKET', 'cut'],
  ['UND_ERR_ABORTED', 'cut'],
  ['UND_ERR_REQ_RETRY', 'cut'],
  ['UND_ERR_CONNECT_TIMEOUT', 'timeout'],
  ['UND_ERR_HEADERS_TIMEOUT', 'timeout'],
  ['UND_ERR_BODY_TIMEOUT', 'stalled'],
  ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', 'invalid'],
  ['UND_ERR_HEADERS_OVERFLOW', 'invalid'],
  ['UND_ERR_DESTROYED', 'connect'],
  ['UND_ERR_CLOSED', 'connect'],
])

type Kind = 'connect' | 'cut' | 'dns' | 'invalid' | 'stalled' | 'timeout' | 'tls'

function kindOf(code: string): Kind {
  const known = KINDS.get(code)
  if (known !== undefined) return known
  if (code.startsWith('HPE_')) return code === 'HPE_INVALID_EOF_STATE' ? 'cut' : 'invalid'
  if (code.startsWith('EAI_') || code === 'ENOTFOUND' || code === 'ENODATA') return 'dns'
  if (code.startsWith('ERR_TLS_') || code.startsWith('ERR_SSL_') || code.includes('CERT')) return 'tls'
  return TLS_CODES.has(code) ? 'tls' : 'invalid'
}

/** OpenSSL's verification results whose names do not contain CERT. */
const TLS_CODES: ReadonlySet<string> = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'HOSTNAME_MISMATCH',
  'PATH_LENGTH_EXCEEDED',
  'EPROTO',
])

const UNKNOWN_CA = 'its certificate is from a CA that is not trusted here (give the CA as ca_file)'
const OTHER_NAME = 'its certificate is for another name'
const NO_TLS = 'it does not speak TLS (tls: false is for plain http)'

/** What is behind a failure, where its code tells. */
const CAUSES: ReadonlyMap<string, string> = new Map([
  ['EMFILE', 'this process has too many files open (raise its limit of descriptors)'],
  [
    'ERR_PACKAGE_NOT_LOADED',
    'a part of this program cannot be loaded (too many files are open, or the installation is damaged)',
  ],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', UNKNOWN_CA],
  ['SELF_SIGNED_CERT_IN_CHAIN', UNKNOWN_CA],
  ['UNABLE_TO_GET_ISSUER_CERT', UNKNOWN_CA],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', UNKNOWN_CA],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', UNKNOWN_CA],
  ['CERT_HAS_EXPIRED', 'its certificate has expired, or the clock here is wrong'],
  ['CERT_NOT_YET_VALID', 'its certificate is not valid yet, or the clock here is wrong'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', OTHER_NAME],
  ['HOSTNAME_MISMATCH', OTHER_NAME],
  ['EPROTO', NO_TLS],
  ['ERR_SSL_WRONG_VERSION_NUMBER', NO_TLS],
  ['ERR_SSL_PACKET_LENGTH_TOO_LONG', NO_TLS],
])

const DESCRIBED = {
  connect: 'cannot be connected to',
  cut: 'broke off the connection',
  dns: 'cannot be found in the DNS',
  invalid: 'sent an answer that cannot be understood',
  stalled: 'stopped sending',
  timeout: 'did not answer in time',
  tls: 'did not prove its identity by TLS',
} as const satisfies Record<Kind, string>
