import type { Server } from 'node:https'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'

/** Type of the first record of a TLS connection (RFC 8446, section 5.1). */
export const TLS_HANDSHAKE = 0x16

/** The answer of Go's TLS servers to plain HTTP. */
const NOT_PLAIN =
  'HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n' +
  'Client sent an HTTP request to an HTTPS server.\n'

/** Called if a client speaks plain HTTP, or its handshake fails for another reason than that it leaves. */
type Refused = (why: 'plain' | 'handshake', address: string | undefined) => void

/**
 * Takes the connections of a TLS listener to their handshake. A client that speaks plain HTTP is answered in
 * plain HTTP, so that it learns its mistake.
 */
export class Handshakes {
  readonly #limitMs: number
  readonly #refused: Refused
  readonly #begin: readonly ((raw: Socket) => void)[]
  /** Connections before the end of their handshake, by {@link nameOf}. */
  readonly #running = new Map<string, Socket>()

  /** Takes over the server's `connection` event; its handler has to call {@link begin}. */
  constructor(server: Server, limitMs: number, refused: Refused = () => undefined) {
    this.#limitMs = limitMs
    this.#refused = refused
    this.#begin = server.listeners('connection').map(
      listener =>
        (raw: Socket): void =>
          listener.call(server, raw),
    )
    server.removeAllListeners('connection')
    // Node hands failed handshakes to the handler of unreadable requests, whose answer no client could read.
    server.removeAllListeners('tlsClientError')
    server.on('tlsClientError', (error, socket) => {
      if (isProtocolError(error)) refused('handshake', socket.remoteAddress)
      socket.destroy()
    })
  }

  /** Reads the first byte of a new connection, and starts the handshake if it is one of TLS. */
  begin(raw: Socket): void {
    const name = nameOf(raw)
    this.#running.set(name, raw)
    const timer = setTimeout(() => raw.destroy(), this.#limitMs)
    raw.on('error', () => undefined)
    raw.once('close', () => {
      clearTimeout(timer)
      if (this.#running.get(name) === raw) this.#running.delete(name)
    })
    raw.once('readable', () => {
      clearTimeout(timer)
      const first = raw.read(1) as Buffer | null
      if (first === null) raw.destroy()
      else if (first[0] === TLS_HANDSHAKE) {
        raw.unshift(first)
        for (const begin of this.#begin) begin(raw)
      } else {
        this.#refused('plain', raw.remoteAddress)
        refusePlain(raw, this.#limitMs)
      }
    })
  }

  /** The connection below an encrypted one whose handshake has just ended; `undefined` if it is closed. */
  finish(socket: TLSSocket): Socket | undefined {
    const name = nameOf(socket)
    const raw = this.#running.get(name)
    this.#running.delete(name)
    return raw
  }
}

function isProtocolError(error: NodeJS.ErrnoException): boolean {
  return error.code?.startsWith('ERR_SSL') === true || error.code === 'EPROTO'
}

/** Both ends of a connection, which no other open one has. Node does not tell what a TLS socket wraps. */
function nameOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`
}

/** Reads what the client still sends: a socket closed with unread input is reset, and the answer lost. */
function refusePlain(raw: Socket, limitMs: number): void {
  raw.setTimeout(limitMs, () => raw.destroy())
  raw.end(NOT_PLAIN)
  raw.resume()
}
