import { randomUUID } from 'node:crypto'
import { GetObjectCommand, HeadObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { RECORD_BYTES_MAX } from '../layout.ts'
import type { AgedRecord, Creation } from '../store.ts'
import { destroyBody, readBody, WrongAnswerError } from './body.ts'
import type { Call, S3Connection } from './connection.ts'
import { isAbsent, S3Failure } from './failure.ts'

/** Metadata of an object that tells its writer from others that write the same bytes. */
const WRITER = 'entrepot-writer'
/** Attempts to create an object while others create or delete it. */
const CONFLICTS_MAX = 6
const CONFLICT_PAUSE_MS = 50
const CREATED = { kind: 'created' } as const

/** A small object as it was read. */
export interface SmallObject extends AgedRecord {
  readonly writer: string | undefined
}

export interface WriteOptions {
  readonly writer?: string
  /** Fail with 412 if the object exists. */
  readonly isNew?: boolean
  readonly signal?: AbortSignal | undefined
}

/** Reads a whole object of at most 64 KiB; `undefined` if it does not exist. */
export async function readSmallObject(
  connection: S3Connection,
  key: string,
  signal?: AbortSignal,
): Promise<SmallObject | undefined> {
  try {
    return await connection.send('GetObject', connection.limits.quick, readCall(connection, key), signal)
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

/**
 * True if a small object exists. A HEAD brings no body: with Ceph's radosgw a body comes 40 ms after its
 * headers on a connection that is used again, because the two are sent separately (Nagle's algorithm). The
 * answer to a HEAD does not say what is missing, so a 404 which is not that of an S3 server is not believed;
 * a missing bucket counts as a missing object.
 */
export async function hasSmallObject(connection: S3Connection, key: string): Promise<boolean> {
  const head: Call<boolean> = async (client, options) => {
    const found = await connection.direct.send({ method: 'HEAD', key }, options)
    if (found !== undefined) return found === true
    await client.send(new HeadObjectCommand({ Bucket: connection.bucket, Key: key }), options)
    return true
  }
  try {
    return await connection.send('HeadObject', connection.limits.quick, head)
  } catch (error) {
    if (!isAbsent(error)) throw error
    return error.isOfS3 ? false : (await readSmallObject(connection, key)) !== undefined
  }
}

function readCall({ bucket, limits }: S3Connection, key: string): Call<SmallObject> {
  return async (client, options) => {
    const command = new GetObjectCommand({ Bucket: bucket, Key: key })
    const dated: { text?: string | undefined } = {}
    command.middlewareStack.add(
      next => async args => {
        const result = await next(args)
        const { headers } = result.response as { readonly headers?: Readonly<Record<string, string>> }
        dated.text = headers?.['date']
        return result
      },
      { step: 'deserialize', name: 'readDate' },
    )
    const { Body, ContentLength, LastModified, Metadata } = await client.send(command, options)
    if (ContentLength === undefined || ContentLength > RECORD_BYTES_MAX) {
      destroyBody(Body)
      throw new WrongAnswerError(`the record ${key} is broken: ${ContentLength} bytes`)
    }
    const bytes = await readBody(Body, { lengthBytes: ContentLength, idleMs: limits.idleMs })
    const ageMs = Math.max(0, Date.parse(dated.text ?? '') - (LastModified?.getTime() ?? Number.NaN))
    return { bytes, ageMs, writer: Metadata?.[WRITER] }
  }
}

/** Writes a small object. */
export async function writeSmallObject(
  connection: S3Connection,
  key: string,
  bytes: Uint8Array,
  { writer, isNew = false, signal }: WriteOptions = {},
): Promise<void> {
  // The SDK may send it again after the caller has changed it.
  const body = Uint8Array.from(bytes)
  const isPlain = writer === undefined && !isNew
  const send: Call<unknown> = async (client, options) => {
    if (isPlain && (await connection.direct.send({ method: 'PUT', key, body }, options)) === true) return
    await client.send(
      new PutObjectCommand({
        Bucket: connection.bucket,
        Key: key,
        Body: body,
        ...(writer === undefined ? {} : { Metadata: { [WRITER]: writer } }),
        ...(isNew ? { IfNoneMatch: '*' } : {}),
      }),
      options,
    )
  }
  await connection.send('PutObject', connection.limits.quick, send, signal)
}

/**
 * Creates an object unless it exists, by a conditional PUT. The answer may be lost, and a PUT may be repeated
 * by the SDK or by a proxy: then 412 speaks of our own first one. So whatever is not a plain yes is settled
 * by a look at the object, which names its writer.
 */
export async function createObject(
  connection: S3Connection,
  key: string,
  bytes: Uint8Array,
  signal?: AbortSignal,
): Promise<Creation> {
  const writer = randomUUID()
  for (let attempt = 1; ; attempt += 1) {
    try {
      await writeSmallObject(connection, key, bytes, { writer, isNew: true, signal })
      return CREATED
    } catch (error) {
      const next = nextAfter(error)
      if (next === 'give-up') throw error
      const found = await readSmallObject(connection, key, signal)
      if (found !== undefined)
        return found.writer === writer ? CREATED : { kind: 'exists', bytes: found.bytes }
      if (next === 'look' || attempt === CONFLICTS_MAX) throw error
      await connection.clock.delay(CONFLICT_PAUSE_MS * 2 ** attempt * Math.random(), signal)
    }
  }
}

/**
 * What a failed creation calls for. A conflict may be repeated: another creation or a deletion ran at the
 * same moment, for which S3 answers 409, 412 or 404. After trouble the PUT may have been performed, or may
 * yet be, so it is not repeated.
 */
function nextAfter(error: unknown): 'give-up' | 'look' | 'repeat' {
  if (!(error instanceof S3Failure)) return 'give-up'
  if (error.status === 412 || error.status === 409 || error.isAbsent) return 'repeat'
  return error.isTrouble && error.status !== 501 ? 'look' : 'give-up'
}

/**
 * Creates an object unless it exists, where conditional PUTs cannot be relied on: one caller at a time, in
 * this process only. Of several processes the last one to write wins, and those that look after it agree.
 */
export async function createObjectAlone(
  connection: S3Connection,
  key: string,
  bytes: Uint8Array,
): Promise<Creation> {
  const before = await readSmallObject(connection, key)
  if (before !== undefined) return { kind: 'exists', bytes: before.bytes }
  const writer = randomUUID()
  await writeSmallObject(connection, key, bytes, { writer })
  const after = await readSmallObject(connection, key)
  return after === undefined || after.writer === writer ? CREATED : { kind: 'exists', bytes: after.bytes }
}
