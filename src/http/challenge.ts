import type { IncomingMessage } from 'node:http'
import type { HttpExchange } from './exchange.ts'
import { type Route, TOKEN_PATH } from './route.ts'

/** Name of this registry in challenges and tokens. */
const SERVICE = 'entrepot'

/**
 * The `WWW-Authenticate` of a 401: where to get a token and for what, as the token authentication of Docker's
 * registry says. The token endpoint itself asks for a password.
 *
 * @param realm URL of the token endpoint; by default that of the host that the client asked.
 */
export function challengeOf(exchange: HttpExchange, realm: string | undefined): string {
  const { request, route } = exchange
  if (route?.kind === 'token') return `Basic realm="${SERVICE}", charset="UTF-8"`
  const scope = route === undefined ? undefined : scopeOf(route, request.method ?? 'GET')
  const parameters = {
    realm: realm ?? `${schemeOf(exchange)}://${hostOf(request)}${TOKEN_PATH}`,
    service: SERVICE,
    ...(scope === undefined ? {} : { scope }),
    ...problemOf(exchange),
  }
  return `Bearer ${Object.entries(parameters)
    .map(([name, value]) => `${name}="${value}"`)
    .join(',')}`
}

/** A token that was accepted proves too little; any other one is wrong (RFC 6750, section 3.1). */
function problemOf({ request, identity }: HttpExchange): { readonly error?: string } {
  if (!/^Bearer /i.test(request.headers.authorization ?? '')) return {}
  return { error: identity === undefined ? 'invalid_token' : 'insufficient_scope' }
}

/** The repository as the client named it: it compares scopes with its own. */
function scopeOf(route: Route, method: string): string | undefined {
  if (!('name' in route)) return undefined
  const isReading = method === 'GET' || method === 'HEAD'
  const actions = isReading ? 'pull' : method === 'DELETE' ? 'delete' : 'pull,push'
  return `repository:${route.name.path}:${actions}`
}

/** A proxy in front that ends TLS says so. A client that lies about it misleads only itself. */
function schemeOf({ request, peer }: HttpExchange): 'http' | 'https' {
  const [first = ''] = String(request.headers['x-forwarded-proto'] ?? '').split(',')
  return peer.isEncrypted || first.trim().toLowerCase() === 'https' ? 'https' : 'http'
}

/** The host that the client asked, without characters that would end a quoted string. */
function hostOf({ headers }: IncomingMessage): string {
  const host = headers.host ?? ''
  return /^[A-Za-z0-9._:[\]-]+$/.test(host) ? host : 'localhost'
}
