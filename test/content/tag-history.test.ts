import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { sealRecord } from '../../src/content/sealed-record.ts'
import { TagHistory } from '../../src/content/tag-history.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import type { Store } from '../../src/storage/store.ts'
import { makeBlob, nameOf, storeWith, tagOf } from '../mirror/rig.ts'
import { damages } from '../support/damages.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { type SeenEvents, seeEvents } from '../support/seen-events.ts'

const DAY_MS = 24 * 3_600_000
const place = { namespace: DOCKER_HUB, repository: nameOf('acme/app') }
const tag = tagOf('latest')
const one = makeBlob(1).digest
const two = makeBlob(2).digest

interface Rig {
  readonly history: TagHistory
  readonly clock: FakeClock
  readonly store: Store
  readonly seen: SeenEvents
}

function makeHistory(store: Store = new MemoryStore(), clock = new FakeClock()): Rig {
  const seen = seeEvents()
  return { store, clock, seen, history: new TagHistory({ store, clock, events: seen.events }) }
}

test('a tag has every digest that it had, the newest first, with when and by whom, in the next process too', async () => {
  const { history, clock, store } = makeHistory()
  const startMs = clock.wallMs()
  await history.add(place, tag, { digest: one, by: 'upstream' }, 'relaxed')
  clock.advance(1000)
  await history.add(place, tag, { digest: two, by: 'alice' }, 'durable')
  clock.advance(1000)
  await history.add(place, tag, { digest: undefined, by: 'bob' }, 'durable')
  assert.deepEqual(await makeHistory(store, clock).history.read(place, tag), [
    { digest: undefined, atMs: startMs + 2000, by: 'bob' },
    { digest: two, atMs: startMs + 1000, by: 'alice' },
    { digest: one, atMs: startMs, by: 'upstream' },
  ])
  assert.deepEqual(await history.read(place, tagOf('other')), [])
})

test('the digest that a tag has already is not a move, and the deletion of an unknown tag is none either', async () => {
  const { history } = makeHistory()
  await history.add(place, tag, { digest: undefined, by: 'bob' }, 'durable')
  await history.add(place, tag, { digest: one, by: 'upstream' }, 'durable')
  await history.add(place, tag, { digest: one, by: 'alice' }, 'durable')
  assert.deepEqual(
    (await history.read(place, tag)).map(({ digest, by }) => [digest, by]),
    [[one, 'upstream']],
  )
})

test('a hundred moves are kept, and those of 90 days; what the tag named before is kept at any age', async () => {
  const { history, clock } = makeHistory()
  for (let round = 0; round < 60; round += 1)
    for (const digest of [one, two]) await history.add(place, tag, { digest, by: 'upstream' }, 'relaxed')
  assert.equal((await history.read(place, tag)).length, 100)
  clock.advance(89 * DAY_MS)
  await history.add(place, tag, { digest: one, by: 'upstream' }, 'relaxed')
  assert.equal((await history.read(place, tag)).length, 100)
  clock.advance(91 * DAY_MS)
  await history.add(place, tag, { digest: two, by: 'upstream' }, 'relaxed')
  assert.deepEqual(
    (await history.read(place, tag)).map(({ digest }) => digest),
    [two, one],
  )
})

test('of tags that always move in the same order, each one keeps about a hundred records', async () => {
  const { history, store } = makeHistory()
  const other = tagOf('sha-1')
  for (let round = 0; round < 400; round += 1)
    for (const each of [tag, other]) {
      const move = { digest: round % 2 === 0 ? one : two, by: 'ci' }
      const { name, bytes } = await history.next(place, each, move)
      await store.writeRecord(name, bytes, 'durable')
    }
  for (const each of [tag, other]) {
    const records = await Array.fromAsync(store.listRecordsOf({ kind: 'move', ...place, tag: each }))
    assert.ok(records.length >= 100 && records.length < 300, String(records.length))
  }
})

test('a tag rests once its last move is too old to be kept, and its old moves can be forgotten', async () => {
  const { history, clock, store } = makeHistory()
  const [resting, moving] = [tagOf('resting'), tagOf('moving')]
  for (const each of [resting, moving]) await history.add(place, each, { digest: one, by: 'ci' }, 'durable')
  clock.advance(89 * DAY_MS)
  assert.deepEqual(await history.restingTags(place), [])
  await history.add(place, moving, { digest: two, by: 'ci' }, 'durable')
  clock.advance(DAY_MS)
  assert.deepEqual(await history.restingTags(place), [resting])
  for (const each of [resting, moving]) await history.forget(place, each)
  assert.deepEqual(await history.read(place, resting), [])
  assert.deepEqual(
    (await history.read(place, moving)).map(({ digest }) => digest),
    [two],
  )
  assert.equal((await Array.fromAsync(store.listRecordsOf({ kind: 'move', ...place }))).length, 1)
})

test('moves that are added at once are all kept, in the order of the calls', async () => {
  const { history } = makeHistory()
  const digests = Array.from({ length: 20 }, (_, seed) => makeBlob(seed).digest)
  await Promise.all(
    digests.map(async digest => await history.add(place, tag, { digest, by: 'alice' }, 'relaxed')),
  )
  assert.deepEqual(
    (await history.read(place, tag)).map(({ digest }) => digest),
    digests.toReversed(),
  )
})

test('processes on one store lose none of the moves of each other', async () => {
  const clock = new FakeClock()
  const store = new MemoryStore()
  const digests = Array.from({ length: 8 }, (_, seed) => makeBlob(seed).digest)
  await Promise.all(
    digests.map(async digest => {
      const { history } = makeHistory(store, clock)
      await history.add(place, tag, { digest, by: 'alice' }, 'relaxed')
    }),
  )
  const moves = await makeHistory(store, clock).history.read(place, tag)
  assert.deepEqual(new Set(moves.map(({ digest }) => digest)), new Set(digests))
})

test('the list that an earlier version wrote is read, after what came since', async () => {
  const { history, store } = makeHistory()
  const old = [
    { digest: two, at: '2025-12-02T00:00:00.000Z', by: 'alice' },
    { digest: one, at: '2025-12-01T00:00:00.000Z', by: 'upstream' },
  ]
  await store.writeRecord({ kind: 'history', ...place, tag }, sealRecord(old), 'durable')
  await history.add(place, tag, { digest: two, by: 'bob' }, 'durable')
  await history.add(place, tag, { digest: one, by: 'bob' }, 'durable')
  assert.deepEqual(
    (await history.read(place, tag)).map(({ digest, by }) => [digest, by]),
    [
      [one, 'bob'],
      [two, 'alice'],
      [one, 'upstream'],
    ],
  )
})

test('any damage to a move is reported, and the others stay', async () => {
  const { history, store } = makeHistory()
  await history.add(place, tag, { digest: one, by: 'alice' }, 'durable')
  const [name] = await Array.fromAsync(store.listRecordsOf({ kind: 'move', ...place, tag }))
  assert.ok(name !== undefined)
  const bytes = await store.readRecord(name)
  assert.ok(bytes)
  await history.add(place, tag, { digest: two, by: 'bob' }, 'durable')
  const property = fc.asyncProperty(damages(bytes.length), async damage => {
    await store.writeRecord(name, damage(bytes), 'relaxed')
    const next = makeHistory(store)
    assert.equal((await next.history.read(place, tag)).length, 1)
    assert.equal(next.seen.of('a record of this mirror is damaged').length, 1)
  })
  await fc.assert(property, { numRuns: 200 })
})

test('a store that fails is reported, and stops nobody from adding a move', async () => {
  const store = storeWith(new MemoryStore(), {
    writeRecord: async () => await Promise.reject(new Error('EROFS')),
  })
  const { history, seen } = makeHistory(store)
  await history.add(place, tag, { digest: one, by: 'alice' }, 'durable')
  assert.equal(seen.of('storage failed').length, 1)
})
