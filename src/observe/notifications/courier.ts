import type { Clock } from '../../lib/clock.ts'
import type { NoticeType } from '../../oci/notice-type.ts'
import type { Place } from '../../oci/place.ts'
import type { Events } from '../events.ts'
import { cloudEvent, distributionEvents, type Envelope, type Sender } from './envelope.ts'
import type { Notice } from './notice.ts'
import type { Attempted, DueNotice } from './outbox.ts'
import type { OutboxClient } from './outbox-client.ts'
import { signatureFields } from './signature.ts'

/** Requests of one endpoint that may run at once, each about another repository. */
const PARALLEL_MAX = 4
const BACKOFF_MS_MIN = 1000
const BACKOFF_MS_MAX = 5 * 60_000
const RETRY_AFTER_MS_MAX = 3_600_000
/** Longest pause without a look into the outbox. */
const IDLE_MS = 3_600_000
/** Attempts after which a notice is dropped that its endpoint cannot read. */
const UNREADABLE_MAX = 10
/** Statuses that say that this notice, and not the endpoint, is the trouble. */
const UNREADABLE: ReadonlySet<number> = new Set([400, 413, 415, 422])
const GONE = 410

/** Answer of an endpoint. */
export interface PostAnswer {
  readonly status: number
  /** Pause that the endpoint asked for. */
  readonly retryAfterMs: number | undefined
}

/** Sends one request; rejects if there was no answer. Follows no redirect. */
export type Post = (
  headers: Readonly<Record<string, string>>,
  body: string,
  signal: AbortSignal,
) => Promise<PostAnswer>

/** A receiver of notices. */
export interface Endpoint {
  /** Unique. It is shown and kept, unlike the address, which may hold a secret. */
  readonly name: string
  readonly format: 'cloudevents' | 'distribution'
  /** Without a key, requests are not signed. */
  readonly key: Uint8Array | undefined
  readonly types: ReadonlySet<NoticeType>
  /** True if the endpoint wants to know of this repository, or of what concerns none. */
  readonly wants: (place: Place | undefined) => boolean
  readonly post: Post
  /** Called once the endpoint gets nothing more. */
  readonly close?: () => Promise<void>
}

export interface CourierParts {
  readonly endpoint: Endpoint
  readonly outbox: Pick<OutboxClient, 'call'>
  readonly clock: Clock
  readonly events: Pick<
    Events,
    'notificationSent' | 'endpointDisabled' | 'notificationsDropped' | 'storageFailed'
  >
  readonly sender: Sender
  readonly isDisabled: boolean
  readonly random?: () => number
}

/** Makes the envelope of a notice; `undefined` if the format of the endpoint cannot say it. */
export function envelopeFor(endpoint: Endpoint, notice: Notice, sender: Sender): Envelope | undefined {
  return endpoint.format === 'distribution' ? distributionEvents(notice, sender) : cloudEvent(notice, sender)
}

/**
 * Brings the notices of one endpoint to it: at least once, and those about one repository in their order. A
 * notice that fails holds up only its repository, an endpoint that fails everything; both are tried again
 * after pauses that grow from a second to five minutes.
 */
export class Courier implements AsyncDisposable {
  readonly #parts: CourierParts
  readonly #lifetime = new AbortController()
  readonly #waiting = new Map<string, { readonly untilMs: number; readonly failures: number }>()
  #endpointUntilMs = -Infinity
  #endpointFailures = 0
  #isDisabled: boolean
  #wake = Promise.withResolvers<void>()
  readonly #running: Promise<void>

  constructor(parts: CourierParts) {
    this.#parts = parts
    this.#isDisabled = parts.isDisabled
    this.#running = this.#run()
  }

  get name(): string {
    return this.#parts.endpoint.name
  }

  get isDisabled(): boolean {
    return this.#isDisabled
  }

  /** Says that there may be something to bring. It does not cut the pause of an endpoint that has failed. */
  wake(): void {
    if (!this.#isHeld) this.#wake.resolve()
  }

  /** Tries everything again now, a disabled endpoint too. */
  restart(): void {
    this.#isDisabled = false
    this.#endpointUntilMs = -Infinity
    this.#endpointFailures = 0
    this.#waiting.clear()
    this.#wake.resolve()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifetime.abort(new Error('the daemon is shutting down'))
    await this.#running
    await this.#parts.endpoint.close?.()
  }

  async #run(): Promise<void> {
    const { signal } = this.#lifetime
    while (!signal.aborted) {
      this.#wake = Promise.withResolvers()
      const didWork = await this.#round()
      if (!didWork) await this.#pause()
    }
  }

  /** Waits until a notice is added, or until the pause of a repository or of the endpoint ends. */
  async #pause(): Promise<void> {
    const { clock } = this.#parts
    const over = new AbortController()
    const signal = AbortSignal.any([over.signal, this.#lifetime.signal])
    const leftMs = this.#nextMs() - clock.monotonicMs()
    // An abort of the lifetime ends the delay, also the longest one.
    const delay = clock.delay(Math.min(Math.max(0, leftMs), IDLE_MS), signal).catch(() => undefined)
    await Promise.race([delay, this.#wake.promise])
    over.abort()
  }

  /** Time of the next attempt that is due by itself. */
  #nextMs(): number {
    if (this.#isDisabled) return Infinity
    if (this.#isHeld) return this.#endpointUntilMs
    return Math.min(...[...this.#waiting.values()].map(({ untilMs }) => untilMs), Infinity)
  }

  get #isHeld(): boolean {
    return this.#parts.clock.monotonicMs() < this.#endpointUntilMs
  }

  /** One attempt for each repository that has something due. Returns `false` if there was nothing to do. */
  async #round(): Promise<boolean> {
    const { outbox, endpoint, clock, events } = this.#parts
    const nowMs = clock.monotonicMs()
    if (this.#isDisabled || this.#isHeld) return false
    const waiting = [...this.#waiting].filter(([, { untilMs }]) => untilMs > nowMs).map(([key]) => key)
    try {
      const due = await outbox.call('due', endpoint.name, waiting, PARALLEL_MAX)
      if (due.length === 0) return false
      const attempts = await Promise.all(due.map(async notice => await this.#attempt(notice)))
      const ended = attempts.filter(attempt => attempt !== undefined)
      await outbox.call('settle', endpoint.name, ended)
      return true
    } catch (error) {
      if (!this.#lifetime.signal.aborted) events.storageFailed('outbox', error)
      this.#holdEndpoint(undefined)
      return false
    }
  }

  /** Sends one notice; `undefined` if the daemon ends meanwhile. */
  async #attempt(due: DueNotice): Promise<Attempted | undefined> {
    const { endpoint, clock, sender, events } = this.#parts
    const { notice, seq } = due
    const envelope = envelopeFor(endpoint, notice, sender)
    if (envelope === undefined) return { seq, state: 'delivered', error: undefined }
    const { contentType, body } = envelope
    const signed = signatureFields(endpoint.key, { id: notice.id, atMs: clock.wallMs(), body })
    try {
      const answer = await endpoint.post(
        { 'content-type': contentType, ...signed },
        body,
        this.#lifetime.signal,
      )
      return this.#judge(due, answer)
    } catch (error) {
      if (this.#lifetime.signal.aborted) return undefined
      this.#holdEndpoint(undefined)
      events.notificationSent({ endpoint: endpoint.name, result: 'failed', error })
      return { seq, state: 'pending', error: error instanceof Error ? error.message : String(error) }
    }
  }

  #judge({ seq, notice, attempts }: DueNotice, { status, retryAfterMs }: PostAnswer): Attempted {
    const { endpoint, events } = this.#parts
    const subject = notice.subject ?? ''
    if (status >= 200 && status < 300) {
      this.#endpointFailures = 0
      this.#waiting.delete(subject)
      events.notificationSent({ endpoint: endpoint.name, result: 'delivered', error: undefined })
      return { seq, state: 'delivered', error: undefined }
    }
    const error = `${endpoint.name} answered ${status}`
    const result = UNREADABLE.has(status) ? 'refused' : 'failed'
    events.notificationSent({ endpoint: endpoint.name, result, error: new Error(error) })
    if (status === GONE) this.#disable()
    else if (result === 'refused') return this.#refused(seq, { subject, attempts, error })
    else this.#holdEndpoint(retryAfterMs)
    return { seq, state: 'pending', error }
  }

  /** An endpoint that cannot read one notice may be able to read others. */
  #refused(
    seq: number,
    {
      subject,
      attempts,
      error,
    }: { readonly subject: string; readonly attempts: number; readonly error: string },
  ): Attempted {
    if (attempts + 1 >= UNREADABLE_MAX) {
      this.#waiting.delete(subject)
      this.#parts.events.notificationsDropped({ count: 1, why: error })
      return { seq, state: 'dropped', error }
    }
    const failures = (this.#waiting.get(subject)?.failures ?? 0) + 1
    this.#waiting.set(subject, {
      untilMs: this.#parts.clock.monotonicMs() + this.#backoffMs(failures),
      failures,
    })
    return { seq, state: 'pending', error }
  }

  #disable(): void {
    if (this.#isDisabled) return
    const { outbox, endpoint, clock, events } = this.#parts
    this.#isDisabled = true
    events.endpointDisabled(endpoint.name)
    outbox.call('disable', endpoint.name, clock.wallMs()).catch((error: unknown) => {
      events.storageFailed('outbox', error)
    })
  }

  /** Parallel attempts that fail together count once. */
  #holdEndpoint(retryAfterMs: number | undefined): void {
    if (this.#isHeld) return
    const nowMs = this.#parts.clock.monotonicMs()
    this.#endpointFailures += 1
    const asked = Math.min(retryAfterMs ?? 0, RETRY_AFTER_MS_MAX)
    this.#endpointUntilMs = nowMs + Math.max(asked, this.#backoffMs(this.#endpointFailures))
  }

  /** Between half of the pause and all of it, so that several mirrors do not come back at once. */
  #backoffMs(failures: number): number {
    const { random = Math.random } = this.#parts
    const longest = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** (failures - 1))
    return longest * (0.5 + random() / 2)
  }
}
