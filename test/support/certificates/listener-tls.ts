import { readFileSync } from 'node:fs'
import type { ListenerTls } from '../../../src/http/tls/listener-tls.ts'

/** The text of a certificate or key of this folder. */
export function pem(name: string): string {
  return readFileSync(new URL(`./${name}.pem`, import.meta.url), 'utf8')
}

/** Terms of a listener with a certificate of this folder; the client CA is the folder's own. */
export function tlsTerms(
  name = 'server',
  clients?: { readonly isRequired: boolean },
  ticketKeys = new Uint8Array(48),
): ListenerTls {
  return {
    certificates: pem(name),
    key: pem(`${name}.key`),
    clients: clients === undefined ? undefined : { ca: pem('ca'), ...clients },
    ticketKeys,
  }
}
