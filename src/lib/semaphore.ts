/** A fair counting semaphore. */
export class Semaphore {
  #free: number
  readonly #waiting = new Set<() => void>()

  constructor(places: number) {
    this.#free = places
  }

  /** Number of callers waiting for a place. */
  get waiting(): number {
    return this.#waiting.size
  }

  /**
   * Waits for a place and resolves to a function that gives it back; calling it twice is harmless. Rejects
   * with the signal's reason.
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    const leave = this.tryEnter()
    if (leave !== undefined) return leave
    await this.#wait(signal)
    return this.#once()
  }

  /** Takes a place if one is free, and returns the function that gives it back. */
  tryEnter(): (() => void) | undefined {
    if (this.#free === 0) return undefined
    this.#free -= 1
    return this.#once()
  }

  #once(): () => void {
    let isInside = true
    return () => {
      if (!isInside) return
      isInside = false
      this.#leave()
    }
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const admit = (): void => resolve()
    const onAbort = (): void => {
      // If the place was given at the same moment, the caller has it and gives it back.
      if (this.#waiting.delete(admit)) reject(signal.reason as Error)
    }
    this.#waiting.add(admit)
    signal.addEventListener('abort', onAbort, { once: true })
    await promise.finally(() => signal.removeEventListener('abort', onAbort))
  }

  /** Gives the place directly to the first in line, so that no later caller can take it. */
  #leave(): void {
    const [first] = this.#waiting
    if (first === undefined) this.#free += 1
    else {
      this.#waiting.delete(first)
      first()
    }
  }
}

/**
 * Runs an action for each item, a limited number at a time. Begins no further one after the first failure,
 * and throws that.
 */
export async function atOnce<T>(
  items: readonly T[],
  countMax: number,
  action: (item: T) => Promise<void>,
): Promise<void> {
  // A loop that is left by a failure ends the generator, and with it the loops of the others.
  const rest = (function* () {
    yield* items
  })()
  const work = async (): Promise<void> => {
    for (const item of rest) await action(item)
  }
  await Promise.all(Array.from({ length: Math.min(countMax, items.length) }, work))
}
