import { DeleteObjectCommand, DeleteObjectsCommand } from '@aws-sdk/client-s3'
import type { S3Connection } from './connection.ts'
import { S3Failure } from './failure.ts'

/** Most keys in one request, by the S3 API. */
const KEYS_MAX = 1000
const SINGLES_AT_ONCE = 16
/** Time in which calls share a request, in milliseconds. */
const GATHER_MS = 10

interface Waiting {
  readonly key: string
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/**
 * Deletes objects without asking whether they exist. Calls within a few milliseconds share a request.
 * A server that does not know batches (501 or 405, or without the checksum that it wants: 400) gets single
 * requests from then on.
 */
export class BatchDelete {
  readonly #connection: S3Connection
  #waiting: Waiting[] = []
  #isBatching = true

  constructor(connection: S3Connection) {
    this.#connection = connection
  }

  /** Resolves once the object is gone. */
  async delete(key: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#waiting.push({ key, resolve, reject })
    if (this.#waiting.length === 1) setTimeout(() => this.#flush(), GATHER_MS)
    await promise
  }

  #flush(): void {
    const all = this.#waiting
    this.#waiting = []
    for (let start = 0; start < all.length; start += KEYS_MAX)
      void this.#deleteAll(all.slice(start, start + KEYS_MAX))
  }

  /** Settles every call; never rejects. */
  async #deleteAll(batch: readonly Waiting[]): Promise<void> {
    if (!this.#isBatching || batch.length === 1) {
      await this.#deleteSingly(batch)
      return
    }
    try {
      const failed = await this.#send(batch.map(({ key }) => key))
      for (const { key, resolve, reject } of batch) {
        const code = failed.get(key)
        if (code === undefined) resolve()
        else reject(new Error(`S3 did not delete ${key}: ${code}`))
      }
    } catch (error) {
      if (error instanceof S3Failure && UNKNOWN.has(error.status)) {
        this.#isBatching = false
        await this.#deleteSingly(batch)
      } else for (const { reject } of batch) reject(error)
    }
  }

  /** The keys that could not be deleted, with the codes of their errors. */
  async #send(keys: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const { bucket, limits } = this.#connection
    return await this.#connection.send('DeleteObjects', limits.stream, async (client, options) => {
      const objects = keys.map(Key => ({ Key }))
      const command = new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects: objects, Quiet: true } })
      const { Errors = [] } = await client.send(command, options)
      // What is gone is not an error.
      const failed = Errors.filter(({ Code }) => Code !== 'NoSuchKey')
      return new Map(failed.map(({ Key = '', Code = 'unknown' }) => [Key, Code]))
    })
  }

  async #deleteSingly(batch: readonly Waiting[]): Promise<void> {
    const waiting = [...batch]
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await this.#deleteOne(next)
    }
    await Promise.all(Array.from({ length: SINGLES_AT_ONCE }, work))
  }

  async #deleteOne({ key, resolve, reject }: Waiting): Promise<void> {
    const { bucket, limits } = this.#connection
    try {
      await this.#connection.send('DeleteObject', limits.quick, (client, options) =>
        client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }), options),
      )
      resolve()
    } catch (error) {
      reject(error)
    }
  }
}

const UNKNOWN: ReadonlySet<number | undefined> = new Set([400, 405, 501])
