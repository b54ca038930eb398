import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { openLog } from '../../src/observe/log.ts'
import { batchOutput } from '../../src/observe/output.ts'

const messages = (lines: string): readonly unknown[] =>
  lines
    .trimEnd()
    .split('\n')
    .map(line => (JSON.parse(line) as { msg: unknown }).msg)

test('the lines of one turn are handed on together, in their order', async () => {
  const handed: string[] = []
  const log = openLog(
    'info',
    batchOutput(lines => void handed.push(lines)),
  )
  log.info({}, 'one')
  log.info({}, 'two')
  assert.deepEqual(handed, [])
  await setImmediate()
  log.info({}, 'three')
  await setImmediate()
  assert.deepEqual(handed.map(messages), [['one', 'two'], ['three']])
})

test('a warning waits for nothing, and takes along what waits', async () => {
  const handed: string[] = []
  const log = openLog(
    'info',
    batchOutput(lines => void handed.push(lines)),
  )
  log.info({}, 'one')
  log.warn({}, 'two')
  assert.deepEqual(handed.map(messages), [['one', 'two']])
  log.infoJson?.('{"a":1}', 'three')
  assert.equal(handed.length, 1)
  await setImmediate()
  assert.equal(handed.length, 2)
})

test('many lines of one turn do not gather without bounds', () => {
  const handed: string[] = []
  const log = openLog(
    'info',
    batchOutput(lines => void handed.push(lines)),
  )
  for (let count = 0; count < 1000; count += 1) log.info({ count }, 'a line among many others')
  assert.ok(handed.length > 1)
  assert.ok(handed.every(lines => lines.length < 20_000 && lines.endsWith('}\n')))
})
