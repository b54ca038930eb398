import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Worker } from 'node:worker_threads'
import type { Peer } from '../../access/peer.ts'
import type { ThreadMetrics } from '../../observe/metrics.ts'
import { HttpServer } from '../server.ts'
import type { ListenerTls } from '../tls/listener-tls.ts'
import { forwardedHandler, type PrivateSocket } from './forward.ts'
import type { DirectoryText, SharedAddress, ThreadSettings } from './protocol.ts'
import { type HostParts, ThreadHost } from './thread-host.ts'

export interface ThreadsParts extends HostParts {
  /** Answers a request that a further thread forwards, for that client. */
  readonly handle: (request: IncomingMessage, response: ServerResponse, peer: Peer) => Promise<void>
}

/** The further threads, which serve besides the first one. */
export class Threads implements AsyncDisposable {
  readonly #hosts: readonly ThreadHost[]
  /** Listens at the private socket. */
  readonly #forwarded: HttpServer
  readonly #socket: PrivateSocket
  /** Resolves when the private socket is open. */
  #forwarding: Promise<string> | undefined

  /** Starts `count` threads. They serve once {@link listen} is called. */
  constructor(count: number, settings: Omit<ThreadSettings, 'socket'>, parts: ThreadsParts) {
    this.#socket = privateSocket()
    this.#forwarded = new HttpServer(forwardedHandler(this.#socket.secret, parts.handle))
    const workerData: ThreadSettings = { ...settings, socket: this.#socket }
    this.#hosts = Array.from({ length: count }, () => {
      const worker = new Worker(threadFile(), {
        workerData,
        // Hides the warning about `node:ffi`, as in the first thread.
        execArgv: ['--disable-warning=ExperimentalWarning'],
      })
      // A defect: the state of the thread is unknown, so the process ends, as it does after a defect in the
      // first thread.
      return new ThreadHost(worker, parts, error => {
        throw error
      })
    })
  }

  /** Makes all threads listen at an address of this one; rejects if a thread cannot. */
  async listen(address: SharedAddress): Promise<void> {
    this.#forwarding ??= this.#forwarded.listen({ kind: 'unix', path: this.#socket.path })
    await this.#forwarding
    await Promise.all(this.#hosts.map(async thread => await thread.listen(address)))
  }

  /** Sends all threads new terms of TLS; resolves once all of them use them. */
  async secure(tls: ListenerTls): Promise<void> {
    await Promise.all(this.#hosts.map(async host => await host.secure(tls)))
  }

  /** Sends all threads a new directory; resolves once all of them use it. */
  async direct(directory: DirectoryText): Promise<void> {
    await Promise.all(this.#hosts.map(async host => await host.direct(directory)))
  }

  /** Stops new work in all threads; resolves when they have finished. */
  async drain(): Promise<void> {
    await Promise.all(this.#hosts.map(async host => await host.drain()))
  }

  /** The metrics of each thread. */
  async metrics(): Promise<readonly ThreadMetrics[]> {
    const all = await Promise.all(this.#hosts.map(async host => await host.metrics()))
    return all.filter(metrics => metrics !== undefined)
  }

  /** Resolves once all threads have reported what they answered. */
  async report(): Promise<void> {
    await Promise.all(this.#hosts.map(async host => await host.report()))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#hosts.map(async host => await host[Symbol.asyncDispose]()))
    this.#forwarded.destroy()
  }
}

/**
 * An abstract socket of Linux. It needs no writable directory and leaves nothing behind. It has no
 * permissions either: the secret keeps other programs of this machine out.
 */
function privateSocket(): PrivateSocket {
  return {
    path: `\0entrepot-${randomBytes(16).toString('hex')}`,
    secret: randomBytes(32).toString('hex'),
  }
}

/** The thread's file, compiled by the build along with this one. */
function threadFile(): URL {
  const source = new URL('./thread-entry.ts', import.meta.url)
  return new URL(source.href.replace(/ts$/, import.meta.url.slice(-2)))
}
