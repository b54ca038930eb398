import { setTimeout as sleep } from 'node:timers/promises'

/** Time, passed in wherever it is needed so that tests can hold it. */
export interface Clock {
  /** Milliseconds since 1970, as the machine believes; it may jump. For what outlives the process. */
  wallMs(): number
  /** Milliseconds that only ever grow, at an even pace. For every duration. */
  monotonicMs(): number
  /** Resolves after so many milliseconds; rejects with the signal's reason if that comes first. */
  delay(ms: number, signal?: AbortSignal): Promise<void>
}

/** The machine's clocks. */
export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  delay: async (ms, signal) => {
    try {
      await sleep(ms, undefined, signal === undefined ? {} : { signal })
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    }
  },
}
