import { createCipheriv, createHash } from 'node:crypto'

export interface RigContext {
  readonly random: Random
  /** Time for the rig, in milliseconds. */
  readonly forMs: number
  /** True for the small form of the rig. */
  readonly isSmoke: boolean
  /** A directory of the rig's own, removed after it. */
  readonly directory: string
  readonly tally: Tally
}

/** One way to mistreat the daemon. */
export interface Rig {
  readonly name: string
  readonly title: string
  /** Share of a run's time, relative to the other rigs; 0 for a rig with a fixed amount of work. */
  readonly weight: number
  /** True if the small form of all rigs leaves it out. */
  readonly isLong?: boolean
  /** Throws a {@link NotRun} if this machine cannot run it. */
  run(context: RigContext): Promise<void>
}

/** This machine cannot run the rig. */
export class NotRun extends Error {}

/** Result of a rig. */
export class Tally {
  cycles = 0
  /** Complete answers, and files in their final place, whose bytes do not match their digest. */
  badBytes = 0
  /** Digests that could not be pulled while the upstream was healthy. */
  wedged = 0
  /** Files left in the scratch space after the sweep. */
  leaked = 0
  readyMaxMs = 0
  /** Violations, in words. */
  readonly violations: string[] = []
  readonly #figures = new Map<string, string | number>()

  figure(name: string, value: string | number): void {
    this.#figures.set(name, value)
  }

  add(name: string, count = 1): void {
    const before = this.#figures.get(name)
    this.#figures.set(name, (typeof before === 'number' ? before : 0) + count)
  }

  get(name: string): string | number | undefined {
    return this.#figures.get(name)
  }

  violate(what: string): void {
    if (this.violations.length < 50) this.violations.push(what)
  }

  bad(what: string): void {
    this.badBytes += 1
    this.violate(`bad bytes: ${what}`)
  }

  wedge(what: string): void {
    this.wedged += 1
    this.violate(`wedged: ${what}`)
  }

  leak(what: string): void {
    this.leaked += 1
    this.violate(`leaked: ${what}`)
  }

  ready(ms: number): void {
    this.readyMaxMs = Math.max(this.readyMaxMs, ms)
  }

  get figures(): string {
    return [...this.#figures].map(([name, value]) => `${name} ${value}`).join(', ')
  }
}

/** Random numbers that follow from a seed. */
export class Random {
  #state: number
  readonly #key: Buffer
  #blobs = 0

  constructor(seed: string) {
    const hash = createHash('sha256').update(seed).digest()
    this.#state = hash.readUInt32LE(0)
    this.#key = hash.subarray(0, 16)
  }

  /** A whole number in `[0, below)`; mulberry32. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let word = this.#state
    word = Math.imul(word ^ (word >>> 15), word | 1)
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61)
    return Math.floor((((word ^ (word >>> 14)) >>> 0) / 2 ** 32) * below)
  }

  between(from: number, to: number): number {
    return from + this.below(to - from + 1)
  }

  pick<T>(choices: readonly T[]): T {
    const choice = choices[this.below(choices.length)]
    if (choice === undefined) throw new RangeError('there is nothing to choose from')
    return choice
  }

  shuffle<T>(items: readonly T[]): T[] {
    const shuffled = [...items]
    for (let last = shuffled.length - 1; last > 0; last -= 1) {
      const other = this.below(last + 1)
      const [one, two] = [shuffled[last], shuffled[other]]
      if (one === undefined || two === undefined) continue
      shuffled[last] = two
      shuffled[other] = one
    }
    return shuffled
  }

  /** New random bytes on each call. */
  bytes(count: number): Buffer {
    const counter = Buffer.alloc(16)
    this.#blobs += 1
    counter.writeUInt32BE(this.#blobs)
    return createCipheriv('aes-128-ctr', this.#key, counter).update(Buffer.alloc(count))
  }
}

/** True if this much time has passed since the start; for loops that end by themselves. */
export function stopwatch(forMs: number): { isOver(): boolean; readonly elapsedMs: number } {
  const startedAtMs = performance.now()
  return {
    isOver: () => performance.now() - startedAtMs >= forMs,
    get elapsedMs() {
      return performance.now() - startedAtMs
    },
  }
}
