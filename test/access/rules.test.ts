import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rules } from '../../src/access/rules.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { ANONYMOUS, type Identity, type Right } from '../../src/oci/identity.ts'
import { DOCKER_HUB, type Namespace } from '../../src/oci/namespace.ts'
import { resolvePlace } from '../../src/oci/place.ts'
import { parseReference, type Reference } from '../../src/oci/reference.ts'
import { parseRuleNames, qualifyNames } from '../../src/oci/rules/rule-names.ts'
import { sectionsOf } from '../support/sections.ts'

const DIGEST = digestOf(Buffer.from('bad'))

const TABLE = new Rules(
  sectionsOf(`
rules:
- {who: everyone, names: '**@${DIGEST}', may_not: pull, reason: it is malware}
- {who: everyone, names: 'docker.io/**:latest', may_not: pull}
- {who: [alice, 'group:staff'], names: docker.io/acme/**, may: push}
- {who: 'github:acme/*@refs/heads/main', names: docker.io/acme/app, may: push}
- {who: 'k8s:prod/*', names: docker.io/acme/*, may: pull}
- {who: 'cert:spiffe://prod/**', names: docker.io/acme/app, may: [delete]}
- {who: partner, names: 'docker.io/acme/app:v*', may: pull}
- {who: everyone, names: docker.io/acme/**, may_not: [pull, push]}
- {who: authenticated, names: docker.io/team/*, may: delete}
- {who: root, may: admin}
`).rules,
)

function identity(name: string, ...groups: readonly string[]): Identity {
  return name === 'anonymous' ? ANONYMOUS : { name, groups }
}

function question(
  who: Identity,
  right: Right,
  image: string,
): {
  identity: Identity
  right: Right
  place: ReturnType<typeof resolvePlace>
  reference: Reference | undefined
} {
  const [, path = '', tag] = /^([^@:]+)[:@]?(.*)$/.exec(image) ?? []
  const place = resolvePlace(
    { defaultNamespace: DOCKER_HUB, terms: new Map() },
    { ns: [], prefix: undefined, path },
  )
  return { identity: who, right, place, reference: parseReference(tag ?? '') }
}

/** Who, the right, the image, whether that is allowed, and the line that decides. */
const CASES: readonly (readonly [Identity, Right, string, boolean, number | 'default'])[] = [
  [identity('anonymous'), 'pull', 'library/alpine:3', true, 'default'],
  [identity('anonymous'), 'push', 'library/alpine:3', false, 'default'],
  [identity('anonymous'), 'delete', 'team/x', false, 'default'],
  [identity('anonymous'), 'pull', 'library/alpine:latest', false, 4],
  [identity('anonymous'), 'pull', `library/alpine@${DIGEST}`, false, 3],
  [identity('root'), 'pull', `acme/app@${DIGEST}`, false, 3],
  [identity('anonymous'), 'pull', 'acme/app:v1', false, 10],
  [identity('alice'), 'pull', 'acme/app:v1', true, 5],
  [identity('alice'), 'push', 'acme/deep/er/app:v1', true, 5],
  [identity('alice'), 'delete', 'acme/app:v1', false, 'default'],
  [identity('alicia'), 'pull', 'acme/app:v1', false, 10],
  [identity('robot:alice'), 'pull', 'acme/app:v1', false, 10],
  [identity('bob', 'staff'), 'push', 'acme/app:v1', true, 5],
  [identity('bob', 'staff2'), 'push', 'acme/app:v1', false, 10],
  [identity('github:acme/any@refs/heads/main'), 'push', 'acme/app:v1', true, 6],
  [identity('github:acme/any@refs/heads/main2'), 'push', 'acme/app:v1', false, 10],
  [identity('github:acme/any/more@refs/heads/main'), 'push', 'acme/app:v1', false, 10],
  [identity('github:evil/acme/any@refs/heads/main'), 'push', 'acme/app:v1', false, 10],
  [identity('github:acme/any@refs/heads/main'), 'push', 'acme/other:v1', false, 10],
  [identity('k8s:prod/default'), 'pull', 'acme/app:v1', true, 7],
  [identity('k8s:prod/default'), 'pull', 'acme/deep/app:v1', false, 10],
  [identity('k8s:production/default'), 'pull', 'acme/app:v1', false, 10],
  [identity('cert:spiffe://prod/a/b'), 'delete', 'acme/app', true, 8],
  [identity('cert:spiffe://test/a/b'), 'delete', 'acme/app', false, 'default'],
  [identity('partner'), 'pull', 'acme/app:v1', true, 9],
  [identity('partner'), 'pull', 'acme/app:w1', false, 10],
  [identity('partner'), 'pull', `acme/app@${digestOf(Buffer.from('other'))}`, false, 10],
  [identity('partner'), 'pull', 'acme/app', false, 10],
  [identity('zoe'), 'delete', 'team/x', true, 11],
]

test('the first row about the sender, the right and the names decides', () => {
  for (const [who, right, image, isAllowed, line] of CASES) {
    const decision = TABLE.decide(question(who, right, image))
    const by = decision.by.kind === 'rule' ? decision.by.rule.line : decision.by.kind
    assert.deepEqual(
      [who.name, right, image, decision.isAllowed, by],
      [who.name, right, image, isAllowed, line],
    )
  }
})

test('admin is decided for the mirror as a whole', () => {
  assert.equal(TABLE.decideAdmin(identity('root')).isAllowed, true)
  assert.equal(TABLE.decideAdmin(identity('alice')).isAllowed, false)
  assert.equal(TABLE.decideAdmin(ANONYMOUS).isAllowed, false)
})

test('a grant counts only where no row decides', () => {
  const names = parseRuleNames('docker.io/**')
  assert.ok(names !== undefined)
  const robot: Identity = { name: 'robot:ci', groups: [], grants: [{ right: 'push', names }] }
  assert.equal(TABLE.decide(question(robot, 'push', 'free/app:1')).by.kind, 'grant')
  assert.equal(TABLE.decide(question(robot, 'push', 'acme/app:1')).isAllowed, false)
  assert.equal(TABLE.decide(question(robot, 'delete', 'free/app:1')).isAllowed, false)
})

test('content that is denied by digest is denied whichever tag leads to it, unless a row above allows it', () => {
  assert.equal(TABLE.denialOfDigest(question(ANONYMOUS, 'pull', `any/app@${DIGEST}`))?.line, 3)
  assert.equal(
    TABLE.denialOfDigest(question(ANONYMOUS, 'pull', `any/app@${digestOf(Buffer.from('good'))}`)),
    undefined,
  )
  const saved = new Rules(
    sectionsOf(`
rules:
- {who: research, names: '**@${DIGEST}', may: pull}
- {who: everyone, names: '**@${DIGEST}', may_not: pull}
`).rules,
  )
  assert.equal(saved.denialOfDigest(question(identity('research'), 'pull', `any/app@${DIGEST}`)), undefined)
  assert.equal(saved.deniesDigests, true)
  assert.equal(new Rules([]).deniesDigests, false)
})

/** Rules, whether the anonymous may pull something, and whether a login gives anybody more. */
const ENTRANCES: readonly (readonly [string, boolean, boolean])[] = [
  ['rules: []', true, false],
  ['rules: [{who: everyone, may_not: pull}]', false, false],
  ['rules: [{who: alice, may: pull}, {who: everyone, may_not: pull}]', false, true],
  ['rules: [{who: everyone, names: docker.io/x/**, may: pull}, {who: everyone, may_not: pull}]', true, false],
  ['rules: [{who: alice, names: docker.io/acme/**, may: push}]', true, true],
  ['rules: [{who: root, may: admin}]', true, false],
  ["rules: [{who: everyone, names: '**:latest', may_not: pull}]", true, false],
]

test('rules tell whether anybody may pull without a login, and whether a login is of use', () => {
  for (const [text, isPublic, rewardsLogin] of ENTRANCES) {
    const rules = new Rules(sectionsOf(text).rules)
    assert.deepEqual([text, rules.isPublic, rules.rewardsLogin], [text, isPublic, rewardsLogin])
  }
})

test('decisions of many identities about many names are remembered within one bound, and stay the same', () => {
  const table = new Rules(TABLE.rows)
  const alice = identity('alice')
  let most = 0
  for (let count = 0; count < 400; count += 1) {
    const who = identity('alice')
    for (let name = 0; name < 300; name += 1) table.decide(question(who, 'pull', `acme/app${name}:1`))
    most = Math.max(most, table.rememberedCount)
    assert.equal(table.decide(question(alice, 'push', 'acme/app:v1')).isAllowed, true)
    assert.equal(table.decide(question(ANONYMOUS, 'pull', 'acme/app:v1')).isAllowed, false)
  }
  assert.ok(most > 10_000 && most <= 50_000, `${most} are remembered`)
})

/** Names as a row may have them, and the path of a request that they must mean. */
const SPELLINGS: readonly (readonly [string, string])[] = [
  ['acme/app', 'acme/app'],
  ['acme/**:1', 'docker.io/acme/app'],
  ['index.docker.io/acme/**', 'acme/app'],
  ['registry-1.docker.io/acme/**', 'docker.io/acme/app'],
  ['docker.io:443/acme/*', 'acme/app'],
  ['docker.io/alpine', 'alpine'],
  ['index.docker.io/alpine:1', 'docker.io/library/alpine'],
  ['docker.io/*', 'alpine'],
  ['docker.io/**', 'alpine'],
  ['ghcr.io:443/acme/app', 'ghcr.io/acme/app'],
  ['reg.lan:5000/app', 'reg.lan_5000/app'],
  ['reg.lan_5000/app', 'reg.lan:5000/app'],
  ['corp_5000/app', 'corp:5000/app'],
]

test('a row means a repository by each spelling that clients may name it by', () => {
  const directory = { defaultNamespace: DOCKER_HUB, terms: new Set(['corp:5000' as Namespace]) }
  for (const [text, path] of SPELLINGS) {
    const names = parseRuleNames(text)
    assert.ok(names !== undefined, text)
    const row = {
      who: [{ kind: 'everyone' }],
      rights: ['pull'],
      isAllowed: false,
      reason: undefined,
      line: 1,
    } as const
    const table = new Rules([{ ...row, names: [qualifyNames(names, directory)] }])
    const place = resolvePlace(directory, { ns: [], prefix: undefined, path })
    const asked = { identity: ANONYMOUS, right: 'pull', place, reference: parseReference('1') } as const
    assert.equal(table.decide(asked).isAllowed, false, text)
  }
})
