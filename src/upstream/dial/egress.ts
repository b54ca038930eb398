import { isProxyExempt } from '../../lib/proxy-exemption.ts'
import type { Origin } from './target.ts'

/** A proxy that connects to a host for us, by CONNECT. */
export interface Proxy {
  readonly protocol: 'http:' | 'https:'
  /** `host:port`. */
  readonly host: string
  readonly credentials: { readonly username: string; readonly password: { reveal(): string } } | undefined
}

/** Proxies of all upstreams without a setting of their own. */
export interface Egress {
  readonly httpProxy: Proxy | undefined
  readonly httpsProxy: Proxy | undefined
  /** Hosts that are connected to directly, as `NO_PROXY` has them. */
  readonly proxyBypass: readonly string[]
  /** Reach registries that are not configured through a proxy too, whose addresses only the proxy sees. */
  readonly trustsProxies: boolean
}

export const DIRECT: Egress = {
  httpProxy: undefined,
  httpsProxy: undefined,
  proxyBypass: [],
  trustsProxies: false,
}

/** The proxy by which an origin is reached, if any. */
export type ProxyChoice = (origin: Origin) => Proxy | undefined

/**
 * The choice of one upstream. A proxy of its own serves all of its hosts, and `none` serves no host, whatever
 * `NO_PROXY` says. Without a setting the proxies of the environment apply.
 */
export function chooseProxy(own: Proxy | 'none' | undefined, egress: Egress): ProxyChoice {
  if (own !== undefined) return () => (own === 'none' ? undefined : own)
  return origin => {
    const proxy = origin.protocol === 'https:' ? egress.httpsProxy : egress.httpProxy
    return proxy === undefined || isProxyExempt(egress.proxyBypass, origin) ? undefined : proxy
  }
}
