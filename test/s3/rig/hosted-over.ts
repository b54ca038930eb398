import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { S3Address } from '../../../src/storage/s3/connection.ts'
import type { S3Limits } from '../../../src/storage/s3/limits.ts'
import { openS3Store, type S3Store } from '../../../src/storage/s3/store.ts'
import { seenS3Events } from '../../storage/s3/rooms.ts'
import { type HostedMirror, startHosted } from '../../support/hosted.ts'

/** A store over a bucket, until the test ends. */
export async function openStoreOver(
  t: TestContext,
  address: S3Address,
  limits: Partial<S3Limits> = {},
): Promise<S3Store> {
  const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-s3-hosted-'))
  t.after(async () => await rm(spoolDirectory, { recursive: true, force: true }))
  return await openS3Store({ address, spoolDirectory, events: seenS3Events(), limits })
}

/** A daemon with hosted repositories over a bucket, until the test ends. */
export async function startHostedOver(
  t: TestContext,
  address: S3Address,
  limits: Partial<S3Limits> = {},
): Promise<HostedMirror> {
  const hosted = await startHosted({ overrides: { store: await openStoreOver(t, address, limits) } })
  t.after(async () => await hosted[Symbol.asyncDispose]())
  return hosted
}
