import { type Event, type EventSink, handleEvent } from '../observe/event.ts'
import type { Digest } from '../oci/digest.ts'
import { parseRepositoryName, type Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { Members } from './members.ts'
import { CHANGES_MAX, type ToldChange } from './protocol.ts'
import type { PeerWire } from './wire.ts'

const WAITING_MAX = 1000
const TELLING_MS = 5000
/** Members that are told at the same time. */
const AT_ONCE = 16

/**
 * Tells the other replicas what has changed here: tags that moved, and content that was deleted. Best effort:
 * a replica that misses it serves its answer as long as it is fresh.
 */
export class Telling implements EventSink, AsyncDisposable {
  #to: { readonly members: Members; readonly wire: PeerWire } | undefined
  #waiting: ToldChange[] = []
  #running: Promise<void> | undefined
  readonly #over = new AbortController()

  /** Begins to tell. What happened before concerns nobody. */
  start(members: Members, wire: PeerWire): void {
    this.#to = { members, wire }
  }

  take(event: Event): void {
    handleEvent(
      {
        'tag-moved': ({ namespace, repository, tag, digest }) =>
          this.#note({ namespace, repository }, { tag, digest }),
        'retention-removed': ({ namespace, repository, tag }) =>
          this.#note({ namespace, repository }, { tag }),
        deleted: ({ namespace, repository, tag, digest }) =>
          this.#note({ namespace, repository }, { tag, digest }),
      },
      event,
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#to = undefined
    this.#waiting = []
    this.#over.abort(new Error('the mirror is shutting down'))
    await this.#running
  }

  #note(
    { namespace, repository: name }: Place,
    { tag, digest }: { readonly tag: Tag | undefined; readonly digest?: Digest | undefined },
  ): void {
    const repository = parseRepositoryName(name)
    if (this.#to === undefined || repository === undefined || this.#waiting.length >= WAITING_MAX) return
    this.#waiting.push({ namespace, repository, tag, digest })
    this.#running ??= this.#tell().finally(() => {
      this.#running = undefined
    })
  }

  async #tell(): Promise<void> {
    // What happens in the same turn goes out in one message.
    await Promise.resolve()
    while (this.#waiting.length > 0 && this.#to !== undefined) {
      const changes = this.#waiting.splice(0, CHANGES_MAX)
      const alive = this.#to.members.all.filter(({ state }) => state === 'alive')
      for (let first = 0; first < alive.length; first += AT_ONCE) {
        const some = alive.slice(first, first + AT_ONCE)
        await Promise.all(some.map(async member => await this.#tellOne(member, changes)))
      }
    }
  }

  async #tellOne({ address }: Members['all'][number], changes: readonly ToldChange[]): Promise<void> {
    const signal = AbortSignal.any([this.#over.signal, AbortSignal.timeout(TELLING_MS)])
    // All members are told: kept connections would join each with each.
    const options = { signal, isBrief: true }
    try {
      const { body } = (await this.#to?.wire.ask(address, { kind: 'changed', changes }, options)) ?? {}
      body?.resume()
    } catch {
      // Best effort.
    }
  }
}
