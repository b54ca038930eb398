/** Memory of counts, to be handed to another thread. */
export type CountMemory = SharedArrayBuffer

/** Counts that threads share. */
export class SharedCounts {
  readonly memory: CountMemory
  readonly #cells: Int32Array

  /** @param memory that of another thread's counts; new unless given. */
  constructor(length: number, memory?: CountMemory) {
    this.memory = memory ?? new SharedArrayBuffer(length * Int32Array.BYTES_PER_ELEMENT)
    this.#cells = new Int32Array(this.memory)
  }

  get(index: number): number {
    return Atomics.load(this.#cells, index)
  }

  /** Adds to a count, and returns what it was before. */
  add(index: number, difference: number): number {
    return Atomics.add(this.#cells, index, difference)
  }
}

/** One count that threads share. */
export class SharedCount {
  readonly #counts: SharedCounts

  constructor(memory?: CountMemory) {
    this.#counts = new SharedCounts(1, memory)
  }

  get memory(): CountMemory {
    return this.#counts.memory
  }

  get value(): number {
    return this.#counts.get(0)
  }

  add(difference: number): void {
    this.#counts.add(0, difference)
  }
}

/** Memory of moments, to be handed to another thread. */
export type MomentMemory = SharedArrayBuffer

/** Points in time, in microseconds, that threads share and change without a lock. */
export class SharedMoments {
  readonly memory: MomentMemory
  readonly #cells: BigInt64Array

  /** @param memory that of another thread's moments; new unless given. */
  constructor(length: number, memory?: MomentMemory) {
    this.memory = memory ?? new SharedArrayBuffer(length * BigInt64Array.BYTES_PER_ELEMENT)
    this.#cells = new BigInt64Array(this.memory)
  }

  get(index: number): bigint {
    return Atomics.load(this.#cells, index)
  }

  /** Replaces a moment if it is still the one that was read. False if another thread was faster. */
  replace(index: number, before: bigint, after: bigint): boolean {
    return Atomics.compareExchange(this.#cells, index, before, after) === before
  }
}
