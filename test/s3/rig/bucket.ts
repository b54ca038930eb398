import { CreateBucketCommand, DeleteObjectsCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3'
import type { S3Address } from '../../../src/storage/s3/connection.ts'

/** A real S3 server that the rig has started. */
export interface S3Server extends AsyncDisposable {
  readonly name: string
  /** Such as `http://127.0.0.1:1234`. */
  readonly endpoint: string
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string }
  /** Ends the process that answers by SIGKILL; what it has acknowledged stays. */
  kill(): Promise<void>
  /** Starts it again after {@link kill}. */
  revive(): Promise<void>
}

let made = 0

/** Makes a bucket that nobody else uses. */
export async function makeBucket(server: S3Server): Promise<S3Address> {
  made += 1
  const bucket = `cache-${made}`
  const client = clientOf(server)
  await client.send(new CreateBucketCommand({ Bucket: bucket }))
  client.destroy()
  return {
    bucket,
    region: 'us-east-1',
    endpoint: server.endpoint,
    isPathStyle: true,
    prefix: 'mirror/',
    credentials: server.credentials,
  }
}

/** Throws away all that lies in a bucket: the servers hold everything in memory. */
export async function emptyBucket(server: S3Server, bucket: string): Promise<void> {
  const client = clientOf(server)
  for (;;) {
    const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: bucket }))
    if (Contents.length === 0) break
    const Objects = Contents.map(({ Key }) => ({ Key }))
    await client.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects } }))
  }
  client.destroy()
}

/** The sizes of all content below the prefix of an address, added up. */
export async function bytesIn(server: S3Server, { bucket, prefix }: S3Address): Promise<number> {
  const client = clientOf(server)
  const { Contents = [] } = await client.send(
    new ListObjectsV2Command({ Bucket: bucket, Prefix: `${prefix}blobs/` }),
  )
  client.destroy()
  return Contents.reduce((sum, { Size = 0 }) => sum + Size, 0)
}

/** A plain client of a server, to look behind the store's back. */
export function clientOf({ endpoint, credentials }: S3Server): S3Client {
  return new S3Client({
    endpoint,
    credentials,
    region: 'us-east-1',
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  })
}
