import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TrafficHistory } from '../../src/observe/traffic-history.ts'

const MINUTE_MS = 60_000
const DAY_MS = 86_400_000
const START_MS = Date.UTC(2026, 0, 5)

function sums(count: number): Parameters<TrafficHistory['note']>[0] {
  return { requests: count, hits: count / 2, sentBytes: count * 10, receivedBytes: count }
}

test('the traffic between two notes counts for the minute and the day of the second', () => {
  const history = new TrafficHistory(START_MS)
  history.note(sums(10), START_MS)
  history.note(sums(30), START_MS + MINUTE_MS)
  const minutes = history.minutes(START_MS + MINUTE_MS)
  assert.deepEqual([minutes.length, minutes[58]?.requests, minutes[59]?.requests], [60, 10, 20])
  assert.deepEqual(history.days(1, START_MS + MINUTE_MS), sums(30))
})

test('minutes older than an hour and days older than a week are forgotten', () => {
  const history = new TrafficHistory(START_MS)
  for (let day = 0; day < 10; day += 1) history.note(sums((day + 1) * 100), START_MS + day * DAY_MS)
  const nowMs = START_MS + 9 * DAY_MS
  assert.equal(history.days(7, nowMs).requests, 700)
  assert.equal(history.days(1, nowMs).requests, 100)
  assert.equal(history.days(30, nowMs).requests, 700)
  const later = history.minutes(nowMs + 2 * 3_600_000)
  assert.ok(later.every(({ requests }) => requests === 0))
})

test('sums that were read before the last ones change nothing', () => {
  const history = new TrafficHistory(START_MS)
  history.note(sums(20), START_MS)
  history.note(sums(10), START_MS)
  history.note(sums(24), START_MS)
  assert.equal(history.days(1, START_MS).requests, 24)
})

test('a clock that is set back adds to the newest span', () => {
  const history = new TrafficHistory(START_MS)
  history.note(sums(20), START_MS + 5 * MINUTE_MS)
  history.note(sums(26), START_MS)
  assert.equal(history.minutes(START_MS + 5 * MINUTE_MS)[59]?.requests, 26)
})

test('what a history keeps goes on in the next process, whose sums begin at nothing', () => {
  const before = new TrafficHistory(START_MS)
  before.note(sums(20), START_MS + MINUTE_MS)
  const after = new TrafficHistory(START_MS + 3 * MINUTE_MS, before.kept)
  after.note(sums(4), START_MS + 3 * MINUTE_MS)
  const minutes = after.minutes(START_MS + 3 * MINUTE_MS).map(({ requests }) => requests)
  assert.deepEqual(minutes.slice(-4), [0, 20, 0, 4])
  assert.deepEqual(after.days(1, START_MS), sums(24))
  assert.equal(after.sinceMs, START_MS)
})

test('kept figures from the future, of a wrong clock, are dropped, and of more than fit the newest stay', () => {
  const spans = Array.from({ length: 100 }, (_, index) => ({
    ...sums(1),
    startMs: START_MS + index * MINUTE_MS,
  }))
  const kept = {
    sinceMs: START_MS + 90 * MINUTE_MS,
    minutes: spans,
    days: [{ ...sums(9), startMs: START_MS }],
  }
  const nowMs = START_MS + 79 * MINUTE_MS
  const history = new TrafficHistory(nowMs, kept)
  assert.equal(history.sinceMs, nowMs)
  assert.deepEqual(
    [history.kept.minutes.length, history.kept.minutes[0]?.startMs, history.kept.minutes.at(-1)?.startMs],
    [60, START_MS + 20 * MINUTE_MS, nowMs],
  )
  assert.equal(history.days(1, nowMs).requests, 9)
})
