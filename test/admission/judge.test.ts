import assert from 'node:assert/strict'
import { test } from 'node:test'
import { array, constantFrom, assert as fcAssert, oneof, property, string, stringMatching } from 'fast-check'
import { ImageJudge, whyRefused } from '../../src/admission/judge.ts'
import { ADMISSION_TABLE } from '../support/admission-table.ts'
import { admissionRules } from './rules.ts'

function judgeOf(section: string): ImageJudge {
  return new ImageJudge(admissionRules(section))
}

for (const { title, section, allowed, denied, namespace = 'default' } of ADMISSION_TABLE) {
  test(title, () => {
    const judge = judgeOf(section)
    const verdicts = [...allowed, ...denied].map(image => [image, judge.judge(image, namespace).isAllowed])
    const wanted = [...allowed.map(image => [image, true]), ...denied.map(image => [image, false])]
    assert.deepEqual(verdicts, wanted)
  })
}

test('a refusal says which image, and why', () => {
  const judge = judgeOf(`default: deny
allow: [nginx]
deny: [{names: ghcr.io, reason: pull from quay.io instead}, quay.io/old]`)
  const why = (image: string): string => whyRefused(judge.judge(image, 'default'))
  assert.equal(why('ghcr.io/a/b'), 'image "ghcr.io/a/b" is refused: pull from quay.io instead')
  assert.equal(why('quay.io/old/app'), 'image "quay.io/old/app" is refused: the rules deny quay.io/old')
  assert.equal(why('redis'), 'image "redis" is refused: no rule allows it')
  assert.equal(why('hello human'), 'image "hello human" is refused: this is not the name of an image')
  assert.ok(why('x'.repeat(100_000)).length < 300)
})

const component = stringMatching(/^[a-z0-9]{1,3}(?:[._-][a-z0-9]{1,2})?$/)
const host = constantFrom('ghcr.io', 'docker.io', 'quay.io', 'localhost', 'reg.lan:5000')

test('a plain entry means its own name and what is below it, whatever follows its last component', () => {
  fcAssert(
    property(host, array(component, { minLength: 2, maxLength: 4 }), component, (name, path, tail) => {
      const entry = [name, ...path].join('/')
      const judge = judgeOf(`default: deny\nallow: ['${entry}']`)
      const isAllowed = (image: string): boolean => judge.judge(image, 'default').isAllowed
      assert.ok(isAllowed(entry))
      assert.ok(isAllowed(`${entry}:${tail}`))
      assert.ok(isAllowed(`${entry}/${tail}`))
      assert.ok(!isAllowed(`${entry}${tail}`))
      assert.ok(!isAllowed(`${name}.evil.com/${path.join('/')}`))
      assert.ok(!isAllowed(`evil.com/${entry}`))
    }),
    { numRuns: 200 },
  )
})

test('no text throws, and what is allowed has a name', () => {
  const judge = judgeOf('default: allow')
  const piece = constantFrom(
    'a',
    'A',
    '/',
    ':',
    '@',
    '.',
    '-',
    '_',
    'sha256:',
    '[',
    ']',
    ' ',
    '\n',
    '5000',
    'é',
  )
  fcAssert(
    property(
      oneof(
        string(),
        array(piece).map(pieces => pieces.join('')),
      ),
      text => {
        const { isAllowed } = judge.judge(text, '')
        if (isAllowed) assert.match(text, /^[A-Za-z0-9._:/@[\]-]+$/)
      },
    ),
    { numRuns: 2000 },
  )
})
