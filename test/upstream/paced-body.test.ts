import assert from 'node:assert/strict'
import { PassThrough, Readable } from 'node:stream'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import { Trouble } from '../../src/upstream/failure.ts'
import { PACE_LIMITS, PacedBody, type PaceLimits } from '../../src/upstream/paced-body.ts'
import { FakeClock } from '../support/fake-clock.ts'

const PIECE = new Uint8Array(64 * 1024)

function read(body: Readable, limits: Partial<PaceLimits> = {}, clock = new FakeClock()): PacedBody {
  return new PacedBody(body, { ...PACE_LIMITS, ...limits }, clock)
}

async function rest(paced: PacedBody): Promise<{ readonly bytes: number; readonly error: unknown }> {
  let bytes = 0
  try {
    for await (const piece of paced) bytes += piece.byteLength
    return { bytes, error: undefined }
  } catch (error) {
    return { bytes, error }
  }
}

function kindOf(error: unknown): string | undefined {
  return error instanceof Trouble ? error.kind : undefined
}

test('a body comes whole, and is paused while its reader is behind', async () => {
  let [made, madeMost, taken] = [0, 0, 0]
  const body = new Readable({
    highWaterMark: PIECE.byteLength,
    read() {
      made += 1
      madeMost = Math.max(madeMost, made - taken)
      this.push(made > 100 ? null : PIECE)
    },
  })
  for await (const piece of read(body)) {
    taken += 1
    assert.equal(piece.byteLength, PIECE.byteLength)
    await new Promise(setImmediate)
  }
  assert.equal(taken, 100)
  assert.ok(madeMost <= 5, `${madeMost} pieces waited`)
  assert.ok(body.destroyed)
})

test('the pieces before a failure come before it', async () => {
  const body = new PassThrough()
  const paced = read(body)
  body.write(PIECE)
  const first = await paced.next()
  body.write(PIECE)
  await new Promise(setImmediate)
  body.destroy(new Error('broken'))
  await new Promise(setImmediate)
  const { bytes, error } = await rest(paced)
  assert.equal(first.value?.byteLength, PIECE.byteLength)
  assert.equal(bytes, PIECE.byteLength)
  assert.equal(String(error), 'Error: broken')
})

for (const when of ['before', 'after'] as const) {
  test(`a body that closes ${when} it is read is cut, not ended`, async () => {
    const body = new PassThrough()
    const paced = read(body)
    const reading = when === 'after' ? rest(paced) : undefined
    body.destroy()
    await new Promise(setImmediate)
    assert.equal(kindOf((await (reading ?? rest(paced))).error), 'cut')
  })
}

test('a body that is silent while it is waited for has stalled', async () => {
  const body = new PassThrough()
  const { error } = await rest(read(body, { idleMs: 10 }, new FakeClock()))
  assert.equal(kindOf(error), 'stalled')
  assert.ok(body.destroyed)
})

test('the time that the reader takes is not silence', async () => {
  const body = new PassThrough()
  const paced = read(body, { idleMs: 5 })
  const arrival = paced.next()
  body.write(PIECE)
  await arrival
  const started = systemClock.monotonicMs()
  while (systemClock.monotonicMs() - started < 20) await new Promise(setImmediate)
  body.end(PIECE)
  assert.deepEqual(await rest(paced), { bytes: PIECE.byteLength, error: undefined })
})

test('a body slower than the floor has stalled', async () => {
  const clock = new FakeClock()
  const body = new PassThrough()
  const paced = read(body, { floorMs: 1000, floorBytes: 2 * PIECE.byteLength }, clock)
  const arrival = paced.next()
  clock.advance(1000)
  body.write(PIECE)
  await assert.rejects(arrival, error => kindOf(error) === 'stalled')
  assert.ok(body.destroyed)
})

test('leaving the loop destroys the body', async () => {
  const body = new PassThrough()
  body.write(PIECE)
  for await (const _ of read(body)) break
  assert.ok(body.destroyed)
})
