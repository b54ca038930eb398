import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { ConfigError, type Problem, type ValueOrigin } from '../problem.ts'

/** Paths of the certificate that a TLS listener uses, and of the CA of its clients. */
export interface CertificateFiles {
  readonly certFile: string
  readonly keyFile: string
  readonly clientCaFile: string | undefined
}

/** The content of {@link CertificateFiles}, checked. */
export interface LoadedCertificate {
  readonly certificates: string
  readonly key: string
  readonly clientCa: string | undefined
  /** Facts of the first certificate, for the log and the metrics. */
  readonly names: string
  readonly notAfterMs: number
}

/**
 * Reads and checks the files. Throws a {@link ConfigError} with every problem: a file that cannot be read, is
 * not PEM or is encrypted, a key of another certificate, and a certificate that no client would accept
 * because it has expired or has no name.
 */
export async function loadCertificate(files: CertificateFiles, nowMs: number): Promise<LoadedCertificate> {
  const problems: Problem[] = []
  const certificate = await readChain(files.certFile, 'tls-cert', problems)
  const key = await readKey(files.keyFile, problems)
  const clientCa =
    files.clientCaFile === undefined
      ? undefined
      : await readChain(files.clientCaFile, 'tls-client-ca', problems)
  if (certificate !== undefined) checkLeaf(certificate, nowMs, problems)
  if (certificate !== undefined && key !== undefined && problems.length === 0)
    checkPair(certificate, key, problems)
  if (clientCa?.all.some(({ ca }) => !ca) === true)
    problems.push(
      clientCa.problem(
        'holds a certificate that is not one of a CA',
        'give the CA that signs client certificates',
      ),
    )
  if (problems.length > 0 || certificate === undefined || key === undefined) throw new ConfigError(problems)
  const { leaf, text } = certificate
  return {
    certificates: text,
    key: key.text,
    clientCa: clientCa?.text,
    names: leaf.subjectAltName ?? '',
    notAfterMs: leaf.validToDate.getTime(),
  }
}

/** One PEM file. */
interface PemFile {
  readonly text: string
  /** A problem of this file. */
  readonly problem: (message: string, hint?: string) => Problem
}

interface Chain extends PemFile {
  readonly leaf: X509Certificate
  readonly all: readonly X509Certificate[]
}

async function readChain(path: string, flag: string, problems: Problem[]): Promise<Chain | undefined> {
  const file = await readPem(path, flag, problems)
  if (file === undefined) return undefined
  try {
    const all = (file.text.match(CERTIFICATES) ?? []).map(text => new X509Certificate(text))
    const [leaf] = all
    if (leaf !== undefined) return { ...file, leaf, all }
    problems.push(file.problem('holds no certificate', 'a PEM file with BEGIN CERTIFICATE'))
  } catch {
    problems.push(
      file.problem('holds a damaged certificate', 'openssl x509 -in FILE -noout -text reads a sound one'),
    )
  }
  return undefined
}

const CERTIFICATES = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g
const PRIVATE_KEY = /-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----/

async function readKey(path: string, problems: Problem[]): Promise<PemFile | undefined> {
  const file = await readPem(path, 'tls-key', problems)
  if (file === undefined) return undefined
  if (/BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: 4,ENCRYPTED/.test(file.text)) {
    problems.push(file.problem('is encrypted with a passphrase', 'openssl pkey -in FILE -out NEW removes it'))
    return undefined
  }
  if (!PRIVATE_KEY.test(file.text)) {
    problems.push(file.problem('holds no private key', 'a PEM file with BEGIN PRIVATE KEY'))
    return undefined
  }
  try {
    createPrivateKey(file.text)
    return file
  } catch {
    problems.push(file.problem('holds a damaged private key'))
    return undefined
  }
}

async function readPem(path: string, flag: string, problems: Problem[]): Promise<PemFile | undefined> {
  const origin: ValueOrigin = { kind: 'file', file: path, line: undefined }
  const problem = (message: string, hint?: string): Problem => ({
    origin,
    path: `(--${flag})`,
    message,
    hint,
  })
  try {
    return { text: await readFile(path, 'utf8'), problem }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    problems.push(problem(`cannot be read: ${code ?? 'unknown error'}`))
    return undefined
  }
}

function checkLeaf({ leaf, problem }: Chain, nowMs: number, problems: Problem[]): void {
  if (leaf.validToDate.getTime() <= nowMs)
    problems.push(problem(`expired on ${leaf.validToDate.toISOString()}`, 'no client would accept it'))
  if (leaf.subjectAltName === undefined)
    problems.push(
      problem(
        'has no subject alternative name',
        'clients ignore the common name; list the host names as DNS names',
      ),
    )
}

/** The last check is OpenSSL's own: it refuses a weak key, for example. */
function checkPair(chain: Chain, key: PemFile, problems: Problem[]): void {
  if (!chain.leaf.checkPrivateKey(createPrivateKey(key.text))) {
    problems.push(
      key.problem(
        'is not the key of the certificate',
        'the first certificate in --tls-cert is the mirror’s own',
      ),
    )
    return
  }
  try {
    createSecureContext({ cert: chain.text, key: key.text })
  } catch (error) {
    problems.push(chain.problem(`cannot be used: ${(error as Error).message}`))
  }
}
