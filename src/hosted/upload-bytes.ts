import type { Hash } from 'node:crypto'
import type { UploadPart } from '../content/hosting.ts'
import { untilAborted } from '../lib/abort.ts'
import { bytesIn, free, gathered } from '../lib/read-ahead.ts'
import { type Digest, type DigestAlgorithm, finishHash, startHash } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Place } from '../oci/place.ts'
import type { UploadId } from '../oci/upload-id.ts'
import type { Store, StoreWrite, UploadSpool } from '../storage/store.ts'

const PIECE_BYTES = 1024 * 1024
/** Bytes that may arrive while the ones before them are written. */
const AHEAD_BYTES = 512 * 1024
/** A power cut may cost an upload at most this much. */
const UNSYNCED_MAX = 8 * 1024 * 1024

export interface UploadBytesParts {
  readonly id: UploadId
  readonly place: Place
  readonly store: Store
  /** Algorithm of the digest that is expected. Another one costs a second reading of the bytes. */
  readonly algorithm: DigestAlgorithm
  /** The digest, if the client named it before the first byte. */
  readonly digest?: Digest
  /** Bytes that were synced by the process that had the upload before. */
  readonly syncedBytes: number
  /** True if no process has written to the upload yet. */
  readonly isNew: boolean
}

/**
 * The bytes of an upload that is not finished. They are hashed as they come. After a restart they are read
 * and hashed again, so that what is adopted was proved by one process from the first byte to the last.
 */
export class UploadBytes {
  readonly #parts: UploadBytesParts
  #spool: UploadSpool | undefined
  #hash: Hash | undefined
  #receivedBytes = 0
  #syncedBytes = 0
  #isThere: boolean

  constructor(parts: UploadBytesParts) {
    this.#parts = parts
    this.#isThere = !parts.isNew
  }

  get id(): UploadId {
    return this.#parts.id
  }

  get place(): Place {
    return this.#parts.place
  }

  get algorithm(): DigestAlgorithm {
    return this.#parts.algorithm
  }

  get receivedBytes(): number {
    return this.#receivedBytes
  }

  get syncedBytes(): number {
    return this.#syncedBytes
  }

  /** Opens what is there, and hashes it if this process has not. */
  async open(): Promise<void> {
    if (this.#spool !== undefined || !this.#isThere) return
    const { store, id, algorithm, syncedBytes } = this.#parts
    const isKnown = this.#hash !== undefined
    const spool = await store.openUpload(id, isKnown ? this.#receivedBytes : syncedBytes)
    if (spool === undefined) {
      if (this.#receivedBytes > 0) throw new Error(`the bytes of the upload ${id} are gone`)
      this.#isThere = false
      return
    }
    this.#spool = spool
    if (isKnown && spool.sizeBytes === this.#receivedBytes) return
    this.#hash = await hashOf(spool, algorithm)
    this.#receivedBytes = spool.sizeBytes
    this.#syncedBytes = Math.min(syncedBytes, spool.sizeBytes)
  }

  /** Appends a part. What came before a failure stays. */
  async append(part: UploadPart, signal: AbortSignal): Promise<void> {
    const arriving = gathered(part.pieces, AHEAD_BYTES)
    try {
      await this.#appendAll(arriving, part.sizeBytes, signal)
    } finally {
      // Not awaited: it may still wait for a piece. Whoever sends lets go of its timers then.
      void arriving.return(undefined)
    }
  }

  /** Syncs what came since the last time, if it is much; true if it did. */
  async sync(): Promise<boolean> {
    if (this.#spool === undefined || this.#receivedBytes - this.#syncedBytes < UNSYNCED_MAX) return false
    await this.#spool.sync()
    this.#syncedBytes = this.#receivedBytes
    return true
  }

  /** The digest of all bytes, by any algorithm. */
  async digest(algorithm: DigestAlgorithm): Promise<Digest> {
    if (this.#spool === undefined) return finishHash(startHash(algorithm), algorithm)
    const isRunning = algorithm === this.#parts.algorithm && this.#hash !== undefined
    const hash = isRunning ? this.#hash?.copy() : await hashOf(this.#spool, algorithm)
    if (hash === undefined) throw new Error('an upload without a hash')
    return finishHash(hash, algorithm)
  }

  /** The write that makes content of the bytes, which are proved to hash to the digest. */
  async contentWrite(digest: Digest): Promise<StoreWrite> {
    const spool = this.#spool ?? (await this.#create())
    return { kind: 'spool', digest, spool, sizeBytes: this.#receivedBytes }
  }

  /** Ends the upload and removes its bytes. */
  async remove(): Promise<void> {
    const { store, id } = this.#parts
    const spool = this.#spool ?? (this.#isThere ? await store.openUpload(id, 0) : undefined)
    this.#spool = undefined
    this.#isThere = false
    await spool?.remove()
  }

  /** Closes the file; the bytes stay. */
  async close(): Promise<void> {
    const spool = this.#spool
    this.#spool = undefined
    await spool?.[Symbol.asyncDispose]()
  }

  async #appendAll(
    arriving: AsyncIterator<readonly Uint8Array[]>,
    sizeBytes: number | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const limit = sizeBytes ?? Infinity
    let partBytes = 0
    for (;;) {
      const { value: pieces, done } = await untilAborted(arriving.next(), signal)
      if (done === true) break
      partBytes += bytesIn(pieces)
      if (partBytes > limit)
        throw new OciError('SIZE_INVALID', `the part is longer than the ${limit} bytes announced`)
      await this.#write(pieces)
    }
    if (sizeBytes !== undefined && partBytes < sizeBytes)
      throw new OciError('SIZE_INVALID', `the part ended after ${partBytes} of ${sizeBytes} bytes`)
  }

  async #write(pieces: readonly Uint8Array[]): Promise<void> {
    const spool = this.#spool ?? (await this.#create())
    const hash = (this.#hash ??= startHash(this.#parts.algorithm))
    const writing = spool.append(...pieces)
    // Hashed while the kernel takes them. If the write fails, the hash is of bytes that are not there.
    for (const piece of pieces) hash.update(piece)
    try {
      await writing
    } catch (error) {
      this.#hash = undefined
      throw error
    }
    this.#receivedBytes += bytesIn(pieces)
    pieces.forEach(free)
  }

  async #create(): Promise<UploadSpool> {
    const { store, id, digest } = this.#parts
    const spool = await store.createUpload(id, digest)
    this.#spool = spool
    this.#isThere = true
    return spool
  }
}

/** Hashes all bytes of a spool. */
async function hashOf(spool: UploadSpool, algorithm: DigestAlgorithm): Promise<Hash> {
  const hash = startHash(algorithm)
  const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES)
  for (let position = 0; position < spool.sizeBytes; ) {
    const count = await spool.read(buffer, position)
    if (count === 0) throw new Error(`the upload ends at byte ${position}, which it had before`)
    hash.update(buffer.subarray(0, count))
    position += count
  }
  return hash
}
