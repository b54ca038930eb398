import type { Identity } from '../oci/identity.ts'
import type { ClientCertificate } from './peer.ts'

/**
 * The identity of a client certificate: its URI (as of SPIFFE), else its common name, else a DNS name or an
 * address of mail. `undefined` if that is not exactly one name which a rule can hold.
 */
export function certificateIdentity({
  uris,
  commonName,
  dnsNames,
  emails,
}: ClientCertificate): Identity | undefined {
  const kinds = [uris, commonName === undefined ? [] : [commonName], dnsNames, emails]
  const [name, ...others] = kinds.find(names => names.length > 0) ?? []
  if (name === undefined || others.length > 0 || !/^[!-~]{1,256}$/.test(name)) return undefined
  return { name: `cert:${name}`, groups: [] }
}
