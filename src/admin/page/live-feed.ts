import type { ServerResponse } from 'node:http'
import type { Viewer } from './page-parts.ts'
import { PAGE_HEADERS } from './page-reply.ts'

/** A part of a page that is replaced while the page is open. */
export interface LivePart {
  readonly id: string
  readonly html: string
}

type Sight = Viewer['sees']

export interface LiveFeedParts {
  /** The live parts as this kind of viewer sees them now. */
  readonly render: (sees: Sight) => Promise<readonly LivePart[]>
  readonly failed: (error: unknown) => void
  /** Changes with every start of the daemon. */
  readonly instance: string
}

interface Listener {
  readonly response: ServerResponse
  /** True if the listener may still see this; a session may end while a page is open. */
  readonly mayStay: () => Promise<boolean>
  isNew: boolean
}

const LISTENERS_MAX = 32
/** Of these, how many may belong to viewers without a login: they must not shut out an operator. */
const VISITORS_MAX = 24
const EVERY_MS = 1000
/** Bytes that wait for a listener, of a few events, before it is dropped. */
const WAITING_BYTES_MAX = 256 * 1024
/** Ticks between two comments to listeners, so that proxies do not close a quiet stream. */
const COMMENT_EVERY = 15

/**
 * Sends open pages what changes on them, once a second. The parts are rendered once for all pages, and only
 * while one is open. A page that does not read is dropped: what waits for it is bounded.
 */
export class LiveFeed implements Disposable {
  readonly #parts: LiveFeedParts
  readonly #listeners = new Map<Sight, Set<Listener>>()
  readonly #sent = new Map<Sight, ReadonlyMap<string, string>>()
  #timer: NodeJS.Timeout | undefined
  #ticks = 0
  #isTicking = false

  constructor(parts: LiveFeedParts) {
    this.#parts = parts
  }

  get listeners(): number {
    return [...this.#listeners.values()].reduce((sum, { size }) => sum + size, 0)
  }

  get #visitors(): number {
    return this.listeners - (this.#listeners.get('admin')?.size ?? 0)
  }

  /** Begins a stream; `false` if too many pages are open. */
  add(response: ServerResponse, sees: Sight, mayStay: () => Promise<boolean>): boolean {
    if (this.listeners >= LISTENERS_MAX) return false
    if (sees !== 'admin' && this.#visitors >= VISITORS_MAX) return false
    const listener = { response, mayStay, isNew: true }
    const group = this.#listeners.get(sees) ?? new Set()
    this.#listeners.set(sees, group)
    group.add(listener)
    response.once('close', () => this.#remove(sees, listener))
    response.on('error', () => undefined)
    response.writeHead(200, {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-store',
      // nginx collects answers otherwise.
      'X-Accel-Buffering': 'no',
      ...PAGE_HEADERS,
    })
    response.write(`retry: 2000\nevent: hello\ndata: ${JSON.stringify(this.#parts.instance)}\n\n`)
    this.#timer ??= setInterval(() => void this.#tick(), EVERY_MS)
    void this.#tick()
    return true
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    for (const group of this.#listeners.values()) for (const { response } of group) response.destroy()
  }

  #remove(sees: Sight, listener: Listener): void {
    this.#listeners.get(sees)?.delete(listener)
    if (this.listeners > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#sent.clear()
  }

  async #tick(): Promise<void> {
    if (this.#isTicking) return
    this.#isTicking = true
    this.#ticks += 1
    try {
      for (const [sees, group] of this.#listeners) if (group.size > 0) await this.#tell(sees, group)
    } catch (error) {
      this.#parts.failed(error)
    } finally {
      this.#isTicking = false
    }
  }

  async #tell(sees: Sight, group: ReadonlySet<Listener>): Promise<void> {
    const parts = await this.#parts.render(sees)
    const before = this.#sent.get(sees)
    const changed = parts.filter(({ id, html }) => before?.get(id) !== html)
    this.#sent.set(sees, new Map(parts.map(({ id, html }) => [id, html])))
    const comment = this.#ticks % COMMENT_EVERY === 0 ? ': still here\n\n' : ''
    const [all, news] = [eventOf(parts), changed.length === 0 ? comment : eventOf(changed)]
    for (const listener of group) {
      if (!(await listener.mayStay())) listener.response.end('event: over\ndata: {}\n\n')
      else if (listener.response.writableLength > WAITING_BYTES_MAX) listener.response.destroy()
      else if (listener.isNew) listener.response.write(all)
      else if (news !== '') listener.response.write(news)
      listener.isNew = false
    }
  }
}

function eventOf(parts: readonly LivePart[]): string {
  return `event: parts\ndata: ${JSON.stringify(parts)}\n\n`
}
