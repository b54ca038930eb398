import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Speed } from '../../../src/mirror/fill/speed.ts'

test('a speed is that of the last five seconds, and 0 when nothing has arrived in them', () => {
  let nowMs = 10_000
  const speed = new Speed({ monotonicMs: () => nowMs })
  for (let step = 0; step < 100; step += 1) {
    speed.add(step < 50 ? 1_000_000 : 200)
    nowMs += 100
  }
  assert.equal(speed.bytesPerSecond, 2000)
  nowMs += 5000
  assert.equal(speed.bytesPerSecond, 0)
})

test('a speed of a transfer that has just begun counts the time since then', () => {
  let nowMs = 10_000
  const speed = new Speed({ monotonicMs: () => nowMs })
  speed.add(1000)
  nowMs += 1000
  speed.add(1000)
  assert.equal(speed.bytesPerSecond, 2000)
})
