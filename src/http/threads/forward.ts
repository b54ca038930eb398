import { timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import type { Peer } from '../../access/peer.ts'
import { Agent, request as openRequest } from '../../lib/libraries.ts'
import { OciError } from '../../oci/error.ts'
import { failureOf, failureReply } from '../failure.ts'
import { bodyOf, dropRest } from '../request-body.ts'
import { READING_LIMITS, sendAtOnce } from '../send.ts'
import type { Handler } from '../server.ts'
import { Peers } from '../tls/peer.ts'

/** Path of the private socket between threads, and the secret by which the first thread recognizes them. */
export interface PrivateSocket {
  readonly path: string
  readonly secret: string
}

/** Carries the secret and the {@link Peer}. Only the private socket may use it. */
const FIELD = 'Entrepot-Client'

/** Fields that belong to one connection and not to the request or response (RFC 9110, section 7.6.1). */
const HOP_BY_HOP: ReadonlySet<string> = new Set(['connection', 'keep-alive', 'proxy-connection', 'upgrade'])

const CONTENT = /^[^?]*\/(?:manifests|blobs)\/[^/?]+(?:\?|$)/

/** True for a GET or HEAD of a manifest or blob: the requests that a further thread answers itself. */
export function isContentRequest({ method, url = '' }: IncomingMessage): boolean {
  return (method === 'GET' || method === 'HEAD') && CONTENT.test(url)
}

/** Longest silence of a client that sends, in milliseconds: a store may take long to take it. */
const SENDING_MS = 15 * 60_000

function isSending({ method }: IncomingMessage): boolean {
  return method !== 'GET' && method !== 'HEAD'
}

/** Pipes requests over the private socket to the first thread, and its responses back. */
export class Forwarding {
  readonly #socket: PrivateSocket
  readonly #peers: Pick<Peers, 'of'>
  readonly #agent = new Agent({ keepAlive: true })

  constructor(socket: PrivateSocket, peers: Pick<Peers, 'of'> = new Peers()) {
    this.#socket = socket
    this.#peers = peers
  }

  /** Lets the first thread answer the request; never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.socket?.setTimeout(isSending(request) ? SENDING_MS : READING_LIMITS.idleMs)
    try {
      const answer = await this.#ask(request, response)
      if (!request.complete) await dropRest(bodyOf(request, response))
      response.writeHead(answer.statusCode ?? 502, responseFields(answer.rawHeaders))
      await pipeline(answer, response)
    } catch (error) {
      if (response.headersSent) response.destroy()
      else if (!response.destroyed)
        sendAtOnce(response, failureReply(failureOf(unavailable(error))), READING_LIMITS)
    }
  }

  async #ask(request: IncomingMessage, response: ServerResponse): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const { path, secret } = this.#socket
    const forwarded = openRequest({
      socketPath: path,
      agent: this.#agent,
      method: request.method ?? 'GET',
      path: request.url ?? '/',
      headers: [
        ...requestFields(request),
        ...expectation(request),
        FIELD,
        `${secret} ${peerText(this.#peers.of(request.socket))}`,
      ],
    })
    forwarded.once('response', resolve)
    forwarded.once('error', reject)
    response.once('close', () => {
      if (!response.writableFinished) forwarded.destroy()
    })
    // If the client's body breaks off, so does the forwarded request, and the error is handled above.
    const sendBody = (): void => void pipeline(request, forwarded).catch(reject)
    if (!hasBody(request)) {
      sendBody()
    } else {
      forwarded.once('continue', () => {
        if (request.headers.expect !== undefined) response.writeContinue()
        sendBody()
      })
      forwarded.flushHeaders()
    }
    return await promise
  }
}

/**
 * Answers requests that further threads forward, as if their clients had connected here. Closes a connection
 * that does not have the secret.
 */
export function forwardedHandler(
  secret: string,
  handle: (request: IncomingMessage, response: ServerResponse, peer: Peer) => Promise<void>,
): Handler {
  return async (request, response) => {
    const peer = takePeer(request, secret)
    if (peer === undefined) request.socket.destroy()
    else await handle(request, response, peer)
  }
}

/** A peer as text that a header field can hold: a certificate may have any characters in its names. */
function peerText(peer: Peer): string {
  return Buffer.from(JSON.stringify(peer)).toString('base64url')
}

/**
 * Removes our field, which is the last one, and returns the peer. Returns `undefined` if the field is not
 * ours.
 */
function takePeer(request: IncomingMessage, secret: string): Peer | undefined {
  const { rawHeaders } = request
  const at = rawHeaders.findLastIndex((text, index) => index % 2 === 0 && text === FIELD)
  const [given = '', text = ''] = at === -1 ? [] : (rawHeaders[at + 1] ?? '').split(' ', 2)
  // A field is latin1: in UTF-8 the same number of characters may be another number of bytes.
  const [ours, theirs] = [Buffer.from(secret, 'latin1'), Buffer.from(given, 'latin1')]
  if (ours.length !== theirs.length || !timingSafeEqual(ours, theirs)) return undefined
  rawHeaders.splice(at, 2)
  delete request.headers[FIELD.toLowerCase()]
  return JSON.parse(Buffer.from(text, 'base64url').toString()) as Peer
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0
}

/**
 * The first thread gives the go-ahead for every body. Without it, a request that the first thread refuses at
 * once would fail by the closed socket, and its client would never see the refusal.
 */
function expectation(request: IncomingMessage): readonly string[] {
  return hasBody(request) && request.headers.expect === undefined ? ['Expect', '100-continue'] : []
}

/** Header fields exactly as the client sent them, duplicates included: the first thread checks them. */
function requestFields({ rawHeaders, headers }: IncomingMessage): string[] {
  const fields = withoutHopByHop(rawHeaders)
  // An HTTP/1.0 request may lack a Host. It is forwarded as HTTP/1.1, which requires one.
  return headers.host === undefined ? ['Host', 'localhost', ...fields] : fields
}

/** Header fields of the response. `Connection` is kept only if it is `close`. */
function responseFields(rawHeaders: readonly string[]): string[] {
  const isClosing = rawHeaders.some(
    (text, index) =>
      index % 2 === 0 && text.toLowerCase() === 'connection' && rawHeaders[index + 1] === 'close',
  )
  return isClosing ? [...withoutHopByHop(rawHeaders), 'Connection', 'close'] : withoutHopByHop(rawHeaders)
}

function withoutHopByHop(rawHeaders: readonly string[]): string[] {
  const fields: string[] = []
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? ''
    if (!HOP_BY_HOP.has(name.toLowerCase())) fields.push(name, rawHeaders[index + 1] ?? '')
  }
  return fields
}

function unavailable(cause: unknown): OciError {
  return new OciError('UNAVAILABLE', 'the mirror cannot answer this now', { cause })
}
