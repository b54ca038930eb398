import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type Cidr, parseCidr } from '../lib/ip-address.ts'
import { DOCKER_HUB, DOCKER_HUB_HOST, type Namespace } from '../oci/namespace.ts'
import type { CredentialsOptions } from './auth/credentials.ts'
import type { Proxy } from './dial/egress.ts'
import type { TlsTerms } from './dial/handshake.ts'
import type { DialTerms } from './dial/policy.ts'
import { type Origin, parseOrigin } from './dial/target.ts'

/** One configured upstream, with the settings that this folder needs. */
export interface UpstreamOptions {
  readonly namespace: Namespace
  /** `host` or `host:port` to dial. */
  readonly host: string
  readonly tls: boolean
  readonly acceptInvalidCerts: boolean
  readonly caFile: string | undefined
  readonly clientCertFile: string | undefined
  readonly clientKeyFile: string | undefined
  readonly userAgent: string | undefined
  readonly credentials: CredentialsOptions | undefined
  /** CIDR blocks that it may be in although policy would refuse them. */
  readonly allowAddresses: readonly string[]
  /** Other hosts that may receive its credentials as token realms. */
  readonly realms: readonly string[]
  /** Longest pause requested by the upstream that a request waits out, in milliseconds. */
  readonly retryAfterMaxMs: number
  /** Follow redirects of content with a digest from https to http. */
  readonly allowHttpRedirects: boolean
  /** Proxy for all hosts of this upstream, or `none`; by default the one for all upstreams. */
  readonly proxy?: Proxy | 'none' | undefined
}

const DYNAMIC_RETRY_AFTER_MAX_MS = 5000

/** A public registry, with the same settings for all clients. */
export function publicOptions(namespace: Namespace): UpstreamOptions {
  return {
    namespace,
    host: namespace === DOCKER_HUB ? DOCKER_HUB_HOST : namespace,
    tls: true,
    acceptInvalidCerts: false,
    caFile: undefined,
    clientCertFile: undefined,
    clientKeyFile: undefined,
    userAgent: undefined,
    credentials: undefined,
    allowAddresses: [],
    realms: [],
    retryAfterMaxMs: DYNAMIC_RETRY_AFTER_MAX_MS,
    allowHttpRedirects: false,
  }
}

export function originOf({ host, tls, namespace }: UpstreamOptions): Origin {
  const origin = parseOrigin(host, tls ? 'https:' : 'http:')
  if (origin === undefined) throw new TypeError(`the host of upstream ${namespace} is invalid`)
  return origin
}

export function configuredTerms(options: UpstreamOptions, nat64: Cidr | undefined): DialTerms {
  const allowed = options.allowAddresses.map(text => {
    const cidr = parseCidr(text)
    if (cidr === undefined)
      throw new TypeError(`allow_addresses of upstream ${options.namespace} has no address block: ${text}`)
    return cidr
  })
  const { namespace, realms } = options
  return { kind: 'configured', namespace, origin: originOf(options), allowed, realms, nat64 }
}

export function readTlsTerms({
  acceptInvalidCerts,
  caFile,
  clientCertFile,
  clientKeyFile,
}: UpstreamOptions): TlsTerms {
  const read = (file: string | undefined): string | undefined =>
    file === undefined ? undefined : readFileSync(file, 'utf8')
  return {
    acceptsInvalidCerts: acceptInvalidCerts,
    ca: read(caFile),
    clientCert: read(clientCertFile),
    clientKey: read(clientKeyFile),
  }
}

/**
 * Equal for equal settings and equal contents of the named certificate files. Reveals nothing about the
 * secrets in them.
 */
export function fingerprintOf(options: UpstreamOptions, tls: TlsTerms): string {
  const { credentials, proxy } = options
  const secret = credentials?.kind === 'password' ? credentials.password.reveal() : ''
  const proxySecret = typeof proxy === 'object' ? proxy.credentials?.password.reveal() : undefined
  const settings = [
    options.namespace,
    options.host,
    options.tls,
    options.userAgent,
    options.allowAddresses,
    options.realms,
    options.retryAfterMaxMs,
    options.allowHttpRedirects,
    credentials,
    secret,
    tls,
    proxy ?? null,
    proxySecret ?? null,
  ]
  return createHash('sha256').update(JSON.stringify(settings)).digest('hex')
}
