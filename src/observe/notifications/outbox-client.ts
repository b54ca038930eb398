import { Worker } from 'node:worker_threads'
import type { Addressed, Attempted, DueNotice, ListedNotice, OutboxBounds, ReplayQuery } from './outbox.ts'

/** Calls to the thread that owns the outbox. */
export interface OutboxCalls {
  /**
   * Opens the first outbox of the directory that no other process uses. True if it was damaged: then it was
   * put aside and a new one begun.
   */
  open(directory: string, bounds: OutboxBounds): boolean
  configure(endpoints: readonly string[]): readonly string[]
  add(addressed: readonly Addressed[], nowMs: number): number
  due(endpoint: string, waitingSubjects: readonly string[], limit: number): readonly DueNotice[]
  settle(endpoint: string, attempts: readonly Attempted[]): void
  disable(endpoint: string, nowMs: number): void
  list(before: number, limit: number): readonly ListedNotice[]
  replay(query: ReplayQuery): number
  pending(): Readonly<Record<string, number>>
  close(): void
}

export interface OutboxQuestion {
  readonly id: number
  readonly name: keyof OutboxCalls
  readonly args: readonly unknown[]
}

export interface OutboxAnswer {
  readonly id: number
  readonly value: unknown
  /** Set if the call failed. */
  readonly error: string | undefined
}

/** The thread that owns the outbox, so that a slow disk blocks no request. Answers calls in order. */
export class OutboxClient implements AsyncDisposable {
  readonly #worker: Worker
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  #lastId = 0
  #end: Error | undefined

  constructor() {
    this.#worker = new Worker(threadFile(), { execArgv: ['--disable-warning=ExperimentalWarning'] })
    this.#worker.on('message', (answer: OutboxAnswer) => this.#settle(answer))
    this.#worker.on('error', error => this.#fail(String(error)))
    this.#worker.on('exit', () => this.#fail('the outbox thread has ended'))
    // Only calls that wait keep the process alive.
    this.#worker.unref()
  }

  /** Calls the outbox. Rejects if the call fails; it then had no effect. */
  async call<Name extends keyof OutboxCalls>(
    name: Name,
    ...args: Parameters<OutboxCalls[Name]>
  ): Promise<ReturnType<OutboxCalls[Name]>> {
    if (this.#end !== undefined) throw this.#end
    this.#lastId += 1
    const waiting = Promise.withResolvers<unknown>()
    this.#waiting.set(this.#lastId, waiting)
    this.#worker.ref()
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is not a window
    this.#worker.postMessage({ id: this.#lastId, name, args } satisfies OutboxQuestion)
    return (await waiting.promise) as ReturnType<OutboxCalls[Name]>
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.call('close').catch(() => undefined)
    await this.#worker.terminate()
  }

  #settle({ id, value, error }: OutboxAnswer): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (this.#waiting.size === 0) this.#worker.unref()
    if (error === undefined) waiting?.resolve(value)
    else waiting?.reject(new Error(error))
  }

  #fail(message: string): void {
    this.#end ??= new Error(message)
    for (const waiting of this.#waiting.values()) waiting.reject(this.#end)
    this.#waiting.clear()
  }
}

/** The thread's file, which the build compiles along with this one. */
function threadFile(): URL {
  const source = new URL('./outbox-thread.ts', import.meta.url)
  return new URL(source.href.replace(/ts$/, import.meta.url.slice(-2)))
}
