import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { Semaphore } from '../../src/lib/semaphore.ts'

const never = new AbortController().signal

test('at most as many callers as there are places enter at once, and the others follow in order of arrival', async () => {
  const semaphore = new Semaphore(2)
  const order: number[] = []
  let inside = 0
  let insideMax = 0
  await Promise.all(
    Array.from({ length: 10 }, async (_, index) => {
      const leave = await semaphore.enter(never)
      inside += 1
      insideMax = Math.max(insideMax, inside)
      order.push(index)
      await setImmediate()
      inside -= 1
      leave()
      leave()
    }),
  )
  assert.equal(insideMax, 2)
  assert.deepEqual(
    order,
    Array.from({ length: 10 }, (_, index) => index),
  )
  const [one, other] = [await semaphore.enter(never), await semaphore.enter(never)]
  assert.equal(semaphore.waiting, 0)
  one()
  other()
})

test('a caller that stops waiting takes no place, and rejects with the reason', async () => {
  const semaphore = new Semaphore(1)
  const leave = await semaphore.enter(never)
  const ended = new AbortController()
  const waiting = semaphore.enter(ended.signal)
  assert.equal(semaphore.waiting, 1)
  ended.abort(new Error('enough'))
  await assert.rejects(waiting, /enough/)
  assert.equal(semaphore.waiting, 0)
  leave()
  const again = await semaphore.enter(never)
  again()
  await assert.rejects(semaphore.enter(ended.signal), /enough/)
})

test('a caller that does not wait gets a place only if one is free', async () => {
  const semaphore = new Semaphore(1)
  const leave = semaphore.tryEnter()
  assert.ok(leave !== undefined)
  assert.equal(semaphore.tryEnter(), undefined)
  const waiting = semaphore.enter(never)
  leave()
  leave()
  assert.equal(semaphore.tryEnter(), undefined)
  const next = await waiting
  next()
  assert.ok(semaphore.tryEnter() !== undefined)
})
