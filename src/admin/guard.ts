import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { RuledAccess } from '../access/ruled-access.ts'
import { OciError } from '../oci/error.ts'
import { ANONYMOUS } from '../oci/identity.ts'

/** Terms of access to the admin listener. */
export interface GuardOptions {
  /** The token that administrators send; `undefined` if only this machine can reach the listener. */
  readonly token: string | undefined
  /** True if the listener is a unix socket. */
  readonly isSocket: boolean
}

const LOCAL = /^(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?$/i

/** Name of an administrator who needs no credentials, or has the token. */
const ADMINISTRATOR = 'administrator'

/** Identities that may administer beside the token. */
interface AdminAccess {
  readonly access: Pick<RuledAccess, 'identify' | 'rules'>
}

/**
 * Refuses requests without the right token that come from nobody with the right `admin` either, and all that
 * {@link requireNoWebPage} refuses. Resolves to the name of the administrator.
 */
export async function requireAdministrator(
  request: IncomingMessage,
  options: GuardOptions & AdminAccess,
): Promise<string> {
  requireNoWebPage(request, options)
  const { token, access } = options
  const { authorization } = request.headers
  if (token === undefined || isSame(bearer(authorization), token)) return ADMINISTRATOR
  const address = request.socket.remoteAddress
  const peer = { address, isEncrypted: false, certificate: undefined }
  const identity = await access.identify({ authorization, peer })
  if (access.rules.decideAdmin(identity).isAllowed) return identity.name
  if (identity.name !== ANONYMOUS.name)
    throw new OciError('DENIED', `${identity.name} may not administer this mirror`)
  throw new OciError(
    'UNAUTHORIZED',
    'administration needs the token of --admin-token-file, as "Authorization: Bearer …", or an identity with the right admin',
  )
}

/**
 * Refuses requests that a web page in a browser on this machine may have sent. Browsers state the origin of a
 * page (`Origin`, `Sec-Fetch-Site`). A page whose own host name resolves to this listener (DNS rebinding)
 * shows in `Host`: without a token, `Host` must be a name of this machine. Web pages cannot reach a unix
 * socket.
 */
export function requireNoWebPage({ headers }: IncomingMessage, { token, isSocket }: GuardOptions): void {
  const site = headers['sec-fetch-site']
  if (headers.origin !== undefined || (site !== undefined && site !== 'none'))
    throw new OciError('DENIED', 'the admin listener does not answer web pages')
  if (token === undefined && !isSocket && !LOCAL.test(headers.host ?? ''))
    throw new OciError(
      'DENIED',
      'without a token the admin listener answers only to localhost, 127.0.0.1 or [::1]',
    )
}

function bearer(authorization: string | undefined): string {
  const [, token = ''] = /^Bearer +(\S+)$/i.exec(authorization ?? '') ?? []
  return token
}

/** Compares in constant time for every wrong token. */
function isSame(sent: string, token: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(hash(sent), hash(token))
}
