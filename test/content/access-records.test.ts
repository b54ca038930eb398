import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AccessRecords } from '../../src/content/access-records.ts'
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
