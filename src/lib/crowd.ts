const STEPS = [
  { readersMax: 32, pieceBytes: 256 * 1024 },
  { readersMax: 128, pieceBytes: 64 * 1024 },
  { readersMax: Infinity, pieceBytes: 32 * 1024 },
] as const

/**
 * How much each of many readers holds in memory at once: large pieces cost fewer calls, and while there are few readers nothing speaks
 * against them. A reader keeps what it had when it came.
 */
class Crowd {
  #readers = 0

  /** How large the pieces of one more reader are to be, in bytes; whoever calls this calls {@link leave} in the end. */
  enter(): number {
    this.#readers += 1
    const step = STEPS.find(({ readersMax }) => this.#readers <= readersMax)
    return (step ?? STEPS[0]).pieceBytes
  }

  leave(): void {
    this.#readers -= 1
  }
}

/** All readers of this thread. */
export const READERS = new Crowd()
