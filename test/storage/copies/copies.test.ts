import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { suite, test } from 'node:test'
import { Proofs } from '../../../src/content/proofs.ts'
import { BufferPool } from '../../../src/lib/reader-buffers.ts'
import type { Digest } from '../../../src/oci/digest.ts'
import { CopyDirectory } from '../../../src/storage/copies/copy-directory.ts'
import { CopyingStore } from '../../../src/storage/copies/copying-store.ts'
import { contentKey, copyFileName } from '../../../src/storage/layout.ts'
import { openS3Store } from '../../../src/storage/s3/store.ts'
import type { Store } from '../../../src/storage/store.ts'
import { startS3Stub } from '../../support/s3-stub.ts'
import { seeEvents } from '../../support/seen-events.ts'
import { defined, put, readAll, sample, storeContract } from '../contract.ts'
import { filesBelow, seenEvents } from '../rooms.ts'
import { addressOf, SMALL, scratchOf, seenS3Events } from '../s3/rooms.ts'
import { type CopiesRoom, MiB, openCopiesRoom } from './rooms.ts'

/** Opens content to serve it, and reads all of it. */
async function serve({ copying }: Pick<CopiesRoom, 'copying'>, digest: Digest): Promise<Buffer | undefined> {
  await using object = await copying.copies.open(digest)
  return object === undefined ? undefined : await readAll(object)
}

function isCopy(path: string): boolean {
  return path.startsWith('copies-')
}

/** The same store, whose content is opened as for serving: copies keep the whole contract. */
class ServingStore extends CopyingStore {
  override async open(digest: Digest): ReturnType<Store['open']> {
    return await this.copies.open(digest)
  }
}

storeContract('CopyingStore', async () => {
  const stub = await startS3Stub({ pageSize: 2 })
  const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-contract-'))
  const [path, events] = [join(spoolDirectory, 'copies-test'), seenS3Events()]
  const inner = await openS3Store({ address: addressOf(stub), spoolDirectory, events, limits: SMALL })
  const clock = { wallMs: () => Date.now(), monotonicMs: () => performance.now() }
  const parts = { path, maxBytes: 64 * MiB, buffers: new BufferPool(), clock, events }
  return {
    store: new ServingStore({ store: inner, directory: new CopyDirectory(parts), events }),
    mayLoseHandles: true,
    cleanup: async () => {
      const scratch = await scratchOf(spoolDirectory)
      await rm(spoolDirectory, { recursive: true })
      await stub[Symbol.asyncDispose]()
      const left = scratch.filter(file => !/^copies-test\/sha(?:256|512)-[0-9a-f]+\.[0-9]+$/.test(file))
      assert.deepEqual(left, [])
      assert.deepEqual(events.failures, [])
    },
  }
})

suite('a local copy', { concurrency: true }, () => {
  test('of small content is made by its first read, and no later read asks the bucket', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(150_000)
    room.stub.put(`mirror/${contentKey(digest)}`, bytes)
    assert.ok(defined(await serve(room, digest)).equals(bytes))
    const before = room.requests()
    for (let round = 0; round < 3; round += 1) assert.ok(defined(await serve(room, digest)).equals(bytes))
    assert.equal(room.requests(), before)
    const { hits, misses, objects, bytes: onDisk } = room.copying.copies.status
    assert.deepEqual({ hits, misses, objects, onDisk }, { hits: 3, misses: 1, objects: 1, onDisk: 151_552 })
  })

  test('is made when content is stored, by adoption and by the steps of a push', async t => {
    const room = await openCopiesRoom(t)
    const [adopted, pushed] = [sample(30_000), sample(700)]
    await put(room.copying, adopted.digest, adopted.bytes)
    await room.copying.writeSteps([[{ kind: 'content', ...pushed }]], 'durable')
    const before = room.requests()
    for (const { bytes, digest } of [adopted, pushed])
      assert.ok(defined(await serve(room, digest)).equals(bytes))
    assert.equal(room.requests(), before)
  })

  test('is an open file of this machine, and its version is not that of the bucket', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(500)
    await put(room.copying, digest, bytes)
    await using copy = defined(await room.copying.copies.open(digest))
    await using stored = defined(await room.copying.open(digest))
    assert.ok(copy.file !== undefined && copy.file.fd > 2)
    assert.equal(stored.file, undefined)
    assert.notEqual(copy.version, stored.version)
  })

  test('does not make content appear stored that is gone from the bucket', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(500)
    await put(room.copying, digest, bytes)
    room.stub.objects.delete(`mirror/${contentKey(digest)}`)
    assert.equal(await room.copying.open(digest), undefined)
  })

  test('of content that is too large is not made', async t => {
    const room = await openCopiesRoom(t, { copyBytesMax: 10_000 })
    const { bytes, digest } = sample(10_001)
    await put(room.copying, digest, bytes)
    assert.ok(defined(await serve(room, digest)).equals(bytes))
    assert.equal(room.copying.copies.status.objects, 0)
  })

  test('is made once for a crowd of readers', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(60_000)
    room.stub.put(`mirror/${contentKey(digest)}`, bytes)
    const before = room.requests()
    const all = await Promise.all(Array.from({ length: 50 }, async () => await serve(room, digest)))
    for (const read of all) assert.ok(defined(read).equals(bytes))
    assert.equal(room.requests(), before + 1)
  })

  test('counts once for a reader, whether it is proved or not, and not for the proof', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(300_000)
    room.stub.put(`mirror/${contentKey(digest)}`, bytes)
    const proofs = new Proofs({ store: room.copying, events: seeEvents().events, isEveryRead: false })
    t.after(async () => await proofs[Symbol.asyncDispose]())
    for (let round = 0; round < 3; round += 1) {
      await using content = defined(await proofs.open(digest))
      assert.equal(content.sizeBytes, bytes.length)
    }
    const { hits, misses } = room.copying.copies.status
    assert.deepEqual({ hits, misses }, { hits: 2, misses: 1 })
  })

  test('that was read does not hide that the content in the bucket was proved', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(300_000)
    await put(room.copying, digest, bytes)
    const proofs = new Proofs({ store: room.copying, events: seeEvents().events, isEveryRead: false })
    t.after(async () => await proofs[Symbol.asyncDispose]())
    await proofs.trust(digest)
    await using content = defined(await proofs.open(digest))
    assert.equal(content.isProved(), true)
    assert.equal(await proofs.holds(digest), true)
    room.stub.objects.delete(`mirror/${contentKey(digest)}`)
    assert.equal(await proofs.holds(digest), false)
  })

  test('is fetched again after a day, and then absent content is absent', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(500)
    await put(room.copying, digest, bytes)
    room.stub.objects.delete(`mirror/${contentKey(digest)}`)
    room.advance(23 * 3_600_000)
    assert.ok(defined(await serve(room, digest)).equals(bytes))
    room.advance(3_600_001)
    assert.equal(await serve(room, digest), undefined)
    assert.deepEqual(await room.files(), [])
  })

  test('whose time is in the future, because the clock was set back, is fetched again', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(500)
    await put(room.copying, digest, bytes)
    const inTwoDays = Date.now() / 1000 + 2 * 86_400
    await utimes(join(room.path, copyFileName(digest, 500)), inTwoDays, inTwoDays)
    const before = room.requests()
    assert.ok(defined(await serve(room, digest)).equals(bytes))
    assert.equal(room.requests(), before + 1)
  })
})

suite('removed content', { concurrency: true }, () => {
  for (const way of ['delete', 'discard', 'quarantine'] as const) {
    test(`has no copy after ${way}`, async t => {
      const room = await openCopiesRoom(t)
      const { bytes, digest } = sample(500)
      await put(room.copying, digest, bytes)
      await room.copying[way](digest)
      assert.equal(await serve(room, digest), undefined)
      assert.deepEqual(await room.files(), [])
    })
  }

  test('gets no copy from a read that began before and ends after', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(500)
    using ticket = room.directory.begin(digest)
    await room.copying.delete(digest)
    assert.equal(await room.directory.put(ticket, 500, Readable.from([bytes])), false)
    assert.equal(await serve(room, digest), undefined)
    assert.deepEqual(await filesBelow(room.spoolDirectory).then(files => files.filter(isCopy)), [])
  })

  test('gets no copy from a read while the bucket removes it', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(500)
    room.stub.put(`mirror/${contentKey(digest)}`, bytes)
    const held = Promise.withResolvers<void>()
    room.stub.fault('DeleteObject', { kind: 'hold', until: held.promise }, 1)
    const deleting = room.copying.delete(digest)
    while (room.stub.count('DeleteObject') === 0) await new Promise(resolve => void setImmediate(resolve))
    assert.ok(defined(await serve(room, digest)).equals(bytes))
    held.resolve()
    await deleting
    assert.equal(await serve(room, digest), undefined)
    assert.deepEqual(await room.files(), [])
  })

  test('keeps an open copy readable', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(5_000)
    await put(room.copying, digest, bytes)
    await using object = defined(await room.copying.copies.open(digest))
    await room.copying.delete(digest)
    assert.ok((await readAll(object)).equals(bytes))
  })
})

suite('the bound', { concurrency: true }, () => {
  /** What 12 KiB take on a disk; 32 of them are within the part of half a MiB that is not for writes. */
  const SIZE = 12_288
  const keep = async (
    directory: CopyDirectory,
    { bytes, digest }: ReturnType<typeof sample>,
  ): Promise<void> => {
    using ticket = directory.begin(digest)
    assert.equal(await directory.put(ticket, bytes.length, Readable.from([bytes])), true)
  }

  test('holds for the files on the disk, and the copies used last stay', async t => {
    const room = await openCopiesRoom(t, { maxBytes: MiB / 2 })
    const [first, ...others] = Array.from({ length: 40 }, () => sample(SIZE))
    const { digest } = defined(first)
    await keep(room.directory, defined(first))
    for (const other of others) {
      await keep(room.directory, other)
      await serve(room, digest)
    }
    await room.copying[Symbol.asyncDispose]()
    const left = new Set(await room.files())
    const kept = [defined(first), ...others.slice(-31)]
    assert.deepEqual(left, new Set(kept.map(one => copyFileName(one.digest, SIZE))))
  })

  test('that is smaller than before removes copies at the start', async t => {
    const room = await openCopiesRoom(t)
    for (let count = 0; count < 40; count += 1) await keep(room.directory, sample(SIZE))
    await room.copying[Symbol.asyncDispose]()
    assert.equal((await room.files()).length, 40)
    const [clock, events] = [{ wallMs: () => Date.now(), monotonicMs: () => 0 }, seenEvents()]
    const smaller = { path: room.path, maxBytes: MiB / 2, buffers: new BufferPool(), clock, events }
    await using directory = new CopyDirectory(smaller)
    await directory.loaded()
    await directory[Symbol.asyncDispose]()
    assert.equal((await room.files()).length, 32)
    assert.deepEqual(events.failures, [])
  })
})

suite('after a restart', { concurrency: true }, () => {
  test('copies are used, what was half written is gone, and other files stay', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(5_000)
    await put(room.copying, digest, bytes)
    await writeFile(join(room.path, 'temporary.1234.1'), 'half')
    await writeFile(join(room.path, 'notes'), 'of an operator')
    await mkdir(join(room.path, 'temporary.directory'))
    await mkdir(join(room.path, copyFileName(sample(600).digest, 600)))
    const again = await room.restart()
    const before = room.requests()
    assert.ok(defined(await serve(again, digest)).equals(bytes))
    assert.equal(room.requests(), before)
    assert.deepEqual(await room.files(), ['notes', copyFileName(digest, 5_000)])
  })

  test('a copy that was cut off is replaced', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(5_000)
    await put(room.copying, digest, bytes)
    await truncate(join(room.path, copyFileName(digest, 5_000)), 4_096)
    const again = await room.restart()
    assert.ok(defined(await serve(again, digest)).equals(bytes))
    assert.equal((await stat(join(room.path, copyFileName(digest, 5_000)))).size, 5_000)
  })

  test('the sweep of the spool directory leaves old copies alone', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(5_000)
    await put(room.copying, digest, bytes)
    const yesterday = Date.now() / 1000 - 86_000
    await utimes(room.path, yesterday, yesterday)
    await room.openAnother()
    assert.deepEqual(await room.files(), [copyFileName(digest, 5_000)])
  })
})

suite('trouble', { concurrency: true }, () => {
  test('of the local disk is reported, and content comes from the bucket until it is over', async t => {
    const place = await mkdtemp(join(tmpdir(), 'entrepot-copies-'))
    t.after(async () => await rm(place, { recursive: true }))
    const path = join(place, 'copies-test')
    await writeFile(path, 'a file where the directory should be')
    const room = await openCopiesRoom(t, { path })
    const { bytes, digest } = sample(5_000)
    await put(room.copying, digest, bytes)
    assert.ok(defined(await serve(room, digest)).equals(bytes))
    assert.equal(room.copying.copies.status.isPaused, true)
    assert.deepEqual(
      room.events.failures.map(({ operation }) => operation),
      ['copy'],
    )
    await rm(path)
    await serve(room, digest)
    assert.equal(room.copying.copies.status.objects, 0)
    room.advance(60_001)
    await serve(room, digest)
    assert.equal(room.copying.copies.status.objects, 1)
  })

  test('of the local disk rests the copies that are there, too', async t => {
    const room = await openCopiesRoom(t)
    const [good, bad] = [sample(500), sample(600)]
    await put(room.copying, good.digest, good.bytes)
    await mkdir(join(room.path, copyFileName(bad.digest, 600), 'in the way'), { recursive: true })
    await put(room.copying, bad.digest, bad.bytes)
    const isFile = async (): Promise<boolean> => {
      await using object = defined(await room.copying.copies.open(good.digest))
      assert.ok((await readAll(object)).equals(good.bytes))
      return object.file !== undefined
    }
    assert.equal(await isFile(), false)
    room.advance(60_001)
    assert.equal(await isFile(), true)
    assert.equal(room.events.failures.length, 1)
    assert.deepEqual(await room.files(), [copyFileName(good.digest, 500)])
  })

  test('of the bucket, which sends slowly or nothing, holds nobody up but its readers', async t => {
    const room = await openCopiesRoom(t)
    const silent = Promise.withResolvers<void>()
    const stalled = Array.from({ length: 20 }, async (_, index) => {
      const { digest } = sample(1_000 + index)
      using ticket = room.directory.begin(digest)
      const pieces = (async function* () {
        await silent.promise
        yield new Uint8Array(0)
      })()
      return await room.directory.put(ticket, 1_000 + index, pieces)
    })
    const { bytes, digest } = sample(700)
    await room.copying.writeSteps([[{ kind: 'content', digest, bytes }]], 'durable')
    assert.ok(defined(await serve(room, digest)).equals(bytes))
    silent.resolve()
    assert.deepEqual(new Set(await Promise.all(stalled)), new Set([false]))
    assert.ok(defined(await serve(room, digest)).equals(bytes))
    assert.equal(room.copying.copies.status.objects, 1)
  })

  test('of the bucket is not hidden, and not taken for trouble of the disk', async t => {
    const room = await openCopiesRoom(t)
    const { digest } = sample(5_000)
    room.stub.fault('GetObject', { kind: 'error', status: 403, code: 'AccessDenied' })
    await assert.rejects(serve(room, digest), /AccessDenied|403/)
    assert.equal(room.copying.copies.status.isPaused, false)
  })

  test('with damaged content in the bucket makes no copy, and leaves it to the reader', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(5_000)
    const damaged = Buffer.from(bytes)
    damaged.fill(0, 100, 200)
    room.stub.put(`mirror/${contentKey(digest)}`, damaged)
    assert.ok(defined(await serve(room, digest)).equals(damaged))
    assert.deepEqual(await filesBelow(room.path), [])
    await using object = defined(await room.copying.copies.open(digest))
    assert.equal(await room.copying.copies.dropDamaged(digest, object.version), false)
  })

  test('with a damaged copy removes it, and no other one is made', async t => {
    const room = await openCopiesRoom(t)
    const { bytes, digest } = sample(5_000)
    await put(room.copying, digest, bytes)
    const { version } = await room.copying.copies.open(digest).then(async object => {
      await using open = defined(object)
      return { version: open.version }
    })
    assert.equal(await room.copying.copies.dropDamaged(digest, version), true)
    assert.ok(defined(await serve(room, digest)).equals(bytes))
    assert.deepEqual(await room.files(), [])
    assert.ok(room.stub.objects.has(`mirror/${contentKey(digest)}`))
  })
})
