import type { Clock } from '../../lib/clock.ts'
import type { Events } from '../events.ts'
import type { Notice } from './notice.ts'
import type { OutboxClient } from './outbox-client.ts'

const FIRST_PAUSE_MS = 1000
const PAUSE_MS_MAX = 5 * 60_000

/** Tells whether what an announced notice reports has happened. Throws if that cannot be read now. */
export type Happened = (notice: Notice) => Promise<boolean>

export interface AnnouncementsParts {
  readonly outbox: Pick<OutboxClient, 'call'>
  readonly clock: Pick<Clock, 'delay'>
  readonly events: Pick<Events, 'storageFailed'>
  readonly happened: Happened
  /** Called when notices may have become due. */
  readonly wake: () => void
}

/**
 * Decides about announced notices. Of most the reporter says that they have happened; of those that a crash
 * or a failure has left, the state that they were to change tells.
 */
export class Announcements implements AsyncDisposable {
  readonly #parts: AnnouncementsParts
  readonly #lifetime = new AbortController()
  readonly #running = new Set<Promise<void>>()
  #confirmed: Notice[] = []
  #isConfirming = false

  constructor(parts: AnnouncementsParts) {
    this.#parts = parts
  }

  /** Decides about what an earlier process has left. */
  begin(): void {
    this.#run(async () => await this.#decide(await this.#parts.outbox.call('announced')))
  }

  /** What the notice reports has happened. */
  confirm(notice: Notice): void {
    this.#confirmed.push(notice)
    if (!this.#isConfirming) this.#run(async () => await this.#confirmAll())
  }

  /** What the notice reports may have happened. */
  ask(notice: Notice): void {
    this.#run(async () => await this.#decide([notice]))
  }

  /** What is still undecided is left to the next process. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifetime.abort(new Error('the daemon is shutting down'))
    await Promise.all(this.#running)
  }

  #run(action: () => Promise<void>): void {
    const { events } = this.#parts
    const running = action().catch((error: unknown) => {
      if (!this.#lifetime.signal.aborted) events.storageFailed('outbox', error)
    })
    this.#running.add(running)
    void running.finally(() => this.#running.delete(running))
  }

  /** Confirms what has gathered at once, until there is no more. */
  async #confirmAll(): Promise<void> {
    const { outbox, wake, events } = this.#parts
    this.#isConfirming = true
    while (this.#confirmed.length > 0) {
      const notices = this.#confirmed
      this.#confirmed = []
      try {
        await outbox.call(
          'confirm',
          notices.map(({ id }) => id),
        )
        wake()
      } catch (error) {
        events.storageFailed('outbox', error)
        this.#run(async () => await this.#decide(notices))
      }
    }
    this.#isConfirming = false
  }

  async #decide(notices: readonly Notice[]): Promise<void> {
    const { clock } = this.#parts
    const { signal } = this.#lifetime
    let left = notices
    for (let pauseMs = FIRST_PAUSE_MS; left.length > 0; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
      const undecided: Notice[] = []
      for (const notice of left) {
        signal.throwIfAborted()
        if (!(await this.#decideOne(notice))) undecided.push(notice)
      }
      left = undecided
      if (left.length > 0) await clock.delay(pauseMs, signal)
    }
  }

  /** Returns `false` if that cannot be told now. */
  async #decideOne(notice: Notice): Promise<boolean> {
    const { outbox, happened, wake, events } = this.#parts
    try {
      await outbox.call((await happened(notice)) ? 'confirm' : 'withdraw', [notice.id])
      wake()
      return true
    } catch (error) {
      events.storageFailed('outbox', error)
      return false
    }
  }
}
