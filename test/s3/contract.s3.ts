import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { systemClock } from '../../src/lib/clock.ts'
import { BufferPool } from '../../src/lib/reader-buffers.ts'
import { StoreUnusableError } from '../../src/oci/error.ts'
import { CopyDirectory } from '../../src/storage/copies/copy-directory.ts'
import { CopyingStore } from '../../src/storage/copies/copying-store.ts'
import { contentKey } from '../../src/storage/layout.ts'
import type { S3Address } from '../../src/storage/s3/connection.ts'
import { openS3Store, type S3Store } from '../../src/storage/s3/store.ts'
import { defined, get, put, readAll, sample, storeContract } from '../storage/contract.ts'
import { clockAhead, scratchOf, seenS3Events } from '../storage/s3/rooms.ts'
import { clientOf, makeBucket, type S3Server } from './rig/bucket.ts'
import { againstServers } from './servers.ts'

const MiB = 1024 * 1024
const DAY_MS = 24 * 3_600_000

againstServers('the store', server => {
  storeContract('S3Store', async () => {
    const address = await makeBucket(server())
    const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-contract-'))
    const events = seenS3Events()
    const store = await openS3Store({ address, spoolDirectory, events })
    return {
      store,
      mayLoseHandles: true,
      cleanup: async () => {
        const scratch = await scratchOf(spoolDirectory)
        await rm(spoolDirectory, { recursive: true })
        assert.deepEqual(scratch, [])
        assert.deepEqual(events.failures, [])
        assert.deepEqual(await uploadsIn(server(), address), [])
      },
    }
  })

  test('content of several parts goes up while it comes, and is whole', async t => {
    const { store, address } = await room(t, server())
    const { bytes, digest } = sample(37 * MiB + 11)
    const versions: string[] = []
    for (const step of [64 * 1024, 5 * MiB]) {
      await using spool = await store.createSpool(digest)
      for (let start = 0; start < bytes.length; start += step)
        await spool.append(bytes.subarray(start, start + step))
      await store.adopt(spool, digest, bytes.length)
      await using object = defined(await store.open(digest))
      versions.push(object.version)
    }
    assert.ok(defined(await get(store, digest)).equals(bytes))
    assert.equal(new Set(versions).size, 1)
    assert.deepEqual(await uploadsIn(server(), address), [])
  })

  test('content that is discarded in one turn is gone, and what never was there is no error', async t => {
    const { store } = await room(t, server())
    const samples = Array.from({ length: 40 }, (_, size) => sample(1000 + size))
    for (const { bytes, digest } of samples) await put(store, digest, bytes)
    const [kept, ...others] = samples
    const absent = sample(5000)
    await Promise.all([...others, absent].map(async ({ digest }) => await store.discard(digest)))
    const left: string[] = []
    for await (const { digest } of store.list()) left.push(digest)
    assert.deepEqual(left, [kept?.digest])
  })

  test('a local copy answers without a request to the bucket, after a restart too, and goes with its content', async t => {
    const [address, spoolDirectory] = [
      await makeBucket(server()),
      await mkdtemp(join(tmpdir(), 'entrepot-s3-')),
    ]
    t.after(async () => rm(spoolDirectory, { recursive: true, force: true }))
    const reads: string[] = []
    const events = {
      ...seenS3Events(),
      s3Answered: ({ operation }: { readonly operation: string }) => {
        if (operation === 'GetObject' || operation === 'HeadObject') reads.push(operation)
      },
    }
    const open = async (): Promise<CopyingStore> => {
      const store = await openS3Store({ address, spoolDirectory, events })
      const path = join(spoolDirectory, 'copies-test')
      const parts = { path, maxBytes: 64 * MiB, buffers: new BufferPool(), clock: systemClock, events }
      const directory = new CopyDirectory(parts)
      await directory.loaded()
      return new CopyingStore({ store, directory, events })
    }
    const { bytes, digest } = sample(MiB)
    {
      await using store = await open()
      await put(store, digest, bytes)
    }
    await using store = await open()
    await (await store.open(digest))?.[Symbol.asyncDispose]()
    const before = reads.length
    {
      await using copy = defined(await store.copies.open(digest))
      assert.ok((await readAll(copy)).equals(bytes))
    }
    assert.ok(before > 0)
    assert.equal(reads.length, before)
    assert.equal(await store.delete(digest), true)
    assert.equal(await store.copies.open(digest), undefined)
    assert.deepEqual(events.failures, [])
  })

  test('an upload that is given up is aborted, and an orphan is swept after a day', async t => {
    const { store, address } = await room(t, server())
    const { bytes, digest } = sample(20 * MiB)
    {
      await using spool = await store.createSpool(digest)
      await spool.append(bytes)
    }
    await store[Symbol.asyncDispose]()
    assert.deepEqual(await uploadsIn(server(), address), [])
    const client = clientOf(server())
    const where = { Bucket: address.bucket, Key: `mirror/${contentKey(digest)}` }
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(where))
    await client.send(
      new UploadPartCommand({ ...where, UploadId, PartNumber: 1, Body: bytes.subarray(0, 5 * MiB) }),
    )
    client.destroy()
    const today = await room(t, server(), { address })
    await today.store.sweep()
    assert.equal((await uploadsIn(server(), address)).length, 1)
    const tomorrow = await room(t, server(), { address, aheadMs: DAY_MS + 60_000 })
    await tomorrow.store.sweep()
    assert.deepEqual(await uploadsIn(server(), address), [])
    assert.equal(await tomorrow.store.open(digest), undefined)
  })

  test('a presigned URL gives the content and its ranges to whoever has it, and nothing to a HEAD', async t => {
    const { store } = await room(t, server())
    const { bytes, digest } = sample(100_000)
    await put(store, digest, bytes)
    const url = await defined(store.presigner).presign(digest)
    const whole = await fetch(url)
    assert.ok(Buffer.from(await whole.arrayBuffer()).equals(bytes))
    const part = await fetch(url, { headers: { range: 'bytes=1000-1999' } })
    assert.equal(part.status, 206)
    assert.ok(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(1_000, 2_000)))
    const head = await fetch(url, { method: 'HEAD' })
    assert.ok(head.status === 400 || head.status === 403, `${head.status}`)
    const unsigned = await fetch(url.replace(/\?.*/, ''))
    assert.ok(unsigned.status >= 400 && unsigned.status < 500, `${unsigned.status}`)
    await unsigned.arrayBuffer()
  })

  test('a missing bucket and wrong keys are refused at the start, with what to do', async t => {
    const address = await makeBucket(server())
    for (const [wrong, message] of [
      [{ bucket: 'nobody-made-this' }, /has no bucket nobody-made-this: create it/],
      [
        { credentials: { accessKeyId: 'nobody', secretAccessKey: 'nothing' } },
        /check --access-key|cannot be read/,
      ],
      [
        { credentials: { ...server().credentials, secretAccessKey: 'wrong' } },
        /check --access-key|cannot be read/,
      ],
    ] as const) {
      await assert.rejects(
        room(t, server(), { address: { ...address, ...wrong } }),
        error => error instanceof StoreUnusableError && message.test(error.message),
      )
    }
  })
})

interface RoomOptions {
  readonly address?: S3Address
  readonly aheadMs?: number
}

async function room(
  t: TestContext,
  server: S3Server,
  { address, aheadMs = 0 }: RoomOptions = {},
): Promise<{ readonly store: S3Store; readonly address: S3Address }> {
  const where = address ?? (await makeBucket(server))
  const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-s3-'))
  t.after(async () => rm(spoolDirectory, { recursive: true, force: true }))
  const events = seenS3Events()
  const store = await openS3Store({
    address: where,
    spoolDirectory,
    events,
    redirect: { endpoint: undefined },
    clock: clockAhead(aheadMs),
  })
  t.after(async () => store[Symbol.asyncDispose]())
  return { store, address: where }
}

async function uploadsIn(server: S3Server, { bucket }: S3Address): Promise<readonly unknown[]> {
  const client = clientOf(server)
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))
  client.destroy()
  return Uploads
}
