import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { free, gathered, type ReadInto, readAhead } from '../../src/lib/read-ahead.ts'
import { BufferPool } from '../../src/lib/reader-buffers.ts'

const bytes = randomBytes(1_000_000)
const pool = new BufferPool()
const fill: ReadInto = async (buffer, position, length) => {
  await Promise.resolve()
  bytes.copy(buffer, 0, position, position + length)
}

async function readAll(start: number, end: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of readAhead(pool, fill, { start, end })) pieces.push(Buffer.from(piece))
  return Buffer.concat(pieces)
}

for (const [start, end] of [
  [0, 1_000_000],
  [1, 999_999],
  [5, 5],
  [0, 1],
  [262_144, 524_288],
  [100, 262_245],
] as const) {
  test(`bytes ${start} to ${end} are read whole and in order, and nothing beside them`, async () => {
    assert.ok((await readAll(start, end)).equals(bytes.subarray(start, end)))
  })
}

test('a failed read fails the reader after the pieces before it', async () => {
  const failing: ReadInto = async (buffer, position, length) => {
    if (position > 300_000) throw new Error('EIO')
    await fill(buffer, position, length)
  }
  let readBytes = 0
  await assert.rejects(async () => {
    for await (const piece of readAhead(pool, failing, { start: 0, end: 1_000_000 }))
      readBytes += piece.byteLength
  }, /EIO/)
  assert.equal(readBytes, 2 * 262_144)
})

test('a reader that leaves early waits for the read in progress', async () => {
  let [begun, ended] = [0, 0]
  const slow: ReadInto = async (buffer, position, length) => {
    begun += 1
    await fill(buffer, position, length)
    ended += 1
  }
  for await (const piece of readAhead(pool, slow, { start: 0, end: 1_000_000 })) {
    assert.equal(piece.byteLength, 262_144)
    break
  }
  assert.deepEqual([begun, ended], [2, 2])
})

test('the more readers there are, the smaller the buffers of a new one, until they leave', () => {
  const own = new BufferPool()
  const readers = Array.from({ length: 1000 }, () => own.enter())
  const sizes = readers.map(({ pieceBytes }) => pieceBytes)
  assert.deepEqual([sizes[0], sizes[100], sizes[999]], [256 * 1024, 64 * 1024, 32 * 1024])
  for (const reader of readers) reader.leave()
  assert.equal(own.enter().pieceBytes, 256 * 1024)
})

test('a buffer is reused once its reader has left, and no sooner', () => {
  const own = new BufferPool()
  const [one, other] = [own.enter(), own.enter()]
  const first = one.take(1_000_000)
  assert.notEqual(other.take(1_000_000), first)
  assert.notEqual(one.take(1_000_000), first)
  one.leave()
  const next = own.enter()
  const again = [next.take(1_000_000), next.take(1_000_000)]
  assert.ok(again.includes(first))
  assert.equal(new Set([...again, first]).size, 2)
})

test('the memory kept of readers that have left is bounded', () => {
  const own = new BufferPool()
  const readers = Array.from({ length: 32 }, () => own.enter())
  const taken = new Set(readers.flatMap(reader => Array.from({ length: 4 }, () => reader.take(300_000))))
  for (const reader of readers) reader.leave()
  const next = own.enter()
  const kept = Array.from({ length: 128 }, () => next.take(300_000)).filter(buffer => taken.has(buffer))
  assert.equal(kept.length, 64)
})

const PIECE = Buffer.alloc(100)

/** A source of pieces, and how many of them were taken. */
function sourceOf(count: number, end?: Error): { taken: number; pieces: AsyncGenerator<Uint8Array> } {
  const source = { taken: 0, pieces: make() }
  async function* make(): AsyncGenerator<Uint8Array> {
    for (let index = 0; index < count; index += 1) {
      source.taken += 1
      yield PIECE
      await Promise.resolve()
    }
    if (end !== undefined) throw end
  }
  return source
}

test('pieces that arrive while the reader is busy come together, and none is lost', async () => {
  const counts: number[] = []
  for await (const pieces of gathered(sourceOf(10).pieces, 1000)) {
    counts.push(pieces.length)
    await setImmediate()
  }
  assert.deepEqual(counts, [1, 9])
})

test('a busy reader lets only the given bytes arrive', async () => {
  const source = sourceOf(100)
  const reading = gathered(source.pieces, 1000)
  await reading.next()
  await setImmediate()
  assert.equal(source.taken, 11)
  assert.equal((await reading.next()).value?.length, 10)
  await reading.return(undefined)
})

test('the failure of a source comes after the pieces before it', async () => {
  const failure = new Error('cut')
  let count = 0
  const reading = async (): Promise<void> => {
    for await (const pieces of gathered(sourceOf(3, failure).pieces, 1000)) {
      count += pieces.length
      await setImmediate()
    }
  }
  await assert.rejects(reading, failure)
  assert.equal(count, 3)
})

test('a reader may leave while the source waits for a piece', async () => {
  const never = Promise.withResolvers<never>()
  async function* stuck(): AsyncGenerator<Uint8Array> {
    yield PIECE
    await never.promise
  }
  for await (const pieces of gathered(stuck(), 1000)) {
    assert.equal(pieces.length, 1)
    await setImmediate()
    break
  }
})

test('freeing a piece leaves a larger buffer that it is a part of', () => {
  const whole = new Uint8Array(100)
  free(whole.subarray(50))
  free(new Uint8Array(new SharedArrayBuffer(100)))
  assert.equal(whole.byteLength, 100)
  free(whole.subarray())
  assert.equal(whole.byteLength, 0)
})
