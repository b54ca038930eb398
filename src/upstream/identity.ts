import { createHash } from 'node:crypto'
import type { CredentialsOptions } from './auth/credentials.ts'

interface Identified {
  readonly host: string
  readonly tls: boolean
  readonly credentials: CredentialsOptions | undefined
}

/**
 * Which registry is asked, and as which user. Leaves the password out: a process that has not read a new one
 * yet still asks as the same user.
 */
export function identityOf(kind: 'configured' | 'dynamic', { host, tls, credentials }: Identified): string {
  const user = credentials !== undefined && 'username' in credentials ? credentials.username : null
  const settings = [kind, host, tls, credentials?.kind ?? null, user]
  return createHash('sha256').update(JSON.stringify(settings)).digest('hex').slice(0, 16)
}
