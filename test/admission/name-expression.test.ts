import assert from 'node:assert/strict'
import { test } from 'node:test'
import { array, assert as check, constantFrom, oneof, property, string, tuple } from 'fast-check'
import { ImageJudge } from '../../src/admission/judge.ts'
import { IMAGE_ID, IMAGE_NAME, ruleExpression, SHORT_ENOUGH } from '../../src/admission/name-expression.ts'
import { ADMISSION_TABLE } from '../support/admission-table.ts'
import { admissionRules } from './rules.ts'

const everything = new ImageJudge(admissionRules('default: allow'))

function isName(text: string): boolean {
  const isNamed = new RegExp(IMAGE_NAME).test(text) && !new RegExp(IMAGE_ID).test(text)
  return isNamed && new RegExp(SHORT_ENOUGH).test(text) && text.length <= 1024
}

test('the expressions take the same texts for names of images as the gate does', () => {
  for (const image of ADMISSION_TABLE.flatMap(({ allowed, denied }) => [...allowed, ...denied]))
    assert.equal(isName(image), everything.judge(image, '').isAllowed, image)
})

const hex = 'a'.repeat(64)
const piece = constantFrom(
  'a',
  'B',
  '/',
  ':',
  '.',
  '-',
  '_',
  '__',
  '@',
  `@sha256:${hex}`,
  '5000',
  '443',
  '0443',
  'sha256:',
  '[::1]',
  'localhost',
  'docker.io',
  ' ',
)

test('that holds for any text', () => {
  check(
    property(
      oneof(
        string(),
        array(piece, { maxLength: 9 }).map(pieces => pieces.join('')),
      ),
      text => {
        assert.equal(isName(text), everything.judge(text, '').isAllowed, JSON.stringify(text))
      },
    ),
    { numRuns: 500 },
  )
})

const host = constantFrom('docker.io', 'ghcr.io', 'docker.io.evil.com', 'reg.lan:5000', 'localhost')
const path = array(constantFrom('library', 'acme', 'app', 'app-2', 'nginx'), { minLength: 2, maxLength: 3 })
const tail = constantFrom('', ':latest', ':v1', ':v1.2', `@sha256:${hex}`, `:v1@sha256:${hex}`)
const image = tuple(host, path, tail).map(
  ([registry, parts, end]) => `${[registry, ...parts].join('/')}${end}`,
)

const part = constantFrom('*', '**', 'app*', 'acme', 'library', 'nginx', '*2')
const pattern = tuple(
  constantFrom('docker.io', '*', '**', '*.io', 'reg.lan:*', 'docker.io*', 'localhost'),
  array(part, { minLength: 1, maxLength: 3 }),
  constantFrom('', ':v*', ':latest', ':*', '@sha256:*', '@sha256:b*', '/'),
).map(([registry, parts, end]) => `${[registry, ...parts].join('/')}${end}`)

test('the expression of a rule means the same images as the rule', () => {
  check(
    property(pattern, image, constantFrom(true, false), (entry, name, isAllowed) => {
      const section = isAllowed ? `default: deny\nallow: ['${entry}']` : `default: allow\ndeny: ['${entry}']`
      const rules = admissionRules(section)
      const isMatched = rules.rules.some(rule => new RegExp(`^(?:${ruleExpression(rule)})$`).test(name))
      const verdict = new ImageJudge(rules).judge(name, '').isAllowed
      assert.equal(isMatched, verdict === isAllowed, `${entry} ${name}`)
    }),
    { numRuns: 400 },
  )
})
