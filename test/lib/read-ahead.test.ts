import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { READERS } from '../../src/lib/crowd.ts'
import { type Fill, readAhead } from '../../src/lib/read-ahead.ts'

const bytes = randomBytes(1_000_000)
const fill: Fill = async (buffer, position, length) => {
  await Promise.resolve()
  bytes.copy(buffer, 0, position, position + length)
}

async function readAll(start: number, end: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of readAhead(fill, { start, end })) pieces.push(Buffer.from(piece))
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

test('a read that fails fails the reader, in its turn', async () => {
  const failing: Fill = async (buffer, position, length) => {
    if (position > 300_000) throw new Error('EIO')
    await fill(buffer, position, length)
  }
  let readBytes = 0
  await assert.rejects(async () => {
    for await (const piece of readAhead(failing, { start: 0, end: 1_000_000 })) readBytes += piece.byteLength
  }, /EIO/)
  assert.equal(readBytes, 2 * 262_144)
})

test('a reader that leaves early waits for the read that is under way', async () => {
  let [begun, ended] = [0, 0]
  const slow: Fill = async (buffer, position, length) => {
    begun += 1
    await fill(buffer, position, length)
    ended += 1
  }
  for await (const piece of readAhead(slow, { start: 0, end: 1_000_000 })) {
    assert.equal(piece.byteLength, 262_144)
    break
  }
  assert.deepEqual([begun, ended], [2, 2])
})

test('the more readers there are, the less one more of them holds, until they have left', () => {
  const sizes = Array.from({ length: 1000 }, () => READERS.enter())
  assert.deepEqual([sizes[0], sizes[100], sizes[999]], [256 * 1024, 64 * 1024, 32 * 1024])
  for (let count = 0; count < 1000; count += 1) READERS.leave()
  assert.equal(READERS.enter(), 256 * 1024)
  READERS.leave()
})
