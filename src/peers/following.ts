/**
 * Content that this process gets from another replica now. It refuses to pass it on: two replicas with
 * different views of who owns it would otherwise wait for each other. The mark is set before the other
 * replica is asked, so that of several replicas in a circle one always finds the next one marked.
 */
export class Following {
  readonly #counts = new Map<string, number>()

  /** Marks a key until the mark is disposed of. */
  begin(key: string): Disposable {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
    let isOver = false
    return {
      [Symbol.dispose]: () => {
        if (isOver) return
        isOver = true
        const left = (this.#counts.get(key) ?? 1) - 1
        if (left === 0) this.#counts.delete(key)
        else this.#counts.set(key, left)
      },
    }
  }

  has(key: string): boolean {
    return this.#counts.has(key)
  }

  /** Number of keys that are marked. */
  get count(): number {
    return this.#counts.size
  }
}
