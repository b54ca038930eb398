import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PullBook } from '../../src/hosted/pulls.ts'
import { parseRepositoryName } from '../../src/oci/name.ts'
import { parseNamespace } from '../../src/oci/namespace.ts'
import { recordKey } from '../../src/storage/layout.ts'
import type { Store } from '../../src/storage/store.ts'
import { tagOf } from '../mirror/rig.ts'
import { defined } from '../storage/contract.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { FaultyStore } from '../support/faulty-store.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'

const PLACE = {
  namespace: defined(parseNamespace('registry.example.com')),
  repository: defined(parseRepositoryName('team/app')),
}
const [V1, V2] = [tagOf('v1'), tagOf('v2')]
const LOOK = { begins: false } as const
const HOUR_MS = 3_600_000

function bookOf(store: Store, clock: FakeClock, isHosted = true): PullBook {
  const { events } = seeEvents()
  return new PullBook({
    store,
    clock,
    events,
    isClaimed: () => true,
    isHosted: () => Promise.resolve(isHosted),
  })
}

test('a pull is known at once, after a restart, and beside the pulls that another process has seen', async () => {
  const [store, clock] = [new MemoryStore(), new FakeClock()]
  {
    await using one = bookOf(store, clock)
    await using other = bookOf(store, clock)
    one.note(PLACE, V1, 2)
    other.note(PLACE, V2, 1)
    assert.equal((await one.last(PLACE, [V1], LOOK)).get(V1)?.knownMs, clock.wallMs())
    clock.advance(HOUR_MS)
    other.note(PLACE, V1, 3)
  }
  const atMs = clock.wallMs()
  await using later = bookOf(store, clock)
  clock.advance(HOUR_MS)
  const pulls = await later.last(PLACE, [V1, V2], LOOK)
  assert.deepEqual(pulls.get(V1), { latestMs: atMs, knownMs: atMs, hits: 5 })
  assert.equal(pulls.get(V2)?.knownMs, atMs - HOUR_MS)
})

test('a tag that nobody pulls is as old as the records are, and young again if they are lost', async () => {
  const [store, clock] = [new MemoryStore(), new FakeClock()]
  await using book = bookOf(store, clock)
  const begunMs = clock.wallMs()
  assert.equal((await book.last(PLACE, [V1], { begins: true })).get(V1)?.latestMs, begunMs)
  clock.advance(HOUR_MS)
  book.note(PLACE, V2, 1)
  await book.flush()
  assert.deepEqual((await book.last(PLACE, [V1], LOOK)).get(V1), {
    latestMs: begunMs,
    knownMs: undefined,
    hits: 0,
  })
  for (let shard = 0; shard < 16; shard += 1)
    if ((await store.readRecord({ kind: 'pulls', ...PLACE, shard })) !== undefined)
      await store.writeRecord({ kind: 'pulls', ...PLACE, shard }, Buffer.from('damaged'), 'relaxed')
  for (const { latestMs, knownMs } of (await book.last(PLACE, [V1, V2], { begins: true })).values())
    assert.deepEqual([latestMs, knownMs], [clock.wallMs(), undefined])
})

test('a dry look writes nothing, and a repository that never had a push has no record', async () => {
  const [store, clock] = [new MemoryStore(), new FakeClock()]
  await using book = bookOf(store, clock, false)
  await book.last(PLACE, [V1], LOOK)
  book.note(PLACE, V1, 1)
  await book.flush()
  for (let shard = 0; shard < 16; shard += 1)
    assert.equal(await store.readRecord({ kind: 'pulls', ...PLACE, shard }), undefined)
})

test('pulls that could not be written are written later', async () => {
  const [memory, clock] = [new MemoryStore(), new FakeClock()]
  const store = new FaultyStore(memory)
  {
    await using book = bookOf(store, clock)
    book.note(PLACE, V1, 1)
    store.faults.add('writeRecord')
    await book.flush()
    book.note(PLACE, V1, 1)
    store.faults.delete('writeRecord')
  }
  await using later = bookOf(memory, clock)
  assert.deepEqual((await later.last(PLACE, [V1], LOOK)).get(V1)?.hits, 2)
})

test('a record stays within its size, and a tag that has no room counts as pulled when it may have been', async () => {
  const [store, clock] = [new MemoryStore(), new FakeClock()]
  await using book = bookOf(store, clock)
  const tags = Array.from({ length: 9_000 }, (_, index) => tagOf(`${'t'.repeat(110)}-${index}`))
  const pulledAtMs = tags.map(tag => {
    book.note(PLACE, tag, 1)
    clock.advance(10)
    return clock.wallMs() - 10
  })
  await book.flush()
  for (let shard = 0; shard < 16; shard += 1)
    assert.ok(Number((await store.readRecord({ kind: 'pulls', ...PLACE, shard }))?.byteLength) <= 65_536)
  const pulls = await book.last(PLACE, tags, LOOK)
  const known = tags.filter(tag => pulls.get(tag)?.knownMs !== undefined)
  assert.ok(known.length > 5_000 && known.length < tags.length, `${known.length}`)
  for (const [index, tag] of tags.entries())
    assert.ok(Number(pulls.get(tag)?.latestMs) >= Number(pulledAtMs[index]))
})

test('records of pulls have keys of their own', () => {
  const keys = [0, 1].map(shard => recordKey({ kind: 'pulls', ...PLACE, shard }))
  assert.deepEqual(keys, [
    'hosted/repositories/registry.example.com/team/app/_pulls/0',
    'hosted/repositories/registry.example.com/team/app/_pulls/1',
  ])
})
