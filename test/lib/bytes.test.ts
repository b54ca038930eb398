import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseBytes } from '../../src/lib/bytes.ts'

test('Sizes are read with binary and decimal units in any case.', () => {
  assert.equal(parseBytes('0B'), 0)
  assert.equal(parseBytes('512MiB'), 512 * 1024 * 1024)
  assert.equal(parseBytes('1.5gib'), 1.5 * 1024 ** 3)
  assert.equal(parseBytes('20 GB'), 20e9)
  assert.equal(parseBytes('3TiB'), 3 * 1024 ** 4)
})

test('A size without a unit, negative, empty or beyond exact numbers is refused.', () => {
  for (const text of ['', '512', 'MiB', '-1B', '1e3B', '1.B', '10 iB', '999999999999999TiB', '1MiBx']) {
    assert.equal(parseBytes(text), undefined, text)
  }
})
