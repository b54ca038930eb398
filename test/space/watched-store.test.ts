import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { quarantine } from '../../src/content/damage.ts'
import { CollectionMarks } from '../../src/hosted/collection-marks.ts'
import { Publishing } from '../../src/hosted/publishing.ts'
import { Shelf } from '../../src/hosted/shelf.ts'
import { digestOf } from '../../src/oci/digest.ts'
import type { RepositoryName } from '../../src/oci/name.ts'
import type { Namespace } from '../../src/oci/namespace.ts'
import { newUploadId } from '../../src/oci/upload-id.ts'
import { chargeSpool, WatchedStore, type Watcher } from '../../src/space/watched-store.ts'
import type { LocalCopies, Store } from '../../src/storage/store.ts'
import { storeWith } from '../mirror/rig.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'
import { until } from '../support/waiting.ts'

const BYTES = Buffer.from('content')
const DIGEST = digestOf(BYTES)
const GONE = { sizeBytes: 7, namespace: 'docker.io' }

interface Seen extends Watcher {
  readonly told: string[]
  claimedBytes: number
  readonly roomBytes: number
}

/** Remembers what it is told, and has so much room. */
function watcher(roomBytes = 1000): Seen {
  const seen: Seen = {
    told: [],
    claimedBytes: 0,
    roomBytes,
    stored: (digest, sizeBytes) => void seen.told.push(`stored ${digest === DIGEST} ${sizeBytes}`),
    removed: (_, { sizeBytes }) => void seen.told.push(`removed ${sizeBytes}`),
    recordWritten: name => void seen.told.push(`wrote ${name.kind}`),
    pushed: (_, bytes) => void seen.told.push(`pushed ${bytes.byteLength}`),
    recordDeleted: name => void seen.told.push(`deleted ${name.kind}`),
    payerOf: namespace => ({ namespace, isDynamic: namespace !== 'docker.io' }),
    couldFit: async ({ bytes }) => await Promise.resolve(seen.claimedBytes + bytes <= roomBytes),
    spare: async () => true,
    reserve: () => undefined,
    claim: async ({ bytes }) => {
      if (seen.claimedBytes + bytes > roomBytes) return await Promise.resolve(false)
      seen.claimedBytes += bytes
      return true
    },
    wrote: () => undefined,
    release: ({ bytes }) => {
      seen.claimedBytes -= bytes
    },
    leftBehind: bytes => void seen.told.push(`left ${bytes}`),
    tookUp: bytes => {
      seen.told.push(`took up ${bytes}`)
      seen.claimedBytes += bytes
    },
  }
  return seen
}

/** Pushes the content in another process. */
async function pushTo(inner: Store, clock: FakeClock): Promise<void> {
  const shelf = new Shelf(inner, seeEvents().events)
  const marks = new CollectionMarks({ store: inner, clock })
  const parties = { rules: [], witnesses: [] }
  const publishing = new Publishing({
    store: inner,
    shelf,
    clock,
    parties,
    marks,
    onChange: () => undefined,
  })
  const { namespace, repository } = HOLD
  await publishing.link(
    { place: { namespace, repository }, by: 'alice' },
    { digest: DIGEST, sizeBytes: 7 },
    async () => [{ kind: 'content', digest: DIGEST, bytes: BYTES }],
  )
}

async function store(watched: WatchedStore): Promise<void> {
  await using spool = await watched.createSpool(DIGEST)
  await spool.append(BYTES)
  await watched.adopt(spool, DIGEST, BYTES.byteLength)
}

test('what a reader holds is not evicted, and what it has let go is', async () => {
  const seen = watcher()
  const watched = new WatchedStore(new MemoryStore(), seen)
  await store(watched)
  const object = await watched.open(DIGEST)
  assert.equal(await watched.evict(DIGEST, GONE), false)
  await object?.[Symbol.asyncDispose]()
  assert.equal(await watched.evict(DIGEST, GONE), true)
  assert.equal(await watched.open(DIGEST), undefined)
  assert.equal(watched.isHeld(DIGEST), false)
  assert.deepEqual(seen.told, ['stored true 7', 'removed 7'])
})

test('what is being written is not evicted', async () => {
  const watched = new WatchedStore(new MemoryStore(), watcher())
  await store(watched)
  await using spool = await watched.createSpool(DIGEST)
  assert.equal(await watched.evict(DIGEST, GONE), false)
  assert.equal(spool.sizeBytes, 0)
})

test('an eviction that has begun ends before the digest is stored again, so that what is stored last stays', async () => {
  const inner = new MemoryStore()
  const watched = new WatchedStore(inner, watcher())
  await store(watched)
  const { promise: mayDelete, resolve: letDelete } = Promise.withResolvers<void>()
  const remove = inner.delete.bind(inner)
  inner.delete = async digest => {
    await mayDelete
    return await remove(digest)
  }
  const evicting = watched.evict(DIGEST, GONE)
  await setImmediate()
  const storing = store(watched)
  letDelete()
  assert.equal(await evicting, true)
  await storing
  await using object = await watched.open(DIGEST)
  assert.equal(object?.sizeBytes, 7)
})

test('about what has come back, or is held by who may be bringing it, nothing is done that is about what has gone', async () => {
  const watched = new WatchedStore(new MemoryStore(), watcher())
  let times = 0
  const count = async (): Promise<void> => {
    times += 1
    await Promise.resolve()
  }
  const spool = await watched.createSpool(DIGEST)
  assert.equal(await watched.unlessBack(DIGEST, count), false)
  await spool[Symbol.asyncDispose]()
  assert.equal(await watched.unlessBack(DIGEST, count), true)
  await store(watched)
  assert.equal(await watched.unlessBack(DIGEST, count), false)
  assert.equal(times, 1)
})

test('who begins to bring it while it is looked for is seen, and it is not stored before the action is over', async () => {
  const inner = new MemoryStore()
  const watched = new WatchedStore(inner, watcher())
  const { promise: opened, resolve: letOpen } = Promise.withResolvers<void>()
  const open = inner.open.bind(inner)
  inner.open = async digest => {
    await opened
    return await open(digest)
  }
  const looking = watched.unlessBack(DIGEST, async () => await Promise.reject(new Error('done all the same')))
  const spool = await watched.createSpool(DIGEST)
  letOpen()
  assert.equal(await looking, false)
  await spool[Symbol.asyncDispose]()
  const order: string[] = []
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>()
  const acting = watched.unlessBack(DIGEST, async () => {
    order.push('begins')
    await mayEnd
    order.push('ends')
  })
  const storing = store(watched).then(() => order.push('stored'))
  end()
  await Promise.all([acting, storing])
  assert.deepEqual(order.at(-1), 'stored')
})

test('a spool takes room as it grows or all at once, and gives back what it has', async () => {
  const seen = watcher(10)
  const watched = new WatchedStore(new MemoryStore(), seen)
  {
    await using spool = await watched.createSpool(DIGEST)
    assert.equal(await chargeSpool(spool, { namespace: 'docker.io', sizeBytes: 11 }), false)
    assert.equal(await chargeSpool(spool, { namespace: 'docker.io', sizeBytes: 8 }), true)
    assert.equal(seen.claimedBytes, 8)
    await spool.append(BYTES)
    assert.equal(seen.claimedBytes, 8)
    await assert.rejects(spool.append(BYTES), { name: 'NoRoomError' })
    assert.equal(spool.sizeBytes, 7)
  }
  assert.equal(seen.claimedBytes, 0)
})

test('a spool that becomes content gives its room to it, and one that is kept counts as a leftover until it is taken up', async () => {
  const seen = watcher()
  const watched = new WatchedStore(new MemoryStore(), seen)
  {
    await using spool = await watched.createSpool(DIGEST)
    await spool.append(BYTES)
    spool.keep()
  }
  await using spool = await watched.createSpool(DIGEST)
  assert.equal(spool.sizeBytes, 7)
  assert.equal(seen.claimedBytes, 7)
  await watched.adopt(spool, DIGEST, 7)
  assert.equal(seen.claimedBytes, 0)
  assert.deepEqual(seen.told, ['left 7', 'took up 7', 'stored true 7'])
})

test('an object that cannot be opened is not held afterwards', async () => {
  const inner = new MemoryStore()
  inner.open = async () => await Promise.reject(new Error('EIO'))
  const watched = new WatchedStore(inner, watcher())
  await assert.rejects(watched.open(DIGEST), /EIO/)
  assert.equal(watched.isHeld(DIGEST), false)
})

const HOLD = {
  kind: 'hosted-hold',
  namespace: 'registry.example.com' as Namespace,
  repository: 'team/app' as RepositoryName,
  digest: DIGEST,
} as const

test('what is opened from a local copy is held like the content itself', async () => {
  const inner = new MemoryStore()
  const status = { objects: 1, bytes: 4096, maxBytes: 4096, hits: 0, misses: 0, isPaused: false }
  const dropped: string[] = []
  const copies: LocalCopies = {
    status,
    open: async digest => await inner.open(digest),
    openAgain: async digest => await inner.open(digest),
    isCopy: version => version === 'copy',
    drop: async digest => void dropped.push(digest),
    dropDamaged: async (_, version) => version === 'copy',
  }
  await using watched = new WatchedStore(storeWith(inner, { copies }), watcher())
  await store(watched)
  const object = await watched.copies?.open(DIGEST)
  assert.ok(object !== undefined)
  const again = await watched.copies?.openAgain(DIGEST)
  await object[Symbol.asyncDispose]()
  assert.equal(await watched.evict(DIGEST, GONE), false)
  await again?.[Symbol.asyncDispose]()
  assert.equal(watched.copies?.isCopy('copy'), true)
  assert.equal(await watched.evict(DIGEST, GONE), true)
  assert.equal(await watched.copies?.open(DIGEST), undefined)
  assert.equal(watched.isHeld(DIGEST), false)
  await watched.copies?.drop(DIGEST)
  assert.deepEqual(dropped, [DIGEST])
  assert.equal(await watched.copies?.dropDamaged(DIGEST, 'copy'), true)
  assert.equal(watched.copies?.status, status)
})

test('what a hosted repository holds is not evicted, until the last hold is gone', async () => {
  const seen = watcher()
  const watched = new WatchedStore(new MemoryStore(), seen)
  await store(watched)
  await watched.writeRecord(HOLD, new Uint8Array(0), 'relaxed')
  await watched.writeRecord({ ...HOLD, by: digestOf(Buffer.from('manifest')) }, new Uint8Array(0), 'relaxed')
  assert.equal(await watched.evict(DIGEST, GONE), false)
  await watched.deleteRecord(HOLD)
  assert.equal(await watched.evict(DIGEST, GONE), false)
  await watched.deleteRecord({ ...HOLD, by: digestOf(Buffer.from('manifest')) })
  assert.equal(await watched.evict(DIGEST, GONE), true)
  const told = ['stored true 7', 'wrote hosted-hold', 'wrote hosted-hold', 'deleted hosted-hold', 'removed 7']
  assert.deepEqual(seen.told, told)
})

test('content that heals what is found damaged meanwhile is not put aside in its place', async () => {
  const inner = new MemoryStore()
  const watched = new WatchedStore(inner, watcher())
  await store(watched)
  const damaged = await watched.open(DIGEST)
  const version = damaged?.version
  await damaged?.[Symbol.asyncDispose]()
  const mayAdopt = Promise.withResolvers<void>()
  const adopting = Promise.withResolvers<void>()
  const adopt = inner.adopt.bind(inner)
  inner.adopt = async (...adopted) => {
    adopting.resolve()
    await mayAdopt.promise
    await adopt(...adopted)
  }
  const healed = store(watched)
  await adopting.promise
  const { events, of } = seeEvents()
  const putAside = quarantine({ store: watched, events }, { digest: DIGEST, version }, new Error('damaged'))
  await until(() => of('stored object is damaged and was quarantined').length > 0, 'the damage is reported')
  mayAdopt.resolve()
  await Promise.all([healed, putAside])
  await using object = await watched.open(DIGEST)
  assert.equal(object?.sizeBytes, 7)
  assert.notEqual(object?.version, version)
})

test('what a hosted repository holds is not deleted either, and counts as stored', async () => {
  const seen = watcher()
  const watched = new WatchedStore(new MemoryStore(), seen)
  await store(watched)
  await watched.writeRecord(HOLD, new Uint8Array(0), 'relaxed')
  assert.equal(await watched.delete(DIGEST), false)
  await using object = await watched.open(DIGEST)
  assert.equal(object?.sizeBytes, 7)
  await watched.deleteRecord(HOLD)
  assert.equal(await watched.delete(DIGEST), true)
  assert.deepEqual(seen.told, ['stored true 7', 'wrote hosted-hold', 'deleted hosted-hold', 'removed 0'])
})

test('a repository that takes content just after a removal looked for holds learns that it is gone', async () => {
  for (const remove of ['delete', 'evict'] as const) {
    const inner = new MemoryStore()
    const looked = Promise.withResolvers<void>()
    const may = Promise.withResolvers<void>()
    const list = inner.listRecordsOf.bind(inner)
    inner.listRecordsOf = async function* (group) {
      const found = await Array.fromAsync(list(group))
      looked.resolve()
      await may.promise
      yield* found
    }
    const watched = new WatchedStore(inner, watcher())
    await store(watched)
    const removed = remove === 'delete' ? watched.delete(DIGEST) : watched.evict(DIGEST, GONE)
    await looked.promise
    await watched.writeRecord(HOLD, new Uint8Array(0), 'relaxed')
    const opened = watched.open(DIGEST)
    // Long enough for the repository to look and let go, if it were not kept waiting.
    await Promise.race([opened.then(async object => await object?.[Symbol.asyncDispose]()), setImmediate()])
    may.resolve()
    const isGone = await removed
    assert.equal((await opened) === undefined, isGone, remove)
    await using object = await watched.open(DIGEST)
    assert.equal(object === undefined, isGone, remove)
  }
})

test('a push in another process that takes content after an eviction looked for holds stores it once that is over', async () => {
  for (const remove of ['delete', 'evict'] as const) {
    const clock = FakeClock.skipDelays()
    const inner = new MemoryStore(clock)
    const marks = new CollectionMarks({ store: inner, clock })
    const watched = new WatchedStore(inner, watcher(), () => marks)
    await store(watched)
    const looked = Promise.withResolvers<void>()
    const waits = Promise.withResolvers<void>()
    const may = Promise.withResolvers<void>()
    const other = storeWith(inner, {
      readAgedRecord: async name => {
        waits.resolve()
        // A look at the mark takes as long as the removal does.
        if ((await inner.readRecord(name)) !== undefined) await may.promise
        return await inner.readAgedRecord(name)
      },
    })
    const list = inner.listRecordsOf.bind(inner)
    inner.listRecordsOf = async function* (group) {
      const found = await Array.fromAsync(list(group))
      looked.resolve()
      await may.promise
      yield* found
    }
    const removed = remove === 'delete' ? watched.delete(DIGEST) : watched.evict(DIGEST, GONE)
    await looked.promise
    const pushed = pushTo(other, clock)
    await Promise.race([pushed, waits.promise])
    // The push has ended by now if nothing keeps it.
    for (let turns = 0; turns < 10; turns += 1) await setImmediate()
    may.resolve()
    assert.equal(await removed, true)
    await pushed
    await using object = await inner.open(DIGEST)
    assert.equal(object?.sizeBytes, 7, remove)
    assert.equal(await marks.read(DIGEST), undefined)
  }
})

test('what another process removes now is not evicted', async () => {
  const inner = new MemoryStore()
  const marks = new CollectionMarks({ store: inner, clock: new FakeClock() })
  const watched = new WatchedStore(inner, watcher(), () => marks)
  await store(watched)
  const other = await marks.beginRemoval(DIGEST)
  assert.equal(await watched.evict(DIGEST, GONE), false)
  await other?.end()
  assert.equal(await watched.evict(DIGEST, GONE), true)
})

test('content that is opened while it is being evicted is absent, and never a handle to what goes', async () => {
  const inner = new MemoryStore()
  const { promise, resolve } = Promise.withResolvers<void>()
  const remove = inner.delete.bind(inner)
  inner.delete = async digest => {
    await promise
    return await remove(digest)
  }
  const watched = new WatchedStore(inner, watcher())
  await store(watched)
  const evicted = watched.evict(DIGEST, GONE)
  // The eviction has looked for holds and readers, and cannot be stopped any more.
  await setImmediate()
  const opened = watched.open(DIGEST)
  resolve()
  assert.equal(await evicted, true)
  assert.equal(await opened, undefined)
})

test('an upload finds its room on the disk, and none of it counts as cache', async () => {
  const seen = watcher(0)
  const watched = new WatchedStore(new MemoryStore(), seen)
  await using upload = await watched.createUpload(newUploadId())
  await upload.append(BYTES)
  assert.equal(seen.claimedBytes, 0)
  await watched.adopt(upload, DIGEST, BYTES.byteLength)
  const refusing = new WatchedStore(new MemoryStore(), { ...watcher(), spare: async () => false })
  await using refused = await refusing.createUpload(newUploadId())
  await assert.rejects(refused.append(BYTES), { name: 'NoRoomError' })
})

test('I17 a disk that is too full for an announcement is emptied by a process that is alone on it', async () => {
  for (const kind of ['hosted-removal', 'hosted-unneeded'] as const)
    for (const isAlone of [true, false]) {
      const bare = new MemoryStore()
      const refuse = async (): Promise<never> => await Promise.reject(new Error('ENOSPC'))
      const full = storeWith(bare, {
        isAlone: async () => await Promise.resolve(isAlone),
        createRecord: async (name, bytes) =>
          await (name.kind === kind ? refuse() : bare.createRecord(name, bytes)),
        writeRecord: async (name, bytes, durability) =>
          await (name.kind === kind ? refuse() : bare.writeRecord(name, bytes, durability)),
      })
      const marks = new CollectionMarks({ store: full, clock: new FakeClock() })
      const watched = new WatchedStore(full, watcher(), () => marks)
      await store(watched)
      if (isAlone) assert.equal(await watched.evict(DIGEST, GONE), true)
      else await assert.rejects(watched.evict(DIGEST, GONE), /ENOSPC/)
      await using object = await bare.open(DIGEST)
      assert.equal(object === undefined, isAlone)
      const removal = { kind: 'hosted-removal', digest: DIGEST } as const
      assert.equal(await bare.readRecord(removal), undefined)
    }
})
