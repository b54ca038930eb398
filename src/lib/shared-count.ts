/** A count that threads share. */
export class SharedCount {
  readonly memory: SharedArrayBuffer
  readonly #cells: Int32Array

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)) {
    this.memory = memory
    this.#cells = new Int32Array(memory)
  }

  get value(): number {
    return Atomics.load(this.#cells, 0)
  }

  add(difference: number): void {
    Atomics.add(this.#cells, 0, difference)
  }
}
