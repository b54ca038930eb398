/** Work that is done once for all processes on a store, however many they are. */
export type JobName = 'retention' | 'collection' | 'scrub'

/** All of them, in the order in which people read them. */
export const JOBS = ['retention', 'collection', 'scrub'] as const satisfies readonly JobName[]

/** The right to do a job, for as long as it lasts. */
export interface JobTurn {
  /** Aborts when the turn is lost, or the caller's signal aborts. */
  readonly signal: AbortSignal
  /** Throws if the turn is lost. To be called before each step that changes anything. */
  requireHeld(): void
}

/** A turn that its holder ends by itself. */
export interface OpenTurn extends JobTurn, AsyncDisposable {
  /** Notes that the run came to its end. Without it, the run counts as stopped. */
  ended(state: 'ended'): void
}

/** A job, and the time from the end of one run to the start of the next, in milliseconds. */
export interface DueJob {
  readonly job: JobName
  readonly everyMs: number
}

/** Result of an attempt to do a job. */
export interface JobOutcome {
  readonly hasRun: boolean
  /** Time after which another attempt makes sense, in milliseconds. */
  readonly nextMs: number
}

/** Gives turns to do jobs. */
export interface JobTurns {
  /**
   * Runs the action if the job is due and no other process does it now. Rejects if the action does, or if the
   * store does not answer.
   */
  take(due: DueJob, action: (turn: JobTurn) => Promise<void>, signal: AbortSignal): Promise<JobOutcome>

  /** A turn now, due or not, for an operator who asks; `undefined` if another process does the job now. */
  begin(job: JobName, signal: AbortSignal): Promise<OpenTurn | undefined>
}

/** The turns of a process that is alone with its store: it does every job at once. */
export const ALONE: JobTurns = {
  take: async ({ everyMs }, action, signal) => {
    await action(unlimitedTurn(signal))
    return { hasRun: true, nextMs: everyMs }
  },
  begin: async (_, signal) =>
    await Promise.resolve({
      ...unlimitedTurn(signal),
      ended: () => undefined,
      [Symbol.asyncDispose]: async () => await Promise.resolve(),
    }),
}

/** A turn that is never lost. */
export function unlimitedTurn(signal: AbortSignal): JobTurn {
  return { signal, requireHeld: () => signal.throwIfAborted() }
}
