import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { DirectorySyncs } from '../../../src/storage/filesystem/directories.ts'

/** Syncs that end when the test says so. */
function heldSyncs(): { readonly syncs: DirectorySyncs; readonly begun: PromiseWithResolvers<void>[] } {
  const begun: PromiseWithResolvers<void>[] = []
  const syncs = new DirectorySyncs(async () => {
    const held = Promise.withResolvers<void>()
    begun.push(held)
    await held.promise
  })
  return { syncs, begun }
}

test('writers that come while a sync runs share the next one, and never the one that runs', async () => {
  const { syncs, begun } = heldSyncs()
  const over: string[] = []
  const writers = ['first', 'second', 'third'].map(async name => {
    await syncs.sync('/a')
    over.push(name)
  })
  const other = syncs.sync('/b')
  await setImmediate()
  assert.equal(begun.length, 2)
  begun[0]?.resolve()
  await setImmediate()
  assert.deepEqual(over, ['first'])
  assert.equal(begun.length, 3)
  const late = syncs.sync('/a')
  begun[2]?.resolve()
  await setImmediate()
  assert.deepEqual(over, ['first', 'second', 'third'])
  assert.equal(begun.length, 4)
  begun[1]?.resolve()
  begun[3]?.resolve()
  await Promise.all([...writers, other, late])
})

test('a sync that fails fails those that wait for it, and the next ones begin another', async () => {
  const { syncs, begun } = heldSyncs()
  const failing = syncs.sync('/a')
  const waiting = syncs.sync('/a')
  begun[0]?.reject(new Error('EIO'))
  await assert.rejects(failing, /EIO/)
  await setImmediate()
  begun[1]?.resolve()
  await waiting
  const after = syncs.sync('/a')
  begun[2]?.resolve()
  await after
  assert.equal(begun.length, 3)
})
