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

test('bodies that are too large together are refused with 503', async () => {
  const bodies = new Bodies({ bytesMax: 10, togetherMax: 12, limitMs: 10_000 })
  const first = new Readable({ read: () => undefined })
  const reading = bodies.read(first)
  first.push(Buffer.alloc(8))
  while (first.readableLength > 0) await new Promise(setImmediate)
  await assert.rejects(bodies.read(Readable.from([Buffer.alloc(8)])), refusedWith(503))
  first.push(null)
  assert.equal((await reading).length, 8)
})

test('a body that does not end within the limit is refused with 408', async () => {
  const bodies = new Bodies({ bytesMax: 10, togetherMax: 12, limitMs: 1 })
  await assert.rejects(bodies.read(new Readable({ read: () => undefined })), refusedWith(408))
})
