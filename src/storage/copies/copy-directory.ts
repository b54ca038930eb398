import { randomUUID } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import { type FileHandle, opendir, rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../lib/clock.ts'
import { lruCache } from '../../lib/lru.ts'
import type { BufferPool } from '../../lib/reader-buffers.ts'
import { Semaphore } from '../../lib/semaphore.ts'
import { hasCode, ifThere } from '../../lib/system-error.ts'
import { Turns } from '../../lib/turns.ts'
import type { Events } from '../../observe/events.ts'
import { algorithmOf, type Digest, finishHash, startHash } from '../../oci/digest.ts'
import { makeDirectory } from '../filesystem/directories.ts'
import { FileObject } from '../filesystem/object.ts'
import { createRegular, openRegular, writeFully } from '../filesystem/regular-file.ts'
import { copyFileName, parseCopyFileName } from '../layout.ts'
import type { CopiesStatus, StoredObject } from '../store.ts'

const MiB = 1024 * 1024
/** Largest content that is copied, unless the options say less. */
const COPY_BYTES_MAX = 4 * MiB
/** Copies that are written at the same time. The bound keeps room for them. */
const WRITES_AT_ONCE = 8
/** The largest copy is at most this part of the bound, so that the room for writes is a quarter of it. */
const COPIES_AT_LEAST = 4 * WRITES_AT_ONCE
/** Limits the memory for the list of copies. */
const COPIES_MAX = 100_000
/** A file takes whole blocks of the disk. */
const BLOCK_BYTES = 4096
/**
 * Longest use of a copy. Another process on the bucket may have removed the content since, and cannot tell.
 */
const COPY_AGE_MAX_MS = 24 * 3_600_000
/** Pause after a failure of the disk. */
const PAUSE_MS = 60_000
/** Number of digests that are not copied again because a copy was damaged. */
const DAMAGED_MAX = 1000
/** Begins the version of a copy. A version of the bucket is an ETag or a time, which never begins so. */
const COPY_VERSION = 'copy-'
const TEMPORARY = 'temporary.'

export interface CopyDirectoryOptions {
  /** Made if it is missing. Processes that share it share the copies, but each keeps the bound for itself. */
  readonly path: string
  readonly maxBytes: number
  /** Largest content to copy; 4 MiB by default, and at most a part of {@link maxBytes}. */
  readonly copyBytesMax?: number
  readonly buffers: BufferPool
  readonly clock: Pick<Clock, 'wallMs' | 'monotonicMs'>
  readonly events: Pick<Events, 'storageFailed'>
}

/** One use of content that may end in a copy. It becomes void when the content is removed meanwhile. */
export interface CopyTicket extends Disposable {
  readonly digest: Digest
  readonly isVoid: boolean
}

/**
 * Copies of small content in files of this machine, of which those used longest ago give way. The files are
 * `<algorithm>-<hex>.<size>`, so a start learns all from one reading of the directory, and a file that was
 * cut off is known by its size. Nothing is synced: whoever opens a copy proves it, as with any other file.
 *
 * No method throws because of the disk. After a failure there are no copies for a minute.
 */
export class CopyDirectory implements AsyncDisposable {
  readonly #options: CopyDirectoryOptions
  readonly #copyBytesMax: number
  /** Sizes of the copies, the one used last first. What is not in here is not used. */
  readonly #sizes: LRUCache<Digest, number>
  readonly #damaged = lruCache<Digest, true>(DAMAGED_MAX)
  readonly #tickets = new Map<Digest, Set<{ isVoid: boolean }>>()
  /** Changes of the file of a digest. */
  readonly #turns = new Turns<Digest>()
  readonly #writes = new Semaphore(WRITES_AT_ONCE)
  readonly #writing = new Set<Promise<unknown>>()
  readonly #temporary = `${TEMPORARY}${randomUUID()}.`
  readonly #loading: Promise<void>
  #written = 0
  #pausedUntilMs = -Infinity
  #isClosed = false

  constructor(options: CopyDirectoryOptions) {
    const { maxBytes, copyBytesMax = COPY_BYTES_MAX } = options
    this.#options = options
    this.#copyBytesMax = Math.min(copyBytesMax, Math.floor(maxBytes / COPIES_AT_LEAST))
    this.#sizes = new LRUCache({
      maxSize: Math.max(1, maxBytes - WRITES_AT_ONCE * this.#copyBytesMax),
      sizeCalculation: bytesOnDisk,
      disposeAfter: (sizeBytes, digest, reason) => {
        if (reason === 'evict') void this.#evicted(digest, sizeBytes)
      },
    })
    this.#loading = this.#load()
  }

  get status(): Omit<CopiesStatus, 'hits' | 'misses'> {
    return {
      objects: this.#sizes.size,
      bytes: this.#sizes.calculatedSize,
      maxBytes: this.#options.maxBytes,
      isPaused: this.#isPaused,
    }
  }

  /** Resolves when the copies of earlier processes are known. */
  async loaded(): Promise<void> {
    await this.#loading
  }

  /** Opens a copy; `undefined` if there is none that can be used. */
  async open(digest: Digest): Promise<StoredObject | undefined> {
    const sizeBytes = this.#sizes.get(digest)
    if (sizeBytes === undefined || this.#isPaused) return undefined
    try {
      const file = await openRegular(this.#pathOf(digest, sizeBytes), 'read')
      if (file !== undefined && Number(file.stats.size) === sizeBytes && this.#isFresh(file.stats)) {
        return copyOf(new FileObject({ ...file, buffers: this.#options.buffers }))
      }
      await file?.handle.close()
    } catch (error) {
      this.#pause(error)
      return undefined
    }
    await this.drop(digest)
    return undefined
  }

  /** Begins a use of content. Call it before the content is opened or stored. */
  begin(digest: Digest): CopyTicket {
    const tickets = this.#tickets.get(digest) ?? new Set()
    this.#tickets.set(digest, tickets)
    const ticket = {
      digest,
      isVoid: false,
      [Symbol.dispose]: () => {
        tickets.delete(ticket)
        if (tickets.size === 0 && this.#tickets.get(digest) === tickets) this.#tickets.delete(digest)
      },
    }
    tickets.add(ticket)
    return ticket
  }

  /** True if content of this size is to be copied. */
  takes(digest: Digest, sizeBytes: number): boolean {
    return sizeBytes <= this.#copyBytesMax && !this.#damaged.has(digest)
  }

  /**
   * Copies content. Returns `false` without a copy if the pieces are not the content, if it was removed since
   * the ticket was taken, if it is too large, if many copies are being written, or if the disk fails. Throws
   * only what reading the pieces throws.
   */
  async put(ticket: CopyTicket, sizeBytes: number, pieces: AsyncIterable<Uint8Array>): Promise<boolean> {
    const { digest } = ticket
    if (!this.takes(digest, sizeBytes) || this.#isPaused || this.#isClosed) return false
    // Nobody waits: pieces that come slowly, or not at all, would hold up everybody.
    const leave = this.#writes.tryEnter()
    if (leave === undefined) return false
    const written = this.#put(ticket, sizeBytes, pieces).finally(leave)
    const over = written.catch(() => undefined).finally(() => this.#writing.delete(over))
    this.#writing.add(over)
    return await written
  }

  async #put(ticket: CopyTicket, sizeBytes: number, pieces: AsyncIterable<Uint8Array>): Promise<boolean> {
    const { digest } = ticket
    this.#written += 1
    const temporary = join(this.#options.path, `${this.#temporary}${this.#written}`)
    const handle = await this.#try(async () => await this.#create(temporary))
    if (handle === undefined) return false
    let isPlaced = false
    try {
      const isWhole = await this.#write(handle, { digest, sizeBytes }, pieces)
      isPlaced = isWhole && (await this.#place(ticket, temporary, sizeBytes))
    } finally {
      await this.#try(async () => {
        await handle.close()
        if (!isPlaced) await ifThere(unlink(temporary))
      })
    }
    return isPlaced
  }

  /** True if everything was written, and is the content. */
  async #write(
    handle: FileHandle,
    { digest, sizeBytes }: { readonly digest: Digest; readonly sizeBytes: number },
    pieces: AsyncIterable<Uint8Array>,
  ): Promise<boolean> {
    const hash = startHash(algorithmOf(digest))
    let position = 0
    for await (const piece of pieces) {
      if (position + piece.byteLength > sizeBytes) return false
      hash.update(piece)
      const isWritten = await this.#try(async () => {
        await writeFully(handle, [piece], position)
        return true
      })
      if (isWritten !== true) return false
      position += piece.byteLength
    }
    return position === sizeBytes && finishHash(hash, algorithmOf(digest)) === digest
  }

  /** Gives a finished file its name, unless the content was removed meanwhile. */
  async #place(ticket: CopyTicket, temporary: string, sizeBytes: number): Promise<boolean> {
    const { digest } = ticket
    const isPlaced = await this.#turns.take(digest, async () => {
      if (ticket.isVoid) return false
      return await this.#try(async () => {
        if (!(await this.#rename(temporary, digest, sizeBytes))) return false
        // A removal that came during the rename waits for this turn, and finds the copy.
        this.#sizes.set(digest, sizeBytes)
        return true
      })
    })
    if (isPlaced === true) this.#trim()
    return isPlaced ?? false
  }

  /** `false` if another process on the directory tidied the file away. */
  async #rename(temporary: string, digest: Digest, sizeBytes: number): Promise<boolean> {
    try {
      await rename(temporary, this.#pathOf(digest, sizeBytes))
      return true
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false
      // What has the name is no file of ours, and stays in the way.
      if (hasCode(error, 'EISDIR', 'ENOTEMPTY')) this.#damaged.set(digest, true)
      throw error
    }
  }

  /** Removes the copy, if there is one, and prevents those that are being made. */
  async drop(digest: Digest): Promise<void> {
    for (const ticket of this.#tickets.get(digest) ?? []) ticket.isVoid = true
    await this.#loading
    await this.#turns.take(digest, async () => {
      const sizeBytes = this.#sizes.peek(digest)
      if (sizeBytes === undefined) return
      this.#sizes.delete(digest)
      await this.#remove(digest, sizeBytes)
    })
  }

  /**
   * Removes a copy that was read and is damaged, and makes no other one. `false` if this is not the version
   * of a copy.
   */
  async dropDamaged(digest: Digest, version: string): Promise<boolean> {
    if (!isCopyVersion(version)) return false
    this.#damaged.set(digest, true)
    await this.drop(digest)
    return true
  }

  /** Ends what is being written. The copies stay for the next process. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true
    await this.#loading
    while (this.#writing.size > 0) await Promise.all(this.#writing)
    await this.#turns.settled()
  }

  /** Takes over the copies of earlier processes, and removes what they left half written. */
  async #load(): Promise<void> {
    const { path } = this.#options
    await this.#try(async () => {
      for await (const entry of (await ifThere(opendir(path))) ?? []) {
        if (this.#isClosed) return
        const { name } = entry
        if (!entry.isFile()) continue
        const copy = parseCopyFileName(name)
        if (copy !== undefined && copy.sizeBytes <= this.#copyBytesMax) {
          if (!this.#sizes.has(copy.digest)) this.#sizes.set(copy.digest, copy.sizeBytes)
          this.#trim()
        } else if (copy !== undefined || this.#isForeignTemporary(name))
          await ifThere(unlink(join(path, name)))
      }
    })
  }

  #isForeignTemporary(name: string): boolean {
    return name.startsWith(TEMPORARY) && !name.startsWith(this.#temporary)
  }

  async #create(path: string): Promise<FileHandle> {
    try {
      return await createRegular(path)
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error
      await makeDirectory(this.#options.path)
      return await createRegular(path)
    }
  }

  #trim(): void {
    while (this.#sizes.size > COPIES_MAX) this.#sizes.pop()
  }

  /** Removes the file of a copy that gave way, unless there is a new copy by then. */
  async #evicted(digest: Digest, sizeBytes: number): Promise<void> {
    await this.#turns.take(digest, async () => {
      if (!this.#sizes.has(digest)) await this.#remove(digest, sizeBytes)
    })
  }

  async #remove(digest: Digest, sizeBytes: number): Promise<void> {
    await this.#try(async () => await ifThere(unlink(this.#pathOf(digest, sizeBytes))))
  }

  /** Runs an operation on the disk; `undefined` and a pause if it fails. */
  async #try<T>(operation: () => Promise<T>): Promise<T | undefined> {
    try {
      return await operation()
    } catch (error) {
      this.#pause(error)
      return undefined
    }
  }

  #pause(error: unknown): void {
    const { clock, events } = this.#options
    this.#pausedUntilMs = clock.monotonicMs() + PAUSE_MS
    events.storageFailed('copy', error)
  }

  get #isPaused(): boolean {
    return this.#options.clock.monotonicMs() < this.#pausedUntilMs
  }

  /** A time in the future counts as old too: the clock may have been set back. */
  #isFresh({ mtimeMs }: BigIntStats): boolean {
    return Math.abs(this.#options.clock.wallMs() - Number(mtimeMs)) <= COPY_AGE_MAX_MS
  }

  #pathOf(digest: Digest, sizeBytes: number): string {
    return join(this.#options.path, copyFileName(digest, sizeBytes))
  }
}

/** True for the version of a copy. */
export function isCopyVersion(version: string): boolean {
  return version.startsWith(COPY_VERSION)
}

function bytesOnDisk(sizeBytes: number): number {
  return Math.max(1, Math.ceil(sizeBytes / BLOCK_BYTES)) * BLOCK_BYTES
}

function copyOf(file: FileObject): StoredObject {
  return {
    sizeBytes: file.sizeBytes,
    version: `${COPY_VERSION}${file.version}`,
    file: file.file,
    read: (start, end) => file.read(start, end),
    [Symbol.asyncDispose]: async () => await file[Symbol.asyncDispose](),
  }
}
