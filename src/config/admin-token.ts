import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { ListenAddress } from './config.ts'
import { formatListen, isLocal } from './listen.ts'
import type { SettingsReader } from './reader.ts'
import { Secret } from './secret.ts'

const LENGTH_MIN = 16

/** The admin token and its file. */
export interface AdminToken {
  readonly adminToken: Secret | undefined
  readonly adminTokenFile: string | undefined
}

/**
 * Reads the token's file. An admin listener that other machines can reach without a token is a problem: they
 * could empty the cache.
 */
export async function readAdminToken(
  reader: SettingsReader,
  adminListen: ListenAddress | undefined,
  cwd: string,
): Promise<AdminToken> {
  const given = reader.find('admin-token-file')
  const name = reader.parse(given, text => (text.includes('\0') ? undefined : text))
  if (given === undefined || name === undefined) {
    if (adminListen !== undefined && !isLocal(adminListen) && given === undefined) refuse(reader, adminListen)
    return { adminToken: undefined, adminTokenFile: undefined }
  }
  const adminTokenFile = resolve(cwd, name)
  try {
    const adminToken = await readToken(adminTokenFile)
    if (adminToken !== undefined) return { adminToken, adminTokenFile }
    reader.refuse(given, 'names a file without a token', `one line of at least ${LENGTH_MIN} characters`)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    reader.refuse(given, `names a file that cannot be read: ${code ?? 'unknown error'}`, undefined)
  }
  return { adminToken: undefined, adminTokenFile }
}

/** The token in a file; `undefined` if it has none. Rejects if the file cannot be read. */
async function readToken(file: string): Promise<Secret | undefined> {
  const token = (await readFile(file, 'utf8')).trim()
  return token.length >= LENGTH_MIN && /^[\x21-\x7e]+$/.test(token) ? new Secret(token) : undefined
}

/**
 * The admin token as its file has it now, so that it can be changed without a restart. While the file cannot
 * be read or has no token, the one before stays in force; `failed` is called when that begins.
 */
export function tokenInForce(
  { adminToken, adminTokenFile }: Partial<AdminToken>,
  failed: () => void,
): () => Promise<Secret | undefined> {
  let [token, isFailing] = [adminToken, false]
  return async () => {
    if (adminTokenFile === undefined) return token
    const current = await readToken(adminTokenFile).catch(() => undefined)
    if (current === undefined && !isFailing) failed()
    isFailing = current === undefined
    token = current ?? token
    return token
  }
}

function refuse(reader: SettingsReader, adminListen: ListenAddress): void {
  const given = reader.find('admin-listen')
  if (given === undefined) return
  const message = `${formatListen(adminListen)} is reachable from other machines, and anyone there could empty the cache`
  reader.refuse(given, message, 'give --admin-token-file too, or listen on 127.0.0.1 or unix:/path')
}
