import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chooseTags, parseSemverRange } from '../../src/oci/tag-choice.ts'

const TAGS = [
  '3',
  '3.9',
  '3.20',
  '3.20.3',
  '3.21.0-rc1',
  '3.21.0',
  '4.0.1',
  'v4.1.0',
  '3.20-slim',
  'latest',
  'edge',
  '20240101',
]

for (const [title, choice, chosen] of [
  ['nothing', {}, TAGS],
  ['a pattern', { patterns: ['3.20*'] }, ['3.20', '3.20.3', '3.20-slim']],
  ['two patterns', { patterns: ['latest', 'ed*'] }, ['latest', 'edge']],
  ['a range', { semver: '>=3.20 <4' }, ['3.21.0', '3.20.3', '3.20']],
  ['a range of one line', { semver: '~3.20' }, ['3.20.3', '3.20']],
  ['the newest two of a range', { semver: '>=3.9 <4.1', newest: 2 }, ['4.0.1', '3.21.0']],
  ['a range and a pattern', { semver: '4.x', patterns: ['v*'] }, ['v4.1.0']],
  ['the newest of a pattern', { patterns: ['3.*'], newest: 1 }, ['3.21.0']],
] as const) {
  test(`${title} chooses ${chosen.length} of the tags`, () => {
    const all = { patterns: [], semver: undefined, newest: undefined, ...choice }
    assert.deepEqual(chooseTags(TAGS, all), chosen)
  })
}

for (const text of ['>=3.20 <4', '~1.25', '^1 || 3.x'])
  test(`${text} is a range of versions`, () => {
    assert.equal(parseSemverRange(text), text)
  })

for (const text of ['', ' ', 'newest', '>>3'])
  test(`"${text}" is not a range of versions`, () => {
    assert.equal(parseSemverRange(text), undefined)
  })
