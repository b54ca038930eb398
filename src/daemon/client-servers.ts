import type { Config } from '../config/config.ts'
import { type ClientListener, clientListeners } from '../config/listen.ts'
import type { ConnectionCounts } from '../http/connection-counts.ts'
import { type Handler, HttpServer, SERVER_LIMITS } from '../http/server.ts'
import type { Threads } from '../http/threads/threads.ts'
import type { ListenerTls } from '../http/tls/listener-tls.ts'
import { requireFreePort } from './free-port.ts'

export interface ClientServersParts {
  readonly handler: Handler
  readonly connections: ConnectionCounts
  /** Terms of the TLS listeners; `undefined` if there are none. */
  readonly tls: ListenerTls | undefined
}

/** A listening address, as clients write it. */
export interface ServedAddress {
  readonly text: string
  readonly isTls: boolean
}

/** The servers of this thread at all addresses for clients. */
export class ClientServers {
  /** The addresses at which it listens; empty before {@link listen}. */
  served: readonly ServedAddress[] = []
  readonly #servers: readonly { readonly listener: ClientListener; readonly server: HttpServer }[]

  constructor(config: Pick<Config, 'listen' | 'tls'>, { handler, connections, tls }: ClientServersParts) {
    this.#servers = clientListeners(config).map(listener => {
      const terms = listener.isTls ? tls : undefined
      return { listener, server: new HttpServer(handler, SERVER_LIMITS, connections, terms) }
    })
  }

  /** Listens at every address, in all threads; rejects if one is not available. */
  async listen(threads: Threads | undefined): Promise<readonly ServedAddress[]> {
    const served: ServedAddress[] = []
    for (const { listener, server } of this.#servers) {
      const text = await listenAt(listener, server, threads)
      served.push({ text, isTls: listener.isTls })
    }
    this.served = served
    return served
  }

  /** Uses these terms for further handshakes. */
  secure(tls: ListenerTls): void {
    for (const { server } of this.#servers) server.secure(tls)
  }

  /** Stops accepting; resolves when the last connection is closed. */
  async close(): Promise<void> {
    await Promise.all(this.#servers.map(async ({ server }) => await server.close()))
  }

  /** Stops accepting, and destroys every connection. */
  destroy(): void {
    for (const { server } of this.#servers) server.destroy()
  }
}

async function listenAt(
  { address, isTls }: ClientListener,
  server: HttpServer,
  threads: Threads | undefined,
): Promise<string> {
  if (threads === undefined || address.kind === 'unix') return await server.listen(address)
  const { host, port } = address
  await requireFreePort(host, port)
  const text = await server.listen(address, { isShared: true })
  await threads.listen({ host, port: Number(text.slice(text.lastIndexOf(':') + 1)), isTls })
  return text
}
