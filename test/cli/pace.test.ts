import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Pace } from '../../src/cli/admin/pace.ts'
import { paintFor } from '../../src/cli/style.ts'

const MIB = 1024 ** 2

test('the speed and the time left are those since the first report, and nothing is said before the second', () => {
  let nowMs = 1000
  const pace = new Pace(() => nowMs)
  assert.equal(pace.describe(10 * MIB, 100 * MIB), '')
  nowMs += 2000
  assert.equal(pace.describe(30 * MIB, 100 * MIB), '10.0 MiB/s, 7 s left')
  nowMs += 2000
  assert.equal(pace.describe(100 * MIB, 100 * MIB), '22.5 MiB/s, a moment left')
})

for (const [title, isTTY, env, isColoured] of [
  ['a terminal', true, {}, true],
  ['a pipe', false, {}, false],
  ['a terminal with NO_COLOR', true, { NO_COLOR: '1' }, false],
  ['a dumb terminal', true, { TERM: 'dumb' }, false],
  ['a pipe with FORCE_COLOR', false, { FORCE_COLOR: '1' }, true],
  ['a pipe with FORCE_COLOR and NO_COLOR', false, { FORCE_COLOR: '1', NO_COLOR: '1' }, false],
] as const) {
  test(`${title} gets ${isColoured ? '' : 'no '}colours`, () => {
    const paint = paintFor({ write: () => undefined, isTTY }, { env })
    assert.equal(paint('bad', 'degraded') !== 'degraded', isColoured)
    // oxlint-disable-next-line no-control-regex -- a colour is a control character
    assert.equal(/\u001B/.test(paint('good', 'healthy')), isColoured)
  })
}
