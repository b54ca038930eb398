import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { explainDecision, type RuledAccess } from '../access/ruled-access.ts'
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
export interface AdminAccess {
  readonly access: Pick<RuledAccess, 'identify' | 'rules'>
}

/** Who asks the admin listener, and whether that is an administrator. */
export interface AdminSender {
  readonly who: string
  /** The row of the rules that decided; `undefined` if none was asked. */
  readonly row: string | undefined
  /** Why the request is refused; `undefined` for an administrator. */
  readonly refusal: OciError | undefined
}

/**
 * Finds who sends a request. It is refused without the right token if its sender does not have the right
 * `admin` either. Throws for wrong credentials, and for all that {@link requireNoWebPage} refuses.
 */
export async function identifyAdminSender(
  request: IncomingMessage,
  options: GuardOptions & AdminAccess,
): Promise<AdminSender> {
  requireNoWebPage(request, options)
  const { authorization } = request.headers
  return await judgeAdminSender({ authorization, address: request.socket.remoteAddress }, options)
}

/** Finds whether credentials are those of an administrator. Throws for wrong ones. */
export async function judgeAdminSender(
  {
    authorization,
    address,
  }: { readonly authorization: string | undefined; readonly address: string | undefined },
  { token, access }: GuardOptions & AdminAccess,
): Promise<AdminSender> {
  if (token === undefined || isSame(bearer(authorization), token))
    return { who: ADMINISTRATOR, row: undefined, refusal: undefined }
  const peer = { address, isEncrypted: false, certificate: undefined }
  const identity = await access.identify({ authorization, peer })
  const { isAllowed, row } = explainDecision('admin', access.rules.decideAdmin(identity))
  return { who: identity.name, row, refusal: isAllowed ? undefined : refusalOf(identity.name) }
}

function refusalOf(who: string): OciError {
  return who === ANONYMOUS.name
    ? new OciError(
        'UNAUTHORIZED',
        'administration needs the token of --admin-token-file, as "Authorization: Bearer …", or an identity with the right admin',
      )
    : new OciError('DENIED', `${who} may not administer this mirror`)
}

/**
 * Refuses requests that a web page in a browser on this machine may have sent. Browsers state the origin of a
 * page (`Origin`, `Sec-Fetch-Site`). A page whose own host name resolves to this listener (DNS rebinding)
 * shows in `Host`: without a token, `Host` must be a name of this machine. Web pages cannot reach a unix
 * socket.
 */
export function requireNoWebPage(request: IncomingMessage, options: GuardOptions): void {
  const { headers } = request
  const site = headers['sec-fetch-site']
  if (headers.origin !== undefined || (site !== undefined && site !== 'none'))
    throw new OciError('DENIED', 'the admin listener does not answer web pages')
  requireKnownHost(request, options)
}

/** Without a token, refuses every `Host` that is no name of this machine. */
export function requireKnownHost(
  { headers }: Pick<IncomingMessage, 'headers'>,
  { token, isSocket }: GuardOptions,
): void {
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
