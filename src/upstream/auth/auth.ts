import { randomUUID } from 'node:crypto'
import type { LRUCache } from 'lru-cache'
import { untilAborted } from '../../lib/abort.ts'
import type { Clock } from '../../lib/clock.ts'
import { lruCache } from '../../lib/lru.ts'
import { traced } from '../../observe/tracing/span.ts'
import { UpstreamError } from '../../oci/error.ts'
import type { Namespace } from '../../oci/namespace.ts'
import { isSameOrigin, type Origin, originText } from '../dial/target.ts'
import type { Inquiry, Outages } from '../manners/outages.ts'
import type { Transport } from '../transport.ts'
import { type Challenge, parseChallenges } from './challenge.ts'
import type { Credential } from './credential.ts'
import type { CredentialSource } from './credentials.ts'
import { requireRealm } from './realm.ts'
import { basicHeader, fetchToken, type Token } from './token.ts'

/** A token in the cache. Times are of the monotonic clock. */
export interface HeldToken {
  readonly text: string
  readonly renewAtMs: number
  readonly expiresAtMs: number
  readonly challenge: Challenge
}

const TOKENS_MAX = 10_000
/** Part of a token's life after which it is renewed. */
const RENEW_AT = 0.8
/** Time limit of a token request, its retry included, in milliseconds. */
const TOKEN_MS = 10_000

/** Creates the token cache that all upstreams share, so that its bound is one of the whole daemon. */
export function createTokenCache(): LRUCache<string, HeldToken> {
  return lruCache(TOKENS_MAX)
}

export interface AuthorizerOptions {
  readonly namespace: Namespace
  /** The upstream's own origin. Its credentials are for this origin and trusted realms only. */
  readonly origin: Origin
  readonly realms: readonly string[]
  readonly credentials: CredentialSource | undefined
  readonly transport: Transport
  readonly tokens: LRUCache<string, HeldToken>
  /** Trouble of the token service, and of single scopes. */
  readonly outages: Outages
  readonly clock: Clock
}

/** The origin and scope that a bearer token is bound to. */
export interface Audience {
  readonly origin: Origin
  /** `repository:<name>:pull`. We never take the scope of a challenge, which could be anything. */
  readonly scope: string
}

/**
 * The `Authorization` headers of one upstream: Basic, or tokens got with its credentials or anonymously.
 */
export class Authorizer {
  readonly #options: AuthorizerOptions
  readonly #id = randomUUID()
  readonly #flights = new Map<string, Promise<string>>()
  #usesBasic = false

  constructor(options: AuthorizerOptions) {
    this.#options = options
  }

  /** The header to send without a challenge: a cached token, or Basic if the upstream wanted it before. */
  async header(audience: Audience, signal: AbortSignal): Promise<string | undefined> {
    const { tokens, clock } = this.#options
    const held = tokens.get(this.#key(audience))
    if (held === undefined) return this.#usesBasic ? await this.#basic(audience.origin) : undefined
    const nowMs = clock.monotonicMs()
    if (nowMs < held.renewAtMs) return `Bearer ${held.text}`
    try {
      return await this.#renew(audience, held.challenge, signal)
    } catch (error) {
      signal.throwIfAborted()
      // A token that is still valid serves on while the token service is in trouble.
      if (nowMs < held.expiresAtMs) return `Bearer ${held.text}`
      if (isDown(error)) throw error
      // The challenge may have changed since: ask without a token to get the current one.
      tokens.delete(this.#key(audience))
      return undefined
    }
  }

  /**
   * The header to send after a 401 for `rejected`; `undefined` if there is none better. A token that another
   * request has renewed meanwhile is used as it is.
   */
  async answer(
    audience: Audience,
    challenges: readonly string[],
    rejected: string | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const parsed = parseChallenges(challenges)
    const bearer = parsed.find(({ scheme, params }) => scheme === 'bearer' && params.has('realm'))
    if (bearer !== undefined) {
      const held = this.#options.tokens.get(this.#key(audience))
      const isNewer = held !== undefined && `Bearer ${held.text}` !== rejected
      if (isNewer && held.expiresAtMs > this.#options.clock.monotonicMs()) return `Bearer ${held.text}`
      return await this.#renew(audience, bearer, signal)
    }
    if (!parsed.some(({ scheme }) => scheme === 'basic')) return undefined
    return await this.#answerBasic(audience.origin, rejected)
  }

  async #answerBasic(origin: Origin, rejected: string | undefined): Promise<string | undefined> {
    if (rejected !== undefined) this.#options.credentials?.forget()
    const header = await this.#basic(origin)
    if (header === undefined || header === rejected) return undefined
    this.#usesBasic = true
    return header
  }

  async #basic(origin: Origin): Promise<string | undefined> {
    const credential = await this.#credentialFor(origin)
    return credential?.kind === 'basic' ? basicHeader(credential) : undefined
  }

  async #credentialFor(origin: Origin): Promise<Credential | undefined> {
    if (!isSameOrigin(origin, this.#options.origin)) return undefined
    return await this.#options.credentials?.current()
  }

  /**
   * Requests a token, once for all that wait for it. A caller that leaves does not end it for the others.
   */
  async #renew(audience: Audience, challenge: Challenge, signal: AbortSignal): Promise<string> {
    const key = this.#key(audience)
    const running = this.#flights.get(key)
    const flight =
      running ??
      traced('authenticate', () => this.#fetch(audience, challenge)).finally(() => this.#flights.delete(key))
    if (running === undefined) this.#flights.set(key, flight)
    return await untilAborted(flight, signal)
  }

  async #fetch(audience: Audience, challenge: Challenge): Promise<string> {
    const credential = await this.#credentialFor(audience.origin)
    const { namespace, realms, tokens, clock } = this.#options
    const realm = requireRealm(challenge.params.get('realm') ?? '', {
      namespace,
      origin: audience.origin,
      sendsCredentials: credential !== undefined,
      realms,
    })
    const service = challenge.params.get('service')
    const token = await this.#ask({ realm, service, scope: audience.scope, credential })
    const nowMs = clock.monotonicMs()
    tokens.set(this.#key(audience), {
      text: token.text,
      renewAtMs: nowMs + token.lifeMs * RENEW_AT,
      expiresAtMs: nowMs + token.lifeMs,
      challenge,
    })
    return `Bearer ${token.text}`
  }

  /** A token service that is down is left alone for a while. Requests with a held token go on meanwhile. */
  async #ask(request: Parameters<typeof fetchToken>[1]): Promise<Token> {
    const { outages } = this.#options
    const quiet = outages.quiet(request.scope)
    if (quiet !== undefined) {
      const kind = quiet.kind === 'rate-limited' ? 'rate-limited' : 'token'
      const what = `the token service ${request.realm.origin.hostname} is left alone after failures`
      throw new UpstreamError(kind, what, { retryAfterMs: quiet.forMs })
    }
    const inquiry = outages.begin(request.scope)
    const timeout = AbortSignal.timeout(TOKEN_MS)
    try {
      const token = await fetchToken(this.#options, request, timeout)
      inquiry.succeeded()
      return token
    } catch (error) {
      if (timeout.aborted) {
        inquiry.registryFailed()
        const what = `the token service ${request.realm.origin.hostname} did not answer in time`
        throw new UpstreamError('token', what, { cause: error })
      }
      this.#learn(inquiry, error)
      throw error
    }
  }

  /** An answer without a token may concern this scope alone. No answer at all concerns the service. */
  #learn(inquiry: Inquiry, error: unknown): void {
    if (!(error instanceof UpstreamError)) inquiry.abandoned()
    else if (error.kind !== 'token') inquiry.succeeded()
    else if (error.status === undefined) inquiry.registryFailed()
    else inquiry.repositoryFailed()
    if (!(error instanceof UpstreamError)) return
    if (error.kind === 'rate-limited') this.#options.outages.beQuiet(error.retryAfterMs ?? 0)
    if (error.kind === 'refused') this.#options.credentials?.forget()
  }

  #key({ origin, scope }: Audience): string {
    return `${this.#id} ${originText(origin)} ${scope}`
  }
}

/** True if the token service itself is in trouble, rather than this scope. */
function isDown(error: unknown): boolean {
  if (!(error instanceof UpstreamError)) return false
  return error.kind === 'rate-limited' || (error.kind === 'token' && (error.status ?? 500) >= 500)
}
