import type { Socket } from 'node:net'
import { request } from '../../lib/libraries.ts'
import { Trouble } from '../failure.ts'
import type { Proxy } from './egress.ts'
import type { Origin } from './target.ts'

/**
 * Asks a proxy, on a socket to it, to connect that socket with an origin (RFC 9110 §9.3.6). The name goes to
 * the proxy as it is: often only the proxy can resolve it, and proxies have rules by name. Closes the socket
 * on failure.
 */
export async function openTunnel(
  socket: Socket,
  proxy: Proxy,
  { hostname, port }: Origin,
  withinMs: number,
): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>()
  const authority = `${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}`
  const asking = request({
    method: 'CONNECT',
    path: authority,
    headers: { host: authority, ...authorizationOf(proxy) },
    setHost: false,
    createConnection: () => socket,
  })
  const timer = setTimeout(
    () => asking.destroy(new Trouble('timeout', 'did not open a tunnel in time')),
    withinMs,
  )
  asking.once('connect', ({ statusCode = 0 }, tunnel, first) => {
    const refusal = refusalOf(statusCode)
    if (refusal === undefined) {
      // Bytes of the origin may have come with the answer.
      if (first.length > 0) tunnel.unshift(first)
      resolve(tunnel)
      return
    }
    tunnel.destroy()
    reject(refusal)
  })
  asking.once('error', reject)
  asking.end()
  return await promise.finally(() => clearTimeout(timer))
}

/**
 * Trouble of the proxy and never a refusal of the registry: cached content is served meanwhile. The text that
 * the proxy sent is not repeated.
 */
function refusalOf(status: number): Trouble | undefined {
  if (status >= 200 && status < 300) return undefined
  if (status === 407) return new Trouble('connect', 'wants other credentials (407)')
  if (status === 504) return new Trouble('timeout', 'got no connection in time (504)')
  if (status >= 500) return new Trouble('connect', `cannot connect to it (${status})`)
  return new Trouble('connect', `refuses to connect to it (${status})`)
}

function authorizationOf({ credentials }: Proxy): { 'proxy-authorization'?: string } {
  if (credentials === undefined) return {}
  const { username, password } = credentials
  const encoded = Buffer.from(`${username}:${password.reveal()}`).toString('base64')
  return { 'proxy-authorization': `Basic ${encoded}` }
}
