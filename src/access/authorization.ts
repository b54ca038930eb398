/** Credentials as a client sent them. `unknown` is a scheme or a form that this mirror does not read. */
export type Presented =
  | { readonly kind: 'basic'; readonly user: string; readonly password: string }
  | { readonly kind: 'bearer'; readonly token: string }
  | { readonly kind: 'unknown' }

const USER_BYTES_MAX = 1024
const PASSWORD_BYTES_MAX = 16 * 1024
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/
const TOKEN = /^[A-Za-z0-9._~+/=-]+$/

/** Reads a header field `Authorization` (RFC 9110, section 11.6.2; RFC 7617; RFC 6750). */
export function parseAuthorization(text: string): Presented {
  const [, scheme = '', value = ''] = /^([A-Za-z]+) +(\S+) *$/.exec(text) ?? []
  if (scheme.toLowerCase() === 'bearer' && TOKEN.test(value)) return { kind: 'bearer', token: value }
  if (scheme.toLowerCase() === 'basic' && BASE64.test(value)) return parseBasic(value)
  return { kind: 'unknown' }
}

/** A user name ends at the first colon. Neither part may have control characters (RFC 7617, section 2). */
function parseBasic(value: string): Presented {
  const text = Buffer.from(value, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon === -1) return { kind: 'unknown' }
  return presentedPassword(text.slice(0, colon), text.slice(colon + 1))
}

/** A user name and a password, from wherever they were read. */
export function presentedPassword(user: string, password: string): Presented {
  const isSound = !/[\p{Cc}\uFFFD]/u.test(user) && !/[\p{Cc}\uFFFD]/u.test(password)
  const isShort =
    Buffer.byteLength(user) <= USER_BYTES_MAX && Buffer.byteLength(password) <= PASSWORD_BYTES_MAX
  return isSound && isShort ? { kind: 'basic', user, password } : { kind: 'unknown' }
}
