import type { Clock } from '../../lib/clock.ts'
import { UpstreamError } from '../../oci/error.ts'
import { requireShallow } from '../../oci/manifest.ts'
import { discardBody, headerOf, readWhole, type UpstreamAnswer } from '../answer.ts'
import { authorityText, type Target } from '../dial/target.ts'
import { gunzipWithin, isGzipped } from '../encoding.ts'
import { asUpstreamError } from '../failure.ts'
import { retryAfterMs } from '../manners/retry-after.ts'
import { PACE_LIMITS } from '../paced-body.ts'
import type { Exchange, Transport } from '../transport.ts'
import type { Credential } from './credential.ts'

/** A bearer token and its life in milliseconds. */
export interface Token {
  readonly text: string
  readonly lifeMs: number
}

export interface TokenRequest {
  readonly realm: Target
  readonly service: string | undefined
  readonly scope: string
  readonly credential: Credential | undefined
}

const BODY_MAX = 64 * 1024
/** Life of a token that states none, and the shortest life, by the distribution specification. */
const LIFE_MS = 60_000
const LIFE_MAX_MS = 24 * 3_600_000
const VISIBLE = /^[\x21-\x7e]{1,12000}$/
const CLIENT_ID = 'entrepot'
/** Silence after a 429 of a token endpoint without `Retry-After`, in milliseconds. */
const QUIET_MS = 60_000

export interface TokenContext {
  readonly transport: Transport
  readonly clock: Clock
}

/**
 * Asks a realm for a token: by GET, or by the OAuth2 POST for an identity token. Follows no redirect. Throws
 * an `UpstreamError`: `refused` where the credential is, `rate-limited`, and `token` for every other trouble.
 */
export async function fetchToken(
  { transport, clock }: TokenContext,
  request: TokenRequest,
  signal: AbortSignal,
): Promise<Token> {
  const host = authorityText(request.realm.origin)
  try {
    const answer = await transport.sendTwice(tokenExchange(request), signal)
    requireGranted(answer, request, clock)
    const bytes = await readWhole(answer, { sizeMax: BODY_MAX, limits: PACE_LIMITS, clock })
    const isPacked = isGzipped(answer.headers)
    return parseToken(isPacked ? await gunzipWithin(bytes, BODY_MAX) : bytes, host)
  } catch (error) {
    throw asTokenError(asUpstreamError(error, host, signal), host)
  }
}

function tokenExchange({ realm, service, scope, credential }: TokenRequest): Exchange {
  const form = new URLSearchParams({ ...(service === undefined ? {} : { service }), scope })
  if (credential?.kind === 'identity') {
    form.set('grant_type', 'refresh_token')
    form.set('refresh_token', credential.token.reveal())
    form.set('client_id', CLIENT_ID)
    return {
      method: 'POST',
      target: realm,
      headers: { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' },
      body: form.toString(),
    }
  }
  if (credential !== undefined) form.set('account', credential.username)
  const joint = realm.path.includes('?') ? '&' : '?'
  return {
    method: 'GET',
    target: { origin: realm.origin, path: `${realm.path}${joint}${form.toString()}` },
    headers: { accept: 'application/json' },
    authorization: credential === undefined ? undefined : basicHeader(credential),
  }
}

/** The `Authorization` of HTTP Basic. */
export function basicHeader(credential: Extract<Credential, { kind: 'basic' }>): string {
  return `Basic ${Buffer.from(`${credential.username}:${credential.password.reveal()}`).toString('base64')}`
}

function requireGranted(answer: UpstreamAnswer, { realm, credential }: TokenRequest, clock: Clock): void {
  const { status, headers } = answer
  const host = authorityText(realm.origin)
  if (status === 200) return
  discardBody(answer)
  if (status === 401 && credential !== undefined) {
    const what = `${host} refuses the user name and password of this mirror`
    throw new UpstreamError('refused', what, { status, refusesLogin: true })
  }
  if (status === 401 || status === 403) {
    throw new UpstreamError('refused', `${host} gives no token for this repository`, { status })
  }
  if (status !== 429)
    throw new UpstreamError('token', `${host} answered ${status} instead of a token`, { status })
  const quietMs = retryAfterMs(headerOf(headers, 'retry-after'), clock.wallMs()) ?? QUIET_MS
  throw new UpstreamError('rate-limited', `${host} gives no more tokens for now`, {
    status,
    retryAfterMs: quietMs,
  })
}

function parseToken(bytes: Uint8Array, host: string): Token {
  let value: unknown
  try {
    requireShallow(bytes)
    value = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    // The parser's message would quote the text, which may hold a token.
    throw new UpstreamError('token', `${host} sent a token that is not JSON`)
  }
  const { token, access_token, expires_in } = (value ?? {}) as Partial<Record<string, unknown>>
  const text = [token, access_token].find(candidate => typeof candidate === 'string' && candidate !== '')
  if (typeof text !== 'string' || !VISIBLE.test(text)) {
    throw new UpstreamError('token', `${host} sent no token`)
  }
  return { text, lifeMs: lifeOf(expires_in) }
}

function lifeOf(expiresIn: unknown): number {
  const seconds = typeof expiresIn === 'number' ? expiresIn : Number.NaN
  if (!Number.isFinite(seconds)) return LIFE_MS
  return Math.min(Math.max(seconds * 1000, LIFE_MS), LIFE_MAX_MS)
}

/** Turns any trouble on the way to a token into kind `token`. Our own refusals stay what they are. */
function asTokenError(error: unknown, host: string): unknown {
  if (!(error instanceof UpstreamError)) return error
  if (error.kind === 'token' || error.kind === 'refused' || error.kind === 'rate-limited') return error
  return new UpstreamError('token', `the token service ${host} is in trouble`, { cause: error })
}
