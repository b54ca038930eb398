import type { Clock } from '../../lib/clock.ts'
import { UpstreamError } from '../../oci/error.ts'
import { headerOf, type UpstreamAnswer } from '../answer.ts'
import { authorityText, isSameOrigin, type Origin } from '../dial/target.ts'
import { retryAfterMs } from './retry-after.ts'

/** Silence after a 429 without `Retry-After`, in milliseconds. */
export const QUIET_MS = 60_000

interface Asked {
  readonly origin: Origin
  readonly hasCredentials: boolean
  readonly clock: Clock
}

/** The error of an answer that is good for nothing, which a registry or the storage behind it has sent. */
export function answerError(answer: UpstreamAnswer, asked: Asked, isRegistry: boolean): UpstreamError {
  const { status } = answer
  const host = authorityText(answer.target.origin)
  const quietMs = retryAfterMs(headerOf(answer.headers, 'retry-after'), asked.clock.wallMs())
  if (status < 400)
    return new UpstreamError('invalid', `${host} answered ${status}, which does not answer this request`, {
      status,
    })
  if (status === 429) {
    const options = { status, retryAfterMs: quietMs ?? QUIET_MS }
    return new UpstreamError('rate-limited', `${host} limits how often it may be asked`, options)
  }
  if ((status === 401 || status === 403) && isRegistry) return refusal(answer, asked)
  // Servers that speak TLS answer 400 to plain text.
  const hint = status === 400 ? tlsHint(answer.target.origin) : ''
  return new UpstreamError('status', `${host} answered ${status}${hint}`, { status, retryAfterMs: quietMs })
}

/**
 * A registry that wants Basic refuses the login itself. One that wants a token has given one, and may refuse
 * this repository only.
 */
function refusal(
  { status, headers, target }: UpstreamAnswer,
  { origin, hasCredentials }: Asked,
): UpstreamError {
  const host = authorityText(target.origin)
  const isOwn = hasCredentials && isSameOrigin(target.origin, origin)
  if (status === 401 && isOwn && /^basic\b/i.test(headerOf(headers, 'www-authenticate') ?? ''))
    return new UpstreamError('refused', `${host} refuses the user name and password of this mirror`, {
      status,
      refusesLogin: true,
    })
  const what = isOwn ? 'access' : 'anonymous access'
  return new UpstreamError('refused', `${host} refuses ${what} with ${status}`, { status })
}

/** Adds to an error what may be behind it if a registry that is asked in plain http speaks TLS. */
export function withTlsHint(error: unknown, origin: Origin): unknown {
  if (!(error instanceof UpstreamError) || error.kind !== 'cut') return error
  const { kind, message, host, cause } = error
  return new UpstreamError(kind, `${message}${tlsHint(origin)}`, { host, cause })
}

function tlsHint({ protocol }: Origin): string {
  return protocol === 'http:' ? ' (if it speaks https, leave out "tls: false")' : ''
}
