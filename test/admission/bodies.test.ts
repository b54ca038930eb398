import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { Bodies, type BodyRefused } from '../../src/admission/bodies.ts'

const refusedWith =
  (status: number) =>
  (error: BodyRefused): boolean =>
    error.status === status

test('a body beyond the limit is refused with 413, and what it held is given back', async () => {
  const bodies = new Bodies({ bytesMax: 10, togetherMax: 12, limitMs: 10_000 })
  for (let turn = 0; turn < 3; turn += 1)
    await assert.rejects(bodies.read(Readable.from([Buffer.alloc(6), Buffer.alloc(6)])), refusedWith(413))
  assert.equal(await bodies.read(Readable.from([Buffer.from('ten bytes!')])), 'ten bytes!')
})

test('of bodies that are too large together the one that is sent slowly gives way', async () => {
  const bodies = new Bodies({ bytesMax: 10, togetherMax: 12, limitMs: 10_000 })
  const first = new Readable({ read: () => undefined })
  const reading = assert.rejects(bodies.read(first), refusedWith(503))
  first.push(Buffer.alloc(8))
  while (first.readableLength > 0) await new Promise(setImmediate)
  assert.equal((await bodies.read(Readable.from([Buffer.alloc(8)]))).length, 8)
  await reading
  assert.ok(first.destroyed)
  await assert.rejects(
    new Bodies({ bytesMax: 10, togetherMax: 4, limitMs: 10_000 }).read(Readable.from([Buffer.alloc(8)])),
    refusedWith(503),
  )
})

test('a body that does not end within the limit is refused with 408', async () => {
  const bodies = new Bodies({ bytesMax: 10, togetherMax: 12, limitMs: 1 })
  await assert.rejects(bodies.read(new Readable({ read: () => undefined })), refusedWith(408))
})
