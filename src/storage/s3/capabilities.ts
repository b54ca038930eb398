import { randomUUID } from 'node:crypto'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import type { Events } from '../../observe/events.ts'
import { StoreUnavailableError, StoreUnusableError } from '../../oci/error.ts'
import { readBody, WrongAnswerError } from './body.ts'
import type { S3Connection } from './connection.ts'
import { S3Failure } from './failure.ts'

/** The object that a bucket is tried with. It stays there. */
const PROBE_KEY = 'entrepot-probe'
const PROBE = Buffer.from('This object shows that Entrepot can read and write here.\n')

/** Abilities of a bucket's server, and our rights in the bucket. */
interface S3Capabilities {
  /** Without `s3:ListBucket` a missing key is 403 and not 404, so that every miss looks like a fault. */
  readonly showsAbsence: boolean
  readonly canDelete: boolean
  /** Without it, uploads of killed processes cannot be swept. */
  readonly canListUploads: boolean
}

/** Tries a bucket and logs what was found, or that S3 is in trouble. */
export async function describeBucket(
  connection: S3Connection,
  events: Pick<Events, 'storageFailed' | 'storeOpened' | 'warned'>,
): Promise<void> {
  const { bucket, endpoint, prefix } = connection.address
  try {
    const capabilities = await probeBucket(connection)
    events.storeOpened({ store: 's3', bucket, endpoint, prefix, ...capabilities })
    if (!capabilities.showsAbsence) {
      events.warned(
        'S3 does not tell what is missing, so that every miss is logged as a fault: grant s3:ListBucket',
      )
    }
    if (!capabilities.canDelete) {
      events.warned('damaged objects cannot be removed from the bucket: grant s3:DeleteObject')
    }
    if (!capabilities.canListUploads) {
      events.warned(
        'uploads that a killed process left cannot be swept: grant s3:ListBucketMultipartUploads, or set a lifecycle rule',
      )
    }
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error
    events.storageFailed('open-store', error)
    events.warned('S3 does not answer: pulls pass through uncached until it does', { bucket, endpoint })
  }
}

/**
 * Tries a bucket when the store is opened. Throws a {@link StoreUnusableError} if it is missing or cannot be
 * read and written, as waiting does not help there, and a {@link S3Failure} if S3 is in trouble, as it may.
 */
async function probeBucket(connection: S3Connection): Promise<S3Capabilities> {
  try {
    await putProbe(connection)
    await readProbe(connection)
  } catch (error) {
    if (error instanceof WrongAnswerError || (error instanceof S3Failure && !error.isTrouble)) {
      throw new StoreUnusableError(explain(error, connection), { cause: error })
    }
    throw error
  }
  const [showsAbsence, canDelete, canListUploads] = await Promise.all([
    isNot(403, tryAbsent(connection)),
    isNot(403, tryDelete(connection)),
    isNot(403, tryListUploads(connection)),
  ])
  return { showsAbsence, canDelete, canListUploads }
}

/** Writes the probe's object; throws what is wrong. */
export async function putProbe(connection: S3Connection): Promise<void> {
  await connection.send('PutObject', connection.limits.quick, (client, options) =>
    client.send(
      new PutObjectCommand({
        Bucket: connection.bucket,
        Key: connection.key(PROBE_KEY),
        Body: PROBE,
        ContentType: 'text/plain',
      }),
      options,
    ),
  )
}

async function readProbe(connection: S3Connection): Promise<void> {
  const { bucket, limits } = connection
  await connection.send('GetObject', limits.quick, async (client, options) => {
    const { Body } = await client.send(
      new GetObjectCommand({ Bucket: bucket, Key: connection.key(PROBE_KEY) }),
      options,
    )
    const bytes = await readBody(Body, { lengthBytes: PROBE.length, idleMs: limits.idleMs })
    if (!bytes.equals(PROBE)) throw new WrongAnswerError('S3 gives other bytes than were put')
  })
}

async function tryAbsent(connection: S3Connection): Promise<void> {
  await connection.send('GetObject', connection.limits.quick, (client, options) =>
    client.send(
      new GetObjectCommand({ Bucket: connection.bucket, Key: connection.key(`absent-${randomUUID()}`) }),
      options,
    ),
  )
}

async function tryDelete(connection: S3Connection): Promise<void> {
  await connection.send('DeleteObject', connection.limits.quick, (client, options) =>
    client.send(
      new DeleteObjectCommand({ Bucket: connection.bucket, Key: connection.key(`absent-${randomUUID()}`) }),
      options,
    ),
  )
}

async function tryListUploads(connection: S3Connection): Promise<void> {
  await connection.send('ListMultipartUploads', connection.limits.quick, (client, options) =>
    client.send(
      new ListMultipartUploadsCommand({
        Bucket: connection.bucket,
        Prefix: connection.key('blobs/'),
        MaxUploads: 1,
      }),
      options,
    ),
  )
}

async function isNot(status: number, trying: Promise<void>): Promise<boolean> {
  try {
    await trying
    return true
  } catch (error) {
    return !(error instanceof S3Failure && error.status === status)
  }
}

/** The message for the operator, with the setting to change. */
function explain(error: S3Failure | WrongAnswerError, { address, bucket }: S3Connection): string {
  const where = address.endpoint ?? `Amazon S3 in ${address.region}`
  if (error instanceof WrongAnswerError) return `${where} does not behave as S3 does: ${error.message}`
  if (error.code === 'CredentialsProviderError') {
    return `there are no credentials for S3: give --access-key and --secret-key, or what the AWS SDK looks for`
  }
  if (error.code === 'NoSuchBucket') {
    return `${where} has no bucket ${bucket}: create it, or name another with --bucket`
  }
  if (error.status === 301 || error.status === 307 || error.code === 'AuthorizationHeaderMalformed') {
    const region = error.region === undefined ? 'the right one' : error.region
    return `the bucket ${bucket} is in another region than ${address.region}: set --region to ${region}`
  }
  if (error.code === 'InvalidAccessKeyId' || error.code === 'SignatureDoesNotMatch') {
    return `${where} does not know the credentials: check --access-key, --secret-key and --region`
  }
  if (error.status === 403) {
    return `the bucket ${bucket} at ${where} cannot be read and written: grant s3:GetObject and s3:PutObject`
  }
  return `${where} refuses to store into the bucket ${bucket}: check --host, --region and --path-style`
}
