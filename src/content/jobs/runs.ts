import type { Clock } from '../../lib/clock.ts'
import type { Events } from '../../observe/events.ts'
import type { RecordName, Store } from '../../storage/store.ts'
import {
  type DueJob,
  JOBS,
  type JobName,
  type JobOutcome,
  type JobTurn,
  type JobTurns,
  type OpenTurn,
} from '../job-turns.ts'
import { DEAD_AFTER_MS, HeldTurn, TurnLostError } from './held-turn.ts'
import { type Run, readRun, writeRun } from './run-record.ts'

/** Records of runs that are kept of each job. */
const KEPT_RUNS = 8
/** A run that failed is repeated after this long, if the job is not due earlier. */
const RETRY_MS = 3_600_000
/** Time between two looks of a process that does no jobs now. */
const LOOK_AGAIN_MS = 10 * 60_000
/** Spreads the looks of several processes. */
const SPREAD_MS = 10_000

export interface RunsParts {
  readonly store: Pick<
    Store,
    | 'createRecord'
    | 'creationScope'
    | 'deleteRecord'
    | 'listRecordsOf'
    | 'readAgedRecord'
    | 'readRecord'
    | 'writeRecord'
  >
  readonly clock: Clock
  readonly events: Pick<Events, 'storageFailed'>
  /** Name of this process. */
  readonly instance: string
  /** True if this process does the jobs where the store cannot choose: the first of the living peers. */
  readonly leads: () => boolean
}

/** The latest run of a job. */
export interface LatestRun extends Run {
  readonly job: JobName
  /** Time since its last sign of life, or its end, by the clock of the store. */
  readonly ageMs: number
}

type NumberedRun = Run & { readonly number: number; readonly ageMs: number }

/**
 * Gives turns by numbered records in the store, `runs/<job>/<n>`. Who creates the record after the last one
 * has the turn, and writes that record again and again while it works. If it falls silent, the next number is
 * free. Records are created and written by one process each, so the store needs no other condition than
 * {@link Store.createRecord}. Ages are those of the store's own clock.
 */
export class Runs implements JobTurns {
  readonly #parts: RunsParts

  constructor(parts: RunsParts) {
    this.#parts = parts
  }

  async take(
    { job, everyMs }: DueJob,
    action: (turn: JobTurn) => Promise<void>,
    signal: AbortSignal,
  ): Promise<JobOutcome> {
    const last = await this.#lastOf(job)
    const waitMs = waitAfter(last, everyMs)
    if (waitMs > 0) return { hasRun: false, nextMs: waitMs + Math.random() * SPREAD_MS }
    if (!(await this.#mayRun())) return { hasRun: false, nextMs: LOOK_AGAIN_MS }
    const number = (last?.number ?? 0) + 1
    const turn = await this.#claim(job, number, signal)
    if (turn === undefined) return { hasRun: false, nextMs: DEAD_AFTER_MS }
    const hasRun = await this.#run(turn, action)
    await this.#tidy(job, number)
    return { hasRun, nextMs: hasRun ? everyMs : DEAD_AFTER_MS }
  }

  async begin(job: JobName, signal: AbortSignal): Promise<OpenTurn | undefined> {
    const last = await this.#lastOf(job)
    if (last?.state === 'running' && last.ageMs < DEAD_AFTER_MS) return undefined
    const number = (last?.number ?? 0) + 1
    const turn = await this.#claim(job, number, signal)
    if (turn !== undefined) await this.#tidy(job, number)
    return turn
  }

  /** The latest run of each job that ever ran. */
  async latest(): Promise<readonly LatestRun[]> {
    const all = await Promise.all(
      JOBS.map(async job => {
        const last = await this.#lastOf(job)
        return last === undefined ? [] : [{ ...last, job }]
      }),
    )
    return all.flat()
  }

  async #mayRun(): Promise<boolean> {
    return (await this.#parts.store.creationScope()).kind === 'store' || this.#parts.leads()
  }

  async #claim(job: JobName, number: number, signal: AbortSignal): Promise<HeldTurn | undefined> {
    const { store, clock, instance } = this.#parts
    const own = runName(job, number)
    const run = { state: 'running', by: instance, startedAtMs: clock.wallMs() } as const
    const createdAtMs = clock.monotonicMs()
    if ((await store.createRecord(own, writeRun(run))).kind !== 'created') return undefined
    // The number may have been used, and its record removed, since this process looked.
    if ((await this.#numbers(job)).some(other => other > number)) {
      await store.deleteRecord(own)
      return undefined
    }
    return new HeldTurn({ store, clock, own, next: runName(job, number + 1), run, createdAtMs }, signal)
  }

  /** False if the turn was lost on the way. */
  async #run(held: HeldTurn, action: (turn: JobTurn) => Promise<void>): Promise<boolean> {
    await using turn = held
    try {
      await action(turn)
      turn.requireHeld()
      turn.ended('ended')
      return true
    } catch (error) {
      if (turn.isLost || error instanceof TurnLostError) return false
      if (!turn.signal.aborted) turn.ended('failed')
      throw error
    }
  }

  async #lastOf(job: JobName): Promise<NumberedRun | undefined> {
    const number = Math.max(0, ...(await this.#numbers(job)))
    const found = number === 0 ? undefined : await this.#parts.store.readAgedRecord(runName(job, number))
    // One that was removed since then is as good as one that has just been written.
    if (found === undefined) return number === 0 ? undefined : { ...readRun(NOTHING), number, ageMs: 0 }
    return { ...readRun(found.bytes), number, ageMs: found.ageMs }
  }

  async #numbers(job: JobName): Promise<readonly number[]> {
    const numbers: number[] = []
    for await (const name of this.#parts.store.listRecordsOf({ kind: 'run', job }))
      if (name.kind === 'run') numbers.push(name.number)
    return numbers
  }

  async #tidy(job: JobName, number: number): Promise<void> {
    try {
      for (const other of await this.#numbers(job))
        if (other <= number - KEPT_RUNS) await this.#parts.store.deleteRecord(runName(job, other))
    } catch (error) {
      // The next run does it.
      this.#parts.events.storageFailed('tidy-runs', error)
    }
  }
}

const NOTHING = new Uint8Array(0)

function runName(job: JobName, number: number): RecordName {
  return { kind: 'run', job, number }
}

/** Time until the job may be done again, in milliseconds. */
function waitAfter(last: NumberedRun | undefined, everyMs: number): number {
  if (last === undefined) return 0
  switch (last.state) {
    case 'stopped':
      return 0
    case 'running':
      return Math.max(0, DEAD_AFTER_MS - last.ageMs)
    case 'failed':
      return Math.max(0, Math.min(everyMs, RETRY_MS) - last.ageMs)
    case 'ended':
      return Math.max(0, everyMs - last.ageMs)
    default:
      return last.state satisfies never
  }
}
