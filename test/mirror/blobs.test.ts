import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Mirror } from '../../src/mirror/mirror.ts'
import { StoreUnavailableError, UpstreamError } from '../../src/oci/error.ts'
import type { Store, StoredObject } from '../../src/storage/store.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { blobBody, FakeRegistry } from '../support/fake-registry.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { type SeenEvents, seeEvents } from '../support/seen-events.ts'
import { until } from '../support/waiting.ts'
import {
  type Blob,
  collect,
  collectUntilFailure,
  makeBlob,
  readAll,
  settle,
  sourceOf,
  storeAs,
  storeWith,
  systemError,
} from './rig.ts'

const never = new AbortController().signal

interface Rig {
  readonly mirror: Mirror
  readonly registry: FakeRegistry
  readonly seen: SeenEvents
  readonly clock: FakeClock
}

/** A mirror of a registry that has the blob. */
function mirrorOf(t: TestContext, store: Store, blob: Blob, provesRanges = false): Rig {
  const seen = seeEvents()
  const registry = new FakeRegistry({
    headBlob: () => ({ sizeBytes: blob.bytes.length }),
    getBlob: ({ offset }) => blobBody(blob.bytes, { offset }),
  })
  const clock = FakeClock.skipDelays()
  const mirror = new Mirror({
    store,
    events: seen.events,
    clock,
    checkCacheDigest: false,
    provesRanges,
  })
  t.after(async () => await mirror[Symbol.asyncDispose]())
  return { mirror, registry, seen, clock }
}

/** A store whose objects fail to be read from an offset on, at reads other than the proof. */
function failingFrom(store: Store, offset: number, error: Error): { store: Store; fail: () => void } {
  let isFailing = false
  const open = async (...[digest]: Parameters<Store['open']>): Promise<StoredObject | undefined> => {
    const object = await store.open(digest)
    if (object === undefined) return undefined
    return {
      sizeBytes: object.sizeBytes,
      version: object.version,
      read: async function* (start, end) {
        for await (const piece of object.read(start, isFailing ? Math.min(end, offset) : end)) yield piece
        if (isFailing && end > offset) throw error
      },
      [Symbol.asyncDispose]: async () => await object[Symbol.asyncDispose](),
    }
  }
  return { store: storeWith(store, { open }), fail: () => (isFailing = true) }
}

test('a blob is downloaded once even by those who looked for it just before the download ended', async t => {
  const blob = makeBlob(300_000)
  const memory = new MemoryStore()
  const { promise: looked, resolve: look } = Promise.withResolvers<void>()
  let isLate = false
  const store = storeWith(memory, {
    open: async digest => {
      const object = await memory.open(digest)
      // Everybody finds nothing, but the last one learns of it only after the fill has ended.
      if (object === undefined && isLate) await looked
      return object
    },
  })
  const { mirror, registry, seen } = mirrorOf(t, store, blob)
  const first = await mirror.pullBlob(sourceOf(registry), blob.digest)
  isLate = true
  const late = mirror.pullBlob(sourceOf(registry), blob.digest)
  await using content = first.content
  assert.ok((await readAll(content)).equals(blob.bytes))
  isLate = false
  await until(() => seen.of('fill finished').length === 1, 'the fill is over')
  look()
  const { content: second, outcome } = await late
  assert.equal(outcome, 'hit')
  assert.ok((await readAll(second)).equals(blob.bytes))
  await second[Symbol.asyncDispose]()
  assert.equal(registry.asked.filter(question => question.startsWith('get-blob')).length, 1)
})

test('a stored blob that cannot be read to its end is completed from the upstream within the same request, and healed', async t => {
  const blob = makeBlob(2_000_000)
  const memory = new MemoryStore()
  await storeAs(memory, blob.digest, blob.bytes)
  const { store, fail } = failingFrom(memory, 1_000_000, systemError('EIO'))
  const { mirror, registry, seen } = mirrorOf(t, store, blob)
  const { content } = await mirror.pullBlob(sourceOf(registry), blob.digest)
  fail()
  const got = await collect(content.read({ start: 500_000, end: 2_000_000 }, never))
  await content[Symbol.asyncDispose]()
  assert.ok(got.equals(blob.bytes.subarray(500_000)))
  assert.equal(seen.of('stored object is damaged and was quarantined').length, 1)
  await until(() => seen.of('fill finished').length === 1, 'the blob is stored again')
  assert.equal(seen.of('fill finished')[0]?.['result'], 'stored')
})

test('a store that is out of reach half-way is passed by, and nothing is quarantined', async t => {
  const blob = makeBlob(2_000_000)
  const memory = new MemoryStore()
  await storeAs(memory, blob.digest, blob.bytes)
  const { store, fail } = failingFrom(memory, 1_000_000, new StoreUnavailableError('the bucket is gone'))
  const { mirror, registry, seen } = mirrorOf(t, store, blob)
  const { content } = await mirror.pullBlob(sourceOf(registry), blob.digest)
  fail()
  assert.ok((await readAll(content)).equals(blob.bytes))
  await content[Symbol.asyncDispose]()
  assert.equal(seen.of('stored object is damaged and was quarantined').length, 0)
})

test('a large blob that is being proved while it is read is not completed on top of bytes that nobody has proved', async t => {
  const blob = makeBlob(65 * 1024 * 1024)
  const memory = new MemoryStore()
  await storeAs(memory, blob.digest, blob.bytes)
  const { store, fail } = failingFrom(memory, 1_000_000, systemError('EIO'))
  const { mirror, registry } = mirrorOf(t, store, blob)
  fail()
  const { content } = await mirror.pullBlob(sourceOf(registry), blob.digest)
  const { bytes, error } = await collectUntilFailure(content.read({ start: 0, end: 2_000_000 }, never))
  await content[Symbol.asyncDispose]()
  assert.equal(bytes.length, 1_000_000)
  assert.match(String(error), /EIO/)
})

test('a large damaged blob in a store where nothing can be moved comes from the upstream at the second request', async t => {
  const blob = makeBlob(65 * 1024 * 1024)
  const wrong = Buffer.from(blob.bytes)
  wrong[5] = (wrong[5] ?? 0) ^ 1
  const memory = new MemoryStore()
  await storeAs(memory, blob.digest, wrong)
  const store = storeWith(memory, {
    quarantine: async () => await Promise.reject(systemError('EROFS')),
    createSpool: async () => await Promise.reject(systemError('EROFS')),
  })
  const { mirror, registry } = mirrorOf(t, store, blob)
  const first = await mirror.pullBlob(sourceOf(registry), blob.digest)
  const { error } = await collectUntilFailure(first.content.read({ start: 0, end: Infinity }, never))
  await first.content[Symbol.asyncDispose]()
  assert.match(String(error), /damaged/)
  const second = await mirror.pullBlob(sourceOf(registry), blob.digest)
  assert.equal(second.outcome, 'bypass')
  assert.ok((await readAll(second.content)).equals(blob.bytes))
  await second.content[Symbol.asyncDispose]()
})

test('no more than 32 downloads pass through at once, the others wait, and one that is left gives its place back', async t => {
  const blob = makeBlob(300_000)
  const memory = new MemoryStore()
  const store = storeWith(memory, {
    createSpool: async () => await Promise.reject(systemError('ENOSPC')),
  })
  const { mirror, registry } = mirrorOf(t, store, blob)
  const asked = (): number => registry.asked.filter(question => question.startsWith('get-blob')).length
  const pulls = Array.from({ length: 40 }, async () => await mirror.pullBlob(sourceOf(registry), blob.digest))
  const first = await Promise.all(pulls.slice(0, 32))
  assert.equal(asked(), 32)
  for (const { content, outcome } of first) {
    assert.equal(outcome, 'bypass')
    await content[Symbol.asyncDispose]()
  }
  for (const { content } of await Promise.all(pulls.slice(32))) {
    assert.ok((await readAll(content)).equals(blob.bytes))
    await content[Symbol.asyncDispose]()
  }
  assert.equal(asked(), 40)
})

test('a download that gets no place in time is refused before its client gives up', async t => {
  const blob = makeBlob(1000)
  const store = storeWith(new MemoryStore(), {
    createSpool: async () => await Promise.reject(systemError('ENOSPC')),
  })
  const { mirror, registry, clock } = mirrorOf(t, store, blob)
  const pull = async (): ReturnType<Mirror['pullBlob']> =>
    await mirror.pullBlob(sourceOf(registry), blob.digest)
  const inside = await Promise.all(Array.from({ length: 32 }, pull))
  const late = assert.rejects(pull(), { code: 'UNAVAILABLE' })
  await until(() => clock.sleepers === 1, 'the last one waits')
  clock.advance(20_000)
  await late
  for (const { content } of inside) await content[Symbol.asyncDispose]()
  await (await pull()).content[Symbol.asyncDispose]()
})

test('a repository that does not have a blob does not make it absent for one that does, though both ask at once', async t => {
  const blob = makeBlob(1000)
  const { mirror, registry } = mirrorOf(t, new MemoryStore(), blob)
  const { promise: asked, resolve: answer } = Promise.withResolvers<void>()
  const poor = new FakeRegistry({
    headBlob: () => ({ sizeBytes: 1000 }),
    getBlob: async () => {
      await asked
      return undefined
    },
  })
  const theirs = mirror.pullBlob(sourceOf(poor, 'team/without'), blob.digest)
  await until(() => poor.asked.length === 2, 'the upstream is asked for the repository that does not have it')
  const ours = mirror.pullBlob(sourceOf(registry, 'team/with'), blob.digest)
  await until(() => registry.asked.length === 1, 'the other one has confirmed that it has it')
  answer()
  await assert.rejects(theirs, { code: 'BLOB_UNKNOWN' })
  const { content } = await ours
  assert.ok((await readAll(content)).equals(blob.bytes))
  await content[Symbol.asyncDispose]()
})

for (const isKnown of [true, false]) {
  test(`what an earlier fill has left is ${isKnown ? 'gone on with' : 'not shown'} where the repository is ${isKnown ? '' : 'not '}known to have the blob`, async t => {
    const blob = makeBlob(2_000_000)
    const store = new MemoryStore()
    {
      await using spool = await store.createSpool(blob.digest)
      await spool.append(blob.bytes.subarray(0, 1_200_000))
      spool.keep()
    }
    const asked: number[] = []
    const registry = new FakeRegistry({
      headBlob: () => {
        throw new UpstreamError('status', 'this registry does not answer HEAD')
      },
      getBlob: ({ offset }) => {
        asked.push(offset)
        return blobBody(blob.bytes, { offset })
      },
    })
    const source = sourceOf(registry, 'team/app')
    if (isKnown) {
      const { namespace, repository } = source
      const link = { kind: 'link', namespace, repository, digest: blob.digest } as const
      await store.writeRecord(link, new Uint8Array(0), 'relaxed')
    }
    const { mirror } = mirrorOf(t, store, blob)
    await using content = (await mirror.pullBlob(source, blob.digest)).content
    assert.ok((await collect(content.read({ start: 0, end: Infinity }, never))).equals(blob.bytes))
    assert.deepEqual(asked, [isKnown ? 1_200_000 : 0])
  })
}

test('a store is not looked into for a repository that its configured registry denies the blob or manifest', async t => {
  const blob = makeBlob(1000)
  const opened: string[] = []
  const memory = new MemoryStore()
  const store = storeWith(memory, {
    open: async digest => {
      opened.push(digest)
      return await memory.open(digest)
    },
  })
  const { mirror } = mirrorOf(t, store, blob)
  await storeAs(memory, blob.digest, blob.bytes)
  const denied = sourceOf(new FakeRegistry(), 'team/other')
  const reference = { kind: 'digest', digest: blob.digest } as const
  await assert.rejects(mirror.pullBlob(denied, blob.digest), { code: 'BLOB_UNKNOWN' })
  await assert.rejects(mirror.headBlob(denied, blob.digest), { code: 'BLOB_UNKNOWN' })
  await assert.rejects(mirror.pullManifest(denied, reference), { code: 'MANIFEST_UNKNOWN' })
  await assert.rejects(mirror.headManifest(denied, reference), { code: 'MANIFEST_UNKNOWN' })
  assert.deepEqual(opened, [])
})

test('one HEAD confirms a blob for all clients of a repository that ask at once', async t => {
  const blob = makeBlob(1000)
  const { mirror, registry } = mirrorOf(t, new MemoryStore(), blob)
  const answers = await Promise.all(
    Array.from({ length: 20 }, async () => await mirror.pullBlob(sourceOf(registry), blob.digest)),
  )
  await Promise.all(answers.map(async ({ content }) => await content[Symbol.asyncDispose]()))
  assert.deepEqual(
    registry.asked.map(text => text.split(' ')[0]),
    ['head-blob', 'get-blob'],
  )
})

test('no fill begins, and none is reported to have failed, while the upstream is left alone', async t => {
  const blob = makeBlob(1000)
  const { mirror, registry, seen } = mirrorOf(t, new MemoryStore(), blob)
  const source = sourceOf(registry)
  await mirror.headBlob(source, blob.digest)
  registry.currentTrouble = new UpstreamError('breaker', 'left alone')
  await assert.rejects(mirror.pullBlob(source, blob.digest), registry.currentTrouble)
  assert.deepEqual([seen.of('fill failed'), mirror.flows], [[], []])
})

for (const isRight of [true, false]) {
  test(`with provesRanges a range of a running fill is ${isRight ? 'given out once the blob is' : 'not given out if the blob is not'} proved`, async t => {
    const blob = makeBlob(500_000)
    const { mirror, registry } = mirrorOf(t, new MemoryStore(), blob, true)
    const { promise: rest, resolve: sendRest } = Promise.withResolvers<void>()
    const sent = isRight ? blob.bytes : makeBlob(500_000).bytes
    registry.script = {
      headBlob: () => ({ sizeBytes: sent.length }),
      getBlob: () => ({ ...blobBody(sent), chunks: halves(sent, rest) }),
    }
    const { content } = await mirror.pullBlob(sourceOf(registry), blob.digest)
    const [ranged, whole] = [
      content.read({ start: 1000, end: 2000 }, never)[Symbol.asyncIterator](),
      content.read({ start: 0, end: sent.length }, never)[Symbol.asyncIterator](),
    ]
    assert.equal((await whole.next()).done, false, 'the whole is given out as it comes')
    let isGiven = false
    const first = ranged.next().finally(() => (isGiven = true))
    await settle()
    assert.equal(isGiven, false)
    sendRest()
    if (isRight) assert.deepEqual(Buffer.from((await first).value ?? []), blob.bytes.subarray(1000, 2000))
    else await assert.rejects(first, { kind: 'mismatch' })
    assert.equal(content.file, undefined, 'other threads do not wait, so they do not read it')
    await whole.return?.()
    await content[Symbol.asyncDispose]()
  })
}

async function* halves(bytes: Uint8Array, rest: Promise<void>): AsyncGenerator<Uint8Array> {
  yield bytes.subarray(0, bytes.length / 2)
  await rest
  yield bytes.subarray(bytes.length / 2)
}
