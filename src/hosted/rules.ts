import type { TagHistory } from '../content/tag-history.ts'
import type { Events } from '../observe/events.ts'
import { OciError } from '../oci/error.ts'
import type { NamePattern } from '../oci/name-pattern.ts'
import type { Place } from '../oci/place.ts'
import { type Act, type ActRule, tagTaken } from './acts.ts'
import { type HostedTerms, isImmutable, termsOf } from './terms.ts'
import type { Usage } from './usage.ts'

/** Part of a quota from which clients are warned. */
const WARNED_FROM = 0.85

export interface HostedRulesParts {
  readonly terms: () => readonly HostedTerms[]
  readonly history: TagHistory
  readonly usage: Usage
  /** Throws if the store cannot hold a tag to its first digest. */
  readonly requireCreation: (terms: HostedTerms) => Promise<void>
  readonly events: Pick<Events, 'quotaReached'>
}

/** The operator's rules for changes of hosted repositories: read-only, immutable tags and quotas. */
export class HostedRules implements ActRule {
  readonly #parts: HostedRulesParts
  /** Bytes of the acts that are under way, with their quota. */
  readonly #underWay = new Map<Act, { readonly names: string; readonly bytes: number }>()

  constructor(parts: HostedRulesParts) {
    this.#parts = parts
  }

  async judge(act: Act): Promise<readonly string[]> {
    const terms = termsOf(this.#parts.terms(), act)
    if (terms === undefined) return []
    if (terms.isReadOnly)
      throw new OciError('DENIED', `${terms.names.text} is read-only: nothing can be pushed or deleted`)
    if (act.kind === 'tag' && this.keepsFirst(act)) {
      await this.#parts.requireCreation(terms)
      await this.#requireFirst(act)
    }
    return await this.#judgeQuota(terms, act)
  }

  keepsFirst(act: Act & { readonly kind: 'tag' }): boolean {
    return isImmutable(this.#parts.terms(), act, act.tag)
  }

  ended(act: Act): void {
    this.#underWay.delete(act)
  }

  /** The same digest again is not a move. The name of a deleted tag stays taken. */
  async #requireFirst({ tag, digest, from, ...place }: Act & { readonly kind: 'tag' }): Promise<void> {
    if (from === digest) return
    const first = from ?? (await this.#digestBeforeDeletion(place, tag))
    if (first === undefined || first === digest) return
    throw tagTaken(tag, first, digest)
  }

  async #digestBeforeDeletion(
    place: Place,
    tag: (Act & { readonly kind: 'tag' })['tag'],
  ): Promise<string | undefined> {
    const moves = await this.#parts.history.read(place, tag)
    return moves.find(({ digest }) => digest !== undefined)?.digest
  }

  async #judgeQuota(terms: HostedTerms, act: Act): Promise<readonly string[]> {
    const { quotaBytes } = terms
    const newBytes = bytesOf(act)
    if (quotaBytes === undefined || newBytes === undefined) return []
    const { usage, events } = this.#parts
    const { namespace, repository, by = 'anonymous' } = act
    const place = { namespace, repository }
    const digest = act.kind === 'link' || act.kind === 'receive' ? act.digest : undefined
    if (digest !== undefined && (await usage.has(place, digest))) return []
    const isOver = (used: number): boolean =>
      used + newBytes > quotaBytes || (act.kind === 'receive' && used >= quotaBytes)
    let usedBytes = await this.#used(terms.names)
    if (isOver(usedBytes)) {
      // Something may have been removed, or pushed twice, since it was counted.
      usage.forget()
      usedBytes = await this.#used(terms.names)
    }
    const reached = { ...place, by, quota: terms.names.text, usedBytes, limitBytes: quotaBytes }
    if (isOver(usedBytes)) {
      events.quotaReached({ ...reached, isRefused: true })
      throw new OciError(
        'DENIED',
        `the quota of ${terms.names.text} is used up: ${usedBytes} of ${quotaBytes} bytes, and ${newBytes} more are pushed`,
      )
    }
    this.#underWay.set(act, { names: terms.names.text, bytes: newBytes })
    if (usedBytes + newBytes < WARNED_FROM * quotaBytes || act.kind !== 'publish') return []
    events.quotaReached({ ...reached, isRefused: false })
    const percent = Math.floor((100 * (usedBytes + newBytes)) / quotaBytes)
    return [`${percent} % of the quota of ${terms.names.text} is used`]
  }

  /** Bytes that are used, and those of other pushes that are under way: nothing waits in between. */
  async #used(names: NamePattern): Promise<number> {
    const bytes = await this.#parts.usage.of(names)
    let allBytes = this.#parts.usage.now(names) ?? bytes
    for (const one of this.#underWay.values()) if (one.names === names.text) allBytes += one.bytes
    return allBytes
  }
}

/** Bytes that an act adds; `undefined` if it adds none. */
function bytesOf(act: Act): number | undefined {
  if (act.kind === 'receive' || act.kind === 'link') return act.sizeBytes
  return act.kind === 'publish' && act.isNew ? act.sizeBytes : undefined
}
