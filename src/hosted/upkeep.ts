import { type JobName, type JobTurn, type JobTurns, unlimitedTurn } from '../content/job-turns.ts'
import type { TagHistory } from '../content/tag-history.ts'
import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import { BUSY_RETRY_MS, OciError } from '../oci/error.ts'
import { Collection, type CollectionParts, type Verdict } from './collection.ts'
import type { Hosted } from './hosted.ts'
import type { PullBook } from './pulls.ts'
import { Retention } from './retention.ts'
import type { Shelf } from './shelf.ts'
import { type HostedTerms, isImmutable } from './terms.ts'

/** Time from the end of one round to the start of the next. */
const EVERY_MS = 6 * 3_600_000
/** Time from the start of the daemon to the first round. */
const FIRST_AFTER_MS = 10 * 60_000

export interface HostedUpkeepParts {
  readonly hosted: Hosted
  readonly store: CollectionParts['store']
  readonly clock: Clock
  readonly events: Events
  readonly terms: () => readonly HostedTerms[]
  readonly pulls: Pick<PullBook, 'last'>
  readonly history: Pick<TagHistory, 'forget' | 'restingTags'>
  /** True if anything is hosted, and may be changed. */
  readonly isNeeded: () => boolean
  readonly graceMs: number
  /** Gives turns to do this, of which the processes on one store have one. */
  readonly turns: JobTurns
  /** True if mirrored repositories use the content too. */
  readonly isCached: (digest: Digest) => Promise<boolean>
  /** Called after content was removed. */
  readonly removed: (digest: Digest) => Promise<void>
}

/**
 * Applies retention and collects what nothing needs, several times a day or when an operator asks. Old
 * histories of removed tags go with it.
 */
export class HostedUpkeep implements AsyncDisposable {
  readonly #parts: HostedUpkeepParts
  readonly #retention: Retention
  readonly #collection: Collection
  readonly #lifetime = new AbortController()
  #running: Promise<void> = Promise.resolve()
  #isStarted = false

  constructor(parts: HostedUpkeepParts) {
    const { hosted } = parts
    this.#parts = parts
    this.#retention = new Retention(parts)
    this.#collection = new Collection({
      ...parts,
      shelf: hosted.shelf,
      publishing: hosted.publishing,
      marks: hosted.marks,
      subjectOf: async digest => await hosted.subjectOf(digest),
    })
  }

  /** Begins the rounds, once, if anything is hosted. Called at the start and after each reload. */
  start(): void {
    if (this.#isStarted || !this.#parts.isNeeded()) return
    this.#isStarted = true
    this.#running = this.#run()
  }

  /** Applies the retention rules now; a dry run only says what would go. */
  async *retain(options: { readonly isDry: boolean }, signal: AbortSignal): ReturnType<Retention['apply']> {
    yield* this.#now('retention', options, { signal, run: turn => this.#retention.apply(options, turn) })
  }

  /** Collects now; a dry run only says what would go. */
  async *collect(options: { readonly isDry: boolean }, signal: AbortSignal): AsyncGenerator<Verdict> {
    yield* this.#now('collection', options, { signal, run: turn => this.#collection.collect(options, turn) })
  }

  /** Throws UNAVAILABLE if another process does the job. A dry run needs no turn. */
  async *#now<T>(
    job: JobName,
    { isDry }: { readonly isDry: boolean },
    { signal, run }: { readonly signal: AbortSignal; readonly run: (turn: JobTurn) => AsyncGenerator<T> },
  ): AsyncGenerator<T> {
    const either = AbortSignal.any([signal, this.#lifetime.signal])
    if (isDry) {
      yield* run(unlimitedTurn(either))
      return
    }
    await using turn = await this.#parts.turns.begin(job, either)
    if (turn === undefined)
      throw new OciError('UNAVAILABLE', `the ${job} is running already: entrepot status says where`, {
        retryAfterMs: BUSY_RETRY_MS,
      })
    yield* run(turn)
    turn.ended('ended')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifetime.abort(new Error('the daemon is shutting down'))
    await this.#running
  }

  async #run(): Promise<void> {
    const { clock, events, isNeeded } = this.#parts
    const { signal } = this.#lifetime
    let pauseMs = FIRST_AFTER_MS
    while (!signal.aborted) {
      try {
        await clock.delay(pauseMs, signal)
        pauseMs = EVERY_MS
        if (isNeeded()) pauseMs = await this.#round(signal)
      } catch (error) {
        if (!signal.aborted) events.storageFailed('collect', error)
      }
    }
  }

  /** Returns the time until the next round. What goes is reported as an event. */
  async #round(signal: AbortSignal): Promise<number> {
    const { turns, hosted } = this.#parts
    const retain = async (turn: JobTurn): Promise<void> =>
      await drain(this.#retention.apply({ isDry: false }, turn))
    const collect = async (turn: JobTurn): Promise<void> => {
      await drain(this.#collection.collect({ isDry: false }, turn))
      await forgetOldHistories({ ...this.#parts, shelf: hosted.shelf }, turn)
    }
    const retained = await turns.take({ job: 'retention', everyMs: EVERY_MS }, retain, signal)
    const collected = await turns.take({ job: 'collection', everyMs: EVERY_MS }, collect, signal)
    return Math.min(retained.nextMs, collected.nextMs)
  }
}

async function drain(values: AsyncIterable<unknown>): Promise<void> {
  const iterator = values[Symbol.asyncIterator]()
  while ((await iterator.next()).done !== true);
}

export interface OldHistoriesParts {
  readonly shelf: Pick<Shelf, 'repositories' | 'tags'>
  readonly history: Pick<TagHistory, 'forget' | 'restingTags'>
  readonly terms: () => readonly HostedTerms[]
}

/**
 * Removes the histories of tags that were removed long ago. The name of an immutable tag stays taken, so its
 * history stays.
 */
export async function forgetOldHistories(
  { shelf, history, terms }: OldHistoriesParts,
  turn: JobTurn,
): Promise<void> {
  for await (const place of shelf.repositories()) {
    turn.requireHeld()
    const resting = await history.restingTags(place)
    if (resting.length === 0) continue
    const existing = new Set(await Array.fromAsync(shelf.tags(place)))
    for (const tag of resting) {
      turn.requireHeld()
      if (!existing.has(tag) && !isImmutable(terms(), place, tag)) await history.forget(place, tag)
    }
  }
}
