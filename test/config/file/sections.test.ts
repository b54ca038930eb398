import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readSections } from '../../../src/config/file/sections.ts'
import { readYamlFile } from '../../../src/config/file/yaml-file.ts'
import { formatOrigin, formatProblem } from '../../../src/config/problem.ts'

const FILE = { name: 'u', path: '/u' }

function read(text: string): ReturnType<typeof readSections> & { readonly entries: readonly string[] } {
  const { entries, sections, problems } = readYamlFile(text, 'u')
  const result = readSections(sections, FILE)
  return { ...result, problems: [...problems, ...result.problems], entries: entries.map(({ path }) => path) }
}

test('a map of sections has the upstreams and the claims of hosted names', () => {
  const { entries, sections, problems } = read(`
upstreams:
- {namespace: a.io, host: a.io}
hosted:
- names: registry.example.com/**
- names: docker.io/acme/**
  fallback: docker.io
`)
  assert.deepEqual(problems, [])
  assert.deepEqual(entries, ['upstreams[0]'])
  assert.deepEqual(
    sections.hosted.map(({ names, fallback }) => [names.text, fallback]),
    [
      ['registry.example.com/**', undefined],
      ['docker.io/acme/**', 'docker.io'],
    ],
  )
})

test('a plain list has no sections, and hosts nothing', () => {
  const { entries, sections, problems } = read('- {namespace: a.io, host: a.io}')
  assert.deepEqual([entries, sections.hosted, problems], [['[0]'], [], []])
})

test('each value of a section is shown with its line', () => {
  const { shown } = read('hosted:\n- names: a.io/**\n  fallback: b.io\n')
  assert.deepEqual(
    shown.map(({ key, value, origin }) => [key, value, origin && formatOrigin(origin)]),
    [
      ['hosted', '', undefined],
      ['  - names', 'a.io/**', 'u:2'],
      ['    fallback', 'b.io', 'u:3'],
    ],
  )
})

const BAD: readonly (readonly [string, string])[] = [
  ['hosts: []', 'u:1: hosts is not a known section (did you mean hosted?)'],
  ['hunter2: []', 'u:1: has an unknown section (known sections: upstreams, hosted)'],
  ['upstreams: 5', 'u:1: upstreams must be a list of upstreams (begin each one with "- namespace:")'],
  ['hosted: yes', 'u:1: hosted must be a list'],
  ['hosted:\n- a.io/**', 'u:2: hosted[0] must be a map of keys and values'],
  ['hosted:\n- fallback: a.io', 'u:2: hosted[0].names is missing'],
  ['hosted:\n- names: a.io/**\n  nmes: x', 'u:3: hosted[0].nmes is not a known key (did you mean names?)'],
  [
    'hosted:\n- names: a.io',
    'u:2: hosted[0].names is not a pattern of names (a namespace and a name, such as registry.example.com/** or docker.io/acme/**)',
  ],
  ['hosted:\n- names: [a]', 'u:2: hosted[0].names must be text'],
  [
    'hosted:\n- names: a.io/**\n- names: a.io/**',
    'u:3: hosted[1].names is a.io/** again, which line 2 claims (keep one)',
  ],
  ['hosted:\n- &x {names: a.io/**}\n- *x', 'u:3: hosted[1] refers to an anchor (*) (write the value out)'],
  ['hosted: []\nhosted: []', 'u:2: hosted is written already on line 1 (keep one)'],
  [
    'hosted:\n- names: a.io/**\n  names: b.io/**',
    'u:3: hosted[0].names is written already on line 2 (keep one)',
  ],
  [`hosted: ${'['.repeat(20)}${']'.repeat(20)}`, `u:1: hosted${'[0]'.repeat(16)} is nested too deeply`],
  ['hosted:\n- names: a.io/**\n  __proto__: x', 'u:3: hosted[0].__proto__ is not a known key'],
]

for (const [text, problem] of BAD) {
  test(`the file ${JSON.stringify(text.slice(0, 60))} is refused with its line`, () => {
    assert.equal(read(text).problems.map(formatProblem)[0], problem)
  })
}
