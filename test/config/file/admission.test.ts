import assert from 'node:assert/strict'
import { test } from 'node:test'
import { admissionRules } from '../../admission/rules.ts'

const ENTRIES: readonly (readonly [string, readonly string[]])[] = [
  ['ghcr.io', ['ghcr.io/**']],
  ['ghcr.io/', ['ghcr.io/**']],
  ['localhost:8000', ['localhost:8000/**']],
  ['registry:5000/', ['registry:5000/**']],
  ['ghcr.io/acme', ['ghcr.io/acme/**']],
  ['nginx', ['docker.io/library/nginx/**']],
  ['nginx:1.*', ['docker.io/library/nginx:1.*']],
  ['acme/app', ['docker.io/acme/app/**']],
  ['acme/', ['docker.io/acme/**']],
  ['docker.io/acme', ['docker.io/library/acme', 'docker.io/acme/**']],
  ['index.docker.io/acme/', ['docker.io/acme/**']],
  ['docker.io/nginx:1', ['docker.io/library/nginx:1']],
  ['nginx@sha256:*', ['docker.io/library/nginx@sha256:*']],
  ['*.example.com/**', ['*.example.com/**']],
  ['**', ['**']],
  ['team-*/app', ['team-*/app']],
]

for (const [entry, names] of ENTRIES) {
  test(`the entry ${entry} means ${names.join(' and ')}`, () => {
    const { rules } = admissionRules(`default: deny\nallow: ['${entry}']`)
    assert.deepEqual(rules.map(rule => rule.names.text).toSorted(), [...names].toSorted())
  })
}

const WRONG: readonly (readonly [string, RegExp])[] = [
  ['mode: enforce', /admission\.default is missing/],
  ['default: perhaps', /admission\.default is not a verdict: "perhaps" \(allow or deny\)/],
  ['default: deny\nmode: loud', /admission\.mode is not a known value \(one of enforce, warn, audit\)/],
  [
    'default: deny\nallow: [registry:5000]',
    /does not name images: "registry:5000" \(such as .*registry:5000\//,
  ],
  ['default: deny\nallow: [Nginx]', /does not name images/],
  ["default: deny\nallow: ['']", /does not name images/],
  ["default: deny\nallow: ['ghcr.io/acme*x**']", /does not name images/],
  ['default: deny\nallow: [{names: nginx, namespaces: [A]}]', /is not a namespace of a cluster/],
  ['default: deny\ndeny: [{names: nginx, because: x}]', /because is not a known key/],
  ["default: deny\ndeny: [{names: nginx, reason: ''}]", /is not a reason/],
  ['default: deny\nalow: [nginx]', /admission\.alow is not a known key \(did you mean allow\?\)/],
  ['default: deny\nmirrors: [a/b]', /is not a host/],
]

for (const [section, sentence] of WRONG) {
  test(`the section ${JSON.stringify(section)} is refused`, () => {
    assert.throws(() => admissionRules(section), sentence)
  })
}
