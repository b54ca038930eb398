import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName } from '../../src/oci/name.ts'
import { parseConfiguredNamespace } from '../../src/oci/namespace.ts'
import type { Bounds } from '../../src/space/bounds.ts'
import { Space } from '../../src/space/space.ts'
import type { NamespaceTerms } from '../../src/space/victims.ts'
import type { Room } from '../../src/storage/store.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'

/** A store on a file system of a certain size, of which others may take something. */
class RoomyStore extends MemoryStore {
  readonly totalBytes: number
  takenByOthers = 0

  constructor(totalBytes: number) {
    super()
    this.totalBytes = totalBytes
  }

  override async measureRoom(): Promise<Room> {
    let used = this.takenByOthers
    for await (const { sizeBytes } of this.list()) used += sizeBytes
    return { totalBytes: this.totalBytes, freeBytes: this.totalBytes - used }
  }
}

interface Rig {
  readonly space: Space
  readonly store: RoomyStore
  readonly clock: FakeClock
  readonly evicted: Digest[]
  /** Bytes, or as many random ones. */
  put(namespace: string, content: number | Buffer): Promise<Digest>
  has(digest: Digest): Promise<boolean>
}

const ALL = { kind: 'percent', percent: 100 } as const
const UNLIMITED: Bounds = { maxSize: undefined, minFree: { kind: 'bytes', bytes: 0 }, dynamicShare: 1 }

async function start(
  t: TestContext,
  bounds: Partial<Bounds>,
  terms: Partial<NamespaceTerms> = {},
): Promise<Rig> {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-space-'))
  const store = new RoomyStore(100_000)
  const clock = new FakeClock()
  const evicted: Digest[] = []
  const space = new Space({
    store,
    root,
    bounds: { ...UNLIMITED, ...bounds },
    clock,
    events: seeEvents().events,
    terms: () => ({ configured: new Set(['docker.io']), invalidationMs: new Map(), ...terms }),
  })
  t.after(async () => {
    await space[Symbol.asyncDispose]()
    await rm(root, { recursive: true })
  })
  await space.start({
    refreshPins: async () => await Promise.resolve(true),
    isPinned: () => false,
    evicted: async digest => {
      evicted.push(digest)
      await Promise.resolve()
    },
  })
  return {
    space,
    store,
    clock,
    evicted,
    put: async (...what) => await put(space, clock, what),
    has: async digest => {
      await using object = await store.open(digest)
      return object !== undefined
    },
  }
}

async function put(
  space: Space,
  clock: FakeClock,
  [namespaceText, content]: readonly [string, number | Buffer],
): Promise<Digest> {
  const bytes = typeof content === 'number' ? randomBytes(content) : content
  const digest = digestOf(bytes)
  const namespace = parseConfiguredNamespace(namespaceText)
  const repository = parseRepositoryName('a/b')
  assert.ok(namespace !== undefined && repository !== undefined)
  const link = { kind: 'link', namespace, repository, digest } as const
  await space.store.writeRecord(link, new Uint8Array(0), 'relaxed')
  await storeIn(space, digest, bytes)
  clock.advance(1000)
  return digest
}

async function storeIn({ store }: Space, digest: Digest, bytes: Buffer): Promise<void> {
  await using spool = await store.createSpool(digest)
  await spool.append(bytes)
  await store.adopt(spool, digest, bytes.byteLength)
}

test('when others fill the file system, what was used longest ago goes until the minimum is free again', async t => {
  const rig = await start(t, { minFree: { kind: 'bytes', bytes: 20_000 } })
  const digests = []
  for (let count = 0; count < 6; count += 1) digests.push(await rig.put('docker.io', 10_000))
  assert.deepEqual(await rig.space.evict(undefined), { objects: 0, bytes: 0 })
  rig.store.takenByOthers = 35_000
  rig.clock.advance(2000)
  assert.deepEqual(await rig.space.evict(undefined), { objects: 2, bytes: 20_000 })
  assert.deepEqual(rig.evicted.toSorted(), digests.slice(0, 2).toSorted())
})

test('a download waits for room that is made for it, and is refused where nothing may go', async t => {
  const rig = await start(t, { maxSize: { kind: 'bytes', bytes: 30_000 }, maxBlob: ALL })
  const [first] = [await rig.put('docker.io', 14_000), await rig.put('docker.io', 14_000)]
  assert.ok(first !== undefined)
  await using spool = await rig.space.store.createSpool(digestOf(randomBytes(1)))
  assert.equal(await rig.space.makeRoom(spool, { namespace: 'docker.io', sizeBytes: 10_000 }), true)
  assert.equal(await rig.has(first), false)
  await using other = await rig.space.store.createSpool(digestOf(randomBytes(1)))
  assert.equal(await rig.space.makeRoom(other, { namespace: 'docker.io', sizeBytes: 30_001 }), false)
  assert.equal(await rig.space.makeRoom(other, { namespace: 'docker.io', sizeBytes: 21_000 }), false)
  assert.equal(rig.space.status.usedBytes <= 30_000, true)
})

/** A cache without a maximum on a file system of 100,000 bytes, full but for its minimum, and its content. */
async function startFull(
  t: TestContext,
): Promise<{ readonly rig: Rig; readonly content: readonly Digest[] }> {
  const rig = await start(t, { minFree: { kind: 'bytes', bytes: 10_000 }, maxBlob: ALL })
  const content = []
  for (let count = 0; count < 8; count += 1) content.push(await rig.put('docker.io', 10_000))
  rig.store.takenByOthers = 10_000
  // Measures the room again.
  await rig.space.evict(0)
  return { rig, content }
}

async function allThere(rig: Rig, content: readonly Digest[]): Promise<boolean> {
  return (await Promise.all(content.map(async digest => await rig.has(digest)))).every(Boolean)
}

test('without a maximum, a blob larger than used and free room together makes nothing go, announced or not', async t => {
  const { rig, content } = await startFull(t)
  await using spool = await rig.space.store.createSpool(digestOf(randomBytes(1)))
  assert.equal(await rig.space.makeRoom(spool, { namespace: 'docker.io', sizeBytes: 80_001 }), false)
  await using silent = await rig.space.store.createSpool(digestOf(randomBytes(1)))
  assert.equal(await rig.space.makeRoom(silent, { namespace: 'docker.io', sizeBytes: undefined }), true)
  await assert.rejects(silent.append(randomBytes(5000)), { name: 'NoRoomError' })
  assert.equal(await allThere(rig, content), true)
  assert.deepEqual(rig.evicted, [])
})

test('a blob that comes without a size gets the room that its manifest states, and not a byte more', async t => {
  const { rig, content } = await startFull(t)
  const digest = digestOf(randomBytes(1))
  const mediaType = 'application/vnd.oci.image.layer.v1.tar'
  rig.space.announced({
    digest: digestOf(randomBytes(1)),
    blobs: [{ digest, mediaType, sizeBytes: 5000 }],
    manifests: [],
  })
  await using spool = await rig.space.store.createSpool(digest)
  const incoming = { namespace: 'docker.io', digest, sizeBytes: undefined }
  assert.equal(await rig.space.makeRoom(spool, incoming), true)
  await spool.append(randomBytes(5000))
  assert.deepEqual(rig.evicted, content.slice(0, 1))
  await assert.rejects(spool.append(randomBytes(9000)), { name: 'NoRoomError' })
  assert.equal(await allThere(rig, content.slice(1)), true)
})

test('registries that are not configured get their share, and what is configured does not go for them', async t => {
  const configured = new Set(['docker.io', 'quay.io'])
  const rig = await start(t, { maxSize: { kind: 'bytes', bytes: 50_000 }, dynamicShare: 0.2 }, { configured })
  const kept = await rig.put('docker.io', 10_000)
  const strangers = []
  for (let count = 0; count < 4; count += 1) strangers.push(await rig.put('evil.example', 5000))
  await rig.space.evict(undefined)
  assert.equal(await rig.has(kept), true)
  const left = await Promise.all(strangers.map(async digest => await rig.has(digest)))
  assert.deepEqual(left, [false, false, false, true])
  assert.ok(rig.space.status.dynamicBytes <= 10_000)
})

test('what is stored again in the moment of its eviction is not forgotten, and counts for whom it did before', async t => {
  const rig = await start(t, {})
  const bytes = randomBytes(1000)
  const [back, gone] = [await rig.put('docker.io', bytes), await rig.put('docker.io', 1000)]
  const { index } = rig.space
  const ask = index.ask.bind(index) as (...asked: unknown[]) => Promise<unknown>
  t.mock.method(index, 'ask', async (...asked: unknown[]) => {
    // The eviction is over, and what it has removed is about to be forgotten.
    if (asked[0] === 'takeLinks') await storeIn(rig.space, back, bytes)
    return await ask(...asked)
  })
  assert.equal((await rig.space.evict(2000)).objects, 2)
  assert.deepEqual(rig.evicted, [gone])
  const [entry] = await index.ask('objects', [back])
  assert.deepEqual(entry?.repositories, ['docker.io/a/b'])
  assert.deepEqual(
    [...index.totals.bytesByNamespace].filter(([, sum]) => sum > 0),
    [['docker.io', 1000]],
  )
})

test('where nothing is configured but the default, others have no share to keep to', async t => {
  const rig = await start(t, { maxSize: { kind: 'bytes', bytes: 80_000 }, dynamicShare: 0 })
  await rig.put('ghcr.io', 30_000)
  assert.deepEqual(await rig.space.evict(undefined), { objects: 0, bytes: 0 })
})

test('what nobody has asked for in the time that its namespace allows goes, and what was asked for stays', async t => {
  const rig = await start(t, {}, { invalidationMs: new Map([['docker.io', 60_000]]) })
  const [old, asked, patient] = [
    await rig.put('docker.io', 100),
    await rig.put('docker.io', 100),
    await rig.put('quay.io', 100),
  ]
  assert.ok(old !== undefined && asked !== undefined && patient !== undefined)
  rig.clock.advance(50_000)
  rig.space.used(asked, { hits: 1, servedBytes: 100 })
  rig.clock.advance(20_000)
  assert.equal((await rig.space.evict(undefined)).objects, 1)
  assert.deepEqual(await Promise.all([old, asked, patient].map(async digest => await rig.has(digest))), [
    false,
    true,
    true,
  ])
})

test('what a manifest names is wanted when it is shown, so that the images in use stay whole', async t => {
  const rig = await start(t, {})
  const [layer, other] = [await rig.put('docker.io', 100), await rig.put('docker.io', 100)]
  assert.ok(layer !== undefined && other !== undefined)
  rig.space.shown({
    digest: digestOf(randomBytes(1)),
    blobs: [{ mediaType: '', digest: layer, sizeBytes: 100 }],
    manifests: [],
  })
  await rig.space.evict(100)
  assert.deepEqual(await Promise.all([layer, other].map(async digest => await rig.has(digest))), [
    true,
    false,
  ])
})
