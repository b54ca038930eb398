import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { createServer, STATUS_CODES } from '../lib/libraries.ts'
import { OciError } from '../oci/error.ts'
import { ConnectionCounts } from './connection-counts.ts'
import { failureBody, failureOf, failureReply } from './failure.ts'
import { Handshakes, TLS_HANDSHAKE } from './tls/handshakes.ts'
import { type ListenerTls, secureOptions } from './tls/listener-tls.ts'
import { type SharedKeyTls, sharedKeyListening } from './tls/shared-key.ts'

/** A TCP address, or the path of a unix socket. */
type BindAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

/** Answers one request; never rejects. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>

/** The limits of a listener. */
export interface ServerLimits {
  readonly connectionsMax: number
  readonly connectionsPerAddressMax: number
  /**
   * Connections beyond the limits that are still accepted, only to answer 503, so that their clients learn
   * the reason. Connections beyond these too are closed.
   */
  readonly surplusMax: number
  /** Limit of unanswered requests on one connection. Node itself would queue any number of them. */
  readonly pipelinedMax: number
  /** Longest time for a client to send its headers, and for a TLS handshake, in milliseconds. */
  readonly headersMs: number
  readonly keepAliveMs: number
}

export const SERVER_LIMITS: ServerLimits = {
  connectionsMax: 4096,
  connectionsPerAddressMax: 512,
  surplusMax: 256,
  pipelinedMax: 100,
  headersMs: 10_000,
  keepAliveMs: 75_000,
}

const HEADER_BYTES_MAX = 32 * 1024

/** One listening HTTP server: its limits and its lifetime. */
export class HttpServer {
  readonly #server: Server
  readonly #secure: { readonly server: TlsServer; readonly handshakes: Handshakes } | undefined
  readonly #handler: Handler
  readonly #limits: ServerLimits
  /** Open connections, each with its number of responses in progress. */
  readonly #sockets = new Map<Socket, number>()
  /** Parse errors of input that followed requests which are still being answered. */
  readonly #unreadable = new WeakMap<Socket, UnreadableError>()
  readonly #counts: ConnectionCounts
  /** Connections beyond a limit. */
  readonly #surplus = new Set<Socket>()
  #isClosing = false

  /**
   * @param counts shared by all listeners that share the limits.
   * @param tls terms of a TLS listener; left out for plain HTTP.
   */
  constructor(
    handler: Handler,
    limits: ServerLimits = SERVER_LIMITS,
    counts: ConnectionCounts = new ConnectionCounts(),
    tls?: ListenerTls | SharedKeyTls,
  ) {
    this.#counts = counts
    this.#handler = handler
    this.#limits = limits
    this.#secure = tls === undefined ? undefined : this.#createSecure(tls)
    this.#server = this.#secure?.server ?? createServer(httpOptions(limits), this.#onRequest)
    // Node silently drops fields beyond its limit; 0 is no limit. `admit.ts` refuses too many fields.
    this.#server.maxHeadersCount = 0
    this.#server.maxConnections = limits.connectionsMax + limits.surplusMax
    this.#server.on('connection', this.#onConnection)
    this.#server.on('clientError', this.#onUnreadable)
    // Node would answer these by itself: "100 Continue" although no request here has a body, and 417 to any
    // other `Expect`. We handle them like all other requests (RFC 9110, section 10.1.1).
    this.#server.on('checkContinue', this.#onRequest)
    this.#server.on('checkExpectation', this.#onRequest)
  }

  #createSecure(tls: ListenerTls | SharedKeyTls): {
    readonly server: TlsServer
    readonly handshakes: Handshakes
  } {
    const { headersMs } = this.#limits
    const isShared = 'refused' in tls
    const terms = isShared ? sharedKeyListening(tls) : secureOptions(tls)
    const options = { ...httpOptions(this.#limits), ...terms, handshakeTimeout: headersMs }
    const server = createTlsServer(options, this.#onRequest)
    server.prependListener('secureConnection', this.#onSecured)
    return { server, handshakes: new Handshakes(server, headersMs, isShared ? tls.refused : undefined) }
  }

  /** Uses these terms for all further handshakes. Connections that are open keep theirs. */
  secure(tls: ListenerTls): void {
    this.#secure?.server.setSecureContext(secureOptions(tls))
  }

  /**
   * Listens; resolves to the address as clients write it. Rejects if the address is not available. With
   * `isShared` other threads may listen there too, and the kernel distributes the connections.
   */
  async listen(
    address: BindAddress,
    { isShared = false }: { readonly isShared?: boolean } = {},
  ): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#server.once('error', reject)
    const onListening = (): void => resolve()
    if (address.kind === 'unix') this.#server.listen(address.path, onListening)
    else {
      const { port, host } = address
      this.#server.listen({ port, host, reusePort: isShared }, onListening)
    }
    await promise
    this.#server.removeListener('error', reject)
    // A failed accept (no file descriptor, no buffer) costs one client its connection; the listener
    // continues.
    this.#server.on('error', () => undefined)
    return address.kind === 'unix'
      ? `unix:${address.path}`
      : hostAndPort(this.#server.address() as AddressInfo)
  }

  /** Stops accepting, and closes connections as they become idle; resolves when the last one is closed. */
  async close(): Promise<void> {
    this.#isClosing = true
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.close(() => resolve())
    for (const [socket, responses] of this.#sockets) if (responses === 0) socket.destroySoon()
    await promise
  }

  /** Stops accepting, and destroys every connection. */
  destroy(): void {
    if (this.#server.listening) this.#server.close()
    this.#server.closeAllConnections()
    for (const socket of this.#sockets.keys()) socket.destroy()
  }

  /**
   * A refusal waits while a response is in progress on the same connection: in the middle of it, the client
   * could take the refusal for part of the body.
   */
  readonly #onUnreadable = (error: UnreadableError, socket: Socket): void => {
    if ((this.#sockets.get(socket) ?? 0) > 0) this.#unreadable.set(socket, error)
    else refuseUnreadable(error, socket)
  }

  readonly #onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const { socket } = request
    // A busy daemon is still alive.
    if (this.#surplus.has(socket) && request.url !== '/livez') {
      refuseSurplus(response)
      return
    }
    const unanswered = (this.#sockets.get(socket) ?? 0) + 1
    if (socket.destroyed || unanswered > this.#limits.pipelinedMax) {
      socket.destroy()
      return
    }
    this.#sockets.set(socket, unanswered)
    response.once('close', () => this.#onAnswered(socket))
    // A pipelined request waits for its turn. Until then its response has no socket that would show us that
    // the client has left.
    if (response.socket === null) response.once('socket', () => void this.#handler(request, response))
    else void this.#handler(request, response)
  }

  #onAnswered(socket: Socket): void {
    const responses = (this.#sockets.get(socket) ?? 1) - 1
    if (this.#sockets.has(socket)) this.#sockets.set(socket, responses)
    if (responses > 0) return
    const unreadable = this.#unreadable.get(socket)
    if (unreadable !== undefined) refuseUnreadable(unreadable, socket)
    if (this.#isClosing) socket.destroySoon()
  }

  readonly #onConnection = (socket: Socket): void => {
    const address = socket.remoteAddress ?? ''
    if (this.#counts.enter(address, this.#limits)) {
      this.#hold(socket)
      socket.once('close', () => this.#counts.leave(address))
    } else if (this.#surplus.size >= this.#limits.surplusMax) {
      socket.destroy()
      return
    } else this.#takeSurplus(socket)
    this.#secure?.handshakes.begin(socket)
  }

  /** From here on the encrypted connection stands for the one below it. */
  readonly #onSecured = (socket: TLSSocket): void => {
    const raw = this.#secure?.handshakes.finish(socket)
    if (raw === undefined) {
      socket.destroy()
      return
    }
    this.#sockets.delete(raw)
    if (this.#surplus.delete(raw)) this.#takeSurplus(socket)
    else this.#hold(socket)
  }

  #hold(socket: Socket): void {
    this.#sockets.set(socket, 0)
    socket.once('close', () => this.#sockets.delete(socket))
  }

  #takeSurplus(socket: Socket): void {
    this.#hold(socket)
    this.#surplus.add(socket)
    socket.once('close', () => this.#surplus.delete(socket))
  }
}

function httpOptions({ headersMs, keepAliveMs }: ServerLimits): ServerOptions {
  return {
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: headersMs,
    // Only headers have a limit of time here: the one who reads a body watches it.
    requestTimeout: 0,
    connectionsCheckingInterval: Math.min(1000, headersMs / 4),
    keepAliveTimeout: keepAliveMs,
    requireHostHeader: true,
  }
}

const OVERLOADED = failureReply(failureOf(new OciError('UNAVAILABLE', 'too many connections are open')), {
  Connection: 'close',
})

/** Answers 503, after which containerd and dockerd go to the origin. */
function refuseSurplus(response: ServerResponse): void {
  const { status, headers, body } = OVERLOADED
  response.writeHead(status, headers)
  response.end(response.req.method === 'HEAD' || body.kind !== 'bytes' ? undefined : body.bytes)
}

type UnreadableError = NodeJS.ErrnoException & { rawPacket?: Buffer }

/** Answers input that is not an HTTP request, once. */
function refuseUnreadable(error: UnreadableError, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy()
    return
  }
  if (error.rawPacket?.[0] === TLS_HANDSHAKE) {
    socket.end(NOT_TLS)
    return
  }
  const status = UNREADABLE.get(error.code ?? '') ?? 400
  const body = failureBody({ code: 'REQUEST_INVALID', message: 'this is not a readable HTTP request' })
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
  )
}

/**
 * The answer of Go's plain servers to a TLS handshake. A Go client that reads `HTTP/` instead of a TLS record
 * says "server gave HTTP response to HTTPS client". Podman and containerd then try plain HTTP. A connection
 * closed without an answer is only an EOF to them.
 */
const NOT_TLS =
  'HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n' +
  'Client sent a TLS handshake to a plain HTTP server.\n'

const UNREADABLE: ReadonlyMap<string, number> = new Map([
  ['HPE_HEADER_OVERFLOW', 431],
  ['ERR_HTTP_REQUEST_TIMEOUT', 408],
])

function hostAndPort({ address, port, family }: AddressInfo): string {
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`
}
