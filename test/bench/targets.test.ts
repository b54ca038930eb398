import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VARIANTS } from '../../bench/entrepot.ts'
import { Results } from '../../bench/results.ts'
import { outcomesOf, targetsTable } from '../../bench/targets.ts'

const [{ name }] = VARIANTS
const MIB = 1024 ** 2

test('a run that measured nothing has no outcome of any target', () => {
  assert.deepEqual(outcomesOf(new Results()), [])
})

test('a target is judged by the median of the ratios within rounds', () => {
  const results = new Results()
  for (const [own, other] of [
    [0.03, 0.02],
    [0.06, 0.02],
    [0.03, 0.02],
  ] as const) {
    results.add('manifest-tag', name, { cpuPerThousand: own })
    results.add('manifest-tag', 'nginx static', { cpuPerThousand: other })
  }
  results.add('fresh', name, { idleBytes: 71 * MIB, readyMs: 400 })
  const outcomes = outcomesOf(results).filter(({ variant }) => variant === name)
  assert.deepEqual(
    outcomes.map(({ target, text, bound, isReached }) => ({ target, text, bound, isReached })),
    [
      {
        target: 'manifest-tag: requests for the same CPU time, of nginx static',
        text: '0.67×',
        bound: '≥ 0.6×',
        isReached: true,
      },
      { target: 'memory, idle', text: '71 MiB', bound: '≤ 70 MiB', isReached: false },
      { target: 'start', text: '400.0 ms', bound: '≤ 500 ms', isReached: true },
    ],
  )
  const rows = targetsTable(outcomes).split('\n')
  assert.ok(rows.includes(`| memory, idle | ${name} | ≤ 70 MiB | 71 MiB | **not reached** |`))
})

test('one herd that was fetched twice misses the target of upstream bytes', () => {
  const results = new Results()
  results.add('cold', name, { upstreamShare: 1 })
  results.add('herd-20', name, { upstreamShare: 1 })
  results.add('herd-20', name, { upstreamShare: 2 })
  results.add('herd-20', name, { upstreamShare: 1 })
  const [outcome] = outcomesOf(results)
  assert.equal(outcome?.value, 2)
  assert.equal(outcome?.isReached, false)
})
