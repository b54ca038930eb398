/** Runs the actions of one key one after another. A failed action does not stop the next. */
export class Turns<Key> {
  readonly #last = new Map<Key, Promise<void>>()

  /** Runs the action after all earlier ones of the key, at once if there are none. */
  async take<T>(key: Key, action: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key)
    const result = before === undefined ? action() : before.then(action)
    const over = result.then(
      () => undefined,
      () => undefined,
    )
    this.#last.set(key, over)
    try {
      return await result
    } finally {
      if (this.#last.get(key) === over) this.#last.delete(key)
    }
  }

  /** Resolves when all actions begun under the key have ended; without a key, all actions of all keys. */
  async settled(key?: Key): Promise<void> {
    await (key === undefined ? Promise.all(this.#last.values()) : this.#last.get(key))
  }
}

/** Keys that an action needs: those it may share with other actions, and those it needs alone. */
export interface NeededKeys<Key> {
  readonly shared?: Iterable<Key>
  readonly alone?: Iterable<Key>
}

interface Queue {
  /** Ends when every action before and including the last one that was alone has ended. */
  alone: Promise<void> | undefined
  /** Actions since then that share the key. */
  readonly sharing: Set<Promise<void>>
}

/**
 * Runs actions in an order for each key: actions that share a key overlap, and an action that needs it alone
 * waits for all earlier ones and holds up all later ones. An action takes its places for all keys at once, so
 * that no two actions can wait for each other.
 */
export class SharedTurns<Key> {
  readonly #queues = new Map<Key, Queue>()

  /** Runs the action when its turn has come for all of its keys. A failed action does not stop the next. */
  async take<T>({ shared = [], alone = [] }: NeededKeys<Key>, action: () => Promise<T>): Promise<T> {
    const { promise: over, resolve } = Promise.withResolvers<void>()
    const exclusive = new Set(alone)
    const common = new Set(shared).difference(exclusive)
    const before: Promise<void>[] = []
    for (const key of exclusive) before.push(...this.#enterAlone(key, over))
    for (const key of common) before.push(...this.#enterShared(key, over))
    try {
      if (before.length > 0) await Promise.all(before)
      return await action()
    } finally {
      resolve()
      for (const key of exclusive) this.#leave(key, over)
      for (const key of common) this.#leave(key, over)
    }
  }

  /** Resolves when all actions that have begun have ended. */
  async settled(): Promise<void> {
    const running = [...this.#queues.values()].flatMap(({ alone, sharing }) =>
      alone === undefined ? [...sharing] : [alone, ...sharing],
    )
    await Promise.all(running)
  }

  #enterAlone(key: Key, over: Promise<void>): readonly Promise<void>[] {
    const queue = this.#queueOf(key)
    const before = [...queue.sharing, ...(queue.alone === undefined ? [] : [queue.alone])]
    queue.alone = over
    queue.sharing.clear()
    return before
  }

  #enterShared(key: Key, over: Promise<void>): readonly Promise<void>[] {
    const queue = this.#queueOf(key)
    queue.sharing.add(over)
    return queue.alone === undefined ? [] : [queue.alone]
  }

  #queueOf(key: Key): Queue {
    const known = this.#queues.get(key)
    if (known !== undefined) return known
    const queue: Queue = { alone: undefined, sharing: new Set() }
    this.#queues.set(key, queue)
    return queue
  }

  #leave(key: Key, over: Promise<void>): void {
    const queue = this.#queues.get(key)
    if (queue === undefined) return
    queue.sharing.delete(over)
    if (queue.alone === over) queue.alone = undefined
    if (queue.alone === undefined && queue.sharing.size === 0) this.#queues.delete(key)
  }
}
