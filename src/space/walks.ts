import { type WalkParts, walkStore } from '../content/index/walk.ts'

export interface WalksParts extends WalkParts {
  /** Called once the index is complete. */
  readonly onComplete: () => void
}

/** Walks of the store in the background, one at a time, that bring the index up to date. */
export class Walks {
  readonly #parts: WalksParts
  readonly #signal: AbortSignal
  #running: Promise<void> | undefined
  #isWanted = false

  constructor(parts: WalksParts, signal: AbortSignal) {
    this.#parts = parts
    this.#signal = signal
  }

  /** True if the index needs a walk that has not begun, or that failed. */
  get isWanted(): boolean {
    return this.#isWanted
  }

  /** Says that what the index has is not all: a walk that runs now does not count. */
  want(): void {
    this.#isWanted = true
    this.start()
  }

  /** Starts a walk, unless one is running. */
  start(): void {
    if (this.#running !== undefined || this.#signal.aborted) return
    this.#isWanted = false
    this.#running = this.#walk().finally(() => {
      this.#running = undefined
    })
  }

  /** Resolves once the walk that runs now has ended. */
  async ended(): Promise<void> {
    await this.#running
  }

  async #walk(): Promise<void> {
    const { index, clock, events, onComplete } = this.#parts
    const startedAtMs = clock.monotonicMs()
    try {
      const walked = await walkStore(this.#parts, this.#signal)
      if (this.#isWanted) return
      index.complete()
      events.indexWalked({ ...walked, durationMs: Math.round(clock.monotonicMs() - startedAtMs) })
      onComplete()
    } catch (error) {
      this.#isWanted = true
      if (!this.#signal.aborted) events.storageFailed('index', error)
    }
  }
}
