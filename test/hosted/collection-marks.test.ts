import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CollectionMarks } from '../../src/hosted/collection-marks.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { storeWith } from '../mirror/rig.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'

const DIGEST = digestOf(Buffer.from('layer'))
const REMOVAL = { kind: 'hosted-removal', digest: DIGEST } as const
const TOO_LONG_MS = 601_000

interface Rig {
  readonly clock: FakeClock
  readonly store: MemoryStore
  /** The marks as two processes see them. */
  readonly one: CollectionMarks
  readonly other: CollectionMarks
  /** The other process takes the first one for dead, and begins a removal of its own. */
  readonly takeOver: () => Promise<void>
}

function makeRig(): Rig {
  const clock = new FakeClock()
  const store = new MemoryStore(clock)
  const [one, other] = [new CollectionMarks({ store, clock }), new CollectionMarks({ store, clock })]
  const takeOver = async (): Promise<void> => {
    clock.advance(TOO_LONG_MS)
    assert.equal(await other.beginRemoval(DIGEST), undefined)
    assert.ok(await other.beginRemoval(DIGEST))
    await other.write(DIGEST, 'removing')
  }
  return { clock, store, one, other, takeOver }
}

test('a removal that took too long leaves the mark and the record of the process that took over', async () => {
  const { store, one, other, takeOver } = makeRig()
  await one.whileRemoving(DIGEST, takeOver)
  assert.equal((await other.read(DIGEST))?.state, 'removing')
  assert.ok(await store.readRecord(REMOVAL))
})

test('a removal that took too long before its mark writes none', async () => {
  const { clock, store, other } = makeRig()
  const slow = storeWith(store, {
    createRecord: async (name, bytes) => {
      const creation = await store.createRecord(name, bytes)
      clock.advance(TOO_LONG_MS)
      return creation
    },
  })
  const one = new CollectionMarks({ store: slow, clock })
  await assert.rejects(
    one.whileRemoving(DIGEST, async () => await Promise.reject(new Error('it must not run'))),
    /took too long/,
  )
  assert.equal(await other.read(DIGEST), undefined)
})

test('a removal that ends in time takes its mark and its record away', async () => {
  const { clock, store, one } = makeRig()
  await one.whileRemoving(DIGEST, async () => {
    clock.advance(TOO_LONG_MS / 4)
    assert.equal((await one.read(DIGEST))?.state, 'removing')
    await Promise.resolve()
  })
  assert.equal(await one.read(DIGEST), undefined)
  assert.equal(await store.readRecord(REMOVAL), undefined)
})

test('what is about to be let go keeps the mark of another process that begins to remove it meanwhile', async () => {
  const { clock, store, other } = makeRig()
  await other.write(DIGEST, 'unneeded')
  const late = storeWith(store, {
    readRecord: async name => {
      const bytes = await store.readRecord(name)
      // The other process begins between the look at the mark and its renewal.
      if ((await other.beginRemoval(DIGEST)) !== undefined) await other.write(DIGEST, 'removing')
      return bytes
    },
  })
  await new CollectionMarks({ store: late, clock }).suspect(DIGEST)
  assert.equal((await other.read(DIGEST))?.state, 'removing')
})

test('an old mark of what is about to be let go is renewed', async () => {
  const { clock, store, one } = makeRig()
  await one.write(DIGEST, 'unneeded')
  clock.advance(TOO_LONG_MS)
  await one.suspect(DIGEST)
  assert.deepEqual(await one.read(DIGEST), { state: 'unneeded', atMs: clock.wallMs() })
  assert.equal(await store.readRecord(REMOVAL), undefined)
})
