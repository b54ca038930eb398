import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulateHosted } from './hosted-world.ts'

const RUNS = 6

test('I27 no push fails by a collection without a grace, nothing that is named goes, and nothing else stays', async () => {
  let [operations, collected] = [0, 0]
  for (let seed = 1; seed <= RUNS; seed += 1) {
    const report = await simulateHosted(seed)
    assert.deepEqual(report.violations, [], `npm run simulate -- --world hosted --runs 1 --seed ${seed}`)
    operations += report.operations
    collected += report.collected
  }
  assert.ok(operations > 30 * RUNS, `${operations} operations are too few to mean anything`)
  assert.ok(collected > 3 * RUNS, `${collected} collected objects are too few to mean anything`)
})

test('a seed gives the same hosted world again', async () => {
  for (const seed of [7, 81]) assert.deepEqual(await simulateHosted(seed), await simulateHosted(seed))
})
