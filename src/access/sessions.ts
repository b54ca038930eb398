import type { Clock } from '../lib/clock.ts'
import { jose } from '../lib/libraries.ts'

const ISSUER = 'entrepot'
const ALGORITHM = 'HS256'
/** Life of a token of ours, in seconds. */
export const SESSION_SECONDS = 3600

/** What a token of ours says. It names an identity and how that was proved, and no rights. */
export interface TokenSession {
  readonly name: string
  /** Groups that only the original credentials named. */
  readonly groups: readonly string[]
  readonly generation: number
  /** Id of the robot token, or a mark of the user's hash, the issuer or the CA. The session ends with it. */
  readonly proof: string | undefined
  /** Latest end, in milliseconds since 1970: that of the original credentials. */
  readonly untilMs: number
}

/** Signs and verifies the tokens that the token endpoint gives out. */
export class Sessions {
  readonly #readKey: () => Promise<Uint8Array>
  readonly #clock: Pick<Clock, 'wallMs' | 'monotonicMs'>
  #key: Promise<Uint8Array> | undefined
  #readAtMs = -Infinity

  /** @param readKey reads the key that all processes on the store share; it rejects if it cannot. */
  constructor(readKey: () => Promise<Uint8Array>, clock: Pick<Clock, 'wallMs' | 'monotonicMs'>) {
    this.#readKey = readKey
    this.#clock = clock
  }

  /** A token for one hour, or less if the session ends before. */
  async sign({ name, groups, generation, proof, untilMs }: TokenSession): Promise<SignedSession> {
    const nowSeconds = Math.floor(this.#clock.wallMs() / 1000)
    const seconds = Math.max(1, Math.min(SESSION_SECONDS, Math.floor(untilMs / 1000) - nowSeconds))
    const claims = { groups, gen: generation, ...(proof === undefined ? {} : { proof }) }
    const token = await new (jose().SignJWT)(claims)
      .setProtectedHeader({ alg: ALGORITHM, typ: 'JWT' })
      .setIssuer(ISSUER)
      .setAudience(ISSUER)
      .setSubject(name)
      .setIssuedAt(nowSeconds)
      .setExpirationTime(nowSeconds + seconds)
      .sign(await this.#currentKey())
    return { token, seconds, issuedAtMs: nowSeconds * 1000 }
  }

  /** The session of a token; `undefined` if it is not ours, was altered, or is over. */
  async verify(token: string): Promise<TokenSession | undefined> {
    try {
      return await this.#verifyBy(token, await this.#currentKey())
    } catch (error) {
      if (!(error instanceof jose().errors.JWSSignatureVerificationFailed)) return refused(error)
    }
    // Another process may have replaced the key.
    if (this.#clock.monotonicMs() - this.#readAtMs < KEY_PAUSE_MS) return undefined
    this.#key = undefined
    try {
      return await this.#verifyBy(token, await this.#currentKey())
    } catch (error) {
      return refused(error)
    }
  }

  async #currentKey(): Promise<Uint8Array> {
    if (this.#key === undefined) {
      this.#readAtMs = this.#clock.monotonicMs()
      this.#key = this.#readKey()
    }
    try {
      return await this.#key
    } catch (error) {
      this.#key = undefined
      throw error
    }
  }

  async #verifyBy(token: string, key: Uint8Array): Promise<TokenSession> {
    const { payload } = await jose().jwtVerify(token, key, {
      algorithms: [ALGORITHM],
      issuer: ISSUER,
      audience: ISSUER,
      requiredClaims: ['sub', 'exp', 'iat'],
      currentDate: new Date(this.#clock.wallMs()),
    })
    const { sub = '', exp = 0, groups, gen, proof } = payload
    return {
      name: sub,
      groups: Array.isArray(groups) ? groups.map(String) : [],
      generation: Number(gen),
      proof: typeof proof === 'string' ? proof : undefined,
      untilMs: exp * 1000,
    }
  }
}

/** Pause between two readings of the key because of a token that does not fit: anybody can send one. */
const KEY_PAUSE_MS = 30_000

/** A token that is not valid is no session; any other failure is one of ours. */
function refused(error: unknown): undefined {
  if (!(error instanceof jose().errors.JOSEError)) throw error
}

/** A token and its life. */
export interface SignedSession {
  readonly token: string
  readonly seconds: number
  readonly issuedAtMs: number
}

/** True if the token claims to be ours; nothing is verified. */
export function isOwnToken(issuer: string | undefined): boolean {
  return issuer === ISSUER
}
