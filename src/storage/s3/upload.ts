import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import type { S3Buffers } from './buffers.ts'
import type { S3Connection } from './connection.ts'
import { hasS3Code } from './failure.ts'
import { headObject } from './object.ts'
import { multipartEtag, type Part, partAfter } from './parts.ts'
import { CONTENT_TYPE } from './put.ts'

/** Parts of one upload that are sent at once. */
const PARTS_AT_ONCE = 2

export interface UploadParts {
  readonly connection: S3Connection
  readonly buffers: S3Buffers
  /** Ids of running uploads of this process, which no sweep may take for orphans. */
  readonly live: Set<string>
}

/** What an upload reads; see {@link SpoolFile.read}. */
export type ReadSpool = (buffer: Uint8Array, position: number) => Promise<number>

/**
 * The multipart upload of content that may still be growing. Nothing is visible before {@link complete},
 * whose last request is the commit. A failure is reported by `complete` only, never to the writer.
 */
export class Upload {
  readonly #parts: UploadParts
  readonly #key: string
  readonly #read: ReadSpool
  readonly #etags: string[] = []
  readonly #running = new Set<Promise<void>>()
  readonly #stop = new AbortController()
  #id: Promise<string> | undefined
  #last: Part | undefined
  #sizeBytes = 0
  #isWhole = false
  #failure: { readonly error: unknown } | undefined

  constructor(parts: UploadParts, key: string, read: ReadSpool) {
    this.#parts = parts
    this.#key = key
    this.#read = read
  }

  /** Reports the new size, and starts the parts that are full. Never throws. */
  advance(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes
    this.#launch()
  }

  /**
   * Uploads the rest and makes the content visible. If this throws, nothing has become visible, and {@link
   * abort} is due.
   */
  async complete(sizeBytes: number): Promise<void> {
    this.#isWhole = true
    this.advance(sizeBytes)
    while (this.#running.size > 0) await Promise.all(this.#running)
    if (this.#failure !== undefined) throw this.#failure.error
    const id = await this.#create()
    try {
      await this.#commit(id)
    } catch (error) {
      // The answer to a successful Complete may be lost. Then the next try finds no upload any more.
      if (!(await this.#isCommitted().catch(() => false))) throw error
    }
    this.#parts.live.delete(id)
  }

  /** Stops all parts. Resolves when none reads the spool any more. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('the upload is not wanted any more'))
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  /**
   * Removes all parts. The upload must have been stopped: a part that arrives later would stay for ever.
   */
  async abort(): Promise<void> {
    const id = await this.#id?.catch(() => undefined)
    if (id === undefined) return
    const { connection, live } = this.#parts
    // If this fails, the sweep may remove the upload.
    live.delete(id)
    try {
      await connection.tidy('AbortMultipartUpload', (client, options) =>
        client.send(new AbortMultipartUploadCommand({ ...this.#where(), UploadId: id }), options),
      )
    } catch (error) {
      if (!hasS3Code(error, 'NoSuchUpload')) throw error
    }
  }

  #launch(): void {
    while (this.#running.size < PARTS_AT_ONCE && this.#failure === undefined && !this.#stop.signal.aborted) {
      const next = this.#next()
      if (next === undefined) return
      this.#last = next
      const running = this.#upload(next)
        .catch((error: unknown) => {
          this.#failure ??= { error }
        })
        .finally(() => {
          this.#running.delete(running)
          this.#launch()
        })
      this.#running.add(running)
    }
  }

  /** The next part that is full, or the last one once the content is whole. */
  #next(): Part | undefined {
    const next = partAfter(this.#last, this.#parts.connection.limits.partBytes)
    if (next.end <= this.#sizeBytes) return next
    return this.#isWhole && next.start < this.#sizeBytes ? { ...next, end: this.#sizeBytes } : undefined
  }

  async #upload(part: Part): Promise<void> {
    const { connection, buffers } = this.#parts
    const { signal } = this.#stop
    const id = await this.#create()
    using buffer = await buffers.borrow(part.end - part.start, signal)
    await readPart(this.#read, buffer.bytes, part)
    const { limits } = connection
    const { ETag } = await connection.send(
      'UploadPart',
      limits.transfer,
      (client, options) =>
        client.send(
          new UploadPartCommand({
            ...this.#where(),
            UploadId: id,
            PartNumber: part.number,
            Body: buffer.bytes,
          }),
          options,
        ),
      signal,
    )
    if (ETag === undefined) throw new Error('S3 took a part and gave no ETag for it')
    this.#etags[part.number - 1] = ETag
  }

  /** Begins the upload, once. Never aborted half-way: its id would be lost. */
  #create(): Promise<string> {
    this.#id ??= this.#createOnce()
    return this.#id
  }

  async #createOnce(): Promise<string> {
    const { connection, live } = this.#parts
    const { UploadId } = await connection.send(
      'CreateMultipartUpload',
      connection.limits.quick,
      (client, options) =>
        client.send(
          new CreateMultipartUploadCommand({ ...this.#where(), ContentType: CONTENT_TYPE }),
          options,
        ),
    )
    if (UploadId === undefined) throw new Error('S3 began an upload without an id')
    live.add(UploadId)
    return UploadId
  }

  async #commit(id: string): Promise<void> {
    const { connection } = this.#parts
    const parts = this.#etags.map((etag, index) => ({ ETag: etag, PartNumber: index + 1 }))
    await connection.send('CompleteMultipartUpload', connection.limits.transfer, (client, options) =>
      client.send(
        new CompleteMultipartUploadCommand({
          ...this.#where(),
          UploadId: id,
          MultipartUpload: { Parts: parts },
        }),
        options,
      ),
    )
  }

  /** True if the visible object is the one that these parts make. */
  async #isCommitted(): Promise<boolean> {
    const etag = multipartEtag(this.#etags)
    if (etag === undefined) return false
    const head = await headObject(this.#parts.connection, this.#key)
    return head?.etag === etag && head.sizeBytes === this.#sizeBytes
  }

  #where(): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.#parts.connection.bucket, Key: this.#key }
  }
}

/** Fills a buffer with the bytes of a part. */
export async function readPart(
  read: ReadSpool,
  bytes: Buffer,
  { start }: Pick<Part, 'start'>,
): Promise<void> {
  for (let filled = 0; filled < bytes.length; ) {
    const count = await read(bytes.subarray(filled), start + filled)
    if (count === 0) throw new Error(`the spool ends at byte ${start + filled}, which it had before`)
    filled += count
  }
}
