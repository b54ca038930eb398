import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseRepositoryName, parseTag } from '../../src/oci/name.ts'

const NAMES = ['a', 'library/alpine', 'a.b/c_d/e__f/g-h', 'a--b/c---d', '0/1', 'x'.repeat(255), 'a1.2-3']
for (const name of NAMES) {
  test(`${name.slice(0, 40)} is a repository name`, () => {
    assert.equal(parseRepositoryName(name), name)
  })
}

const NOT_NAMES: readonly (readonly [string, string])[] = [
  ['nothing', ''],
  ['a slash', '/'],
  ['a leading slash', '/a'],
  ['a trailing slash', 'a/'],
  ['an empty component', 'a//b'],
  ['a dot component', 'a/./b'],
  ['two dots', 'a/../b'],
  ['two dots within', 'a..b'],
  ['a leading dot', '.a'],
  ['a trailing dot', 'a.'],
  ['a leading underscore, which marks our own records', '_tags/a'],
  ['three underscores', 'a___b'],
  ['a trailing hyphen', 'a-'],
  ['a leading hyphen', '-a'],
  ['upper case', 'Alpine'],
  ['mixed separators', 'a._b'],
  ['a colon', 'a:b'],
  ['an at sign', 'a@b'],
  ['a percent sign', 'a%2fb'],
  ['a backslash', 'a\\b'],
  ['a newline', 'a\n'],
  ['a NUL', 'a\0'],
  ['a letter outside ASCII', 'é'],
  ['256 characters', 'x'.repeat(256)],
]
for (const [what, name] of NOT_NAMES) {
  test(`${what} makes no repository name`, () => {
    assert.equal(parseRepositoryName(name), undefined)
  })
}

const TAGS = ['latest', 'A', '_', '_x', '1.0-rc.1', 'v1__2', 'x'.repeat(128), 'sha256-abc.sig']
for (const tag of TAGS) {
  test(`${tag.slice(0, 40)} is a tag`, () => {
    assert.equal(parseTag(tag), tag)
  })
}

for (const tag of ['', '.a', '-a', '..', 'a/b', 'a:b', 'a b', 'a\n', 'a\0', 'é', 'a%20', 'x'.repeat(129)]) {
  test(`${JSON.stringify(tag.slice(0, 20))} of ${tag.length} characters is not a tag`, () => {
    assert.equal(parseTag(tag), undefined)
  })
}

test('what is a repository name has only the letters, the lengths and the components of one', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'aZ0._-/:%\\ \n'.split('')), maxLength: 20 }), text => {
      const name = parseRepositoryName(text)
      if (name === undefined) return
      assert.match(name, /^[a-z0-9._/-]+$/)
      for (const component of name.split('/')) assert.match(component, /^[a-z0-9]/)
      assert.ok(!name.includes('..'))
    }),
    { numRuns: 2000 },
  )
})

test('a long hostile name is judged in linear time', () => {
  const hostile = `${'a-'.repeat(100)}!`
  for (let round = 0; round < 10_000; round += 1) assert.equal(parseRepositoryName(hostile), undefined)
})
