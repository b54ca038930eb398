import { randomUUID } from 'node:crypto'
import type { Clock } from '../../lib/clock.ts'
import type { Event, EventSink } from '../event.ts'
import type { Events } from '../events.ts'
import { Announcements, type Happened } from './announcements.ts'
import { Courier, type Endpoint, envelopeFor } from './courier.ts'
import type { Sender } from './envelope.ts'
import { draftNotice, type Notice } from './notice.ts'
import type { Addressed, ListedNotice, OutboxBounds, ReplayQuery } from './outbox.ts'
import { OutboxClient } from './outbox-client.ts'

/** Bounds of the outbox: what is older or exceeds the number is dropped. */
const OUTBOX_BOUNDS: OutboxBounds = { noticesMax: 10_000, ageMsMax: 7 * 24 * 3_600_000 }
/** Most notices that may wait for the disk. */
const UNWRITTEN_MAX = 2000

export interface NotificationsParts {
  /** Directory of the outbox. */
  readonly directory: string
  readonly sender: Sender
  readonly clock: Clock
  readonly events: Events
  readonly bounds?: OutboxBounds
}

/** State of one endpoint. */
export interface EndpointStatus {
  readonly endpoint: string
  readonly pending: number
  readonly isDisabled: boolean
}

/**
 * Tells endpoints what happens, from an outbox on disk. It takes events like any other sink, and never delays
 * or fails what they report.
 */
export class Notifications implements EventSink, AsyncDisposable {
  #parts: NotificationsParts | undefined
  #outbox: OutboxClient | undefined
  #endpoints: readonly Endpoint[] = []
  #couriers: readonly Courier[] = []
  #happened: Happened | undefined
  #announcements: Announcements | undefined
  /** Notices of changes that are under way, by the details of their events. */
  readonly #announced = new Map<unknown, Notice>()
  readonly #unwritten = new Set<Promise<void>>()
  #gathered: Addressed[] = []

  /**
   * Opens the outbox if there are endpoints, and begins to bring them what waits in it. Replaces the
   * endpoints of an earlier call.
   */
  async start(parts: NotificationsParts, endpoints: readonly Endpoint[]): Promise<void> {
    this.#parts = parts
    await this.#stopCouriers()
    this.#endpoints = endpoints
    if (endpoints.length === 0 && this.#outbox === undefined) return
    try {
      this.#outbox ??= await openOutbox(parts)
      this.#beginAnnouncements()
      await this.#startCouriers(parts, this.#outbox)
    } catch (error) {
      parts.events.storageFailed('outbox', error)
    }
  }

  /**
   * From now on events may be announced before they happen. `happened` decides about those that neither were
   * taken nor have failed, also about those of an earlier process. Ends with the returned stack.
   */
  judgeBy(happened: Happened): AsyncDisposable {
    this.#happened = happened
    this.#beginAnnouncements()
    return {
      [Symbol.asyncDispose]: async () => {
        this.#happened = undefined
        await this.#announcements?.[Symbol.asyncDispose]()
        this.#announcements = undefined
      },
    }
  }

  /**
   * Keeps events of changes that are about to be made, so that a crash in between loses none. Resolves once
   * they are kept, or have failed to get there. Each of them is then taken, or has failed.
   */
  async announce(events: readonly Event[]): Promise<void> {
    if (this.#announcements === undefined) return
    for (const event of events) {
      const notice = this.#keep(event, { isAnnounced: true })
      if (notice !== undefined) this.#announced.set(event.details, notice)
    }
    if (events.some(({ details }) => this.#announced.has(details))) await this.settled()
  }

  /** An announced change failed, and may have been made all the same. */
  failed(event: Event): void {
    const notice = this.#takeAnnounced(event)
    if (notice !== undefined) this.#announcements?.ask(notice)
  }

  take(event: Event): void {
    const notice = this.#takeAnnounced(event)
    if (notice === undefined) this.#keep(event, { isAnnounced: false })
    else this.#announcements?.confirm(notice)
  }

  /**
   * Resolves once every event taken so far is in the outbox, or has failed to get there. Events that come
   * meanwhile do not prolong it.
   */
  async settled(): Promise<void> {
    const hasGathered = this.#gathered.length > 0
    await Promise.all(this.#unwritten)
    // What had gathered is being written now, by the write that began when the one before ended.
    if (hasGathered) await Promise.all(this.#unwritten)
  }

  /** The newest notices before a sequence number. */
  async list(before: number, limit: number): Promise<readonly ListedNotice[]> {
    return (await this.#outbox?.call('list', before, limit)) ?? []
  }

  /** Sends notices again, and enables their endpoints. Returns the number of deliveries. */
  async replay(query: ReplayQuery): Promise<number> {
    const count = (await this.#outbox?.call('replay', query)) ?? 0
    for (const courier of this.#couriers)
      if (query.endpoint === undefined || query.endpoint === courier.name) courier.restart()
    return count
  }

  async status(): Promise<readonly EndpointStatus[]> {
    const pending = (await this.#outbox?.call('pending')) ?? {}
    return this.#couriers.map(({ name, isDisabled }) => ({
      endpoint: name,
      pending: pending[name] ?? 0,
      isDisabled,
    }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.settled()
    await this.#stopCouriers()
    await this.#outbox?.[Symbol.asyncDispose]()
    this.#outbox = undefined
    this.#endpoints = []
  }

  #takeAnnounced({ details }: Event): Notice | undefined {
    const notice = this.#announced.get(details)
    this.#announced.delete(details)
    return notice
  }

  /** Has the notice of an event written; `undefined` if nobody wants it or the outbox cannot take it. */
  #keep(event: Event, { isAnnounced }: Pick<Addressed, 'isAnnounced'>): Notice | undefined {
    const parts = this.#parts
    if (parts === undefined || this.#endpoints.length === 0) return undefined
    const draft = draftNotice(event)
    if (draft === undefined) return undefined
    const { place, ...rest } = draft
    const notice = { id: randomUUID(), atMs: parts.clock.wallMs(), ...rest }
    const endpoints = this.#endpoints.filter(
      endpoint => endpoint.wants(place) && isFor(endpoint, notice, parts.sender),
    )
    if (endpoints.length === 0) return undefined
    if (this.#outbox === undefined || this.#gathered.length >= UNWRITTEN_MAX) {
      parts.events.notificationsDropped({ count: endpoints.length, why: 'the outbox cannot take them' })
      return undefined
    }
    this.#gathered.push({ notice, endpoints: endpoints.map(({ name }) => name), isAnnounced })
    if (this.#unwritten.size === 0) this.#write(parts, this.#outbox)
    return notice
  }

  #beginAnnouncements(): void {
    const [parts, outbox, happened] = [this.#parts, this.#outbox, this.#happened]
    if (parts === undefined || outbox === undefined || happened === undefined) return
    if (this.#announcements !== undefined) return
    const { clock, events } = parts
    this.#announcements = new Announcements({ outbox, clock, events, happened, wake: () => this.#wake() })
    this.#announcements.begin()
  }

  #wake(): void {
    for (const courier of this.#couriers) courier.wake()
  }

  /** Writes what has gathered with one sync; what comes meanwhile gathers for the next one. */
  #write(parts: NotificationsParts, outbox: OutboxClient): void {
    const addressed = this.#gathered
    this.#gathered = []
    const written = this.#writeNow(parts, outbox, addressed)
    this.#unwritten.add(written)
    void written.finally(() => {
      this.#unwritten.delete(written)
      if (this.#gathered.length > 0) this.#write(parts, outbox)
    })
  }

  async #writeNow(
    { clock, events }: NotificationsParts,
    outbox: OutboxClient,
    addressed: readonly Addressed[],
  ): Promise<void> {
    try {
      const dropped = await outbox.call('add', addressed, clock.wallMs())
      events.notificationsDropped({ count: dropped, why: 'the outbox is full, or they are too old' })
      this.#wake()
    } catch (error) {
      const count = addressed.reduce((sum, { endpoints }) => sum + endpoints.length, 0)
      events.storageFailed('outbox', error)
      events.notificationsDropped({ count, why: 'the outbox cannot be written' })
    }
  }

  async #startCouriers({ clock, events, sender }: NotificationsParts, outbox: OutboxClient): Promise<void> {
    const names = this.#endpoints.map(({ name }) => name)
    const disabled = await outbox.call('configure', names)
    this.#couriers = this.#endpoints.map(
      endpoint =>
        new Courier({
          endpoint,
          outbox,
          clock,
          events,
          sender,
          isDisabled: disabled.includes(endpoint.name),
        }),
    )
  }

  async #stopCouriers(): Promise<void> {
    await Promise.all(this.#couriers.map(async courier => await courier[Symbol.asyncDispose]()))
    this.#couriers = []
  }
}

async function openOutbox({
  directory,
  events,
  bounds = OUTBOX_BOUNDS,
}: NotificationsParts): Promise<OutboxClient> {
  const outbox = new OutboxClient()
  try {
    const wasDamaged = await outbox.call('open', directory, bounds)
    if (wasDamaged) events.recordDamaged('outbox', 'lost', new Error('the outbox is not a database'))
    return outbox
  } catch (error) {
    await outbox[Symbol.asyncDispose]()
    throw error
  }
}

function isFor(endpoint: Endpoint, notice: Notice, sender: Sender): boolean {
  return endpoint.types.has(notice.type) && envelopeFor(endpoint, notice, sender) !== undefined
}
