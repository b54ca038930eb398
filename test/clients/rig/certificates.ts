import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runOk } from './child.ts'

/**
 * The PEM files of a certificate authority made for one run, and of one server certificate that it signed.
 */
export interface Certificates {
  readonly caFile: string
  readonly certificateFile: string
  readonly keyFile: string
}

/** The files of a client's certificate. */
export interface ClientCertificate {
  readonly certFile: string
  readonly keyFile: string
}

const NEW_KEY = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'

/** Makes a certificate authority and one certificate for all `names`, valid for a day. */
export async function makeCertificates(directory: string, names: readonly string[]): Promise<Certificates> {
  const usage = '-addext keyUsage=critical,keyCertSign,cRLSign'
  await openssl(directory, `req -x509 ${NEW_KEY} -days 1 -keyout ca.key -out ca.pem ${usage}`, '/CN=Test CA')
  const extensions = `subjectAltName=${names.map(name => `DNS:${name}`).join(',')}\nextendedKeyUsage=serverAuth\n`
  const { certFile, keyFile } = await sign(directory, 'server', { commonName: 'registries', extensions })
  return { caFile: join(directory, 'ca.pem'), certificateFile: certFile, keyFile }
}

/** Makes a certificate of a client with this common name, by the authority of {@link makeCertificates}. */
export async function makeClientCertificate(
  directory: string,
  commonName: string,
): Promise<ClientCertificate> {
  return await sign(directory, commonName, { commonName, extensions: 'extendedKeyUsage=clientAuth\n' })
}

async function sign(
  directory: string,
  name: string,
  { commonName, extensions }: { readonly commonName: string; readonly extensions: string },
): Promise<ClientCertificate> {
  await openssl(directory, `req ${NEW_KEY} -keyout ${name}.key -out ${name}.csr`, `/CN=${commonName}`)
  await writeFile(join(directory, `${name}.ext`), extensions)
  const signer = '-CA ca.pem -CAkey ca.key -CAcreateserial -days 1'
  const files = `-in ${name}.csr ${signer} -extfile ${name}.ext -out ${name}.pem`
  await openssl(directory, `x509 -req ${files}`, '')
  return { certFile: join(directory, `${name}.pem`), keyFile: join(directory, `${name}.key`) }
}

/** Runs openssl; words that name a file are relative to the directory. */
async function openssl(directory: string, words: string, subject: string): Promise<void> {
  const argv = words
    .split(' ')
    .map(word => (/\.(?:pem|key|csr|ext)$/.test(word) ? join(directory, word) : word))
  await runOk(['/usr/bin/openssl', ...argv, ...(subject === '' ? [] : ['-subj', subject])])
}
