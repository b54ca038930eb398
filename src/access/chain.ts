import { hash } from 'node:crypto'
import type { AuthConfig } from '../config/config.ts'
import type { Clock } from '../lib/clock.ts'
import { jose } from '../lib/libraries.ts'
import type { Events } from '../observe/events.ts'
import { OciError } from '../oci/error.ts'
import { ANONYMOUS, type Identity } from '../oci/identity.ts'
import { type Presented, parseAuthorization } from './authorization.ts'
import { withGroups } from './groups.ts'
import type { Issuer } from './issuer.ts'
import type { Passwords } from './passwords.ts'
import { isRobotToken, type Robots } from './robots.ts'
import {
  isOwnToken,
  SESSION_SECONDS,
  type Sessions,
  type SignedSession,
  type TokenSession,
} from './sessions.ts'

/** An identity, how it was proved, and how long that holds. */
export interface Proved {
  readonly identity: Identity
  /** Groups that only the credentials named. */
  readonly ownGroups: readonly string[]
  /** See {@link TokenSession.proof}. */
  readonly proof: string | undefined
  /** In milliseconds since 1970; `Infinity` for a password. */
  readonly untilMs: number
}

export interface ChainParts {
  readonly robots: Pick<Robots, 'find' | 'findById'>
  readonly sessions: Sessions
  readonly passwords: Pick<Passwords, 'isRight'>
  readonly clock: Pick<Clock, 'wallMs'>
  readonly events: Pick<Events, 'audited'>
}

/** The configuration that a chain works by, which a reload replaces. */
export interface ChainTerms {
  readonly auth: AuthConfig
  /** By the URL that their tokens name. */
  readonly issuers: ReadonlyMap<string, Issuer>
}

/** The anonymous sender with credentials that mean nothing here. */
const FOREIGN: Identity = { ...ANONYMOUS, isForeign: true }
const NOBODY: Proved = { identity: FOREIGN, ownGroups: [], proof: undefined, untilMs: Infinity }

/** Nobody, proved by nothing. */
export function provedAnonymous(): Proved {
  return { ...NOBODY, identity: ANONYMOUS }
}

/**
 * Finds out who sends credentials: our own token, then an OIDC token (also as a password), then a user's
 * password. Wrong credentials are refused. Credentials of which nothing is known here make the sender
 * anonymous: clients send those of other registries to mirrors by accident.
 */
export class IdentityChain {
  readonly #parts: ChainParts
  #terms: ChainTerms
  #certificateProof: string | undefined

  constructor(parts: ChainParts, terms: ChainTerms) {
    this.#parts = parts
    this.#terms = terms
  }

  replace(terms: ChainTerms): void {
    this.#terms = terms
  }

  /** Believes certificates of this CA, in PEM, from now on; ends sessions that began with another CA. */
  trustCertificatesOf(ca: string | undefined): void {
    this.#certificateProof = ca === undefined ? undefined : `${CERTIFICATE}${markOf(ca)}`
  }

  /** What a client certificate proves that the listener has verified. */
  certified(identity: Identity): Proved {
    return { identity, ownGroups: [], proof: this.#certificateProof, untilMs: Infinity }
  }

  /**
   * Throws UNAUTHORIZED for wrong credentials, UNAVAILABLE or TOOMANYREQUESTS if it cannot check them. A use
   * of a token of ours is no login for the audit log: the token endpoint has noted that one.
   */
  async identify(authorization: string, client: string | undefined): Promise<Proved> {
    const presented = parseAuthorization(authorization)
    const proved = await this.audited(presented, client)
    const { name } = proved.identity
    if (name !== ANONYMOUS.name && !isSession(presented))
      this.#parts.events.audited({ action: 'login', who: name, from: client })
    return proved
  }

  /** As {@link prove}, and wrong credentials are noted in the audit log. */
  async audited(presented: Presented, client: string | undefined): Promise<Proved> {
    try {
      return await this.prove(presented, client)
    } catch (error) {
      // A try that was slowed down has not been checked, and there may be a thousand a second.
      if (error instanceof OciError && error.code === 'UNAUTHORIZED')
        this.#parts.events.audited({
          action: 'login-refused',
          who: this.triedName(presented),
          from: client,
          reason: error.message,
        })
      throw error
    }
  }

  /** As {@link identify}, for credentials from elsewhere than the header, and without the audit log. */
  async prove(presented: Presented, client: string | undefined): Promise<Proved> {
    switch (presented.kind) {
      case 'unknown':
        return NOBODY
      case 'bearer':
        return (await this.#byToken(presented.token)) ?? NOBODY
      case 'basic':
        return (await this.#byToken(presented.password)) ?? (await this.#byPassword(presented, client))
    }
  }

  /**
   * A name for credentials that were refused, fit for a log: that of a user, if there is one. Any other text
   * may be a secret in the wrong place.
   */
  triedName(presented: Presented | undefined): string {
    if (presented?.kind !== 'basic') return 'a token'
    return this.#terms.auth.users.has(presented.user) ? presented.user : 'an unknown user'
  }

  /** A token of ours for an identity, for the time that its proof holds. */
  async exchange({ identity, ownGroups, proof, untilMs }: Proved): Promise<SignedSession> {
    const { clock, sessions } = this.#parts
    const generation = this.#generation(identity.name)
    const endMs = Math.min(untilMs, clock.wallMs() + SESSION_SECONDS * 1000)
    return await sessions.sign({ name: identity.name, groups: ownGroups, generation, proof, untilMs: endMs })
  }

  /** `undefined` if this is no token of ours, and of no issuer that is configured. */
  async #byToken(token: string): Promise<Proved | undefined> {
    if (isRobotToken(token)) return this.#byRobot(token)
    const issuerUrl = issuerOf(token)
    if (isOwnToken(issuerUrl)) return await this.#bySession(token)
    const issuer = issuerUrl === undefined ? undefined : this.#terms.issuers.get(issuerUrl)
    if (issuer === undefined) return undefined
    const { name, groups, untilMs } = await issuer.identify(token)
    return this.#proved({ name, groups }, { proof: issuerProof(issuer), untilMs })
  }

  #byRobot(token: string): Proved {
    const found = this.#parts.robots.find(token)
    if (found === undefined) throw wrong('this token is unknown, revoked or expired')
    const { robot, identity } = found
    return this.#proved(identity, { proof: robotProof(robot.id), untilMs: robot.expiresAtMs ?? Infinity })
  }

  async #bySession(token: string): Promise<Proved> {
    const session = await this.#parts.sessions.verify(token)
    if (session === undefined) throw wrong('this token has expired or is not of this mirror')
    if (session.generation !== this.#generation(session.name)) throw wrong('this token was revoked')
    const { name, groups, proof, untilMs } = session
    if (name === ANONYMOUS.name) return { identity: ANONYMOUS, ownGroups: [], proof: undefined, untilMs }
    return this.#proved(this.#provenStill(session) ?? { name, groups }, { proof, untilMs })
  }

  /**
   * A session ends with what it was exchanged for: the robot's token, the user's password, the CA of client
   * certificates, or the settings of the issuer. Returns the identity of a robot.
   */
  #provenStill({ name, proof }: TokenSession): Identity | undefined {
    if (proof === undefined || proof === this.#certificateProof) return undefined
    const robot = proof.startsWith(ROBOT) ? this.#parts.robots.findById(proof.slice(ROBOT.length)) : undefined
    if (robot !== undefined) return robot.identity
    if (this.#terms.issuers.values().some(issuer => proof === issuerProof(issuer))) return undefined
    const userHash = this.#terms.auth.users.get(name)
    if (userHash !== undefined && proof === userProof(userHash)) return undefined
    throw wrong('this token was revoked')
  }

  async #byPassword(
    { user, password }: { readonly user: string; readonly password: string },
    client: string | undefined,
  ): Promise<Proved> {
    const userHash = this.#terms.auth.users.get(user)
    if (userHash === undefined) return NOBODY
    if (!(await this.#parts.passwords.isRight({ user, password }, userHash, client)))
      throw wrong('the password is wrong')
    return this.#proved({ name: user, groups: [] }, { proof: userProof(userHash), untilMs: Infinity })
  }

  /** Adds the configured groups. */
  #proved(identity: Identity, { proof, untilMs }: Pick<Proved, 'proof' | 'untilMs'>): Proved {
    return {
      identity: withGroups(identity, this.#terms.auth.groups),
      ownGroups: identity.groups,
      proof,
      untilMs,
    }
  }

  #generation(name: string): number {
    return this.#terms.auth.generations.get(name) ?? 0
  }
}

const ROBOT = 'robot '
const CERTIFICATE = 'certificate '

function robotProof(id: string): string {
  return `${ROBOT}${id}`
}

function issuerProof({ mark }: Pick<Issuer, 'mark'>): string {
  return `issuer ${mark}`
}

/** A mark of a password's hash, which the token may show: nobody can test passwords by it. */
function userProof(passwordHash: string): string {
  return markOf(passwordHash)
}

function markOf(text: string): string {
  return hash('sha256', text, 'base64url').slice(0, 22)
}

/** True for a token of ours, also as the password of a login. */
function isSession(presented: Presented): boolean {
  if (presented.kind === 'unknown') return false
  return isOwnToken(issuerOf(presented.kind === 'bearer' ? presented.token : presented.password))
}

/** The issuer that a JSON web token names; `undefined` if this is not one. Nothing is verified. */
function issuerOf(token: string): string | undefined {
  if (!/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/.test(token)) return undefined
  try {
    return jose().decodeJwt(token).iss
  } catch {
    return undefined
  }
}

function wrong(message: string): OciError {
  return new OciError('UNAUTHORIZED', message)
}
