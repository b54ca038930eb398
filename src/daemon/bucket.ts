import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { StoreConfig } from '../config/config.ts'
import { systemClock } from '../lib/clock.ts'
import type { BufferPool } from '../lib/reader-buffers.ts'
import type { Events } from '../observe/events.ts'
import { CopyDirectory } from '../storage/copies/copy-directory.ts'
import { CopyingStore } from '../storage/copies/copying-store.ts'
import { COPIES_PREFIX } from '../storage/filesystem/spool-sweep.ts'
import type { Store } from '../storage/store.ts'

/** The settings of a cache in a bucket. */
export type BucketConfig = StoreConfig & { readonly kind: 's3' }

/** Larger blobs are sent to the bucket with `--redirect`, so that no copy of them would be used. */
const COPY_BYTES_REDIRECTING = 256 * 1024

interface BucketParts {
  readonly events: Events
  readonly buffers: BufferPool
  /** Accept a spool directory that cannot be written. */
  readonly mayBeUnwritable: boolean
}

/** Opens the store in a bucket, with local copies if they are configured. */
export async function openBucket(config: BucketConfig, parts: BucketParts): Promise<Store> {
  const { events, buffers, mayBeUnwritable } = parts
  // The AWS SDK takes a tenth of a second and 37 MB to load, so only S3 users load it.
  const { openS3Store } = await import('../storage/s3/store.ts')
  const { bucket, region, endpoint, prefix, isPathStyle, accessKey, secretKey, copiesBytes = 0 } = config
  const isKeyed = accessKey !== undefined && secretKey !== undefined
  const store = await openS3Store({
    address: {
      bucket,
      region,
      endpoint,
      prefix,
      isPathStyle,
      credentials: isKeyed
        ? { accessKeyId: accessKey.reveal(), secretAccessKey: secretKey.reveal() }
        : undefined,
    },
    spoolDirectory: config.spoolDirectory,
    redirect: config.isRedirecting ? { endpoint: config.redirectEndpoint } : undefined,
    events,
    mayBeUnwritable,
  })
  if (copiesBytes === 0) return store
  const directory = new CopyDirectory({
    path: join(config.spoolDirectory, `${COPIES_PREFIX}${bucketMark(config)}`),
    maxBytes: copiesBytes,
    ...(config.isRedirecting ? { copyBytesMax: COPY_BYTES_REDIRECTING } : {}),
    buffers,
    clock: systemClock,
    events,
  })
  return new CopyingStore({ store, directory, events })
}

/**
 * Tells buckets apart in the names of files. The spool directory may serve several buckets, one after
 * another, so each has an index and local copies of its own.
 */
export function bucketMark({ endpoint = '', bucket, prefix }: BucketConfig): string {
  return createHash('sha256').update(`${endpoint} ${bucket} ${prefix}`).digest('hex').slice(0, 16)
}
