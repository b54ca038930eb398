import type { Clock } from '../lib/clock.ts'
import type { SharedCount } from '../lib/shared-count.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { ANONYMOUS, type Identity, type Right } from '../oci/identity.ts'
import type { Place } from '../oci/place.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import type { Rule } from '../oci/rules/rule.ts'
import type { Access, AccessRequest, Credentials } from './access.ts'
import { certificateIdentity } from './certificates.ts'
import { type Groups, withGroups } from './groups.ts'
import type { ClientCertificate } from './peer.ts'
import { RememberedIdentities } from './remembered-identities.ts'
import { type Decision, Rules } from './rules.ts'

/** The rules in force. Plain data, so that it can cross threads. */
export interface AccessPolicy {
  readonly rules: readonly Rule[]
  readonly groups: Groups
  /** See {@link Access.mayEnter}. */
  readonly challenge: 'auto' | 'needed' | 'always'
}

/** Checks credentials. In a further thread this is a call to the first one. */
export interface Identifier {
  identify(
    authorization: string,
    client: string | undefined,
  ): Promise<{ readonly identity: Identity; readonly untilMs: number }>
}

export interface RuledAccessParts {
  readonly identifier: Identifier
  /** See {@link RememberedIdentities}. */
  readonly changes: Pick<SharedCount, 'value'>
  readonly clock: Pick<Clock, 'wallMs' | 'monotonicMs'>
  readonly events: Pick<Events, 'audited' | 'foreignCredentials'>
  /** True if somebody can log in as a robot. */
  readonly hasRobots: () => boolean
}

/** Decides by the rules, which are asked again for each request. */
export class RuledAccess implements Access {
  readonly #parts: RuledAccessParts
  readonly #remembered: RememberedIdentities
  #policy: AccessPolicy
  #rules: Rules
  /** Connections keep their certificate, so that the identity of one is found once. */
  #certificates = new WeakMap<ClientCertificate, Identity>()

  constructor(parts: RuledAccessParts, policy: AccessPolicy) {
    this.#parts = parts
    this.#remembered = new RememberedIdentities(parts)
    this.#policy = policy
    this.#rules = new Rules(policy.rules)
  }

  /** The table in force. */
  get rules(): Rules {
    return this.#rules
  }

  /** Puts other rules into force, for the next request on. */
  replace(policy: AccessPolicy): void {
    this.#policy = policy
    this.#rules = new Rules(policy.rules)
    this.#certificates = new WeakMap()
  }

  identify({ authorization, peer }: Credentials): Identity | Promise<Identity> {
    const certified = peer.certificate === undefined ? undefined : this.#certified(peer.certificate)
    if (certified !== undefined) return certified
    if (authorization === undefined) return ANONYMOUS
    const latest = this.#remembered.findLatest(peer, authorization)
    if (latest !== undefined) return latest
    const place = this.#remembered.placeOf(authorization)
    return (
      this.#remembered.find(place, peer, authorization) ?? this.#check(authorization, peer.address, place)
    )
  }

  authorize(request: AccessRequest): undefined {
    const { identity, right } = request
    const decision = this.#rules.decide(request)
    if (!decision.isAllowed)
      throw this.#refusal(request, decision.by.kind === 'rule' ? decision.by.rule : undefined)
    if (identity.isForeign === true && right === 'pull') this.#parts.events.foreignCredentials()
    return undefined
  }

  authorizeDigest(request: Omit<AccessRequest, 'reference'>, digest: Digest): void {
    if (!this.#rules.deniesDigests) return
    const reference: Reference = { kind: 'digest', digest }
    const rule = this.#rules.denialOfDigest({ ...request, reference })
    if (rule !== undefined) throw this.#refusal({ ...request, reference }, rule)
  }

  rowFor(request: Omit<AccessRequest, 'client'>): string {
    return explainDecision(request.right, this.#rules.decide(request)).row
  }

  mayEnter({ name }: Identity): boolean {
    if (name !== ANONYMOUS.name) return true
    switch (this.#policy.challenge) {
      case 'always':
        return false
      case 'needed':
        return this.#rules.isPublic
      case 'auto':
        return this.#rules.isPublic && !this.#rules.rewardsLogin && !this.#parts.hasRobots()
    }
  }

  /** The identity of a name, with the groups that the configuration puts it into. */
  identityNamed(name: string): Identity {
    return withGroups({ name, groups: [] }, this.#policy.groups)
  }

  may(identity: Identity, place: Place, right: Right): boolean {
    return this.#rules.decide({ identity, place, right, reference: undefined }).isAllowed
  }

  async #check(authorization: string, client: string | undefined, place: string): Promise<Identity> {
    const changes = this.#parts.changes.value
    const proved = await this.#parts.identifier.identify(authorization, client)
    this.#remembered.keep(place, proved, changes)
    return proved.identity
  }

  #certified(certificate: ClientCertificate): Identity | undefined {
    const known = this.#certificates.get(certificate)
    if (known !== undefined) return known
    const identity = certificateIdentity(certificate)
    if (identity === undefined) return undefined
    const grouped = withGroups(identity, this.#policy.groups)
    this.#certificates.set(certificate, grouped)
    return grouped
  }

  /** The anonymous may be somebody, so they are asked to log in; anybody else is denied. */
  #refusal({ identity, right, place, reference, client }: AccessRequest, rule: Rule | undefined): OciError {
    const name = `${place.namespace}/${place.repository}`
    const why = rule?.reason === undefined ? '' : `: ${rule.reason}`
    const separator = reference?.kind === 'digest' ? '@' : ':'
    this.#parts.events.audited({
      action: 'refused',
      who: identity.name,
      what: `${right} ${name}${reference === undefined ? '' : `${separator}${referenceText(reference)}`}`,
      from: client,
      row: rowText(rule),
      reason: rule?.reason,
    })
    return identity.name === ANONYMOUS.name
      ? new OciError('UNAUTHORIZED', `log in to ${right} ${name}${why}`)
      : new OciError('DENIED', `${identity.name} may not ${right} ${name}${why}`)
  }
}

/** A decision for people. */
export interface ExplainedDecision {
  readonly right: Right
  readonly isAllowed: boolean
  /** The row of the rules, `token` for a right of a robot token, or `default`. */
  readonly row: string
  readonly reason: string | undefined
}

/** Says which row decided. */
export function explainDecision(right: Right, { isAllowed, by }: Decision): ExplainedDecision {
  const rule = by.kind === 'rule' ? by.rule : undefined
  return { right, isAllowed, row: by.kind === 'grant' ? 'token' : rowText(rule), reason: rule?.reason }
}

/** A row of the rules as people find it. */
function rowText(rule: Rule | undefined): string {
  return rule === undefined ? 'default' : `line ${rule.line}`
}
