import { NoRoomError } from '../content/ledger.ts'
import { bytesIn } from '../lib/read-ahead.ts'
import type { LocalFile, UploadSpool } from '../storage/store.ts'

/** Room is asked for this many bytes ahead. */
const AHEAD_BYTES = 8 * 1024 * 1024

/** Finds room for what clients push. */
export interface UploadRoom {
  /**
   * Evicts cached content if the file system has not this much room to spare; `false` if that is not enough.
   */
  spare(bytes: number): Promise<boolean>
}

/**
 * The spool of an upload. It does not count as cache, so only the free room of the file system limits it, and
 * cached content makes way for it.
 */
export class WatchedUpload implements UploadSpool {
  readonly inner: UploadSpool
  readonly #room: UploadRoom
  #askedUpTo: number

  constructor(inner: UploadSpool, room: UploadRoom) {
    this.inner = inner
    this.#room = room
    this.#askedUpTo = inner.sizeBytes
  }

  get sizeBytes(): number {
    return this.inner.sizeBytes
  }

  get file(): LocalFile | undefined {
    return this.inner.file
  }

  async append(...pieces: readonly Uint8Array[]): Promise<void> {
    const bytes = bytesIn(pieces)
    const neededBytes = this.sizeBytes + bytes
    if (neededBytes > this.#askedUpTo) {
      const ahead = Math.min(AHEAD_BYTES, Math.max(bytes, this.sizeBytes))
      if (!(await this.#room.spare(ahead))) throw new NoRoomError()
      this.#askedUpTo = this.sizeBytes + ahead
    }
    await this.inner.append(...pieces)
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    return await this.inner.read(buffer, position)
  }

  async clear(): Promise<void> {
    await this.inner.clear()
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.inner.truncate(sizeBytes)
  }

  async sync(): Promise<void> {
    await this.inner.sync()
  }

  keep(): void {
    this.inner.keep()
  }

  async remove(): Promise<void> {
    await this.inner.remove()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.inner[Symbol.asyncDispose]()
  }
}
