import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto'
import { link, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { isIP } from 'node:net'
import { hostname, networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { hasCode, ifThere } from '../../lib/system-error.ts'
import { ConfigError } from '../problem.ts'

/** The files of a certificate that the mirror has made itself. */
export interface SelfSignedFiles {
  /** Key, certificate and the certificate of the CA, in one file, so that one rename replaces them all. */
  readonly serverFile: string
  /** The certificate of the CA, for clients. */
  readonly caFile: string
}

const RENEW_MS = 30 * 24 * 3_600_000

/** Paths of the files in their directory. */
export function selfSignedFiles(directory: string): SelfSignedFiles {
  return { serverFile: join(directory, 'server.pem'), caFile: join(directory, 'ca.crt') }
}

/**
 * Makes what is missing in the directory: a CA, which is kept, and a certificate for the names of this
 * machine and the given ones. The certificate is made anew 30 days before it expires, and when the names are
 * others. Throws a {@link ConfigError} if the CA that is there cannot be used: clients trust it, so it is not
 * replaced.
 */
export async function ensureSelfSigned(
  directory: string,
  names: readonly string[],
  nowMs: number,
): Promise<void> {
  await mkdir(directory, { recursive: true })
  const { serverFile, caFile } = selfSignedFiles(directory)
  const authority = await ensureAuthority(join(directory, 'authority.pem'), nowMs)
  const ca = new X509Certificate(authority)
  if ((await readText(caFile)) !== ca.toString()) await replace(caFile, ca.toString(), 0o644)
  const wanted = [...new Set([...machineNames(), ...names])]
  if (isGood(await readText(serverFile), ca, wanted, nowMs)) return
  const { issueCertificate } = await import('./authority.ts')
  await replace(serverFile, await issueCertificate(authority, wanted, nowMs), 0o600)
}

async function ensureAuthority(path: string, nowMs: number): Promise<string> {
  const known = await readText(path)
  if (known === undefined) {
    const { createAuthority } = await import('./authority.ts')
    const name = `Entrepot CA ${randomBytes(4).toString('hex')} of ${hostname()}`.slice(0, 64)
    await writeFirst(path, await createAuthority(name, nowMs))
  }
  const text = known ?? (await readFile(path, 'utf8'))
  const problem = problemOf(text, nowMs)
  if (problem === undefined) return text
  throw new ConfigError([
    {
      origin: { kind: 'file', file: path, line: undefined },
      path: '(--tls-self-signed)',
      message: problem,
      hint: 'restore it; or delete it, and give the new ca.crt to all clients',
    },
  ])
}

function problemOf(text: string, nowMs: number): string | undefined {
  try {
    const certificate = new X509Certificate(text)
    if (!certificate.checkPrivateKey(createPrivateKey(text))) return 'holds a key of another certificate'
    return certificate.validToDate.getTime() > nowMs ? undefined : 'has expired'
  } catch {
    return 'is damaged'
  }
}

/** Names by which clients may know this machine. Link-local addresses are of no use without a zone. */
function machineNames(): readonly string[] {
  const addresses = Object.values(networkInterfaces())
    .flatMap(found => found ?? [])
    .map(({ address }) => address)
    .filter(address => !/^(?:fe[89ab]|169\.254\.)/i.test(address))
  return [...new Set([hostname().toLowerCase(), 'localhost', '127.0.0.1', '::1', ...addresses])]
}

function isGood(
  server: string | undefined,
  ca: X509Certificate,
  names: readonly string[],
  nowMs: number,
): boolean {
  if (server === undefined) return false
  try {
    const certificate = new X509Certificate(server)
    const isFresh = certificate.validToDate.getTime() - nowMs > RENEW_MS
    const isOurs = certificate.checkIssued(ca) && certificate.verify(ca.publicKey)
    const isPair = certificate.checkPrivateKey(createPrivateKey(server))
    return isFresh && isOurs && isPair && names.every(name => isNamed(certificate, name))
  } catch {
    return false
  }
}

function isNamed(certificate: X509Certificate, name: string): boolean {
  if (isIP(name) !== 0) return certificate.checkIP(name) !== undefined
  return certificate.subjectAltName?.split(', ').includes(`DNS:${name}`) === true
}

async function readText(path: string): Promise<string | undefined> {
  return await ifThere(readFile(path, 'utf8'))
}

/** Writes a file unless another process was first. */
async function writeFirst(path: string, text: string): Promise<void> {
  const temporary = await writeTemporary(path, text, 0o600)
  try {
    await link(temporary, path)
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
  } finally {
    await rm(temporary)
  }
}

async function replace(path: string, text: string, mode: number): Promise<void> {
  await rename(await writeTemporary(path, text, mode), path)
}

async function writeTemporary(path: string, text: string, mode: number): Promise<string> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  await using file = await open(temporary, 'wx', mode)
  await file.writeFile(text)
  await file.sync()
  return temporary
}
