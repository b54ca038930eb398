import type { IncomingHttpHeaders } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { getCACertificates } from 'node:tls'
import { request as httpRequest } from '../../lib/libraries.ts'

/** A whole answer over HTTP. */
export interface HttpAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

export interface AskOptions {
  readonly headers?: Readonly<Record<string, string>>
  /** A further authority to trust, as PEM. */
  readonly ca?: string | undefined
  /** A certificate of this client with its key, as PEM. */
  readonly certificate?: { readonly cert: string; readonly key: string } | undefined
  readonly timeoutMs?: number
  /** A unix socket to ask through, whatever host the URL names. */
  readonly socketPath?: string
}

const BODY_BYTES_MAX = 4 * 1024 * 1024
/** The mirror has 25 s for its first header. */
const ANSWER_MS = 30_000

/** Sends a GET; rejects without a complete answer of at most 4 MiB within 30 s. */
export async function ask(url: string, options: AskOptions = {}): Promise<HttpAnswer> {
  const { headers = {}, ca, certificate, socketPath, timeoutMs = ANSWER_MS } = options
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>()
  const common = { headers, agent: false, signal: AbortSignal.timeout(timeoutMs) } as const
  // Clients trust the CAs of the system; Node trusts only its built-in ones by default.
  const trusted = (): string[] => [
    ...getCACertificates('default'),
    ...getCACertificates('system'),
    ...(ca === undefined ? [] : [ca]),
  ]
  const asked = url.startsWith('https:')
    ? httpsRequest(url, { ...common, ...certificate, ca: trusted() })
    : httpRequest(url, socketPath === undefined ? common : { ...common, socketPath })
  asked.on('error', reject)
  asked.on('response', response => {
    const chunks: Buffer[] = []
    let bytes = 0
    response.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      bytes += chunk.byteLength
      if (bytes > BODY_BYTES_MAX) response.destroy(new Error('the answer is longer than 4 MiB'))
    })
    response.on('error', reject)
    response.on('end', () => {
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) })
    })
  })
  asked.end()
  return await promise
}

const REASONS: ReadonlyMap<string, string> = new Map([
  ['ECONNREFUSED', 'nothing listens there: the mirror is not running, or it uses another port'],
  ['ECONNRESET', 'it closes the connection without an answer: it may need https://'],
  ['HPE_INVALID_CONSTANT', 'it does not speak plain HTTP: it may need https://'],
  ['EPROTO', 'it does not speak TLS: it may need http://'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'it does not speak TLS: it needs http://'],
  ['ERR_SSL_PACKET_LENGTH_TOO_LONG', 'it does not speak TLS: it needs http://'],
  ['ENOTFOUND', 'this machine cannot resolve the name'],
  ['EAI_AGAIN', 'this machine cannot resolve the name now'],
  ['EHOSTUNREACH', 'there is no route to it from this machine'],
  ['ENETUNREACH', 'there is no route to it from this machine'],
  ['ABORT_ERR', 'it does not answer in time: check for a firewall'],
  ['ETIMEDOUT', 'it does not answer in time: check for a firewall'],
  ['CERT_HAS_EXPIRED', 'its certificate has expired'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'its certificate is for another name'],
])
const UNTRUSTED: ReadonlySet<string> = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
])

/** Explains why a request got no answer. */
export function whyUnanswered(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (UNTRUSTED.has(code))
    return 'its certificate is from a CA that this machine does not trust; clients then bypass the mirror silently'
  if (error instanceof Error && error.name === 'TimeoutError') return REASONS.get('ETIMEDOUT') ?? ''
  return REASONS.get(code) ?? (error instanceof Error ? error.message : String(error))
}
