import { tldts } from '../../lib/libraries.ts'
import { OciError, UpstreamError } from '../../oci/error.ts'
import type { Namespace } from '../../oci/namespace.ts'
import {
  authorityText,
  isListed,
  isSameOrigin,
  type Origin,
  resolveTarget,
  type Target,
} from '../dial/target.ts'

/**
 * Realms that belong to a registry though the Public Suffix List need not show it. Each has been seen in
 * public: NVIDIA names its realm once a token has expired (NVIDIA/nvidia-container-toolkit#1945),
 * freedesktop.org is a public suffix (distribution/distribution#4947), and clients of Red Hat's and
 * Scaleway's registries ask there. A registry that is missing here needs `realms` in the upstream file.
 */
const KNOWN_REALMS: ReadonlyMap<string, readonly string[]> = new Map([
  ['registry-1.docker.io', ['auth.docker.io']],
  ['nvcr.io', ['authn.nvidia.com']],
  ['registry.freedesktop.org', ['gitlab.freedesktop.org']],
  ['registry.redhat.io', ['sso.redhat.com']],
  ['rg.fr-par.scw.cloud', ['api.scaleway.com']],
])

/** A challenge for a token, and the credentials that would answer it. */
export interface RealmTerms {
  readonly namespace: Namespace
  /** The registry that challenged. */
  readonly origin: Origin
  /** True if a password or identity token would be sent. */
  readonly sendsCredentials: boolean
  /** Hosts that the operator listed. */
  readonly realms: readonly string[]
}

/**
 * Checks the token realm of a challenge (C1 and C3 of the credential policy). Throws an `UpstreamError` of
 * kind `token` for an invalid realm, and a DENIED that names the setting if credentials would go to a host
 * that they are not for.
 */
export function requireRealm(text: string, terms: RealmTerms): Target {
  const { origin, namespace } = terms
  const realm = /^https?:\/\//i.test(text) ? resolveTarget(text, origin) : undefined
  if (realm === undefined) throw trouble(terms, 'names a token realm that is not a URL')
  if (realm.origin.protocol === 'http:' && origin.protocol === 'https:') {
    throw trouble(terms, 'names a token realm without TLS')
  }
  if (!terms.sendsCredentials || isTrusted(realm.origin, terms)) return realm
  const host = authorityText(realm.origin)
  throw new OciError(
    'DENIED',
    `${namespace} names ${host} as its token realm, which its credentials are not for; ` +
      `to allow it: "realms: [${host}]" in the entry "- namespace: ${namespace}" of the upstream file`,
  )
}

function isTrusted(realm: Origin, { origin, realms }: RealmTerms): boolean {
  if (isSameOrigin(realm, origin)) return true
  if (isListed(realm, realms)) return true
  if (realm.protocol !== 'https:') return false
  if (KNOWN_REALMS.get(origin.hostname)?.includes(realm.hostname) === true) return realm.port === 443
  return origin.protocol === 'https:' && haveSameOwner(realm.hostname, origin.hostname)
}

/** True if two names have the same registrable domain. Addresses and bare suffixes have none. */
function haveSameOwner(one: string, other: string): boolean {
  const { getDomain } = tldts()
  const owner = getDomain(one, { allowPrivateDomains: true })
  return owner !== null && owner === getDomain(other, { allowPrivateDomains: true })
}

function trouble({ origin }: RealmTerms, what: string): UpstreamError {
  return new UpstreamError('token', `${authorityText(origin)} ${what}`)
}
