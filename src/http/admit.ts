import type { IncomingMessage } from 'node:http'
import { OciError } from '../oci/error.ts'

const HEADERS_MAX = 100
/** Limit of all header fields but Range: 1,024 ranges of a large blob take up to 25 KiB. */
const HEADER_BYTES_MAX = 16 * 1024
const SINGULAR: ReadonlySet<string> = new Set([
  'host',
  'authorization',
  'content-length',
  'transfer-encoding',
  'range',
])

const SINGULAR_LENGTHS: ReadonlySet<number> = new Set([...SINGULAR].map(name => name.length))

/** A request that passed a longer chain of mirrors is refused as a loop. */
const TRAIL_MAX = 8
/** Name of a daemon of this program in `CDN-Loop`. */
const INSTANCE = /^entrepot-[0-9a-f]{12}$/

/**
 * Refuses requests that are too large, that two parsers could read in two ways (RFC 9112, section 11), or
 * that carry `instance`, the name of this process in `CDN-Loop` (RFC 8586) and `Via`: they have been here
 * before. Returns the names of the other mirrors of this kind that the request has passed, to be sent on to
 * the upstream. Names of other programs are dropped: a client could use them to make the CDN in front of an
 * upstream refuse us, and so refuse all clients.
 */
export function requireAdmissible(request: IncomingMessage, instance: string): readonly string[] {
  const { rawHeaders } = request
  if (rawHeaders.length > HEADERS_MAX * 2)
    throw new OciError('HEADERS_TOO_LARGE', `more than ${HEADERS_MAX} header fields`)
  const rangeLength = request.headers.range?.length ?? 0
  let headerBytes = 0
  for (const text of rawHeaders) headerBytes += text.length
  if (headerBytes - rangeLength > HEADER_BYTES_MAX) {
    throw new OciError('HEADERS_TOO_LARGE', `more than ${HEADER_BYTES_MAX} bytes of header fields`)
  }
  requireSingular(rawHeaders)
  const coding = request.headers['transfer-encoding']
  if (coding !== undefined && coding.toLowerCase() !== 'chunked') {
    throw new OciError('REQUEST_INVALID', 'the only transfer coding understood is chunked')
  }
  const hasBody = coding !== undefined || (request.headers['content-length'] ?? '0') !== '0'
  if (hasBody && (request.method === 'GET' || request.method === 'HEAD')) {
    throw new OciError('REQUEST_INVALID', 'GET and HEAD have no body')
  }
  return requireNoLoop(request, instance)
}

const NO_TRAIL: readonly string[] = []

function requireNoLoop({ headers }: IncomingMessage, instance: string): readonly string[] {
  const passed = String(headers['cdn-loop'] ?? '')
  if (passed.includes(instance) || (headers.via ?? '').includes(instance)) {
    throw new OciError(
      'LOOP_DETECTED',
      'this request has passed this mirror before: an upstream leads back here',
    )
  }
  if (passed === '') return NO_TRAIL
  const trail = passed
    .split(',')
    .map(text => text.trim())
    .filter(text => INSTANCE.test(text))
  if (trail.length > TRAIL_MAX)
    throw new OciError('LOOP_DETECTED', `this request has passed more than ${TRAIL_MAX} mirrors`)
  return trail
}

function requireSingular(rawHeaders: readonly string[]): void {
  const seen: string[] = []
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const field = rawHeaders[index] ?? ''
    if (!SINGULAR_LENGTHS.has(field.length)) continue
    const name = field.toLowerCase()
    if (!SINGULAR.has(name)) continue
    if (seen.includes(name)) throw new OciError('REQUEST_INVALID', `the header field ${name} is given twice`)
    seen.push(name)
  }
}

/** True if the client wants an answer that the upstream confirms now (RFC 9111, section 5.2.1.4). */
export function wantsFresh(headers: IncomingMessage['headers']): boolean {
  return /(?:^|,)\s*no-cache\s*(?:,|$)/i.test(headers['cache-control'] ?? '')
}
