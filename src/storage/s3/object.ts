import { GetObjectCommand, type GetObjectCommandOutput, HeadObjectCommand } from '@aws-sdk/client-s3'
import { free } from '../../lib/read-ahead.ts'
import { StoreUnavailableError } from '../../oci/error.ts'
import type { StoredObject } from '../store.ts'
import { CutError, destroyBody, piecesOf, readBody, WrongAnswerError } from './body.ts'
import type { S3Connection } from './connection.ts'
import { isAbsent, S3Failure } from './failure.ts'

/** Number of resumes of one read after a cut, and of resumes in a row without progress. */
const RESUMES_MAX = 10
const FUTILE_MAX = 3
const PAUSE_MS = 100

/**
 * Opens the object under a key; `undefined` if it does not exist. One request brings its size, its version
 * and its beginning: a hit on a manifest costs no second one.
 */
export async function openS3Object(connection: S3Connection, key: string): Promise<S3Object | undefined> {
  const { bucket, limits } = connection
  try {
    return await connection.send('GetObject', limits.quick, async (client, options) => {
      const range = `bytes=0-${limits.prefixBytes - 1}`
      const answer = await client.send(
        new GetObjectCommand({ Bucket: bucket, Key: key, Range: range }),
        options,
      )
      const sizeBytes = totalBytes(answer)
      const lengthBytes = Math.min(sizeBytes, limits.prefixBytes)
      if (answer.ContentLength !== lengthBytes) {
        destroyBody(answer.Body)
        throw new WrongAnswerError(`S3 answers ${answer.ContentLength} bytes to a request for ${range}`)
      }
      const prefix = await readBody(answer.Body, { lengthBytes, idleMs: limits.idleMs })
      const modifiedAtMs = answer.LastModified?.getTime() ?? 0
      return new S3Object(connection, { key, sizeBytes, etag: etagOf(answer), modifiedAtMs, prefix })
    })
  } catch (error) {
    if (isAbsent(error)) return undefined
    // No range of an object of no bytes can be satisfied.
    if (error instanceof S3Failure && error.status === 416) return openEmpty(connection, key)
    throw error
  }
}

async function openEmpty(connection: S3Connection, key: string): Promise<S3Object | undefined> {
  const head = await headObject(connection, key)
  if (head === undefined) return undefined
  if (head.sizeBytes !== 0) throw new Error(`S3 cannot range over an object of ${head.sizeBytes} bytes`)
  return new S3Object(connection, { key, ...head, modifiedAtMs: 0, prefix: Buffer.alloc(0) })
}

/** The size and ETag of an object; `undefined` if it does not exist. */
export async function headObject(
  connection: S3Connection,
  key: string,
): Promise<{ readonly sizeBytes: number; readonly etag: string } | undefined> {
  try {
    const head = await connection.send('HeadObject', connection.limits.quick, (client, options) =>
      client.send(new HeadObjectCommand({ Bucket: connection.bucket, Key: key }), options),
    )
    return { sizeBytes: head.ContentLength ?? 0, etag: etagOf(head) }
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

interface S3ObjectParts {
  readonly key: string
  readonly sizeBytes: number
  readonly etag: string
  readonly modifiedAtMs: number
  readonly prefix: Uint8Array
}

/** Content in a bucket. It holds no connection between reads. */
export class S3Object implements StoredObject {
  readonly sizeBytes: number
  readonly version: string
  /** In milliseconds since 1970, by S3's clock; 0 if it is unknown. */
  readonly modifiedAtMs: number
  readonly #connection: S3Connection
  readonly #parts: S3ObjectParts

  constructor(connection: S3Connection, parts: S3ObjectParts) {
    this.#connection = connection
    this.#parts = parts
    this.sizeBytes = parts.sizeBytes
    this.modifiedAtMs = parts.modifiedAtMs
    // An ETag changes with the bytes, and stays when a replica puts the same bytes again: our part sizes
    // follow from the size alone.
    this.version = `${parts.etag}-${parts.sizeBytes}`
  }

  async *read(start: number, end: number): AsyncGenerator<Uint8Array> {
    if (!(start >= 0 && start <= end && end <= this.sizeBytes)) {
      throw new RangeError(`bytes ${start} to ${end} are not within an object of ${this.sizeBytes} bytes`)
    }
    const { prefix } = this.#parts
    let position = start
    if (position < Math.min(end, prefix.length)) {
      const piece = prefix.subarray(position, end)
      position += piece.length
      yield piece
    }
    if (position < end) yield* this.#stream(position, end)
  }

  /** Resumes after each cut, as long as that makes progress. */
  async *#stream(start: number, end: number): AsyncGenerator<Uint8Array> {
    let position = start
    let futile = 0
    for (let resumes = 0; position < end; resumes += 1) {
      const before = position
      try {
        for await (const piece of this.#get(position, end)) {
          position += piece.length
          yield piece
        }
        if (position < end) throw new CutError('ended', `S3 ended at byte ${position} of ${this.sizeBytes}`)
      } catch (error) {
        futile = position > before ? 0 : futile + 1
        if (!isWorthwhile(error) || futile === FUTILE_MAX || resumes === RESUMES_MAX) throw this.#final(error)
        await this.#connection.clock.delay(PAUSE_MS * (resumes + Math.random()))
      }
    }
  }

  /**
   * A cut that persists is S3's trouble if connections break, and damage of the object if they end early.
   */
  #final(error: unknown): unknown {
    return error instanceof CutError && error.kind === 'broken' ? new S3Failure('GetObject', error) : error
  }

  async *#get(start: number, end: number): AsyncGenerator<Uint8Array> {
    const { limits } = this.#connection
    const { Body, ContentRange, ETag } = await this.#request(start, end)
    if (ETag !== undefined && ETag !== this.#parts.etag) {
      destroyBody(Body)
      throw new StoreUnavailableError(
        `S3 has other content now than was opened: ${ETag}, not ${this.version}`,
      )
    }
    if (ContentRange !== `bytes ${start}-${end - 1}/${this.sizeBytes}`) {
      destroyBody(Body)
      throw new WrongAnswerError(`S3 answers ${ContentRange} to a request for bytes ${start} to ${end}`)
    }
    let left = end - start
    for await (const piece of piecesOf(Body, limits.idleMs)) {
      left -= piece.length
      if (left < 0) throw new WrongAnswerError(`S3 sends more than bytes ${start} to ${end}`)
      yield piece
      free(piece)
    }
  }

  /** If-Match: the rest of a read must belong to the same object as its beginning. */
  async #request(start: number, end: number): Promise<GetObjectCommandOutput> {
    const { bucket, limits } = this.#connection
    const { key, etag } = this.#parts
    const range = { Range: `bytes=${start}-${end - 1}`, ...(etag.startsWith('"') ? { IfMatch: etag } : {}) }
    return this.#connection.send('GetObject', limits.stream, (client, options) =>
      client.send(new GetObjectCommand({ Bucket: bucket, Key: key, ...range }), options),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Each read destroys its own body.
  }
}

function isWorthwhile(error: unknown): boolean {
  return error instanceof CutError || (error instanceof S3Failure && error.isTrouble)
}

function etagOf({
  ETag,
  LastModified,
}: {
  ETag?: string | undefined
  LastModified?: Date | undefined
}): string {
  return ETag ?? LastModified?.toISOString() ?? ''
}

/** The size of the whole object, from the answer to a request for its beginning. */
function totalBytes({ ContentRange, ContentLength, Body }: GetObjectCommandOutput): number {
  if (ContentRange === undefined && ContentLength !== undefined) return ContentLength
  const [, total] = /^bytes 0-[0-9]+\/([0-9]+)$/.exec(ContentRange ?? '') ?? []
  if (total !== undefined) return Number(total)
  destroyBody(Body)
  throw new WrongAnswerError(`S3 answers the range ${ContentRange} without the size of the object`)
}
