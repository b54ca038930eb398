import { flagProblem, type Problem } from '../../config/problem.ts'
import type { MirrorLogin, Wish } from './client.ts'

const ABSOLUTE = /^\/[\x20-\x7e]+$/

/** The flags of a command line. */
interface Flags {
  /** The text of a flag. */
  text(name: string): string | undefined
}

/** Reads `--client-cert` and `--client-key`. */
export function readCertificate(given: Flags, problems: Problem[]): Wish['certificate'] {
  const [certFile, keyFile] = [given.text('client-cert'), given.text('client-key')]
  if (certFile === undefined && keyFile === undefined) return undefined
  const isGood = [certFile, keyFile].every(file => file !== undefined && ABSOLUTE.test(file))
  if (certFile !== undefined && keyFile !== undefined && isGood) return { certFile, keyFile }
  const hint = 'such as /etc/ssl/client.pem and /etc/ssl/client.key'
  problems.push(flagProblem('client-cert', 'and --client-key are two absolute paths', hint))
  return undefined
}

/** Where a login is: the user, and the file with the password. */
export interface LoginPlace {
  readonly username: string
  readonly passwordFile: string
}

/** Reads `--username` and `--password-file`. */
export function readLoginPlace(given: Flags, problems: Problem[]): LoginPlace | undefined {
  const [username, passwordFile] = [given.text('username'), given.text('password-file')]
  if (username !== undefined && passwordFile !== undefined) return { username, passwordFile }
  if (username !== passwordFile)
    problems.push(flagProblem('username', 'and --password-file belong together', undefined))
  return undefined
}

/** The login with its password; `undefined` if the file has none. */
export async function loginAt(
  { username, passwordFile }: LoginPlace,
  read: (path: string) => Promise<string | undefined>,
): Promise<MirrorLogin | undefined> {
  const password = (await read(passwordFile).catch(() => undefined))?.trim() ?? ''
  return password === '' ? undefined : { username, password }
}
