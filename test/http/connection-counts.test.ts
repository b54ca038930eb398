import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConnectionCounts } from '../../src/http/connection-counts.ts'

const limits = { connectionsMax: 5, connectionsPerAddressMax: 3 }

test('listeners that share the memory share the limits, of an address and of all', () => {
  const one = new ConnectionCounts()
  const other = new ConnectionCounts(one.memory)
  assert.equal(one.enter('10.0.0.1', limits), true)
  assert.equal(other.enter('10.0.0.1', limits), true)
  assert.equal(one.enter('10.0.0.1', limits), true)
  assert.equal(other.enter('10.0.0.1', limits), false)
  assert.equal(one.enter('10.0.0.1', limits), false)
  assert.equal(other.enter('10.0.0.2', limits), true)
  assert.equal(one.enter('10.0.0.3', limits), true)
  assert.equal(one.enter('10.0.0.4', limits), false)
  one.leave('10.0.0.1')
  assert.equal(other.enter('10.0.0.1', limits), true)
  assert.equal(other.enter('10.0.0.2', limits), false)
})

test('clients without an address have no limit but that of all', () => {
  const counts = new ConnectionCounts()
  const entered = Array.from({ length: 7 }, () => counts.enter('', limits))
  assert.deepEqual(entered, [true, true, true, true, true, false, false])
})
