import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AccessRecords } from '../../src/content/access-records.ts'
import { storeWith } from '../mirror/rig.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'

test('processes that start together on one store use one signing key', async () => {
  const store = new MemoryStore()
  const { events } = seeEvents()
  const keys = await Promise.all(
    Array.from({ length: 8 }, async () => await new AccessRecords({ store, events }).signingKey()),
  )
  assert.equal(new Set(keys.map(key => Buffer.from(key).toString('hex'))).size, 1)
  const later = await new AccessRecords({ store, events }).signingKey()
  assert.deepEqual(Buffer.from(later), Buffer.from(keys[0] ?? []))
})

test('a damaged signing key is replaced by another one, which stays', async () => {
  const store = new MemoryStore()
  const { events } = seeEvents()
  const records = new AccessRecords({ store, events })
  const before = await records.signingKey()
  await store.writeRecord({ kind: 'signing-key' }, Buffer.from('{"key":"'), 'durable')
  const after = await records.signingKey()
  assert.notDeepEqual(Buffer.from(after), Buffer.from(before))
  assert.deepEqual(Buffer.from(await records.signingKey()), Buffer.from(after))
})

const ROBOT = {
  name: 'ci',
  grants: ['pull:docker.io/**'],
  createdAtMs: 1,
  createdBy: 'root',
}

test('processes on one store lose none of the tokens of each other', async () => {
  const store = new MemoryStore()
  const { events } = seeEvents()
  const entryOf = (id: string): object => ({ ...ROBOT, id: id.repeat(12), sha256: id.repeat(64) })
  await new AccessRecords({ store, events }).addRobot(entryOf('a'))
  const processes = ['b', 'c'].map(id => ({ id, records: new AccessRecords({ store, events }) }))
  for (const { records } of processes) assert.equal((await records.readRobots()).length, 1)
  await Promise.all(processes.map(async ({ records, id }) => await records.addRobot(entryOf(id))))
  for (const { records } of processes) assert.equal((await records.readRobots()).length, 3)
  await processes[0]?.records.removeRobot('a'.repeat(12))
  const left = await processes[1]?.records.readRobots()
  assert.deepEqual(new Set(left), new Set([entryOf('b'), entryOf('c')]))
})

test('a token that is being revoked does not come back by a process that reads it meanwhile', async () => {
  const store = new MemoryStore()
  const { events } = seeEvents()
  const entry = { ...ROBOT, id: 'a'.repeat(12), sha256: 'a'.repeat(64) }
  await new AccessRecords({ store, events }).addRobot(entry)
  const sick = storeWith(store, {
    deleteRecord: async name => {
      const wasThere = await store.deleteRecord(name)
      await new AccessRecords({ store, events }).readRobots()
      return wasThere
    },
  })
  await new AccessRecords({ store: sick, events }).removeRobot(entry.id)
  assert.deepEqual(await new AccessRecords({ store, events }).readRobots(), [])
})

test('a revoked token stays revoked after a power cut that brings back all files which were deleted', async () => {
  const { events } = seeEvents()
  const entryOf = (id: string): object => ({ ...ROBOT, id: id.repeat(12), sha256: id.repeat(64) })
  const store = new MemoryStore()
  for (const id of ['a', 'b']) await new AccessRecords({ store, events }).addRobot(entryOf(id))
  const unsynced = storeWith(store, { deleteRecord: async () => await Promise.resolve(true) })
  await new AccessRecords({ store: unsynced, events }).removeRobot('a'.repeat(12))
  for (let start = 0; start < 2; start += 1)
    assert.deepEqual(await new AccessRecords({ store, events }).readRobots(), [entryOf('b')])
  const names = { kind: 'decision', about: 'robots' } as const
  assert.equal((await Array.fromAsync(store.listRecordsOf(names))).length, 1)
})

test('when tokens were used is kept apart from them, and may be damaged', async () => {
  const store = new MemoryStore()
  const records = new AccessRecords({ store, events: seeEvents().events })
  await records.writeUses(new Map([['a', 7]]))
  assert.deepEqual(await records.readUses(), new Map([['a', 7]]))
  await store.writeRecord({ kind: 'robots-used' }, Buffer.from('{"a"'), 'durable')
  assert.deepEqual(await records.readUses(), new Map())
})
