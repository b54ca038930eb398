import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../src/lib/clock.ts'

/** Random numbers that repeat for the same seed. */
export class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = (seed * 0x9e3779b1) >>> 0
  }

  /** A whole number in `[0, below)`; mulberry32. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let word = this.#state
    word = Math.imul(word ^ (word >>> 15), word | 1)
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61)
    return Math.floor((((word ^ (word >>> 14)) >>> 0) / 2 ** 32) * below)
  }

  /** `true` once in this many times on average; never for 0. */
  onceIn(times: number): boolean {
    return times > 0 && this.below(times) === 0
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T
  }
}

interface Step {
  readonly process: number
  readonly dueMs: number
  readonly go: () => void
}

/**
 * Decides what happens next. Everything that takes time in the simulated world (the disk, the upstream, a
 * client's next read, a delay) waits here as a step. When nothing else can run, one of the steps is chosen at
 * random and continues.
 */
export class Scheduler {
  readonly dice: Dice
  /** Number of decisions made. */
  decisions = 0
  #nowMs = 1000
  #steps: Step[] = []
  readonly #isPunctual: boolean

  /** @param options `isPunctual`: time passes only when nothing else can happen. */
  constructor(seed: number, { isPunctual = false }: { readonly isPunctual?: boolean } = {}) {
    this.dice = new Dice(seed)
    this.#isPunctual = isPunctual
  }

  /** Waits to be chosen; rejects with the signal's reason if that aborts first. */
  async step(process: number, signal?: AbortSignal): Promise<void> {
    await this.#wait(process, this.#nowMs, signal)
  }

  /** The clock of a process. */
  clockOf(process: number): Clock {
    return {
      wallMs: () => Date.UTC(2026, 0, 1) + this.#nowMs,
      monotonicMs: () => this.#nowMs,
      delay: async (ms, signal) => await this.#wait(process, this.#nowMs + ms, signal),
    }
  }

  /** Drops all steps of a process: they never continue. */
  kill(process: number): void {
    this.#steps = this.#steps.filter(step => step.process !== process)
  }

  /** Runs until no step is waiting. Returns `false` if that takes more than `decisionsMax` decisions. */
  async run(decisionsMax: number): Promise<boolean> {
    for (let count = 0; count < decisionsMax; count += 1) {
      // Everything that can run does so before the next macrotask.
      await setImmediate()
      const chosen = this.#choose()
      if (chosen === undefined) return true
      this.decisions += 1
      this.#nowMs = Math.max(this.#nowMs, chosen.dueMs)
      chosen.go()
    }
    return false
  }

  #choose(): Step | undefined {
    if (this.#steps.length === 0) return undefined
    // One of the steps that are due is chosen at random. Of the delays, only the shortest can be chosen.
    const due = this.#steps.filter(({ dueMs }) => dueMs <= this.#nowMs)
    const waiting = this.#steps.filter(({ dueMs }) => dueMs > this.#nowMs)
    const first = waiting.toSorted((one, other) => one.dueMs - other.dueMs)[0]
    const isTimeStill = this.#isPunctual && due.length > 0
    const candidates = first === undefined || isTimeStill ? due : [...due, first]
    const chosen = this.dice.pick(candidates)
    this.#steps = this.#steps.filter(step => step !== chosen)
    return chosen
  }

  async #wait(process: number, dueMs: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const step = { process, dueMs, go: resolve }
    const onAbort = (): void => {
      this.#steps = this.#steps.filter(other => other !== step)
      reject(signal?.reason as Error)
    }
    this.#steps.push(step)
    signal?.addEventListener('abort', onAbort, { once: true })
    await promise.finally(() => signal?.removeEventListener('abort', onAbort))
  }
}
