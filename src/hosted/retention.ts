import type { JobTurn } from '../content/job-turns.ts'
import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'
import { matchesGlob } from '../oci/name-pattern.ts'
import type { Place } from '../oci/place.ts'
import type { Hosted } from './hosted.ts'
import type { PullBook } from './pulls.ts'
import { type HostedTerms, type RetentionTerms, termsOf } from './terms.ts'

const VERSION = /^v?[0-9]+\.[0-9]+\.[0-9]+(?:[-+._][0-9A-Za-z.+_-]*)?$/
/** Name of this rule in the history of a tag. */
const RETENTION = 'retention'

/** A tag as the rules see it. */
export interface RetainedTag {
  readonly tag: Tag
  readonly digest: Digest
  readonly movedAtMs: number
  /** The latest time at which it may have been pulled. */
  readonly pulledAtMs: number
}

/** Decision about one tag, with the reason for a person. */
export interface TagVerdict extends RetainedTag {
  readonly isKept: boolean
  readonly why: string
}

/**
 * Decides about the tags of one repository. A tag stays if any rule keeps it, or if no rule speaks of it; if
 * the terms name no rule that keeps anything, all of them stay.
 */
export function judgeTags(
  terms: RetentionTerms,
  tags: readonly RetainedTag[],
  nowMs: number,
): readonly TagVerdict[] {
  const spoken = tags.filter(({ tag }) => terms.tags.some(glob => matchesGlob(glob, tag)))
  const newest = new Set(
    spoken.toSorted((one, other) => other.movedAtMs - one.movedAtMs).slice(0, terms.keepPushed),
  )
  // Tags of which it is not known when they were pulled stay, until as many others are known to be later.
  const usedMs = ({ movedAtMs, pulledAtMs }: RetainedTag): number => Math.max(movedAtMs, pulledAtMs)
  const pulledLast =
    spoken.map(usedMs).toSorted((one, other) => other - one)[terms.keepPulled - 1] ?? -Infinity
  return tags.map(entry => {
    const kept = (why: string): TagVerdict => ({ ...entry, isKept: true, why })
    if (!spoken.includes(entry)) return kept('no rule speaks of it')
    if (newest.has(entry)) return kept(`it is one of the ${terms.keepPushed} pushed last`)
    if (terms.keepsVersions && VERSION.test(entry.tag)) return kept('it is a version')
    // A time in the future counts as now.
    if (Math.max(0, nowMs - entry.movedAtMs) < terms.pushedWithinMs)
      return kept('it was pushed within the time')
    if (terms.keepPulled > 0 && usedMs(entry) >= pulledLast)
      return kept(`fewer than ${terms.keepPulled} are known to have been pulled later`)
    if (Math.max(0, nowMs - usedMs(entry)) < terms.pulledWithinMs)
      return kept('it may have been pulled within the time')
    return { ...entry, isKept: false, why: 'no rule keeps it' }
  })
}

export interface RetentionParts {
  readonly hosted: Hosted
  readonly terms: () => readonly HostedTerms[]
  readonly pulls: Pick<PullBook, 'last'>
  readonly clock: Pick<Clock, 'wallMs'>
  readonly events: Pick<Events, 'retentionRemoved' | 'storageFailed'>
}

/** Removes the tags that the operator's rules do not keep, and manifests that nothing names then. */
export class Retention {
  readonly #parts: RetentionParts

  constructor(parts: RetentionParts) {
    this.#parts = parts
  }

  /** Goes over all repositories with such rules. Yields a verdict for each tag. */
  async *apply(
    { isDry }: { readonly isDry: boolean },
    turn: JobTurn,
  ): AsyncGenerator<TagVerdict & { readonly place: Place }> {
    const { hosted, terms } = this.#parts
    for await (const place of hosted.shelf.repositories()) {
      turn.requireHeld()
      const retention = termsOf(terms(), place)?.retention
      if (retention === undefined) continue
      for (const verdict of await this.#verdicts(place, retention, isDry)) {
        turn.requireHeld()
        if (!verdict.isKept && !isDry) await this.#remove(place, verdict)
        yield { ...verdict, place }
      }
    }
  }

  async #verdicts(place: Place, retention: RetentionTerms, isDry: boolean): Promise<readonly TagVerdict[]> {
    const { hosted, clock, events } = this.#parts
    const tags: Omit<RetainedTag, 'pulledAtMs'>[] = []
    try {
      for await (const tag of hosted.shelf.tags(place)) {
        const record = await hosted.shelf.tag(place, tag)
        if (record !== undefined) tags.push({ tag, digest: record.digest, movedAtMs: record.movedAtMs })
      }
      const retained = await this.#withPulls(place, retention, { tags, isDry })
      return await this.#spareRecent(place, judgeTags(retention, retained, clock.wallMs()))
    } catch (error) {
      // Without all tags it is not known which were pushed or pulled last.
      events.storageFailed('retention', error)
      return []
    }
  }

  /**
   * Keeps tags whose manifests were pushed just now until a later round: such a manifest would stay, and no
   * round looks at manifests without a tag.
   */
  async #spareRecent(place: Place, verdicts: readonly TagVerdict[]): Promise<readonly TagVerdict[]> {
    const { publishing } = this.#parts.hosted
    const spared: TagVerdict[] = []
    for (const verdict of verdicts) {
      const isSpared = !verdict.isKept && (await publishing.isRecent(place, verdict.digest))
      spared.push(isSpared ? { ...verdict, isKept: true, why: 'its manifest was pushed just now' } : verdict)
    }
    return spared
  }

  /** From the first round on that asks for pulls, they are known. */
  async #withPulls(
    place: Place,
    { keepPulled, pulledWithinMs }: RetentionTerms,
    { tags, isDry }: { readonly tags: readonly Omit<RetainedTag, 'pulledAtMs'>[]; readonly isDry: boolean },
  ): Promise<readonly RetainedTag[]> {
    if (keepPulled === 0 && pulledWithinMs === 0) return tags.map(entry => ({ ...entry, pulledAtMs: 0 }))
    const names = tags.map(({ tag }) => tag)
    const pulls = await this.#parts.pulls.last(place, names, { begins: !isDry })
    return tags.map(entry => ({ ...entry, pulledAtMs: pulls.get(entry.tag)?.latestMs ?? Infinity }))
  }

  async #remove(place: Place, { tag, digest, movedAtMs, why }: TagVerdict): Promise<void> {
    const { hosted, events } = this.#parts
    try {
      // It may have been pushed again since it was judged.
      if (!(await hosted.publishing.untag({ place, by: RETENTION }, tag, movedAtMs))) return
      events.retentionRemoved({ ...place, tag, digest, why })
      await this.#withdrawUnless(place, digest)
    } catch (error) {
      events.storageFailed('retention', error)
    }
  }

  /**
   * Removes a manifest unless a tag or an index of the repository names it, and then, on the same terms, what
   * refers to it and what it names.
   */
  async #withdrawUnless(place: Place, digest: Digest): Promise<void> {
    const { hosted } = this.#parts
    const referrers = await Array.fromAsync(hosted.shelf.referrers(place, digest))
    const children = await hosted.childrenOf(digest)
    if (!(await hosted.publishing.withdrawUnnamed({ place, by: RETENTION }, digest))) return
    for (const next of new Set([...referrers, ...children])) await this.#withdrawUnless(place, next)
  }
}
