import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fuzz } from './fuzzer.ts'
import { randomOf } from './random.ts'
import { makeCase } from './requests.ts'

const SEED = 1

test('I24 hundreds of mutated requests end no process, hang no connection and cause no server error', async () => {
  const { cases, responses, failures } = await fuzz({ seed: SEED, forMs: 30_000, casesMax: 700 })
  assert.deepEqual(failures, [])
  assert.ok(cases > 100, `${cases} cases`)
  // A fuzzer whose requests are all refused early tests nothing behind that.
  for (const status of [200, 206, 400, 403, 404, 405, 416, 431])
    assert.ok((responses.get(status) ?? 0) > 0, `${status} among ${[...responses.keys()].join(', ')}`)
})

test('a case follows from its seed and number alone', () => {
  const targets = { tags: ['v1'], digests: [`sha256:${'0'.repeat(64)}`] }
  const made = (seed: number, number: number): string =>
    JSON.stringify(makeCase(randomOf(seed, number), targets).pieces.map(piece => piece.toString('latin1')))
  assert.equal(made(1, 7), made(1, 7))
  assert.notEqual(made(1, 7), made(2, 7))
  assert.notEqual(made(1, 7), made(1, 8))
})
