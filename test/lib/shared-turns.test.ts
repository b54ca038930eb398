import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { SharedTurns } from '../../src/lib/turns.ts'

/** Takes a turn that ends when it is told to, and records when it begins. */
function turnsOf(turns: SharedTurns<string>): {
  readonly log: string[]
  readonly take: (
    name: string,
    keys: { shared?: string[]; alone?: string[] },
  ) => { end: () => void; over: Promise<void> }
} {
  const log: string[] = []
  return {
    log,
    take: (name, keys) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      const over = turns.take(keys, async () => {
        log.push(name)
        await promise
      })
      return { end: resolve, over }
    },
  }
}

test('actions that share a key overlap, and one that needs it alone waits for them', async () => {
  const { log, take } = turnsOf(new SharedTurns())
  const one = take('one', { shared: ['a', 'b'] })
  const two = take('two', { shared: ['a'] })
  const alone = take('alone', { alone: ['a'] })
  const late = take('late', { shared: ['a'] })
  const other = take('other', { shared: ['b'] })
  await setImmediate()
  assert.deepEqual(log, ['one', 'two', 'other'])
  one.end()
  await one.over
  assert.deepEqual(log, ['one', 'two', 'other'])
  two.end()
  await setImmediate()
  assert.deepEqual(log, ['one', 'two', 'other', 'alone'])
  alone.end()
  await setImmediate()
  assert.deepEqual(log, ['one', 'two', 'other', 'alone', 'late'])
  late.end()
  other.end()
  await Promise.all([two.over, alone.over, late.over, other.over])
})

test('an action that fails lets the next one begin', async () => {
  const turns = new SharedTurns<string>()
  const failed = turns.take({ alone: ['a'] }, async () => await Promise.reject(new Error('no')))
  const next = turns.take({ alone: ['a'] }, async () => 'done')
  await assert.rejects(failed, /no/)
  assert.equal(await next, 'done')
})

test('actions that need the same keys in opposite orders never wait for each other', async () => {
  const turns = new SharedTurns<string>()
  let ended = 0
  const act = async (): Promise<void> => {
    await setImmediate()
    ended += 1
  }
  const all = Array.from({ length: 50 }, (_, index) =>
    turns.take(index % 2 === 0 ? { alone: ['a'], shared: ['b'] } : { shared: ['a'], alone: ['b'] }, act),
  )
  await Promise.all(all)
  assert.equal(ended, 50)
})

test('a key that is wanted both ways is taken alone', async () => {
  const { log, take } = turnsOf(new SharedTurns())
  const both = take('both', { shared: ['a'], alone: ['a'] })
  const shared = take('shared', { shared: ['a'] })
  await setImmediate()
  assert.deepEqual(log, ['both'])
  both.end()
  await setImmediate()
  assert.deepEqual(log, ['both', 'shared'])
  shared.end()
  await Promise.all([both.over, shared.over])
})
