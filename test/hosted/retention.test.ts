import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeTags, type RetainedTag } from '../../src/hosted/retention.ts'
import type { RetentionTerms } from '../../src/hosted/terms.ts'
import { makeBlob, tagOf } from '../mirror/rig.ts'

const NOW_MS = Date.UTC(2026, 0, 31)
const DAY_MS = 24 * 3_600_000
const TERMS: RetentionTerms = { tags: ['*'], keepPushed: 0, pushedWithinMs: 0, keepsVersions: false }

/** Tags by their age in days. */
function tagsOf(ages: Readonly<Record<string, number>>): readonly RetainedTag[] {
  return Object.entries(ages).map(([name, days], seed) => ({
    tag: tagOf(name),
    digest: makeBlob(seed).digest,
    movedAtMs: NOW_MS - days * DAY_MS,
  }))
}

const TAGS = tagsOf({ main: 40, 'pr-1': 30, 'pr-2': 20, 'v1.2.3': 50, '1.2.3-rc.1': 60, v1: 70, 'pr-3': -5 })

const RULES: readonly (readonly [string, Partial<RetentionTerms>, readonly string[]])[] = [
  ['a rule that keeps nothing', {}, []],
  ['the two that were pushed last', { keepPushed: 2 }, ['pr-2', 'pr-3']],
  ['those of 25 days, and what is from the future', { pushedWithinMs: 25 * DAY_MS }, ['pr-2', 'pr-3']],
  ['a tag is kept up to its age and not beyond', { pushedWithinMs: 20 * DAY_MS }, ['pr-3']],
  ['versions of three numbers', { keepsVersions: true }, ['v1.2.3', '1.2.3-rc.1']],
  ['tags of which no pattern speaks, at any age', { tags: ['pr-*'] }, ['main', 'v1.2.3', '1.2.3-rc.1', 'v1']],
  [
    'the last one of those that a pattern names, beside all others',
    { tags: ['pr-*'], keepPushed: 1 },
    ['main', 'v1.2.3', '1.2.3-rc.1', 'v1', 'pr-3'],
  ],
  [
    'what any of several rules keeps',
    { keepPushed: 1, keepsVersions: true },
    ['v1.2.3', '1.2.3-rc.1', 'pr-3'],
  ],
]

for (const [what, terms, kept] of RULES) {
  test(`retention keeps: ${what}`, () => {
    const verdicts = judgeTags({ ...TERMS, ...terms }, TAGS, NOW_MS)
    assert.equal(verdicts.length, TAGS.length)
    assert.deepEqual(
      new Set(verdicts.filter(({ isKept }) => isKept).map(({ tag }) => String(tag))),
      new Set(kept),
    )
    for (const { why } of verdicts) assert.notEqual(why, '')
  })
}
