import { unlink } from 'node:fs/promises'
import type { Events } from '../../observe/events.ts'
import type { DiskSpool } from '../filesystem/spool-file.ts'
import type { LocalFile, UploadSpool } from '../store.ts'
import { putContent, QUICK_BYTES_MAX } from './put.ts'
import { readPart, Upload, type UploadParts } from './upload.ts'

/** What an {@link S3Spool} is made from. */
export interface S3SpoolParts extends UploadParts {
  readonly disk: DiskSpool
  /** Key of the content in the bucket; `undefined` for an upload, whose digest is not known yet. */
  readonly key: string | undefined
  readonly events: Pick<Events, 'storageFailed'>
  /** Owns work that the caller does not wait for. */
  readonly background: (work: Promise<void>) => void
}

/**
 * A spool on a local disk that is uploaded to S3 while it grows. Appending never waits for S3, and readers
 * read the disk. S3 shows the parts only when the spool is adopted, after its proof.
 */
export class S3Spool implements UploadSpool {
  readonly #parts: S3SpoolParts
  #upload: Upload | undefined
  #isClosed = false

  constructor(parts: S3SpoolParts) {
    this.#parts = parts
  }

  get sizeBytes(): number {
    return this.#parts.disk.sizeBytes
  }

  get file(): LocalFile | undefined {
    return this.#parts.disk.file
  }

  async append(...pieces: readonly Uint8Array[]): Promise<void> {
    await this.#parts.disk.append(...pieces)
    const { key, connection } = this.#parts
    if (key === undefined || this.sizeBytes <= connection.limits.singlePutBytes) return
    this.#upload ??= this.#begin(key)
    this.#upload.advance(this.sizeBytes)
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    return this.#parts.disk.read(buffer, position)
  }

  async clear(): Promise<void> {
    await this.#drop()
    await this.#parts.disk.clear()
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.#drop()
    await this.#parts.disk.truncate(sizeBytes)
  }

  async sync(): Promise<void> {
    await this.#parts.disk.sync()
  }

  keep(): void {
    this.#parts.disk.keep()
  }

  /**
   * Makes the content visible in the bucket; the local file stays readable until it is disposed of, and
   * nothing is left of it then.
   */
  async adopt(sizeBytes: number, key: string): Promise<void> {
    const { disk, events } = this.#parts
    await disk.surrender(sizeBytes, 'relaxed', async path => {
      await this.#commit(sizeBytes, key)
      this.#upload = undefined
      await unlink(path).catch((error: unknown) => events.storageFailed('spool', error))
    })
  }

  /**
   * What began behind the fill may have met a moment of trouble, so it gets a second chance from the
   * beginning.
   */
  async #commit(sizeBytes: number, key: string): Promise<void> {
    if (sizeBytes <= this.#parts.connection.limits.singlePutBytes) {
      await this.#put(sizeBytes, key)
      return
    }
    const begun = this.#upload
    if (begun !== undefined) {
      try {
        await begun.complete(sizeBytes)
        return
      } catch (error) {
        this.#parts.events.storageFailed('upload', error)
        await this.#drop()
      }
    }
    this.#upload = this.#begin(key)
    try {
      await this.#upload.complete(sizeBytes)
    } catch (error) {
      await this.#drop()
      throw error
    }
  }

  async #put(sizeBytes: number, key: string): Promise<void> {
    const { connection, buffers } = this.#parts
    // A small body waits for no memory: a client waits for a manifest.
    const isFree = sizeBytes <= QUICK_BYTES_MAX
    using lent = isFree ? undefined : await buffers.borrow(sizeBytes, new AbortController().signal)
    const bytes = lent?.bytes ?? Buffer.allocUnsafeSlow(sizeBytes)
    await readPart(this.#read, bytes, { start: 0 })
    await putContent(connection, key, bytes)
  }

  readonly #read = (buffer: Uint8Array, position: number): Promise<number> =>
    this.#parts.disk.read(buffer, position)

  #begin(key: string): Upload {
    return new Upload(this.#parts, key, this.#read)
  }

  /**
   * Stops the upload and takes it back, the latter behind the caller's back: it has the file for itself
   * again.
   */
  async #drop(): Promise<void> {
    const upload = this.#upload
    this.#upload = undefined
    if (upload === undefined) return
    await upload.stop()
    this.#parts.background(upload.abort())
  }

  async remove(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await this.#drop()
    await this.#parts.disk.remove()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await this.#drop()
    await this.#parts.disk[Symbol.asyncDispose]()
  }
}
