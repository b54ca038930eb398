import { createHash } from 'node:crypto'
import type { Credential } from './auth/credential.ts'
import type { CredentialSource } from './auth/credentials.ts'
import type { RegistryIdentity } from './registry.ts'

interface Identified {
  readonly host: string
  readonly tls: boolean
}

/**
 * Which registry is asked, and as which user. Leaves the password out: a process that has not read a new one
 * yet still asks as the same user. An identity token stands for its user.
 */
export function identityOf(
  kind: 'configured' | 'dynamic',
  { host, tls }: Identified,
  credential: Credential | undefined,
): RegistryIdentity {
  const user = credential?.kind === 'identity' ? credential.token.reveal() : (credential?.username ?? null)
  const settings = [kind, host, tls, credential?.kind ?? null, user]
  const text = createHash('sha256').update(JSON.stringify(settings)).digest('hex').slice(0, 16)
  return { text, isUser: credential !== undefined }
}

/** The identity with the credential as it is now; `undefined` if it cannot be read. */
export async function identify(
  kind: 'configured' | 'dynamic',
  identified: Identified,
  credentials: CredentialSource | undefined,
): Promise<RegistryIdentity | undefined> {
  try {
    return identityOf(kind, identified, await credentials?.current())
  } catch {
    // The request itself reports that the credentials cannot be read.
    return undefined
  }
}
