import assert from 'node:assert/strict'
import { test } from 'node:test'
import { array, domain, property, assert as requireAll, string, uniqueArray } from 'fast-check'
import { inOrder, type Seed, seedOf } from '../../src/peers/rendezvous.ts'

interface Named {
  readonly name: string
  readonly seed: Seed
}

function membersOf(names: readonly string[]): readonly Named[] {
  return names.map(name => ({ name, seed: seedOf(name) }))
}

function ownerOf(members: readonly Named[], key: string): string | undefined {
  const [owner] = inOrder(members, seedOf(key))
  return owner?.name
}

const NAMES = uniqueArray(domain(), { minLength: 1, maxLength: 12 })

test('the order of a key does not depend on the order of the list, and has each member once', () => {
  requireAll(
    property(NAMES, string(), (names, key) => {
      const order = [...inOrder(membersOf(names), seedOf(key))].map(({ name }) => name)
      const other = [...inOrder(membersOf(names.toReversed()), seedOf(key))].map(({ name }) => name)
      assert.deepEqual(order, other)
      assert.deepEqual(order.toSorted(), names.toSorted())
    }),
  )
})

test('a member that goes moves its own keys only, each to the next one in order', () => {
  requireAll(
    property(NAMES, array(string(), { minLength: 20, maxLength: 20 }), (names, keys) => {
      const [gone, ...rest] = names
      for (const key of keys) {
        const order = [...inOrder(membersOf(names), seedOf(key))].map(({ name }) => name)
        const next = order.find(name => name !== gone)
        assert.equal(ownerOf(membersOf(rest), key), next)
      }
    }),
  )
})

test('members own equal shares, and one more moves its own share', () => {
  const keys = Array.from({ length: 4000 }, (_, index) => `docker.io@sha256:${index}`)
  for (const count of [2, 3, 8]) {
    const names = Array.from({ length: count }, (_, index) => `10.0.0.${index}:8082`)
    const [before, later] = [membersOf(names), membersOf([...names, '10.0.1.1:8082'])]
    const shares = new Map<string | undefined, number>()
    let moved = 0
    for (const key of keys) {
      const owner = ownerOf(before, key)
      shares.set(owner, (shares.get(owner) ?? 0) + 1)
      if (ownerOf(later, key) !== owner) moved += 1
    }
    for (const share of shares.values())
      assert.ok(Math.abs(share / keys.length - 1 / count) < 0.03, `${share}`)
    assert.ok(Math.abs(moved / keys.length - 1 / (count + 1)) < 0.03, `${moved} of ${keys.length} moved`)
  }
})
