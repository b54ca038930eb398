import type { IncomingMessage } from 'node:http'
import type { Access } from '../../access/access.ts'
import { type Presented, parseAuthorization, presentedPassword } from '../../access/authorization.ts'
import { type IdentityChain, type Proved, provedAnonymous } from '../../access/chain.ts'
import type { Peer } from '../../access/peer.ts'
import type { Events } from '../../observe/events.ts'
import { OciError } from '../../oci/error.ts'
import { ANONYMOUS } from '../../oci/identity.ts'
import { type NameRules, resolvePlace } from '../../oci/place.ts'
import type { HttpExchange } from '../exchange.ts'
import { jsonReply, type Reply } from '../reply.ts'
import type { RequestBody } from '../request-body.ts'

const BODY_BYTES_MAX = 64 * 1024
const SCOPES_MAX = 100

export interface TokenParts {
  readonly chain: Pick<IdentityChain, 'audited' | 'certified' | 'exchange' | 'triedName'>
  readonly access: Pick<Access, 'identify' | 'may'>
  readonly names: NameRules
  readonly events: Pick<Events, 'audited' | 'foreignCredentials'>
}

/** What a client sends to the token endpoint. */
interface TokenQuestion {
  readonly presented: Presented | undefined
  readonly scopes: readonly string[]
}

/**
 * `GET|POST /token`: exchanges credentials for a token of one hour, as the token authentication of Docker's
 * registry and its OAuth2 form say. The token names the sender; the rules are asked with each request.
 */
export async function answerToken(
  { chain, access, names, events }: TokenParts,
  { request, body: sent, peer }: Pick<HttpExchange, 'request' | 'body' | 'peer'>,
): Promise<Reply> {
  const { presented, scopes } = await readQuestion(request, sent)
  const proved = await proveSender({ chain, access }, presented, peer)
  if (proved.identity.isForeign === true) {
    const isPublic = scopes.length > 0 && scopes.every(scope => isPublicPull(scope, names, access))
    if (!isPublic) {
      events.audited({
        action: 'login-refused',
        who: chain.triedName(presented),
        from: peer.address,
        reason: UNKNOWN,
      })
      throw new OciError('UNAUTHORIZED', UNKNOWN)
    }
    events.foreignCredentials()
  } else if (proved.identity.name !== ANONYMOUS.name) {
    events.audited({ action: 'login', who: proved.identity.name, from: peer.address })
  }
  const isForeign = proved.identity.isForeign === true
  const { token, seconds, issuedAtMs } = await chain.exchange(isForeign ? provedAnonymous() : proved)
  const body = {
    token,
    access_token: token,
    expires_in: seconds,
    issued_at: new Date(issuedAtMs).toISOString(),
    scope: scopes.join(' '),
  }
  return jsonReply(200, JSON.stringify(body), { 'Cache-Control': 'no-store' })
}

const UNKNOWN = 'this user or token is not known here'

async function proveSender(
  { chain, access }: Pick<TokenParts, 'chain' | 'access'>,
  presented: Presented | undefined,
  peer: Peer,
): Promise<Proved> {
  const certified = await access.identify({ authorization: undefined, peer })
  if (certified.name !== ANONYMOUS.name) return chain.certified(certified)
  if (presented === undefined) return provedAnonymous()
  return await chain.audited(presented, peer.address)
}

async function readQuestion(request: IncomingMessage, body: RequestBody): Promise<TokenQuestion> {
  const { method, url = '', headers } = request
  const mark = url.indexOf('?')
  const query = new URLSearchParams(mark === -1 ? '' : url.slice(mark + 1))
  const form = method === 'POST' ? await readForm(request, body) : undefined
  const { authorization } = headers
  const inHeader = authorization === undefined ? undefined : parseAuthorization(authorization)
  const texts = [...query.getAll('scope'), ...(form?.getAll('scope') ?? [])]
  const scopes = texts.flatMap(text => text.split(' ')).filter(scope => scope !== '')
  if (scopes.length > SCOPES_MAX) throw new OciError('REQUEST_INVALID', `more than ${SCOPES_MAX} scopes`)
  return { presented: form === undefined ? inHeader : (presentedIn(form) ?? inHeader), scopes }
}

/** Credentials of the OAuth2 form. Clients send what they stored as an identity token as a refresh token. */
function presentedIn(form: URLSearchParams): Presented | undefined {
  switch (form.get('grant_type')) {
    case 'password':
      return presentedPassword(form.get('username') ?? '', form.get('password') ?? '')
    case 'refresh_token':
      return { kind: 'bearer', token: form.get('refresh_token') ?? '' }
    case null:
      return undefined
    default:
      throw new OciError('REQUEST_INVALID', 'grant_type must be password or refresh_token')
  }
}

async function readForm(request: IncomingMessage, body: RequestBody): Promise<URLSearchParams> {
  const type = request.headers['content-type'] ?? ''
  if (!/^application\/x-www-form-urlencoded *(?:;|$)/i.test(type))
    throw new OciError('REQUEST_INVALID', 'the body must be application/x-www-form-urlencoded')
  const pieces: Uint8Array[] = []
  let sizeBytes = 0
  for await (const piece of body.pieces) {
    sizeBytes += piece.byteLength
    if (sizeBytes > BODY_BYTES_MAX)
      throw new OciError('REQUEST_INVALID', `the body is over ${BODY_BYTES_MAX} bytes`)
    pieces.push(piece)
  }
  return new URLSearchParams(Buffer.concat(pieces).toString('latin1'))
}

/** True if the scope only pulls from a repository that the anonymous may pull from. */
function isPublicPull(scope: string, names: NameRules, access: Pick<Access, 'may'>): boolean {
  const [, path] = /^repository:([^:]+):pull$/.exec(scope) ?? []
  if (path === undefined) return false
  try {
    return access.may(ANONYMOUS, resolvePlace(names, { ns: [], prefix: undefined, path }), 'pull')
  } catch (error) {
    if (error instanceof OciError) return false
    throw error
  }
}
