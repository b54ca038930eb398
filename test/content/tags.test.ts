import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Tags } from '../../src/content/tags.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import type { Store } from '../../src/storage/store.ts'
import { makeBlob, nameOf, storeWith, tagOf } from '../mirror/rig.ts'
import { damages } from '../support/damages.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { type SeenEvents, seeEvents } from '../support/seen-events.ts'
import { until } from '../support/waiting.ts'

const TEN_YEARS_MS = 10 * 365 * 24 * 3_600_000
const place = { namespace: DOCKER_HUB, repository: nameOf('library/a') }
const tag = tagOf('latest')
const old = makeBlob(1).digest
const young = makeBlob(2).digest

interface Rig {
  readonly store: Store
  readonly clock: FakeClock
  readonly seen: SeenEvents
  readonly tags: Tags
}

function makeTags(store: Store = new MemoryStore(), clock = new FakeClock()): Rig {
  const seen = seeEvents()
  return { store, clock, seen, tags: new Tags(store, seen.events, clock) }
}

test('a tag that nobody has asked for is unknown', async () => {
  assert.equal(await makeTags().tags.read(place, tag), undefined)
})

test('a tag ages with the time that passes, here and in the next process', async () => {
  const { tags, clock, store } = makeTags()
  await tags.write(place, tag, old)
  clock.advance(5000)
  assert.deepEqual(await tags.read(place, tag), { digest: old, ageMs: 5000 })
  assert.deepEqual(await makeTags(store, clock).tags.read(place, tag), { digest: old, ageMs: 5000 })
})

for (const jumpMs of [TEN_YEARS_MS, -TEN_YEARS_MS]) {
  const where = jumpMs > 0 ? 'forward' : 'back'
  test(`a jump of the wall clock ten years ${where} ages nothing that this process has seen`, async () => {
    const { tags, clock } = makeTags()
    await tags.write(place, tag, old)
    clock.jumpWall(jumpMs)
    clock.advance(1)
    assert.deepEqual(await tags.read(place, tag), { digest: old, ageMs: 1 })
  })
}

test('a record from ten years in the future counts as now, is written down so, and ages from then on', async () => {
  const { tags, clock, store } = makeTags()
  await tags.write(place, tag, old)
  clock.jumpWall(-TEN_YEARS_MS)
  const next = makeTags(store, clock)
  assert.deepEqual(await next.tags.read(place, tag), { digest: old, ageMs: 0 })
  clock.advance(7000)
  assert.deepEqual(await next.tags.read(place, tag), { digest: old, ageMs: 7000 })
  assert.deepEqual(await makeTags(store, clock).tags.read(place, tag), { digest: old, ageMs: 7000 })
})

test('a record that lay for ten years is ten years old', async () => {
  const { tags, clock, store } = makeTags()
  await tags.write(place, tag, old)
  clock.jumpWall(TEN_YEARS_MS)
  assert.equal((await makeTags(store, clock).tags.read(place, tag))?.ageMs, TEN_YEARS_MS)
})

for (const [what, text] of [
  ['nothing', ''],
  ['no JSON', '{'],
  ['null', 'null'],
  ['a list', '[]'],
  ['no digest', '{"checkedAt":"2026-01-01T00:00:00.000Z"}'],
  ['a digest that is none', '{"digest":"sha256:abc","checkedAt":"2026-01-01T00:00:00.000Z"}'],
  ['no time', `{"digest":"${old}"}`],
  ['a time that is none', `{"digest":"${old}","checkedAt":"yesterday"}`],
] as const) {
  test(`a record with ${what} is reported, and the tag is unknown`, async () => {
    const { tags, store, seen } = makeTags()
    await store.writeRecord({ kind: 'tag', ...place, tag }, Buffer.from(text), 'durable')
    assert.equal(await tags.read(place, tag), undefined)
    assert.deepEqual(seen.events.damagedRecords, [{ record: 'tag', outcome: 'forgotten', count: 1 }])
    await tags.write(place, tag, old)
    assert.equal((await tags.read(place, tag))?.digest, old)
  })
}

test('I32 no flipped bit and no truncation of the record of a tag gives it another digest or age', async () => {
  const { tags, store, clock } = makeTags()
  const record = { kind: 'tag', ...place, tag } as const
  await tags.write(place, tag, old)
  clock.advance(5000)
  const sound = await store.readRecord(record)
  assert.ok(sound !== undefined)
  const tried = async (damage: (bytes: Uint8Array) => Uint8Array): Promise<void> => {
    await store.writeRecord(record, damage(sound), 'durable')
    const read = await makeTags(store, clock).tags.read(place, tag)
    if (read !== undefined) assert.deepEqual(read, { digest: old, ageMs: 5000 })
  }
  await fc.assert(fc.asyncProperty(damages(sound.byteLength), tried), { numRuns: 300 })
})

test('an expected tag keeps its old meaning until the new manifest is stored', async () => {
  const { tags, clock, store } = makeTags()
  await tags.write(place, tag, old)
  clock.advance(1000)
  tags.expect(place, tag, young)
  assert.equal((await tags.read(place, tag))?.digest, old)
  clock.advance(500)
  await tags.confirm(place, young)
  assert.deepEqual(await tags.read(place, tag), { digest: young, ageMs: 500 })
  assert.deepEqual(await makeTags(store, clock).tags.read(place, tag), { digest: young, ageMs: 500 })
})

test('a manifest that is stored late does not take a tag back that has moved on since', async () => {
  const { tags, clock } = makeTags()
  tags.expect(place, tag, old)
  clock.advance(1)
  tags.expect(place, tag, young)
  await tags.confirm(place, young)
  await tags.confirm(place, old)
  assert.equal((await tags.read(place, tag))?.digest, young)
})

test('a confirmation moves every tag that waits for the manifest, in its own repository only', async () => {
  const { tags } = makeTags()
  const other = { namespace: DOCKER_HUB, repository: nameOf('library/b') }
  for (const name of ['a', 'b']) tags.expect(place, tagOf(name), young)
  tags.expect(other, tag, young)
  await tags.confirm(place, young)
  assert.equal((await tags.read(place, tagOf('a')))?.digest, young)
  assert.equal((await tags.read(place, tagOf('b')))?.digest, young)
  assert.equal(await tags.read(other, tag), undefined)
})

test('a hundred tags wait for one manifest, and of a hundred and one the oldest is forgotten', async () => {
  for (const [count, first] of [
    [99, young],
    [100, young],
    [101, undefined],
  ] as const) {
    const { tags } = makeTags()
    for (let index = 1; index <= count; index += 1) tags.expect(place, tagOf(`t${index}`), young)
    await tags.confirm(place, young)
    assert.equal((await tags.read(place, tagOf('t1')))?.digest, first)
    assert.equal((await tags.read(place, tagOf(`t${count}`)))?.digest, young)
  }
})

test('a removed tag is gone from memory and from the store', async () => {
  const { tags, store } = makeTags()
  await tags.write(place, tag, old)
  assert.equal(await tags.remove(place, tag), true)
  assert.equal(await tags.read(place, tag), undefined)
  assert.equal(await tags.remove(place, tag), false)
  assert.equal(await makeTags(store).tags.read(place, tag), undefined)
})

test('a store that cannot be read or written is told of, and the process remembers for itself', async () => {
  const sick = async (): Promise<never> => await Promise.reject(new Error('EIO'))
  const { tags, seen } = makeTags(storeWith(new MemoryStore(), { readRecord: sick, writeRecord: sick }))
  assert.equal(await tags.read(place, tag), undefined)
  await tags.write(place, tag, old)
  assert.equal((await tags.read(place, tag))?.digest, old)
  assert.deepEqual(
    seen.of('storage failed').map(fields => fields['operation']),
    ['read-tag', 'write-tag'],
  )
})

test('an old record that is read slowly does not replace what was written meanwhile', async () => {
  const store = new MemoryStore()
  await makeTags(store).tags.write(place, tag, old)
  const { promise: go, resolve: letGo } = Promise.withResolvers<void>()
  const slow = storeWith(store, {
    readRecord: async name => {
      const record = await store.readRecord(name)
      await go
      return record
    },
  })
  const { tags } = makeTags(slow)
  const reading = tags.read(place, tag)
  await tags.write(place, tag, young)
  letGo()
  assert.equal((await reading)?.digest, young)
  assert.equal((await tags.read(place, tag))?.digest, young)
})

/** A store that has the old tag, and whose named operation waits until it is let go. */
async function waiting(
  operation: 'readRecord' | 'writeRecord' | 'deleteRecord',
  clock: FakeClock,
): Promise<{ readonly store: Store; readonly begun: Promise<void>; readonly letGo: () => void }> {
  const memory = new MemoryStore()
  await makeTags(memory, clock).tags.write(place, tag, old)
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const { promise: gate, resolve: letGo } = Promise.withResolvers<void>()
  const held = async (...args: never[]): Promise<unknown> => {
    const call = async (): Promise<unknown> =>
      await (memory[operation] as (...all: never[]) => Promise<unknown>)(...args)
    begin()
    // What is read slowly is what was there in the beginning.
    const early = operation === 'readRecord' ? call() : undefined
    await gate
    return await (early ?? call())
  }
  return { store: storeWith(memory, { [operation]: held }), begun, letGo }
}

test('a tag that is being written when it is removed is gone, here and in the next process', async () => {
  const clock = new FakeClock()
  const { store, begun, letGo } = await waiting('writeRecord', clock)
  const { tags } = makeTags(store, clock)
  const written = tags.write(place, tag, young)
  await begun
  const removed = tags.remove(place, tag)
  letGo()
  await Promise.all([written, removed])
  for (const each of [tags, makeTags(store, clock).tags]) assert.equal(await each.read(place, tag), undefined)
})

test('a tag that is written while it is being removed stays, here and in the next process', async () => {
  const clock = new FakeClock()
  const { store, begun, letGo } = await waiting('deleteRecord', clock)
  const { tags } = makeTags(store, clock)
  const removed = tags.remove(place, tag)
  await begun
  const written = tags.write(place, tag, young)
  letGo()
  await Promise.all([written, removed])
  for (const each of [tags, makeTags(store, clock).tags])
    assert.equal((await each.read(place, tag))?.digest, young)
})

for (const jumpMs of [0, -TEN_YEARS_MS]) {
  test(`a tag that is being read when it is removed is gone, here and in the next process${jumpMs < 0 ? ', also if its record is from the future' : ''}`, async () => {
    const clock = new FakeClock()
    const { store, begun, letGo } = await waiting('readRecord', clock)
    clock.jumpWall(jumpMs)
    const { tags } = makeTags(store, clock)
    const read = tags.read(place, tag)
    await begun
    const removed = tags.remove(place, tag)
    letGo()
    await Promise.all([read, removed])
    for (const each of [tags, makeTags(store, clock).tags])
      assert.equal(await each.read(place, tag), undefined)
  })
}

test('who asks after a removal is not told by a read that began before it', async () => {
  const clock = new FakeClock()
  const store = new MemoryStore()
  await makeTags(store, clock).tags.write(place, tag, old)
  const gate = Promise.withResolvers<void>()
  let reads = 0
  const slow = storeWith(store, {
    readRecord: async name => {
      reads += 1
      const isFirst = reads === 1
      const bytes = await store.readRecord(name)
      if (isFirst) await gate.promise
      return bytes
    },
  })
  const { tags } = makeTags(slow, clock)
  const before = tags.read(place, tag)
  await until(() => reads === 1, 'the first read has begun')
  await tags.remove(place, tag)
  const after = tags.read(place, tag)
  gate.resolve()
  assert.equal((await before)?.digest, old)
  assert.equal(await after, undefined)
})

test('a record is read once for all who ask for its tag at the same time', async () => {
  const clock = new FakeClock()
  const { store, begun, letGo } = await waiting('readRecord', clock)
  let reads = 0
  const counting = storeWith(store, {
    readRecord: async name => {
      reads += 1
      return await store.readRecord(name)
    },
  })
  const { tags } = makeTags(counting, clock)
  const all = Array.from({ length: 9 }, async () => (await tags.read(place, tag))?.digest)
  await begun
  letGo()
  assert.deepEqual([new Set(await Promise.all(all)), reads], [new Set([old]), 1])
})

test('a manifest that is stored after its tag was removed does not bring the tag back, unless it is expected again', async () => {
  const { tags, clock } = makeTags()
  tags.expect(place, tag, young)
  await tags.remove(place, tag)
  clock.advance(1)
  await tags.confirm(place, young)
  assert.equal(await tags.read(place, tag), undefined)
  tags.expect(place, tag, young)
  await tags.confirm(place, young)
  assert.equal((await tags.read(place, tag))?.digest, young)
})

test('a lost tag keeps its age and is lost for as long as it has been, in the next process too', async () => {
  const { tags, clock, store } = makeTags()
  await tags.write(place, tag, old)
  clock.advance(5000)
  assert.equal(await tags.lose(place, tag, old), true)
  clock.advance(1000)
  const known = { digest: old, ageMs: 6000, lostForMs: 1000 }
  const next = makeTags(store, clock).tags
  for (const reader of [tags, next]) {
    assert.deepEqual(await reader.read(place, tag), known)
    assert.deepEqual(reader.lost, [{ ...place, tag, lostForMs: 1000 }])
    assert.equal(await reader.lose(place, tag, old), false, 'the first time counts')
  }
})

test('a tag that means something else by now, or was removed, is not lost', async () => {
  const { tags } = makeTags()
  assert.equal(await tags.lose(place, tag, old), false)
  await tags.write(place, tag, young)
  assert.equal(await tags.lose(place, tag, old), false)
  assert.equal((await tags.read(place, tag))?.lostForMs, undefined)
})

test('a lost tag that its upstream names again, or that is removed, is lost no longer', async () => {
  for (const end of ['write', 'remove', 'confirm'] as const) {
    const { tags, store, clock } = makeTags()
    await tags.write(place, tag, old)
    await tags.lose(place, tag, old)
    if (end === 'write') await tags.write(place, tag, old)
    if (end === 'remove') await tags.remove(place, tag)
    clock.advance(1)
    if (end === 'confirm') tags.expect(place, tag, young)
    if (end === 'confirm') await tags.confirm(place, young)
    assert.deepEqual(tags.lost, [], end)
    assert.equal((await makeTags(store, clock).tags.read(place, tag))?.lostForMs, undefined)
  }
})

test('a tag that the upstream moves is reported with both digests, and a new or confirmed one is not', async () => {
  const { tags, seen } = makeTags()
  await tags.write(place, tag, old)
  await tags.write(place, tag, old)
  assert.deepEqual(seen.of('tag moved'), [])
  tags.expect(place, tag, young)
  assert.deepEqual(seen.of('tag moved'), [])
  await tags.confirm(place, young)
  const moved = { ...place, tag, digest: young, before: old, by: 'upstream' }
  assert.deepEqual(seen.of('tag moved'), [moved])
})

test('a tag that moves after a restart is reported once it was read', async () => {
  const { tags, clock, store } = makeTags()
  await tags.write(place, tag, old)
  const next = makeTags(store, clock)
  await next.tags.read(place, tag)
  await next.tags.write(place, tag, young)
  assert.equal(next.seen.of('tag moved').length, 1)
})
