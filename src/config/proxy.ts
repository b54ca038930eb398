import { isProxyExempt } from '../lib/proxy-exemption.ts'
import { splitHostAndPort } from './host.ts'
import { Secret } from './secret.ts'

/** A proxy that connects to registries for us, by CONNECT. */
export interface ProxyConfig {
  readonly protocol: 'http:' | 'https:'
  /** `host:port` of the proxy itself. */
  readonly host: string
  readonly credentials: { readonly username: string; readonly password: Secret } | undefined
}

/** Proxies for all upstreams without a setting of their own. */
export interface EgressConfig {
  /** For registries, redirects and token services over plain http. */
  readonly httpProxy: ProxyConfig | undefined
  /** For those over https. */
  readonly httpsProxy: ProxyConfig | undefined
  /** Hosts that are connected to directly, as `NO_PROXY` has them. */
  readonly proxyBypass: readonly string[]
  /** Reach registries that are not configured through a proxy too, whose addresses only the proxy sees. */
  readonly trustsProxies: boolean
}

const DEFAULT_PORTS = { 'http:': 80, 'https:': 443 } as const
const PROXY_URL = /^(?:(https?):\/\/)?(?:([^@/?#]*)@)?([^@/?#]+)\/?$/i

/**
 * Reads the URL of a proxy: `http://proxy.example:3128`, `https://user:password@proxy.example`. Without a
 * scheme it is http. The text never reaches a URL parser, see `upstream/dial/target.ts`.
 */
export function parseProxy(text: string): ProxyConfig | undefined {
  const [, scheme = 'http', userinfo, authority = ''] = PROXY_URL.exec(text) ?? []
  const protocol = scheme.toLowerCase() === 'https' ? 'https:' : 'http:'
  const split = splitHostAndPort(authority)
  if (split === undefined || split.port === 0) return undefined
  const host = `${split.host}:${split.port ?? DEFAULT_PORTS[protocol]}`
  if (userinfo === undefined) return { protocol, host, credentials: undefined }
  const credentials = parseUserinfo(userinfo)
  return credentials === undefined ? undefined : { protocol, host, credentials }
}

function parseUserinfo(text: string): ProxyConfig['credentials'] {
  const [username = '', ...rest] = text.split(':')
  try {
    const name = decodeURIComponent(username)
    const password = decodeURIComponent(rest.join(':'))
    // RFC 7617, section 2: a user name holds no colon, and neither holds control characters.
    const isValid = name !== '' && !name.includes(':') && !/\p{Cc}/u.test(name + password)
    return isValid ? { username: name, password: new Secret(password) } : undefined
  } catch {
    return undefined
  }
}

/** The proxy of the environment for the host of an upstream. */
export function proxyOf(
  { host, tls }: { readonly host: string; readonly tls: boolean },
  egress: EgressConfig | undefined,
): ProxyConfig | undefined {
  const proxy = tls ? egress?.httpsProxy : egress?.httpProxy
  const split = splitHostAndPort(host)
  if (proxy === undefined || split === undefined) return undefined
  const hostname = split.host.replace(/^\[(.*)\]$/, '$1')
  const port = split.port ?? DEFAULT_PORTS[tls ? 'https:' : 'http:']
  return isProxyExempt(egress?.proxyBypass ?? [], { hostname, port }) ? undefined : proxy
}

/** The URL of a proxy as it may be shown, without its password. */
export function formatProxy({ protocol, host, credentials }: ProxyConfig): string {
  const userinfo = credentials === undefined ? '' : `${encodeURIComponent(credentials.username)}:[redacted]@`
  return `${protocol}//${userinfo}${host}`
}

/** The proxy of an entry of the upstream file; `none` connects directly whatever the environment says. */
export function parseEntryProxy(text: string): ProxyConfig | 'none' | undefined {
  return text === 'none' ? text : parseProxy(text)
}

/** Reads a list such as `NO_PROXY` has it: entries separated by commas or spaces. */
export function parseProxyBypass(text: string): readonly string[] | undefined {
  const entries = text
    .toLowerCase()
    .split(/[\s,]+/)
    .filter(entry => entry !== '')
  return entries.every(entry => /^[a-z0-9_.*:/[\]-]{1,253}$/.test(entry)) ? entries : undefined
}
