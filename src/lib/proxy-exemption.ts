import { contains, parseAddress, parseCidr } from './ip-address.ts'

/** A host, as the exemptions of a proxy judge it. */
export interface ExemptionSubject {
  /** Lower-case, an IPv6 address without its brackets. */
  readonly hostname: string
  readonly port: number
}

/**
 * True if `NO_PROXY` exempts a host from the proxy of the environment, by the rules that curl and Go share:
 * `*` exempts everything; `example.com` and `.example.com` exempt the name (with a leading dot only what is
 * below it) and what is below it; an address or a CIDR block exempts hosts that are written as an address;
 * `:port` at the end limits an entry to that port. This machine itself is always exempt.
 */
export function isProxyExempt(entries: readonly string[], { hostname, port }: ExemptionSubject): boolean {
  const address = parseAddress(hostname)
  if (hostname === 'localhost' || hostname.endsWith('.localhost')) return true
  const exempts = (text: string): boolean => {
    if (text === '*') return true
    const block = parseCidr(unbracketed(text))
    if (block !== undefined) return address !== undefined && contains(block, address)
    const [, name = '', portText] = /^(.*?)(?::([0-9]{1,5}))?$/.exec(text) ?? []
    if (portText !== undefined && Number(portText) !== port) return false
    const single = parseCidr(unbracketed(name))
    if (single !== undefined) return address !== undefined && contains(single, address)
    const suffix = name.replace(/^\*?\.?/, '.')
    return hostname.endsWith(suffix) || (suffix === `.${name}` && hostname === name)
  }
  return [...LOOPBACK, ...entries].some(exempts)
}

const LOOPBACK = ['127.0.0.0/8', '::1'] as const

function unbracketed(text: string): string {
  return text.replace(/^\[(.*)\]$/, '$1')
}
