import { hash } from 'node:crypto'
import type { createLocalJWKSet, JWTPayload, JWTVerifyGetKey } from 'jose'
import type { IssuerConfig } from '../config/config.ts'
import type { Clock } from '../lib/clock.ts'
import { jose } from '../lib/libraries.ts'
import { OciError } from '../oci/error.ts'
import { claimTexts, fillTemplate, missingClaim } from './claims.ts'

/** Fetches a JSON document of the issuer. Rejects if there is none, within a few seconds. */
type FetchDocument = (url: string) => Promise<unknown>

export interface IssuerParts {
  readonly config: IssuerConfig
  readonly fetchDocument: FetchDocument
  readonly clock: Pick<Clock, 'wallMs' | 'monotonicMs'>
}

/** The sender that a token was issued to. */
export interface IssuedIdentity {
  readonly name: string
  readonly groups: readonly string[]
  /** End of the token, in milliseconds since 1970. */
  readonly untilMs: number
}

/** Signatures with a public key only: with a shared one, whoever can verify could sign. */
const ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const
const TOLERANCE_SECONDS = 30

/** Age at which keys are fetched again, and up to which they are used while they cannot be. */
const KEYS_FRESH_MS = 600_000
const KEYS_USABLE_MS = 24 * 3_600_000
/** Pause between fetches for a key that nobody has heard of: anybody can name one. */
const KEYS_PAUSE_MS = 30_000

interface Keys {
  readonly find: JWTVerifyGetKey
  readonly fetchedAtMs: number
}

/** One issuer of OIDC tokens: verifies its tokens, and names their identities. */
export class Issuer {
  /** Changes with the settings that decide whose tokens are accepted, and as whom. */
  readonly mark: string
  readonly #parts: IssuerParts
  #keys: Keys | undefined
  #fetching: Promise<Keys> | undefined
  #triedAtMs = -Infinity

  constructor(parts: IssuerParts) {
    this.#parts = parts
    const { issuer, audiences, requiredClaims, name, identity, groupsClaim, jwksUrl } = parts.config
    const deciding = [issuer, audiences, [...requiredClaims], name, identity, groupsClaim, jwksUrl]
    this.mark = hash('sha256', JSON.stringify(deciding), 'base64url').slice(0, 22)
  }

  /** The identity of a token. Throws UNAUTHORIZED if it is not valid, and UNAVAILABLE if nobody can tell. */
  async identify(token: string): Promise<IssuedIdentity> {
    const { config } = this.#parts
    const payload = await this.#verify(token)
    const missing = missingClaim(payload, config.requiredClaims)
    if (missing !== undefined)
      throw wrong(`the token of ${config.name} is not accepted: see its claim ${missing}`)
    const name = fillTemplate(config.identity, payload)
    if (name === undefined)
      throw wrong(`the token of ${config.name} lacks a claim that its identity is made of`)
    const groups = config.groupsClaim === undefined ? [] : claimTexts(payload, config.groupsClaim)
    return {
      name: `${config.name}:${name}`,
      groups: groups.map(group => `${config.name}:${group}`),
      untilMs: (payload.exp ?? 0) * 1000,
    }
  }

  async #verify(token: string): Promise<JWTPayload> {
    try {
      return await this.#verifyBy(token, await this.#current())
    } catch (error) {
      if (!(error instanceof jose().errors.JWKSNoMatchingKey)) throw this.#refusal(error)
    }
    // The issuer may have a new key.
    try {
      return await this.#verifyBy(token, await this.#renewed())
    } catch (error) {
      throw this.#refusal(error)
    }
  }

  async #verifyBy(token: string, { find }: Keys): Promise<JWTPayload> {
    const { config, clock } = this.#parts
    const { payload } = await jose().jwtVerify(token, find, {
      algorithms: [...ALGORITHMS],
      issuer: config.issuer,
      audience: [...config.audiences],
      requiredClaims: ['exp', 'iat', 'sub'],
      clockTolerance: TOLERANCE_SECONDS,
      currentDate: new Date(clock.wallMs()),
    })
    return payload
  }

  /** Fresh keys, or usable ones while the issuer cannot be reached. */
  async #current(): Promise<Keys> {
    const keys = this.#keys
    const nowMs = this.#parts.clock.monotonicMs()
    if (keys === undefined) return await this.#fetch()
    if (nowMs - keys.fetchedAtMs < KEYS_FRESH_MS) return keys
    if (nowMs - this.#triedAtMs < KEYS_PAUSE_MS) return keys
    return await this.#fetch().catch((error: unknown) => {
      if (nowMs - keys.fetchedAtMs < KEYS_USABLE_MS) return keys
      throw error
    })
  }

  async #renewed(): Promise<Keys> {
    const keys = this.#keys
    const isSoon = this.#parts.clock.monotonicMs() - this.#triedAtMs < KEYS_PAUSE_MS
    if (keys !== undefined && isSoon) return keys
    return await this.#fetch().catch((error: unknown) => {
      if (keys === undefined) throw error
      return keys
    })
  }

  /** Concurrent requests share a fetch. After a failure the next one waits a moment. */
  async #fetch(): Promise<Keys> {
    const { clock, config } = this.#parts
    const nowMs = clock.monotonicMs()
    if (this.#fetching === undefined && this.#keys === undefined && nowMs - this.#triedAtMs < RETRY_MS)
      throw new OciError('UNAVAILABLE', `the keys of ${config.name} cannot be fetched now`)
    this.#fetching ??= this.#fetchKeys(nowMs).finally(() => {
      this.#fetching = undefined
    })
    return await this.#fetching
  }

  async #fetchKeys(nowMs: number): Promise<Keys> {
    this.#triedAtMs = nowMs
    const { config, fetchDocument } = this.#parts
    try {
      const url = config.jwksUrl ?? (await this.#discover())
      const find = jose().createLocalJWKSet(
        (await fetchDocument(url)) as Parameters<typeof createLocalJWKSet>[0],
      )
      this.#keys = { find, fetchedAtMs: nowMs }
      return this.#keys
    } catch (error) {
      throw new OciError('UNAVAILABLE', `the keys of ${config.name} cannot be fetched now`, { cause: error })
    }
  }

  /** URL of the keys, which must be of the issuer's own host (OpenID Connect Discovery 1.0, section 4). */
  async #discover(): Promise<string> {
    const { config, fetchDocument } = this.#parts
    const url = `${config.issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
    const document = (await fetchDocument(url)) as { issuer?: unknown; jwks_uri?: unknown } | null
    const { issuer, jwks_uri: keysUrl } = document ?? {}
    if (issuer !== config.issuer) throw new Error('the discovery document is of another issuer')
    const isOwn = typeof keysUrl === 'string' && URL.parse(keysUrl)?.origin === new URL(config.issuer).origin
    if (!isOwn) throw new Error('the keys are at another host: name their URL as jwks')
    return keysUrl
  }

  #refusal(error: unknown): unknown {
    const { name } = this.#parts.config
    const { errors } = jose()
    if (error instanceof errors.JWTExpired) return wrong(`the token of ${name} has expired`)
    if (error instanceof errors.JWTClaimValidationFailed)
      return wrong(`the token of ${name} is not accepted: see its claim ${error.claim}`)
    if (error instanceof errors.JOSEError || error instanceof TypeError)
      return wrong(`the token of ${name} is not valid`)
    return error
  }
}

const RETRY_MS = 2000

function wrong(message: string): OciError {
  return new OciError('UNAUTHORIZED', message)
}
