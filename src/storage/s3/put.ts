import { PutObjectCommand } from '@aws-sdk/client-s3'
import type { StoreWrite, WriteStep } from '../store.ts'
import type { S3Connection } from './connection.ts'

/** The media type of all content. Clients get theirs from elsewhere. */
export const CONTENT_TYPE = 'application/octet-stream'
/** Bodies up to this size count as quick. In bytes. */
export const QUICK_BYTES_MAX = 1024 * 1024
/** Most requests of one step that run at once. */
const WRITES_AT_ONCE = 16

/** Puts content in one request. The bytes must not change before this resolves. */
export async function putContent(connection: S3Connection, key: string, bytes: Uint8Array): Promise<void> {
  const { bucket, limits } = connection
  const isQuick = bytes.byteLength <= QUICK_BYTES_MAX
  const allowed = isQuick ? limits.quick : limits.transfer
  await connection.send('PutObject', allowed, async (client, options) => {
    const direct = { method: 'PUT', key, body: bytes, contentType: CONTENT_TYPE } as const
    if (isQuick && (await connection.direct.send(direct, options)) === true) return
    const object = { Bucket: bucket, Key: key, Body: bytes, ContentType: CONTENT_TYPE }
    await client.send(new PutObjectCommand(object), options)
  })
}

/** Runs the writes of a step beside each other, and all of them before the next step. */
export async function inSteps(
  steps: readonly WriteStep[],
  write: (write: StoreWrite) => Promise<void>,
): Promise<void> {
  for (const step of steps) {
    for (let start = 0; start < step.length; start += WRITES_AT_ONCE) {
      const ends = await Promise.allSettled(step.slice(start, start + WRITES_AT_ONCE).map(write))
      // Thrown when none runs any more, so that the caller can try again.
      for (const end of ends) if (end.status === 'rejected') throw end.reason
    }
  }
}
