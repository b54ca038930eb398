import { ThreadClient } from '../../lib/thread-client.ts'
import type { Notice } from './notice.ts'
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
  confirm(ids: readonly string[]): void
  withdraw(ids: readonly string[]): void
  announced(): readonly Notice[]
  due(endpoint: string, waitingSubjects: readonly string[], limit: number): readonly DueNotice[]
  settle(endpoint: string, attempts: readonly Attempted[]): void
  disable(endpoint: string, nowMs: number): void
  list(before: number, limit: number): readonly ListedNotice[]
  replay(query: ReplayQuery): number
  pending(): Readonly<Record<string, number>>
  close(): void
}

/** The thread that owns the outbox, so that a slow disk blocks no request. Answers calls in order. */
export class OutboxClient implements AsyncDisposable {
  readonly #thread = new ThreadClient<OutboxCalls>('outbox', new URL('./outbox-thread.ts', import.meta.url))

  /** Calls the outbox. Rejects if the call fails; it then had no effect. */
  async call<Name extends keyof OutboxCalls>(
    name: Name,
    ...args: Parameters<OutboxCalls[Name]>
  ): Promise<ReturnType<OutboxCalls[Name]>> {
    return await this.#thread.call(name, ...args)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.call('close').catch(() => undefined)
    await this.#thread[Symbol.asyncDispose]()
  }
}
