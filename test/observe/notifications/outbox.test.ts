import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { Outbox } from '../../../src/observe/notifications/outbox.ts'
import { makeRoom, noticeOf } from './rig.ts'

const BOUNDS = { noticesMax: 100, ageMsMax: 10_000 }

test('a notice that was added is there after the file is opened again, until it is delivered', async () => {
  await using room = await makeRoom()
  const path = join(room.directory, 'events.sqlite')
  const first = new Outbox(path, BOUNDS)
  first.add([{ notice: noticeOf('1', 'a'), endpoints: ['ci', 'chat'], isAnnounced: false }], 1000)
  first.close()
  const next = new Outbox(path, BOUNDS)
  const [due] = next.due('ci', [], 10)
  assert.deepEqual(due?.notice, noticeOf('1', 'a'))
  next.settle('ci', [{ seq: due.seq, state: 'delivered', error: undefined }])
  assert.deepEqual(next.due('ci', [], 10), [])
  assert.deepEqual(next.pending(), { chat: 1 })
  next.close()
})

test('of each subject only the oldest pending notice is due, and none of a subject that waits', async () => {
  await using room = await makeRoom()
  const outbox = new Outbox(join(room.directory, 'events.sqlite'), BOUNDS)
  const names = [
    ['1', 'a'],
    ['2', 'b'],
    ['3', 'a'],
    ['4', undefined],
  ] as const
  outbox.add(
    names.map(([id, subject]) => ({ notice: noticeOf(id, subject), endpoints: ['ci'], isAnnounced: false })),
    1000,
  )
  const idsOf = (waiting: readonly string[]): readonly string[] =>
    outbox.due('ci', waiting, 10).map(({ notice }) => notice.id)
  assert.deepEqual(idsOf([]), ['1', '2', '4'])
  assert.deepEqual(idsOf(['a', '']), ['2'])
  const [head] = outbox.due('ci', [], 1)
  outbox.settle('ci', [{ seq: head?.seq ?? 0, state: 'pending', error: 'ci answered 500' }])
  assert.equal(outbox.due('ci', [], 1)[0]?.attempts, 1)
  outbox.settle('ci', [{ seq: head?.seq ?? 0, state: 'delivered', error: undefined }])
  assert.deepEqual(idsOf([]), ['2', '3', '4'])
  outbox.close()
})

test('the oldest notices are dropped beyond the bounds, and those that were not delivered are counted', async () => {
  await using room = await makeRoom()
  const outbox = new Outbox(join(room.directory, 'events.sqlite'), { noticesMax: 3, ageMsMax: 10_000 })
  const add = (id: string, atMs: number): number =>
    outbox.add([{ notice: noticeOf(id, 'a', atMs), endpoints: ['ci', 'chat'], isAnnounced: false }], atMs)
  assert.equal(add('1', 1000), 0)
  const [first] = outbox.due('ci', [], 1)
  outbox.settle('ci', [{ seq: first?.seq ?? 0, state: 'delivered', error: undefined }])
  assert.equal(add('2', 1000) + add('3', 1000), 0)
  assert.equal(add('4', 1000), 1, 'the first one was delivered to one of its two endpoints')
  assert.equal(add('5', 11_001), 6, 'the others are too old by then')
  assert.deepEqual(
    outbox.list(Infinity, 10).map(({ notice }) => notice.id),
    ['5'],
  )
  outbox.close()
})

test('a replay makes delivered notices pending again, for one endpoint, one notice or a time', async () => {
  await using room = await makeRoom()
  const outbox = new Outbox(join(room.directory, 'events.sqlite'), BOUNDS)
  for (const [id, atMs] of [
    ['1', 1000],
    ['2', 2000],
  ] as const) {
    outbox.add([{ notice: noticeOf(id, 'a', atMs), endpoints: ['ci', 'chat'], isAnnounced: false }], atMs)
  }
  const deliverAll = (): void => {
    for (const endpoint of ['ci', 'chat'])
      outbox.settle(
        endpoint,
        [1, 2].map(seq => ({ seq, state: 'delivered' as const, error: undefined })),
      )
  }
  deliverAll()
  assert.deepEqual(outbox.pending(), {})
  assert.equal(outbox.replay({ endpoint: 'ci', id: undefined, sinceMs: 1500 }), 1)
  assert.deepEqual(outbox.pending(), { ci: 1 })
  deliverAll()
  assert.equal(outbox.replay({ endpoint: undefined, id: '1', sinceMs: 0 }), 2)
  assert.deepEqual(outbox.pending(), { ci: 1, chat: 1 })
  outbox.close()
})

test('a disabled endpoint stays so until a replay, and one that is not configured any more is forgotten', async () => {
  await using room = await makeRoom()
  const path = join(room.directory, 'events.sqlite')
  const outbox = new Outbox(path, BOUNDS)
  outbox.add([{ notice: noticeOf('1', 'a'), endpoints: ['ci', 'chat'], isAnnounced: false }], 1000)
  outbox.disable('ci', 1000)
  outbox.close()
  const next = new Outbox(path, BOUNDS)
  assert.deepEqual(next.configure(['ci']), ['ci'])
  assert.deepEqual(next.pending(), { ci: 1 })
  next.replay({ endpoint: 'ci', id: undefined, sinceMs: 0 })
  assert.deepEqual(next.configure(['ci']), [])
  next.close()
})

test('a list shows each endpoint with its state, attempts and last error', async () => {
  await using room = await makeRoom()
  const outbox = new Outbox(join(room.directory, 'events.sqlite'), BOUNDS)
  outbox.add([{ notice: noticeOf('1', 'a'), endpoints: ['ci', 'chat'], isAnnounced: false }], 1000)
  outbox.settle('ci', [{ seq: 1, state: 'pending', error: 'ci answered 503' }])
  assert.deepEqual(outbox.list(Infinity, 10)[0]?.deliveries, [
    { endpoint: 'chat', state: 'pending', attempts: 0, error: undefined },
    { endpoint: 'ci', state: 'pending', attempts: 1, error: 'ci answered 503' },
  ])
  assert.deepEqual(outbox.list(1, 10), [])
  outbox.close()
})

test('an announced notice is due once it is confirmed, and holds up its subject until then', async () => {
  await using room = await makeRoom()
  const path = join(room.directory, 'events.sqlite')
  const first = new Outbox(path, BOUNDS)
  const add = (id: string, subject: string, isAnnounced: boolean): number =>
    first.add([{ notice: noticeOf(id, subject), endpoints: ['ci'], isAnnounced }], 1000)
  add('1', 'a', true)
  add('2', 'a', false)
  add('3', 'b', true)
  add('4', 'b', false)
  assert.deepEqual(first.due('ci', [], 10), [])
  assert.deepEqual(
    first.list(Infinity, 10).map(({ notice }) => notice.id),
    ['4', '2'],
  )
  first.close()
  const next = new Outbox(path, BOUNDS)
  assert.deepEqual(
    next.announced().map(({ id }) => id),
    ['1', '3'],
  )
  next.confirm(['1'])
  next.withdraw(['3', '4'])
  assert.deepEqual(
    next.due('ci', [], 10).map(({ notice }) => notice.id),
    ['1', '4'],
    'what was not announced is not withdrawn',
  )
  assert.deepEqual(next.announced(), [])
  assert.deepEqual(next.pending(), { ci: 3 })
  next.close()
})
