import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readSections } from '../../../src/config/file/sections.ts'
import { readYamlFile } from '../../../src/config/file/yaml-file.ts'
import { formatOrigin, formatProblem } from '../../../src/config/problem.ts'
import { NOTICE_TYPES } from '../../../src/oci/notice-type.ts'

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
  [
    'hunter2: []',
    'u:1: has an unknown section (known sections: upstreams, hosted, policies, notifications, auth, rules, warm, admission)',
  ],
  ['upstreams: 5', 'u:1: upstreams must be a list of upstreams (begin each one with "- namespace:")'],
  ['hosted: yes', 'u:1: hosted must be a list'],
  ['hosted:\n- a.io/**', 'u:2: hosted[0] must be a map of keys and values'],
  ['hosted:\n- fallback: a.io', 'u:2: hosted[0].names is missing'],
  ['hosted:\n- names: a.io/**\n  nmes: x', 'u:3: hosted[0].nmes is not a known key (did you mean names?)'],
  [
    'hosted:\n- names: a.io',
    'u:2: hosted[0].names is not a pattern of names: "a.io" (a namespace and a name, such as registry.example.com/** or docker.io/acme/**)',
  ],
  ['hosted:\n- names: [a]', 'u:2: hosted[0].names must be text'],
  [
    'policies:\n- names: a.io/**\n  retention: {tags: ["pr-*"]}',
    'u:3: policies[0].retention says which tags may go, but not which stay (add a rule, such as keep_pushed or pulled_within)',
  ],
  ['policies:\n- {names: a.io/**, quota: 5}', 'u:2: policies[0].quota must be text'],
  [
    'policies:\n- {names: a.io/**, immutable_tags: ["v/1"]}',
    'u:2: policies[0].immutable_tags[0] is not a pattern of tags: "v/1" (such as v* or pr-*)',
  ],
  ['notifications:\n- name: ci', 'u:2: notifications[0].url is missing'],
  [
    'notifications:\n- {name: ci, url: "https://user:word@a.io/"}',
    'u:2: notifications[0].url is not a URL (such as https://ci.example.com/hook, without a user name)',
  ],
  [
    'notifications:\n- {name: ci, url: "http://a.io", events: [tag.move]}',
    `u:2: notifications[0].events[0] is not a known value (one of ${NOTICE_TYPES.join(', ')})`,
  ],
  [
    'notifications:\n- {name: ci, url: "http://a.io"}\n- {name: ci, url: "http://b.io"}',
    'u:3: notifications[1].name is ci again, as on line 2 (one name for each endpoint)',
  ],
  [
    'notifications:\n- {name: ci, url: "http://a.io", timeout: 2h}',
    'u:2: notifications[0].timeout is not a duration from 1s to 1m: "2h" (such as 10s)',
  ],
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

test('an endpoint has defaults, paths beside the file, and a URL that is never shown', () => {
  const { sections, shown, problems } = read(`
notifications:
  - name: ci
    url: https://ci.example.com/hook?token=hunter2
    secret_file: ci-secret
    names: [docker.io/acme/**]
    events: [tag.moved]
    timeout: 5s
  - name: chat
    url: http://10.0.0.1:8080
`)
  assert.deepEqual(problems, [])
  const [ci, chat] = sections.notifications
  assert.equal(ci?.url.reveal(), 'https://ci.example.com/hook?token=hunter2')
  assert.ok(ci.secretFile?.endsWith('/ci-secret'))
  assert.deepEqual(
    [ci.types, ci.names?.map(({ text }) => text), ci.timeoutMs],
    [['tag.moved'], ['docker.io/acme/**'], 5000],
  )
  assert.deepEqual(
    [chat?.format, chat?.types, chat?.names, chat?.timeoutMs],
    ['cloudevents', NOTICE_TYPES, undefined, 10_000],
  )
  assert.doesNotMatch(JSON.stringify(shown), /hunter2/)
})

test('a claim in a spelling that no request is resolved to is refused', () => {
  const refusedClaims = [
    'index.docker.io/acme/**',
    'a.io:443/**',
    'reg.lan_5000/app',
    'docker.io/app',
    'docker.io/*',
  ]
  for (const names of refusedClaims)
    assert.match(
      read(`hosted:\n- names: '${names}'\n`)
        .problems.map(({ message }) => message)
        .join(),
      /is not a pattern of names/,
      names,
    )
  for (const names of [
    'docker.io/**',
    'docker.io/library/app',
    'a.io/**',
    'reg.lan:5000/app',
    'corp/**',
    '**',
  ])
    assert.deepEqual(read(`hosted:\n- names: '${names}'\n`).problems, [], names)
})
