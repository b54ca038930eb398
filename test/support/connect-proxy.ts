import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { certificatePath } from './upstream.ts'

export interface ConnectProxyOptions {
  /** Where each name leads, as `host:port`; other names are connected to as they are. */
  readonly routes?: Readonly<Record<string, string>>
  /** The only value of `Proxy-Authorization` that it takes. */
  readonly authorization?: string
  /** Speak TLS, with the certificate of the tests. */
  readonly tls?: boolean
  /** Answer every CONNECT with this status. */
  readonly refuses?: number
  /** Accept and never answer. */
  readonly isSilent?: boolean
}

/** A proxy on loopback that knows CONNECT and nothing else. */
export interface ConnectProxy extends AsyncDisposable {
  /** `127.0.0.1:port`. */
  readonly host: string
  /** The authorities it was asked to connect to. */
  readonly asked: readonly string[]
  /** Header fields of what it was asked, as text. */
  readonly headers: readonly string[]
}

export async function startConnectProxy(options: ConnectProxyOptions = {}): Promise<ConnectProxy> {
  const { routes = {}, authorization, refuses, isSilent = false } = options
  const asked: string[] = []
  const headers: string[] = []
  const sockets = new Set<Duplex>()
  const own = <T extends Duplex>(socket: T): T => {
    sockets.add(socket)
    socket.setMaxListeners(0)
    socket.on('error', () => undefined)
    socket.once('close', () => sockets.delete(socket))
    return socket
  }
  const server = listener(options)
  server.on('connection', own)
  server.on('connect', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    const authority = request.url ?? ''
    asked.push(authority)
    headers.push(JSON.stringify(request.headers))
    own(socket)
    if (isSilent) return
    const isRefused = authorization !== undefined && request.headers['proxy-authorization'] !== authorization
    const status = isRefused ? 407 : refuses
    if (status !== undefined) {
      socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 6\r\n\r\nsecret`)
      return
    }
    const [host, port] = split(routes[authority] ?? authority)
    const onward = own(connect({ host, port }))
    onward.once('connect', () => socket.write('HTTP/1.1 200 Connected\r\n\r\n'))
    onward.once('error', () => socket.end('HTTP/1.1 502 No\r\n\r\n'))
    if (head.length > 0) onward.write(head)
    pipeline(socket, onward).catch(() => onward.destroy())
    pipeline(onward, socket).catch(() => socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    headers,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      const closed = once(server, 'close')
      server.close()
      await closed
    },
  }
}

function listener({ tls = false }: ConnectProxyOptions): Server {
  if (!tls) return createServer()
  const read = (file: string): string => readFileSync(certificatePath(file), 'utf8')
  return createTlsServer({ cert: read('server.pem'), key: read('server.key.pem') })
}

function split(authority: string): [string, number] {
  const colon = authority.lastIndexOf(':')
  return [authority.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), Number(authority.slice(colon + 1))]
}
