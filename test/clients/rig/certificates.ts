import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runOk } from './child.ts'

/** The PEM files of a certificate authority made for one run, and of one server certificate that it signed. */
export interface Certificates {
  readonly caFile: string
  readonly certificateFile: string
  readonly keyFile: string
}

/** Makes a certificate authority and one certificate for all `names`, valid for a day. */
export async function makeCertificates(directory: string, names: readonly string[]): Promise<Certificates> {
  const file = (name: string): string => join(directory, name)
  const openssl = (...args: readonly string[]): Promise<string> => runOk(['/usr/bin/openssl', ...args])
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  await openssl(
    ...['req', '-x509', ...newKey, '-days', '1', '-subj', '/CN=Test CA', '-keyout', file('ca.key')],
    ...['-out', file('ca.pem'), '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
  )
  await openssl(
    ...['req', ...newKey, '-subj', '/CN=registries', '-keyout', file('server.key'), '-out', file('server.csr')],
  )
  const extensions = `subjectAltName=${names.map(name => `DNS:${name}`).join(',')}\nextendedKeyUsage=serverAuth\n`
  await writeFile(file('server.ext'), extensions)
  await openssl(
    ...['x509', '-req', '-in', file('server.csr'), '-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-days', '1'],
    ...['-CAcreateserial', '-extfile', file('server.ext'), '-out', file('server.pem')],
  )
  return { caFile: file('ca.pem'), certificateFile: file('server.pem'), keyFile: file('server.key') }
}
