import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulateReplicas, TROUBLES } from './replicas-world.ts'

const RUNS = 40

test('I30 replicas with any views, partitions and lies serve right bytes in bounded time, and fetch as little as they can', async () => {
  const troubles = new Set<string>()
  for (let seed = 1; seed <= RUNS; seed += 1) {
    const { violations, weather } = await simulateReplicas(seed)
    assert.deepEqual(violations, [], `npm run simulate -- --world replicas --runs 1 --seed ${seed}`)
    troubles.add(weather)
  }
  assert.deepEqual([...troubles].toSorted(), [...TROUBLES].toSorted())
})

test('a seed gives the same world of replicas again', async () => {
  for (const seed of [7, 81]) assert.deepEqual(await simulateReplicas(seed), await simulateReplicas(seed))
})
