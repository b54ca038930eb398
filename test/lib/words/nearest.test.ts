import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nearest } from '../../../src/lib/words/nearest.ts'

test('a mistyped word finds the candidate that it most likely means', () => {
  const words = ['listen', 'log-level', 'root', 'region']
  assert.equal(nearest('lisen', words), 'listen')
  assert.equal(nearest('loglevel', words), 'log-level')
  assert.equal(nearest('rot', words), 'root')
})

test('a word that resembles no candidate finds none', () => {
  assert.equal(nearest('banana', ['listen', 'root']), undefined)
  assert.equal(nearest('x', ['a', 'b']), undefined)
  assert.equal(nearest('x'.repeat(10_000), ['listen']), undefined)
})
