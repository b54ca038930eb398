import assert from 'node:assert/strict'
import { test } from 'node:test'
import { imageMatcher } from '../../src/oci/image-pattern.ts'

const ALPINE = { namespace: 'docker.io', repository: 'library/alpine', reference: '3.20' }
const TEAM = { namespace: 'docker.io', repository: 'team/app', reference: 'v1' }
const OWNER = { namespace: 'ghcr.io', repository: 'owner/name', reference: `sha256:${'a'.repeat(64)}` }
const LOCAL = { namespace: 'localhost:5000', repository: 'app', reference: 'latest' }
const NAMES = new Map([
  [ALPINE, 'alpine'],
  [TEAM, 'team'],
  [OWNER, 'owner'],
  [LOCAL, 'local'],
])

for (const [pattern, matched] of [
  ['', ['alpine', 'team', 'owner', 'local']],
  ['*', ['alpine', 'team', 'owner', 'local']],
  ['docker.io', ['alpine', 'team']],
  ['docker', []],
  ['docker.io/library', ['alpine']],
  ['docker.io/lib', []],
  ['alpine', ['alpine']],
  ['alpine:3.20', ['alpine']],
  ['alpine:3', []],
  ['alpine:3.*', ['alpine']],
  ['alpine:3?20', ['alpine']],
  ['team/*', ['team']],
  ['*/team/app', ['team']],
  ['*:v1', ['team']],
  ['ghcr.io/owner', ['owner']],
  ['ghcr.io/owner/name@sha256:*', ['owner']],
  ['localhost:5000', ['local']],
  ['ghcr_io', []],
] as const) {
  test(`the pattern "${pattern}" matches ${matched.join(', ') || 'none'} of the images`, () => {
    const isMatch = imageMatcher(pattern)
    assert.deepEqual(
      [...NAMES].filter(([image]) => isMatch?.(image)).map(([, name]) => name),
      matched,
    )
  })
}

for (const text of ['a b', 'ä', 'a'.repeat(1025)])
  test(`${text.slice(0, 10)} is not a pattern`, () => {
    assert.equal(imageMatcher(text), undefined)
  })
