import { LRUCache } from 'lru-cache'
import { SharedCalls } from '../lib/flights.ts'
import { lruCache } from '../lib/lru.ts'
import type { Events } from '../observe/events.ts'
import type { ByteRange, Content } from '../oci/content.ts'
import { algorithmOf, type Digest, finishHash, startHash } from '../oci/digest.ts'
import { overloaded } from '../oci/error.ts'
import { OCTET_STREAM } from '../oci/media-type.ts'
import type { Store, StoredObject } from '../storage/store.ts'
import { isDamage, isObstacle, openToProve, openToServe, quarantine } from './damage.ts'
import { memoryContent } from './memory-content.ts'
import { HELD_BACK_BYTES } from './tail.ts'

const REMEMBERED_MAX = 100_000
const DAMAGED_MAX = 1000
/** Most attempts to prove an object that is replaced during its proof. */
const LOOKS_MAX = 3
const PROOFS_MAX = 4096

/**
 * Objects up to this size are proved before the first header is sent, so that a damaged one can be fetched
 * again without the client noticing.
 */
const PROVED_AHEAD_BYTES = 64 * 1024 * 1024

/**
 * Proved objects up to this size are kept in memory: image configurations and the many small blobs of
 * artifacts.
 */
const SMALL_BYTES = 256 * 1024
const SMALL_TOTAL_BYTES = 32 * 1024 * 1024

export interface ProofParts {
  readonly store: Store
  readonly events: Events
  /** True if every read is proved, not just the first of each version. */
  readonly isEveryRead: boolean
  /** Objects up to this size are proved before the first header is sent. Default: 64 MiB. */
  readonly aheadBytes?: number
  /** Proved objects up to this size are kept in memory. Default: 256 KiB. */
  readonly smallBytes?: number
}

/** Content read from the store. */
export interface StoredContent extends Content {
  /** True once all of it is known to match its digest. */
  isProved(): boolean
}

/**
 * Serves stored objects and proves each against its digest on its first read after the start. Small objects
 * are proved before anything is sent. For a large object the proof runs beside the reads, and the end is held
 * back until it is done. Damaged content is quarantined, and the next request fetches it again.
 */
export class Proofs implements AsyncDisposable {
  readonly #parts: ProofParts
  readonly #aheadBytes: number
  readonly #smallBytes: number
  /** Versions in the store, and of the copies that it keeps here. */
  readonly #provedStored = lruCache<Digest, string>(REMEMBERED_MAX)
  readonly #provedCopies = lruCache<Digest, string>(REMEMBERED_MAX)
  readonly #damaged = lruCache<Digest, string>(DAMAGED_MAX)
  readonly #small = new LRUCache<Digest, Uint8Array>({
    maxSize: SMALL_TOTAL_BYTES,
    sizeCalculation: bytes => bytes.byteLength + 256,
  })
  readonly #running = new SharedCalls<boolean>(PROOFS_MAX, overloaded)
  readonly #lifetime = new AbortController()

  constructor(parts: ProofParts) {
    this.#parts = parts
    this.#aheadBytes = parts.aheadBytes ?? PROVED_AHEAD_BYTES
    this.#smallBytes = parts.smallBytes ?? SMALL_BYTES
  }

  /**
   * The stored content; `undefined` if it is absent or was just found damaged. Throws if the store cannot be
   * read.
   */
  async open(digest: Digest): Promise<StoredContent | undefined> {
    const small = this.#small.get(digest)
    if (small !== undefined) return this.#inMemory(digest, small)
    for (let look = 0; look < LOOKS_MAX; look += 1) {
      const object = await this.#openObject(digest)
      if (object === undefined) return undefined
      const content = await this.#prepare(digest, object).catch(async error => {
        await object[Symbol.asyncDispose]()
        throw error
      })
      if (content !== undefined) return content
      await object[Symbol.asyncDispose]()
    }
    return undefined
  }

  /** True if this process proved what is stored now. False if the store cannot tell. */
  async holds(digest: Digest): Promise<boolean> {
    if (!this.#provedStored.has(digest)) return false
    try {
      await using object = await this.#parts.store.open(digest)
      return object !== undefined && this.#provedStored.get(digest) === object.version
    } catch {
      return false
    }
  }

  /**
   * Records that what is stored now was proved on its way in. If the store cannot tell its version, it is
   * proved again later.
   */
  async trust(digest: Digest): Promise<void> {
    try {
      await using object = await this.#parts.store.open(digest)
      if (object !== undefined) this.#pass(digest, object.version)
    } catch (error) {
      this.#parts.events.storageFailed('open', error)
    }
  }

  /** Drops the content from memory, for example when it is deleted. */
  forget(digest: Digest): void {
    this.#small.delete(digest)
  }

  /** Stops the running proofs. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifetime.abort(new Error('the mirror is shutting down'))
    await Promise.resolve()
  }

  /** The object; `undefined` if it is known to be damaged or cannot be opened. */
  async #openObject(digest: Digest): Promise<StoredObject | undefined> {
    let object: StoredObject | undefined
    try {
      object = await openToServe(this.#parts.store, digest)
    } catch (error) {
      if (!isObstacle(error)) throw error
      await this.#quarantine(digest, undefined, error)
      return undefined
    }
    if (object === undefined || this.#damaged.get(digest) !== object.version) return object
    await object[Symbol.asyncDispose]()
    return undefined
  }

  /** `undefined` if the object cannot be served: it is damaged, or was replaced meanwhile. */
  async #prepare(digest: Digest, object: StoredObject): Promise<StoredContent | undefined> {
    if (this.#isProved(digest, object)) return this.#content(digest, object, Promise.resolve(true))
    const proof = this.#prove(digest, object.version)
    if (object.sizeBytes > this.#aheadBytes) return this.#content(digest, object, proof)
    if (!(await proof)) return undefined
    const small = this.#small.get(digest)
    if (small === undefined) return this.#content(digest, object, proof)
    await object[Symbol.asyncDispose]()
    return this.#inMemory(digest, small)
  }

  #inMemory(digest: Digest, bytes: Uint8Array): StoredContent {
    return { ...memoryContent({ digest, mediaType: OCTET_STREAM, bytes }), isProved: () => true }
  }

  #isProved(digest: Digest, object: StoredObject): boolean {
    if (this.#parts.isEveryRead || object.sizeBytes <= this.#smallBytes) return false
    return this.#provedOf(object.version).get(digest) === object.version
  }

  #prove(digest: Digest, version: string): Promise<boolean> {
    const proof = this.#running.call(
      `${digest} ${version}`,
      async () => await this.#hash(digest, version),
    ).job
    // Callers that wait get the failure. Without one, it must not count as unhandled.
    proof.catch(() => undefined)
    return proof
  }

  /**
   * Opens its own handle, since the caller's may be closed before the proof is done. A handle to another
   * version proves nothing about this one.
   */
  async #hash(digest: Digest, version: string): Promise<boolean> {
    await using object = await openToProve(this.#parts.store, digest)
    if (object?.version !== version) return false
    const hash = startHash(algorithmOf(digest))
    const isSmall = object.sizeBytes <= this.#smallBytes && !this.#parts.isEveryRead
    const pieces: Uint8Array[] = []
    try {
      for await (const piece of object.read(0, object.sizeBytes)) {
        this.#lifetime.signal.throwIfAborted()
        hash.update(piece)
        if (isSmall) pieces.push(Uint8Array.from(piece))
      }
    } catch (error) {
      this.#lifetime.signal.throwIfAborted()
      if (!isDamage(error)) throw error
      await this.#quarantine(digest, version, error)
      return false
    }
    const actual = finishHash(hash, algorithmOf(digest))
    if (actual === digest) {
      this.#pass(digest, object.version)
      if (isSmall) this.#small.set(digest, Buffer.concat(pieces))
    } else await this.#quarantine(digest, version, new Error(`stored object hashes to ${actual}`))
    return actual === digest
  }

  #provedOf(version: string): LRUCache<Digest, string> {
    const isCopy = this.#parts.store.copies?.isCopy(version) === true
    return isCopy ? this.#provedCopies : this.#provedStored
  }

  /** A version found damaged may be good later: in a bucket the same bytes have the same version. */
  #pass(digest: Digest, version: string): void {
    this.#provedOf(version).set(digest, version)
    this.#damaged.delete(digest)
  }

  /** Remembers damaged versions, so that a store which cannot move them aside does not serve them again. */
  async #quarantine(digest: Digest, version: string | undefined, error: unknown): Promise<void> {
    if (version !== undefined) {
      const proved = this.#provedOf(version)
      if (proved.get(digest) === version) proved.delete(digest)
      this.#damaged.set(digest, version)
    }
    await quarantine(this.#parts, { digest, version }, error)
  }

  /**
   * A URL to redirect the client to; `undefined` if the store has none now, and the mirror sends the bytes.
   */
  async #locate(digest: Digest): Promise<string | undefined> {
    try {
      return await this.#parts.store.presigner?.presign(digest)
    } catch (error) {
      this.#parts.events.storageFailed('presign', error)
      return undefined
    }
  }

  #content(digest: Digest, object: StoredObject, proof: Promise<boolean>): StoredContent {
    let isProved = false
    const wasProved = this.#isProved(digest, object)
    const { file } = object
    proof.then(isGood => (isProved = isGood)).catch(() => undefined)
    return {
      isProved: () => isProved,
      digest,
      mediaType: OCTET_STREAM,
      sizeBytes: object.sizeBytes,
      // A redirected download is not proved on its way, so only proved content is redirected.
      redirect: wasProved ? { locate: async () => await this.#locate(digest) } : undefined,
      read: (range, signal) => this.#read({ digest, object, proof }, range, signal),
      file: wasProved && file !== undefined ? { kind: 'whole', fd: file.fd } : undefined,
      [Symbol.asyncDispose]: async () => await object[Symbol.asyncDispose](),
    }
  }

  async *#read(
    {
      digest,
      object,
      proof,
    }: { readonly digest: Digest; readonly object: StoredObject; readonly proof: Promise<boolean> },
    { start, end }: ByteRange,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const last = Math.min(end, object.sizeBytes)
    const free = Math.max(start, Math.min(last, object.sizeBytes - HELD_BACK_BYTES))
    for (const [from, to] of [
      [start, free],
      [free, last],
    ] as const) {
      if (from >= to) continue
      if (to > object.sizeBytes - HELD_BACK_BYTES && !(await proof)) {
        throw new Error(`stored object ${digest} is damaged`)
      }
      try {
        for await (const piece of object.read(from, to)) {
          if (signal.aborted) return
          yield piece
        }
      } catch (error) {
        if (isDamage(error)) await this.#quarantine(digest, object.version, error)
        throw error
      }
    }
  }
}
