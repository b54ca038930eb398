import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PageSessions } from '../../../src/admin/page/page-sessions.ts'

const HOUR_MS = 3_600_000

test('a session ends after an hour without use, and after twelve hours in any case', () => {
  let nowMs = 0
  const sessions = new PageSessions(() => nowMs)
  const idle = sessions.begin('Bearer a')
  const used = sessions.begin('Bearer b')
  for (let hours = 0.5; hours < 12; hours += 0.5) {
    nowMs = hours * HOUR_MS
    assert.equal(sessions.find(used.id)?.authorization, 'Bearer b')
  }
  assert.equal(sessions.find(idle.id), undefined)
  nowMs = 12 * HOUR_MS
  assert.equal(sessions.find(used.id), undefined)
})

test('the hundred and first session ends the one that was not used for longest', () => {
  const sessions = new PageSessions(() => 0)
  const ids = Array.from({ length: 100 }, () => sessions.begin(undefined).id)
  sessions.find(ids[0])
  sessions.begin(undefined)
  assert.notEqual(sessions.find(ids[0]), undefined)
  assert.equal(sessions.find(ids[1]), undefined)
})

test('a session that was ended is not found, and neither is a made-up one', () => {
  const sessions = new PageSessions(() => 0)
  const { id, formToken } = sessions.begin(undefined)
  assert.notEqual(id, formToken)
  sessions.end(id)
  assert.deepEqual(
    [sessions.find(id), sessions.find('constructor'), sessions.find(undefined)],
    [undefined, undefined, undefined],
  )
})
