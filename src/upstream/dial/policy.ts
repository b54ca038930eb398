import { type Address, type Cidr, contains, parseAddress } from '../../lib/ip-address.ts'
import { OciError, UpstreamError } from '../../oci/error.ts'
import { type Namespace, parseNamespace } from '../../oci/namespace.ts'
import { type AddressKind, judgeAddress } from './address.ts'
import { authorityText, isListed, isSameOrigin, type Origin } from './target.ts'

/** Namespaces that are mirrored besides the configured ones, set by `--namespaces`. */
export type NamespaceMode = 'public' | 'configured' | 'any'

/** Limits on the hosts and addresses that an upstream may dial. */
export type DialTerms = (DynamicTerms | ConfiguredTerms) & {
  readonly namespace: Namespace
  /** The network's own NAT64 prefix, whose addresses lead to IPv4 addresses. */
  readonly nat64?: Cidr | undefined
}

/**
 * For an upstream that a client named: https, well-formed public names and globally routable addresses only.
 * With `isAnyAddress` its addresses are not checked.
 */
interface DynamicTerms {
  readonly kind: 'dynamic'
  readonly isAnyAddress: boolean
  /** It may be reached through a proxy, although only the proxy sees the address. */
  readonly trustsProxies: boolean
}

/** For an upstream that the operator configured. */
interface ConfiguredTerms {
  readonly kind: 'configured'
  readonly origin: Origin
  /** Blocks of addresses that are allowed although policy would refuse them. */
  readonly allowed: readonly Cidr[]
  /** Hosts that the operator trusts as much as the upstream itself. */
  readonly realms: readonly string[]
  /** Entry of the upstream file with these settings, for refusals; by default that of the namespace. */
  readonly entry?: string
}

const REFUSED_SUFFIXES = [
  'local',
  'internal',
  'localhost',
  'lan',
  'home.arpa',
  'svc',
  'cluster.local',
  'onion',
  'in-addr.arpa',
  'ip6.arpa',
] as const

/**
 * The ports above 1023 that the WHATWG fetch standard calls bad, §2.9. Other protocols are at home there, and
 * a request could be made to look like one of theirs.
 */
const BAD_PORTS: ReadonlySet<number> = new Set([
  1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697,
  10_080,
])

/**
 * Refuses a namespace that is not configured and that the mode does not allow. The DENIED names the setting.
 */
export function requireMirrored(namespace: Namespace, mode: NamespaceMode): void {
  if (mode === 'configured') {
    throw denied(
      `${namespace} is not configured here, and only configured namespaces are mirrored`,
      `an entry "- namespace: ${namespace}" in the upstream file, or "--namespaces public"`,
    )
  }
  const reason = nameTrouble(namespace)
  if (reason !== undefined) {
    throw denied(`${namespace} ${reason}`, `an entry "- namespace: ${namespace}" in the upstream file`)
  }
}

/**
 * Reason for never dialling a `host[:port]` that a client or a public upstream named, whatever its addresses.
 */
function nameTrouble(authority: string): string | undefined {
  if (parseNamespace(authority) === undefined) return 'is not the name of a public registry'
  const [host = '', portText] = authority.split(':')
  const suffix = REFUSED_SUFFIXES.find(refused => host.endsWith(`.${refused}`))
  if (suffix !== undefined) return `ends in .${suffix}, which names no public registry`
  const port = portText === undefined ? 443 : Number(portText)
  if (port !== 443 && (port < 1024 || BAD_PORTS.has(port)))
    return `has port ${port}, where no registry is expected`
  return undefined
}

/** Refuses an origin that these terms do not allow. Called before its name is resolved. */
export function requireOrigin(terms: DialTerms, origin: Origin): void {
  if (terms.kind === 'configured') return
  const authority = authorityText(origin)
  if (origin.protocol !== 'https:') {
    throw denied(
      `${terms.namespace} leads to ${authority} without TLS`,
      `an entry "- namespace: ${terms.namespace}" in the upstream file`,
    )
  }
  const reason = nameTrouble(authority)
  if (reason === undefined) return
  throw denied(
    `${terms.namespace} leads to ${authority}, which ${reason}`,
    `an entry "- namespace: ${terms.namespace}" in the upstream file`,
  )
}

/**
 * Refuses an origin that must not be reached through a proxy. The proxy resolves names itself, in a network
 * that may not be ours, so that only the name can be judged.
 */
export function requireProxied(terms: DialTerms, origin: Origin): void {
  const { namespace } = terms
  const entry = `the entry "- namespace: ${namespace}" of the upstream file`
  if (terms.kind === 'dynamic') {
    if (terms.isAnyAddress || terms.trustsProxies) return
    throw denied(
      `${namespace} is not configured here, and the proxy on the way hides at which address it is`,
      `"--trust-egress-proxy", or an entry "- namespace: ${namespace}" in the upstream file`,
    )
  }
  const literal = parseAddress(origin.hostname)
  const refusal = literal === undefined ? undefined : judgeDial(terms, origin, literal, undefined)
  if (refusal !== undefined) throw refusal
  const isOwn = origin.hostname === terms.origin.hostname || isListed(origin, terms.realms)
  if (literal !== undefined || isOwn || !isInternalName(origin.hostname)) return
  if (isInternalName(terms.origin.hostname)) return
  throw denied(
    `${namespace} leads to ${authorityText(origin)}, which is an internal name, through a proxy`,
    `"proxy: none" in ${entry}`,
  )
}

/** True for names that cannot be those of a public server. */
function isInternalName(hostname: string): boolean {
  return !hostname.includes('.') || REFUSED_SUFFIXES.some(refused => hostname.endsWith(`.${refused}`))
}

/** True for the upstream's own origin and for the realms that the operator listed for it. */
export function isTrustedOrigin(terms: DialTerms, origin: Origin): boolean {
  if (terms.kind === 'dynamic') return false
  return isSameOrigin(origin, terms.origin) || isListed(origin, terms.realms)
}

/**
 * Returns the refusal of `address` for `origin`, or `undefined` if these terms allow it. `ownKind` is the
 * kind of the address where the upstream's own host was last found: a redirect or a realm may lead to a
 * private address only if the upstream itself is at one.
 */
export function judgeDial(
  terms: DialTerms,
  origin: Origin,
  address: Address,
  ownKind: AddressKind | undefined,
): OciError | undefined {
  const { kind, block } = judgeAddress(address, terms.nat64)
  if (kind === 'global') return undefined
  if (terms.kind === 'dynamic') {
    return terms.isAnyAddress ? undefined : new OciError('DENIED', notPublic(terms.namespace, origin))
  }
  if (terms.allowed.some(cidr => contains(cidr, address))) return undefined
  const isOwn = isSameOrigin(origin, terms.origin)
  if (kind === 'private' && (isOwn || ownKind === 'private')) return undefined
  if (isMeant(terms.origin, kind) && origin.hostname === terms.origin.hostname) return undefined
  return denied(
    `${terms.namespace} leads to ${authorityText(origin)}, which is at a ${DESCRIBED[kind]} address`,
    `"allow_addresses: [${block}]" in the entry "${terms.entry ?? `- namespace: ${terms.namespace}`}" of the upstream file`,
  )
}

const DESCRIBED = {
  private: 'private',
  loopback: 'loopback',
  'link-local': 'link-local',
  metadata: 'cloud metadata',
  special: 'special-purpose',
} as const satisfies Record<Exclude<AddressKind, 'global'>, string>

/**
 * The error for a name that does not exist, at an upstream that a client named. It has the status and the
 * text of a refusal, so that a client cannot find out which internal names exist. It is still upstream
 * trouble and not a refusal: a public name can disappear while the DNS is broken, and cached tags must stay
 * usable then.
 */
export function unlisted(terms: DialTerms, origin: Origin): UpstreamError | undefined {
  if (terms.kind === 'configured' || terms.isAnyAddress) return undefined
  return new UpstreamError('not-public', notPublic(terms.namespace, origin))
}

/** Reveals neither the address nor if it exists. */
function notPublic(namespace: Namespace, origin: Origin): string {
  return (
    `${namespace} leads to ${authorityText(origin)}, which has no address, or one that is not public; ` +
    `to allow it: an entry "- namespace: ${namespace}" in the upstream file, or "--namespaces any"`
  )
}

/** True if the operator wrote the host as a loopback or link-local address, and so meant it. */
function isMeant({ hostname }: Origin, kind: AddressKind): boolean {
  if (kind !== 'loopback' && kind !== 'link-local') return false
  if (hostname === 'localhost' || hostname.endsWith('.localhost')) return kind === 'loopback'
  const literal = parseAddress(hostname)
  return literal !== undefined && judgeAddress(literal).kind === kind
}

function denied(what: string, setting: string): OciError {
  return new OciError('DENIED', `${what}; to allow it: ${setting}`)
}
