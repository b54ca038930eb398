import type { Candidate, PlaceName } from '../content/index/change.ts'
import type { IndexFeed } from '../content/index/feed.ts'
import type { Clock } from '../lib/clock.ts'
import { atOnce } from '../lib/semaphore.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import { parseRepositoryName, type RepositoryName } from '../oci/name.ts'
import { type Namespace, parseConfiguredNamespace } from '../oci/namespace.ts'
import {
  chooseVictims,
  type Demand,
  isMet,
  less,
  type NamespaceTerms,
  type Pass,
  passesFor,
} from './victims.ts'
import type { WatchedStore } from './watched-store.ts'

const SLICE = 256
const AT_ONCE = 8
/** Longest time one turn may take, in milliseconds: a download may be waiting for its turn. */
const TURN_MS = 1000

/** A repository that could see the evicted content. */
interface Place {
  readonly namespace: Namespace
  readonly repository: RepositoryName
}

/** Components outside the store that keep references to content. */
export interface Others {
  /** Brings {@link isPinned} up to date. */
  refreshPins(): Promise<boolean>
  isPinned(digest: Digest): boolean
  /**
   * Forgets evicted content. Memory is cleared before the first wait, since the content may come back any
   * time after it.
   */
  evicted(digest: Digest, places: readonly Place[]): Promise<void>
}

export interface EvictorParts {
  readonly store: WatchedStore
  readonly index: IndexFeed
  readonly others: Others
  readonly clock: Clock
  readonly events: Events
  readonly terms: () => NamespaceTerms
  /** Most objects to evict in a second; unlimited by default. */
  readonly perSecond?: number | undefined
}

/** Candidates, and where the next ones begin. */
interface Slice {
  readonly candidates: readonly Candidate[]
  readonly next: { readonly lastUseMs: number; readonly row: number } | undefined
}

/** Result of an eviction. */
export interface Evicted {
  readonly objects: number
  readonly bytes: number
}

/** Evicts in slices, and lets other work run in between. One pass runs at a time. */
export class Evictor {
  readonly #parts: EvictorParts
  readonly #signal: AbortSignal
  #last: Promise<unknown> = Promise.resolve()

  constructor(parts: EvictorParts, signal: AbortSignal) {
    this.#parts = parts
    this.#signal = signal
  }

  /**
   * Evicts as much of the demand as the time allows. The demand is read when its turn comes. Rejects if the
   * index cannot be queried.
   */
  async evict(demand: () => Demand, turnMs = TURN_MS): Promise<Evicted> {
    const turn = this.#last.then(async () => await this.#evict(demand(), turnMs))
    this.#last = turn.catch(() => undefined)
    return await turn
  }

  /** Counts what would be evicted for a demand, and evicts nothing. */
  async plan(demand: Demand): Promise<Evicted> {
    const { index, others, clock, terms } = this.#parts
    const nowMs = clock.wallMs()
    if (!(await others.refreshPins())) return { objects: 0, bytes: 0 }
    const planned = new Map<Digest, Candidate>()
    const isSpared = (digest: Digest): boolean => planned.has(digest) || this.#isSpared(digest)
    const judge = { terms: terms(), nowMs, isSpared }
    let rest = demand
    for (const pass of passesFor(demand, terms(), nowMs)) {
      let after: Slice['next']
      do {
        const slice: Slice = await index.ask('candidates', { ...pass.query, after, limit: SLICE })
        const chosen = chooseVictims(slice.candidates, rest, pass, judge)
        for (const victim of chosen.victims) planned.set(victim.digest, victim)
        rest = chosen.rest
        after = slice.next
      } while (after !== undefined && !isMet(rest, pass.reason) && !this.#signal.aborted)
    }
    const all = [...planned.values()]
    return { objects: all.length, bytes: sumOf(all) }
  }

  /** Resolves once no eviction is running. */
  async settled(): Promise<void> {
    await this.#last
  }

  async #evict(demand: Demand, turnMs: number): Promise<Evicted> {
    const { index, others, clock, terms } = this.#parts
    const nowMs = clock.wallMs()
    const endsAtMs = clock.monotonicMs() + turnMs
    const passes = passesFor(demand, terms(), nowMs)
    if (passes.length === 0) return { objects: 0, bytes: 0 }
    if (!(await others.refreshPins())) return { objects: 0, bytes: 0 }
    await index.ask('pullBack', nowMs)
    let rest = demand
    let objects = 0
    let bytes = 0
    for (const pass of passes) {
      const gone = await this.#run(pass, rest, { nowMs, endsAtMs })
      rest = gone.reduce((left, candidate) => less(left, candidate, terms()), rest)
      objects += gone.length
      bytes += sumOf(gone)
    }
    return { objects, bytes }
  }

  async #run(
    pass: Pass,
    demand: Demand,
    { nowMs, endsAtMs }: { readonly nowMs: number; readonly endsAtMs: number },
  ): Promise<readonly Candidate[]> {
    const { index, terms, clock } = this.#parts
    const judge = { terms: terms(), nowMs, isSpared: this.#isSpared }
    const all: Candidate[] = []
    let rest = demand
    let after: { readonly lastUseMs: number; readonly row: number } | undefined
    while (!isMet(rest, pass.reason) && !this.#signal.aborted && clock.monotonicMs() < endsAtMs) {
      const slice = await index.ask('candidates', { ...pass.query, after, limit: SLICE })
      const { victims } = chooseVictims(slice.candidates, rest, pass, judge)
      const gone = await this.#removeAll(victims)
      rest = gone.reduce((left, candidate) => less(left, candidate, judge.terms), rest)
      all.push(...gone)
      this.#parts.events.evicted({ reason: pass.reason, objects: gone.length, bytes: sumOf(gone) })
      await this.#pace(gone.length)
      after = slice.next
      if (after === undefined) break
    }
    return all
  }

  /** Waits for as long as this number of evictions should take. */
  async #pace(objects: number): Promise<void> {
    const { clock, perSecond = Infinity } = this.#parts
    if (perSecond === Infinity || objects === 0) return
    await clock.delay((objects / perSecond) * 1000, this.#signal).catch(() => undefined)
  }

  readonly #isSpared = (digest: Digest): boolean => {
    const { store, others } = this.#parts
    return store.isHeld(digest) || others.isPinned(digest)
  }

  async #removeAll(victims: readonly Candidate[]): Promise<readonly Candidate[]> {
    const gone: Candidate[] = []
    await atOnce(victims, this.#parts.store.isBatching ? SLICE : AT_ONCE, async victim => {
      if (await this.#remove(victim)) gone.push(victim)
    })
    await this.forgetLinks(gone.map(({ digest }) => digest))
    return gone
  }

  async #remove({ digest, sizeBytes, namespace }: Candidate): Promise<boolean> {
    const { store, others, events } = this.#parts
    if (others.isPinned(digest)) return false
    try {
      return await store.evict(digest, { sizeBytes, namespace })
    } catch (error) {
      events.storageFailed('evict', error)
      return false
    }
  }

  /** Removes the links of evicted content, unless the content has come back. */
  async forgetLinks(gone: readonly Digest[]): Promise<void> {
    if (gone.length === 0) return
    const { store, index, others, events } = this.#parts
    const links = await index.ask('takeLinks', gone)
    await atOnce([...gone.entries()], AT_ONCE, async ([position, digest]) => {
      const names = links[position] ?? []
      try {
        const isGone = await store.unlessBack(
          digest,
          async () => await others.evicted(digest, names.flatMap(parsePlace)),
        )
        if (isGone) return
      } catch (error) {
        events.storageFailed('evict', error)
      }
      // The content was fetched again or could not be forgotten, so its repositories can still see it.
      for (const place of names) index.note({ kind: 'linked', place, digest })
    })
  }
}

function parsePlace({ namespace: namespaceText, repository: repositoryText }: PlaceName): readonly Place[] {
  const namespace = parseConfiguredNamespace(namespaceText)
  const repository = parseRepositoryName(repositoryText)
  return namespace === undefined || repository === undefined ? [] : [{ namespace, repository }]
}

function sumOf(candidates: readonly Candidate[]): number {
  return candidates.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
}
