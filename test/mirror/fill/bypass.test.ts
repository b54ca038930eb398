import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { HELD_BACK_BYTES } from '../../../src/content/tail.ts'
import { passThrough } from '../../../src/mirror/fill/bypass.ts'
import { Download } from '../../../src/mirror/fill/download.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { type BodyOptions, blobBody, FakeRegistry } from '../../support/fake-registry.ts'
import { seeEvents } from '../../support/seen-events.ts'
import { type Blob, collect, collectUntilFailure, makeBlob, sourceOf } from '../rig.ts'

const never = new AbortController().signal

/** A download of the blob that has `had` bytes behind it already. */
async function downloadOf(blob: Blob, options: BodyOptions = {}, had = 0): Promise<Download> {
  const registry = new FakeRegistry({ getBlob: ({ offset }) => blobBody(blob.bytes, { ...options, offset }) })
  const { hash } = Download.start(blob.digest)
  hash.update(blob.bytes.subarray(0, had))
  const parts = { events: seeEvents().events, clock: FakeClock.skipDelays() }
  const wanted = { source: sourceOf(registry), digest: blob.digest }
  const download = new Download(parts, wanted, { offset: had, hash }, never)
  await download.open()
  return download
}

test('the last 64 KiB go out only after the whole has matched', async () => {
  const blob = makeBlob(500_000)
  const { promise: go, resolve: letGo } = Promise.withResolvers<void>()
  const download = await downloadOf(blob, { chunkBytes: 50_000 })
  let readBytes = 0
  let readBeforeProof = 0
  const wrapped = Object.create(download, {
    chunks: {
      value: async function* () {
        yield* download.chunks()
        readBeforeProof = readBytes
        await go
      },
    },
  }) as Download
  Object.defineProperty(wrapped, 'checkpoint', { get: () => download.checkpoint })
  const reading = (async () => {
    for await (const piece of passThrough(wrapped, { start: 0, end: Infinity }, Buffer.alloc(0), never))
      readBytes += piece.length
  })()
  letGo()
  await reading
  assert.ok(readBeforeProof <= blob.bytes.length - HELD_BACK_BYTES)
  assert.ok(readBeforeProof > 0)
  assert.equal(readBytes, blob.bytes.length)
})

test('a blob that does not match fails before any of its last 64 KiB', async () => {
  const blob = { ...makeBlob(500_000), digest: makeBlob(1).digest }
  const download = await downloadOf(blob)
  const { bytes, error } = await collectUntilFailure(
    passThrough(download, { start: 0, end: Infinity }, Buffer.alloc(0), never),
  )
  assert.match(String(error), /when asked for/)
  assert.ok(bytes.length <= 500_000 - HELD_BACK_BYTES)
})

test('a client that has left ends the passage without an error', async () => {
  const blob = makeBlob(500_000)
  const left = new AbortController()
  const pieces = passThrough(
    await downloadOf(blob),
    { start: 0, end: Infinity },
    Buffer.alloc(0),
    left.signal,
  )
  assert.equal((await pieces.next()).done, false)
  left.abort()
  assert.equal((await pieces.next()).done, true)
})

test('any range, any chunks, with bytes held before or not: exactly the range goes out', async () => {
  const blob = makeBlob(200_000)
  const position = fc.integer({ min: 0, max: blob.bytes.length })
  const heldBytes = fc.integer({ min: 0, max: HELD_BACK_BYTES })
  await fc.assert(
    fc.asyncProperty(
      position,
      position,
      heldBytes,
      fc.integer({ min: 100, max: 90_000 }),
      async (a, b, held, chunkBytes) => {
        const range = { start: Math.min(a, b), end: Math.max(a, b) }
        const had = Math.min(range.start + held, blob.bytes.length)
        const before = blob.bytes.subarray(range.start, had)
        const download = await downloadOf(blob, { chunkBytes }, had)
        const read = await collect(passThrough(download, range, before, never))
        assert.ok(read.equals(blob.bytes.subarray(range.start, range.end)))
      },
    ),
    { numRuns: 200 },
  )
})
