import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assert as check, constantFrom, property, string } from 'fast-check'
import { parseRepositoryName } from '../../src/oci/name.ts'
import { matchesGlob, matchesName, parseNamePattern } from '../../src/oci/name-pattern.ts'
import { parseConfiguredNamespace } from '../../src/oci/namespace.ts'

function isMatch(pattern: string, name: string): boolean {
  const parsed = parseNamePattern(pattern)
  const slash = name.indexOf('/')
  const namespace = parseConfiguredNamespace(name.slice(0, slash))
  const repository = parseRepositoryName(name.slice(slash + 1))
  assert.ok(parsed !== undefined && namespace !== undefined && repository !== undefined, `${pattern} ${name}`)
  return matchesName(parsed, { namespace, repository })
}

const CASES: readonly (readonly [string, string, boolean])[] = [
  ['**', 'docker.io/library/alpine', true],
  ['docker.io/**', 'docker.io/library/alpine', true],
  ['docker.io/**', 'docker.io.evil.com/library/alpine', false],
  ['docker.io/acme/**', 'docker.io/acme/app', true],
  ['docker.io/acme/**', 'docker.io/acme/team/app', true],
  ['docker.io/acme/**', 'docker.io/acmeevil/app', false],
  ['docker.io/acme/**', 'docker.io/acme', true],
  ['docker.io/acme/*', 'docker.io/acme/team/app', false],
  ['docker.io/acme/app', 'docker.io/acme/app', true],
  ['docker.io/acme/app', 'docker.io/acme/app2', false],
  ['docker.io/*/app-*', 'docker.io/acme/app-web', true],
  ['docker.io/*/app-*', 'docker.io/acme/web-app', false],
  ['**/secret', 'quay.io/a/b/secret', true],
  ['**/secret', 'quay.io/a/b/secret/more', false],
  ['quay.io/**/b/**/d', 'quay.io/a/b/c/b/d', true],
  ['*.example.com/**', 'registry.example.com/app', true],
  ['*.example.com/**', 'example.com/app', false],
  ['localhost:5000/**', 'localhost:5000/app', true],
  ['acme/**', 'acme/app', true],
]

for (const [pattern, name, wanted] of CASES) {
  test(`${pattern} ${wanted ? 'matches' : 'does not match'} ${name}`, () => {
    assert.equal(isMatch(pattern, name), wanted)
  })
}

test('text that is no pattern of a namespace and a name is refused', () => {
  for (const text of [
    '',
    '*',
    'docker.io',
    'docker.io/',
    '/app',
    'a//b',
    'Docker.io/**',
    'a/b c',
    'a/**b',
    'a/../b!',
  ])
    assert.equal(parseNamePattern(text), undefined, text)
  assert.equal(parseNamePattern(`a/${'b'.repeat(511)}`), undefined)
})

test('a glob matches the same texts as the regular expression that it stands for', () => {
  const letters = string({ unit: constantFrom('a', 'b', '*'), maxLength: 8 })
  const texts = string({ unit: constantFrom('a', 'b'), maxLength: 10 })
  check(
    property(letters, texts, (glob, text) => {
      const expression = new RegExp(`^${glob.replaceAll('*', '[ab]*')}$`)
      assert.equal(matchesGlob(glob, text), expression.test(text))
    }),
    { numRuns: 2000 },
  )
})
