import { lruCache } from '../lib/lru.ts'
import { Turns } from '../lib/turns.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import type { Place } from '../oci/place.ts'
import type { Durability, RecordName, Store } from '../storage/store.ts'
import { Epoch } from './epoch.ts'

const REMEMBERED_MAX = 50_000
const WRITES_MAX = 10_000
const WRITES_AT_ONCE = 8
/** Longest that unwritten links may delay the shutdown. */
const CLOSING_MS = 2000
const NOTHING = new Uint8Array(0)

/**
 * Records which repository may see which digest. A digest is not a permission: bytes are stored once, but a
 * repository sees them only if a manifest served for it names them or its upstream confirmed them. For an
 * untrusted upstream, the bytes must have come from that upstream. A lost link costs one HEAD or one more
 * download. So links are written after the answer, and are dropped if the store fails or is too busy.
 */
export class Links implements AsyncDisposable {
  readonly #store: Pick<Store, 'readRecord' | 'writeRecord' | 'deleteRecord'>
  readonly #events: Events
  readonly #epoch: Epoch
  readonly #remembered = lruCache<string, true>(REMEMBERED_MAX)
  /**
   * Writes and removals of one record run in the order of the calls, so that a write under way does not undo
   * a later removal.
   */
  readonly #turns = new Turns<string>()
  #waiting: Write[] = []
  /** Number of links removed so far. */
  #removals = 0
  readonly #writers = new Set<Promise<void>>()

  constructor(
    store: Pick<Store, 'readRecord' | 'writeRecord' | 'deleteRecord'>,
    events: Events,
    epoch: Epoch = new Epoch(),
  ) {
    this.#store = store
    this.#events = events
    this.#epoch = epoch
  }

  /** True if the repository may see the digest. False if the store cannot tell. */
  async has(place: Place, digest: Digest): Promise<boolean> {
    const key = keyOf(place, digest)
    if (this.#remembered.get(key) === true) return true
    const removals = this.#removals
    await this.#turns.settled(key)
    try {
      const record = await this.#store.readRecord(recordOf(place, digest))
      if (record === undefined) return false
    } catch (error) {
      this.#events.storageFailed('read-link', error)
      return false
    }
    // A link was removed during the read; it may have been this one.
    if (removals === this.#removals) this.#remembered.set(key, true)
    return true
  }

  /**
   * True if this process recently granted the repository access to the digest, or looked it up. Does not
   * wait.
   */
  remembers(place: Place, digest: Digest): boolean {
    return this.#remembered.has(keyOf(place, digest))
  }

  /** Lets the repository see the digests: at once in this process, and soon on disk. */
  add(place: Place, digests: Iterable<Digest>): void {
    for (const digest of digests) this.#add(place, digest, 'relaxed')
    this.#startWriters()
  }

  /**
   * Lets the repository see content that came complete and correct from its own upstream. Losing this link
   * would cost a download, so it is written durably.
   */
  prove(place: Place, digest: Digest): void {
    this.#add(place, digest, 'durable')
    this.#startWriters()
  }

  /** Revokes the permission; `false` if it did not exist. */
  async remove(place: Place, digest: Digest): Promise<boolean> {
    const key = keyOf(place, digest)
    this.#removals += 1
    this.#remembered.delete(key)
    this.#waiting = this.#waiting.filter(write => write.key !== key)
    try {
      return await this.#turns.take(key, async () => await this.#store.deleteRecord(recordOf(place, digest)))
    } finally {
      this.#epoch.bump({ kind: 'digest', digest })
    }
  }

  /** Waits a limited time for pending links to be written. A lost link costs one HEAD. */
  async [Symbol.asyncDispose](): Promise<void> {
    const timer = setTimeout(() => {
      this.#waiting = []
    }, CLOSING_MS)
    using _ = { [Symbol.dispose]: () => clearTimeout(timer) }
    while (this.#writers.size > 0) await Promise.all(this.#writers)
  }

  #add(place: Place, digest: Digest, durability: Durability): void {
    const key = keyOf(place, digest)
    if (this.#remembered.get(key) === true) return
    this.#remembered.set(key, true)
    if (this.#waiting.length < WRITES_MAX)
      this.#waiting.push({ key, record: recordOf(place, digest), durability })
  }

  #startWriters(): void {
    while (this.#writers.size < WRITES_AT_ONCE && this.#waiting.length > 0) this.#startWriter()
  }

  #startWriter(): void {
    const writer = this.#write().finally(() => this.#writers.delete(writer))
    this.#writers.add(writer)
  }

  async #write(): Promise<void> {
    for (let write = this.#waiting.shift(); write !== undefined; write = this.#waiting.shift()) {
      const { key, record, durability } = write
      try {
        await this.#turns.take(key, async () => await this.#store.writeRecord(record, NOTHING, durability))
      } catch (error) {
        this.#events.storageFailed('write-link', error)
      }
    }
  }
}

/** A link waiting to be written. */
interface Write {
  readonly key: string
  readonly record: RecordName
  readonly durability: Durability
}

function keyOf(place: Place, digest: Digest): string {
  return `${place.namespace}/${place.repository}@${digest}`
}

function recordOf({ namespace, repository }: Place, digest: Digest): RecordName {
  return { kind: 'link', namespace, repository, digest }
}
