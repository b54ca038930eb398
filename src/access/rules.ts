import { ANONYMOUS, type Identity, type Right } from '../oci/identity.ts'
import type { Place } from '../oci/place.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import { matchesWho, type Rule } from '../oci/rules/rule.ts'
import { matchesRuleNames, type RuleNames } from '../oci/rules/rule-names.ts'

/** A request, as rules see it. */
export interface AccessQuestion {
  readonly identity: Identity
  readonly right: Right
  readonly place: Place
  readonly reference: Reference | undefined
}

/** Whether a request is allowed, and what decided: a row, a grant of the identity itself, or the default. */
export interface Decision {
  readonly isAllowed: boolean
  readonly by: { readonly kind: 'rule'; readonly rule: Rule } | { readonly kind: 'grant' | 'default' }
}

/** Decisions that are remembered for all identities together, each of which takes about 200 bytes. */
const DECISIONS_MAX = 50_000

const BY_GRANT: Decision = { isAllowed: true, by: { kind: 'grant' } }
const ALLOWED: Decision = { isAllowed: true, by: { kind: 'default' } }
const REFUSED: Decision = { isAllowed: false, by: { kind: 'default' } }

/**
 * A table of rules, read from the top. The first row about the sender, the right and the names decides. Where
 * none does, the grants of the identity decide, and in the end everybody may pull and nobody anything else.
 */
export class Rules {
  readonly rows: readonly Rule[]
  /** Rows about each identity: the same few identities ask again and again. */
  readonly #rowsOf = new WeakMap<Identity, readonly Rule[]>()
  /** Decisions about each identity. A reload makes other rules, so none of them outlives its table. */
  #decisions = new WeakMap<Identity, Map<string, Decision>>()
  #rememberedCount = 0
  /** True if a row denies digests, so that the digest that a tag leads to has to be judged as well. */
  readonly deniesDigests: boolean

  constructor(rows: readonly Rule[]) {
    this.rows = rows
    this.deniesDigests = rows.some(
      ({ isAllowed, names }) => !isAllowed && names.some(({ digest }) => digest !== undefined),
    )
  }

  decide(question: AccessQuestion): Decision {
    const { identity, right, place, reference } = question
    const part = reference === undefined ? '' : referenceText(reference)
    const key = `${right} ${place.namespace}/${place.repository} ${part}`
    const known = this.#decisions.get(identity)?.get(key)
    if (known !== undefined) return known
    const decision = this.#decideNow(question)
    this.#remember(identity, key, decision)
    return decision
  }

  /** Count of remembered decisions, also of those whose identity is gone. */
  get rememberedCount(): number {
    return this.#rememberedCount
  }

  /**
   * Every token is an identity of its own, and clients name what they like. Forgetting all at once costs each
   * client one look through the rows.
   */
  #remember(identity: Identity, key: string, decision: Decision): void {
    if (this.#rememberedCount >= DECISIONS_MAX) {
      this.#decisions = new WeakMap()
      this.#rememberedCount = 0
    }
    const known = this.#decisions.get(identity)
    if (known === undefined) this.#decisions.set(identity, new Map([[key, decision]]))
    else known.set(key, decision)
    this.#rememberedCount += 1
  }

  #decideNow({ identity, right, place, reference }: AccessQuestion): Decision {
    for (const rule of this.#about(identity)) {
      if (!rule.rights.includes(right)) continue
      if (rule.names.some(names => matchesRuleNames(names, place, reference)))
        return { isAllowed: rule.isAllowed, by: { kind: 'rule', rule } }
    }
    const { grants = [] } = identity
    if (grants.some(grant => grant.right === right && matchesRuleNames(grant.names, place, reference)))
      return BY_GRANT
    return right === 'pull' ? ALLOWED : REFUSED
  }

  /**
   * The row that denies content by its digest, whatever tag led to it; `undefined` if none does. A row above
   * that allows the same digest saves it.
   */
  denialOfDigest({ identity, right, place, reference }: AccessQuestion): Rule | undefined {
    const first = this.#about(identity).find(
      ({ rights, names }) =>
        rights.includes(right) &&
        names.some(each => each.digest !== undefined && matchesRuleNames(each, place, reference)),
    )
    return first?.isAllowed === false ? first : undefined
  }

  /** The decision about the mirror as a whole, for which names do not count. */
  decideAdmin(identity: Identity): Decision {
    const rule = this.#about(identity).find(({ rights }) => rights.includes('admin'))
    if (rule !== undefined) return { isAllowed: rule.isAllowed, by: { kind: 'rule', rule } }
    return identity.grants?.some(({ right }) => right === 'admin') === true ? BY_GRANT : REFUSED
  }

  /** True if the anonymous may pull something. */
  get isPublic(): boolean {
    const first = this.#about(ANONYMOUS).find(
      ({ isAllowed, rights, names }) => rights.includes('pull') && (isAllowed || names.some(isEverything)),
    )
    return first === undefined || first.isAllowed
  }

  /** True if a row gives somebody something at this registry that the anonymous do not have. */
  get rewardsLogin(): boolean {
    const anonymous = this.#about(ANONYMOUS)
    return this.rows.some(
      row => row.isAllowed && row.rights.some(right => right !== 'admin') && !anonymous.includes(row),
    )
  }

  #about(identity: Identity): readonly Rule[] {
    const known = this.#rowsOf.get(identity)
    if (known !== undefined) return known
    const rows = this.rows.filter(({ who }) => who.some(each => matchesWho(each, identity)))
    this.#rowsOf.set(identity, rows)
    return rows
  }
}

function isEverything({ pattern, tag, digest }: RuleNames): boolean {
  return pattern.text === '**' && tag === undefined && digest === undefined
}
