import { connect as connectTcp, type Socket } from 'node:net'
import type { buildConnector } from 'undici'
import { untilAborted } from '../../lib/abort.ts'
import { type Address, addressText, parseAddress } from '../../lib/ip-address.ts'
import { type SpanAttributes, traced } from '../../observe/tracing/span.ts'
import { Trouble, troubleOf } from '../failure.ts'
import { type AddressKind, judgeAddress } from './address.ts'
import type { Proxy, ProxyChoice } from './egress.ts'
import { elsewhere, openTlsSide, secure, type TlsSide, type TlsTerms } from './handshake.ts'
import {
  type DialTerms,
  isTrustedOrigin,
  judgeDial,
  requireOrigin,
  requireProxied,
  unlisted,
} from './policy.ts'
import type { Resolve } from './resolve.ts'
import type { Strangers } from './strangers.ts'
import { isSameOrigin, type Origin, parseOrigin } from './target.ts'
import { openTunnel } from './tunnel.ts'

/** Limits of dialling, in milliseconds. */
export interface DialTimings {
  readonly resolveMs: number
  readonly connectMs: number
  readonly handshakeMs: number
  /** Head start of each address before the next one is tried in parallel. */
  readonly nextAddressMs: number
}

export const DIAL_TIMINGS: DialTimings = {
  resolveMs: 5000,
  connectMs: 5000,
  handshakeMs: 10_000,
  nextAddressMs: 300,
}

/** All addresses of an answer are checked, but at most this many are dialled. */
const ATTEMPTS_MAX = 8
/**
 * Fewer for a registry that a client named: all of its addresses may be silent, and they are dialled in
 * parallel.
 */
const STRANGER_ATTEMPTS_MAX = 3

export interface DialerOptions {
  readonly terms: DialTerms
  readonly tls: TlsTerms
  readonly resolve: Resolve
  readonly timings: DialTimings
  readonly proxyFor: ProxyChoice
  /**
   * State shared by all registries that are not configured; `undefined` in the dialer of a configured one.
   */
  readonly strangers?: Strangers | undefined
}

/**
 * Opens the sockets of one upstream: to its own host, and to the hosts of its redirects and realms. A name is
 * resolved once, each address is checked, and exactly that address is dialled, so a different second answer
 * of the DNS has no effect. Through a proxy, only the name of a host can be checked. No other code of this
 * program may open an outbound socket; a test enforces that.
 */
export class Dialer {
  readonly #options: DialerOptions
  /** Kind of the address of the upstream's own host when it was last dialled. */
  #ownKind: AddressKind | undefined
  #ownTls: TlsSide | undefined
  #otherTls: TlsSide | undefined

  constructor(options: DialerOptions) {
    this.#options = options
  }

  /** The undici connector of this dialer. */
  readonly connect: buildConnector.connector = (options, callback) => {
    const protocol = options.protocol === 'https:' ? 'https:' : 'http:'
    // undici passes an IPv6 address without its brackets.
    const host = options.hostname.includes(':') ? `[${options.hostname}]` : options.hostname
    const origin = parseOrigin(options.port === '' ? host : `${host}:${options.port}`, protocol)
    if (origin === undefined) {
      callback(new Trouble('invalid', 'has a name that cannot be dialled'), null)
      return
    }
    void this.#answer(origin, callback)
  }

  /** The proxy on the way to an origin, if there is one. */
  proxyFor(origin: Origin): Proxy | undefined {
    return this.#options.proxyFor(origin)
  }

  async #answer(origin: Origin, callback: buildConnector.Callback): Promise<void> {
    try {
      const socket = await traced('dial', () => this.#open(origin), dialled(origin))
      callback(null, socket)
    } catch (error) {
      callback(error instanceof Error ? error : new Error('dialling failed', { cause: error }), null)
    }
  }

  async #open(origin: Origin): Promise<Socket> {
    const { terms, timings, strangers } = this.#options
    requireOrigin(terms, origin)
    const client = strangers?.client
    const proxy = this.proxyFor(origin)
    if (proxy !== undefined) requireProxied(terms, origin)
    const addresses = proxy === undefined ? await this.#permitted(origin, client) : []
    const leave = strangers?.enterConnection(client)
    try {
      const socket =
        proxy === undefined
          ? await this.#openDirect(addresses, origin)
          : await this.#openThrough(proxy, origin)
      if (leave !== undefined) socket.once('close', leave)
      socket.setNoDelay(true).setKeepAlive(true, 60_000)
      return origin.protocol === 'https:'
        ? await secure(socket, origin, this.#tlsFor(origin), timings.handshakeMs)
        : socket
    } catch (error) {
      leave?.()
      throw error
    }
  }

  async #openDirect(addresses: readonly Address[], origin: Origin): Promise<Socket> {
    const socket = await this.#dialFirst(addresses, origin.port)
    this.#recheck(socket, origin)
    return socket
  }

  /**
   * The operator chose the proxy, so it may be at any address. Trouble with it is trouble of the upstream:
   * tags that are stale are served meanwhile.
   */
  async #openThrough(proxy: Proxy, origin: Origin): Promise<Socket> {
    try {
      const socket = await this.#dialProxy(proxy)
      const { resolveMs, connectMs } = this.#options.timings
      return await openTunnel(socket, proxy, origin, resolveMs + connectMs)
    } catch (error) {
      const { kind, message } = troubleOf(error)
      throw new Trouble(kind, `cannot be reached: the proxy ${message}`, { cause: error })
    }
  }

  async #dialProxy(proxy: Proxy): Promise<Socket> {
    const { tls, timings } = this.#options
    const at = parseOrigin(proxy.host, proxy.protocol)
    if (at === undefined) throw new Trouble('invalid', 'has a name that cannot be dialled')
    const literal = parseAddress(at.hostname)
    const texts = literal === undefined ? await this.#resolveBySystem(at.hostname) : []
    const found = texts.map(text => parseAddress(text)).filter(address => address !== undefined)
    const addresses = literal === undefined ? found : [literal]
    if (addresses.length === 0) throw new Trouble('dns', 'has no address in the DNS')
    const socket = await this.#dialFirst(addresses.slice(0, ATTEMPTS_MAX), at.port)
    if (at.protocol === 'http:') return socket
    this.#otherTls ??= openTlsSide(elsewhere(tls))
    return await secure(socket, at, this.#otherTls, timings.handshakeMs)
  }

  /**
   * The addresses of the host that may be dialled. If a client named the host, one forbidden address forbids
   * all: an answer that mixes public and private addresses is an attack. For a configured host the forbidden
   * addresses are left out.
   */
  async #permitted(origin: Origin, client: string | undefined): Promise<readonly Address[]> {
    const literal = parseAddress(origin.hostname)
    const addresses = literal === undefined ? await this.#resolve(origin, client) : [literal]
    const { terms } = this.#options
    const judged = addresses.map(address => ({
      address,
      refusal: judgeDial(terms, origin, address, this.#ownKind),
    }))
    const permitted = judged.filter(({ refusal }) => refusal === undefined).map(({ address }) => address)
    const refusal = judged.find(judgement => judgement.refusal !== undefined)?.refusal
    if (refusal !== undefined && (terms.kind === 'dynamic' || permitted.length === 0)) throw refusal
    return permitted.slice(0, terms.kind === 'dynamic' ? STRANGER_ATTEMPTS_MAX : ATTEMPTS_MAX)
  }

  async #resolve(origin: Origin, client: string | undefined): Promise<readonly Address[]> {
    const { strangers, terms } = this.#options
    const texts =
      strangers === undefined
        ? await this.#resolveBySystem(origin.hostname)
        : await strangers.lookups.find(origin.hostname, client)
    const addresses = texts.map(text => parseAddress(text)).filter(address => address !== undefined)
    if (addresses.length > 0) return addresses
    const absent = new Trouble('dns', 'has no address in the DNS')
    throw strangers === undefined ? absent : (unlisted(terms, origin) ?? absent)
  }

  async #resolveBySystem(hostname: string): Promise<readonly string[]> {
    const { resolve, timings } = this.#options
    const late = new AbortController()
    const timer = setTimeout(
      () => late.abort(new Trouble('dns', 'was not found in the DNS in time')),
      timings.resolveMs,
    )
    try {
      return await untilAborted(resolve(hostname, late.signal), late.signal)
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * Dials one address after the other, and starts the next when the last one is slow. The first that connects
   * wins.
   */
  async #dialFirst(addresses: readonly Address[], port: number): Promise<Socket> {
    const { connectMs, nextAddressMs } = this.#options.timings
    const losers = new AbortController()
    const deadline = setTimeout(
      () => losers.abort(new Trouble('timeout', 'did not accept the connection in time')),
      connectMs,
    )
    try {
      const attempts: Promise<Socket>[] = []
      for (const address of addresses) {
        const attempt = dialOne(address, port, losers.signal)
        attempts.push(attempt)
        const outcome = await firstOf(attempt, nextAddressMs, losers.signal)
        if (outcome === 'connected') break
      }
      const socket = await Promise.any(attempts)
      for (const attempt of attempts) void destroyUnless(attempt, socket)
      return socket
    } catch (error) {
      throw error instanceof AggregateError ? (error.errors[0] as Error) : error
    } finally {
      clearTimeout(deadline)
      losers.abort(new Trouble('connect', 'was slower than another of its addresses'))
    }
  }

  /** Checks the address of the connected peer again: something on the way could have changed it. */
  #recheck(socket: Socket, origin: Origin): void {
    const peer = parseAddress(socket.remoteAddress ?? '')
    const { terms } = this.#options
    const refusal =
      peer === undefined
        ? new Trouble('cut', 'broke off the connection')
        : judgeDial(terms, origin, peer, this.#ownKind)
    if (refusal !== undefined || peer === undefined) {
      socket.destroy()
      throw refusal ?? new Trouble('cut', 'broke off the connection')
    }
    if (terms.kind === 'configured' && isSameOrigin(origin, terms.origin)) {
      this.#ownKind = judgeAddress(peer, terms.nat64).kind
    }
  }

  /**
   * A client certificate proves our identity to a server, and without certificate checks any server can pass
   * for the upstream. So both settings apply only to the upstream and the realms listed for it, and not to
   * the hosts of its redirects.
   */
  #tlsFor(origin: Origin): TlsSide {
    const { terms, tls, strangers } = this.#options
    if (strangers !== undefined) return strangers.tls
    if (isTrustedOrigin(terms, origin)) {
      this.#ownTls ??= openTlsSide(tls)
      return this.#ownTls
    }
    this.#otherTls ??= openTlsSide(elsewhere(tls))
    return this.#otherTls
  }
}

function dialOne(address: Address, port: number, signal: AbortSignal): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>()
  const socket = connectTcp({ host: addressText(address), port, family: address.family })
  const onAbort = (): void => {
    socket.destroy(signal.reason as Error)
  }
  signal.addEventListener('abort', onAbort, { once: true })
  socket.once('connect', () => {
    signal.removeEventListener('abort', onAbort)
    resolve(socket)
  })
  socket.on('error', error => {
    signal.removeEventListener('abort', onAbort)
    reject(error)
  })
  promise.catch(() => undefined)
  return promise
}

/** Waits until the attempt has succeeded or failed, or for `ms`. */
async function firstOf(
  attempt: Promise<Socket>,
  ms: number,
  signal: AbortSignal,
): Promise<'connected' | 'failed' | 'pending'> {
  if (signal.aborted) return 'connected'
  const { promise: later, resolve } = Promise.withResolvers<'pending'>()
  const timer = setTimeout(() => resolve('pending'), ms)
  const outcome = attempt.then(
    () => 'connected' as const,
    () => 'failed' as const,
  )
  return await Promise.race([outcome, later]).finally(() => clearTimeout(timer))
}

async function destroyUnless(attempt: Promise<Socket>, winner: Socket): Promise<void> {
  const socket = await attempt.catch(() => undefined)
  if (socket !== winner) socket?.destroy()
}

function dialled({ hostname, port }: Origin): SpanAttributes {
  return { 'server.address': hostname, 'server.port': port }
}
