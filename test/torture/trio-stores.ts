import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { GetObjectCommand, paginateListObjectsV2 } from '@aws-sdk/client-s3'
import { parseContentKey } from '../../src/storage/layout.ts'
import { clientOf, makeBucket, type S3Server } from '../s3/rig/bucket.ts'
import { storeArguments } from '../s3/rig/entrepot.ts'
import { RADOSGW_PROGRAMS, startRadosgw } from '../s3/rig/radosgw.ts'
import { skipWithout } from '../s3/rig/requirements.ts'
import { SWIFT_PROGRAMS, startSwift } from '../s3/rig/swift.ts'
import type { DaemonOptions } from './daemon.ts'
import { NotRun, type Tally } from './rig.ts'
import { verifyVisible } from './state.ts'

/** Where the replicas of a rig keep what they have. */
export interface TrioStores extends AsyncDisposable {
  /** What one replica is started with. */
  of(index: number): Pick<DaemonOptions, 'root' | 'store' | 'env'>
  /** Compares everything that is stored under a digest with that digest. */
  verify(tally: Tally): Promise<void>
}

/** A server of the bucket that all replicas share. */
export type BucketServer = keyof typeof SERVERS

const SERVERS = {
  radosgw: { programs: RADOSGW_PROGRAMS, start: startRadosgw },
  Swift: { programs: SWIFT_PROGRAMS, start: startSwift },
} as const

/** A directory for each replica. */
export function directories(directory: string): TrioStores {
  const roots = new Set<string>()
  return {
    of: index => {
      const root = join(directory, `root-${index}`)
      roots.add(root)
      return { root }
    },
    verify: async tally => {
      for (const root of roots) await verifyVisible(root, tally)
    },
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  }
}

/** One bucket of a real server for all replicas. Throws a {@link NotRun} if the machine lacks the server. */
export async function oneBucket(name: BucketServer, directory: string): Promise<TrioStores> {
  const { programs, start } = SERVERS[name]
  const why = skipWithout(programs)
  if (why !== false) throw new NotRun(why)
  const server = await start()
  const address = await makeBucket(server)
  return {
    of: index => {
      const root = join(directory, `spool-${index}`)
      return { root, ...storeArguments(address, root) }
    },
    verify: async tally => await verifyBucket(server, address, tally),
    [Symbol.asyncDispose]: async () => await server[Symbol.asyncDispose](),
  }
}

async function verifyBucket(
  server: S3Server,
  { bucket, prefix }: { readonly bucket: string; readonly prefix: string },
  tally: Tally,
): Promise<void> {
  const client = clientOf(server)
  const pages = paginateListObjectsV2({ client }, { Bucket: bucket, Prefix: `${prefix}blobs/` })
  let blobs = 0
  for await (const { Contents = [] } of pages) {
    for (const { Key = '' } of Contents) {
      const digest = parseContentKey(Key.slice(prefix.length))
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }))
      const bytes = (await Body?.transformToByteArray()) ?? new Uint8Array(0)
      const actual = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
      if (digest === actual) blobs += 1
      else tally.bad(`the object ${Key} hashes to ${actual}`)
    }
  }
  client.destroy()
  tally.figure('blobs in the bucket', blobs)
  if (blobs === 0) tally.violate('nothing was stored in the bucket')
}
