import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseAuthorization } from '../../src/access/authorization.ts'
import { IdentityChain } from '../../src/access/chain.ts'
import { Issuer } from '../../src/access/issuer.ts'
import { parseGrants, parseRobot } from '../../src/access/robot-record.ts'
import { Robots } from '../../src/access/robots.ts'
import { Sessions } from '../../src/access/sessions.ts'
import { readUsers } from '../../src/config/file/htpasswd.ts'
import { readSections } from '../../src/config/file/sections.ts'
import { readYamlFile } from '../../src/config/file/yaml-file.ts'
import { OciError } from '../../src/oci/error.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { playIssuer } from '../support/oidc-issuer.ts'
import { sectionsOf } from '../support/sections.ts'

const FILE = { name: 'u', path: '/u' }

const text = fc.string({ unit: 'binary', maxLength: 200 })

test('no header field makes the parser of credentials fail', () => {
  const schemes = fc.constantFrom('Basic ', 'Bearer ', 'basic ', 'Digest ', '', 'Basic  ')
  fc.assert(
    fc.property(schemes, text, fc.base64String({ maxLength: 100 }), (scheme, any, base64) => {
      for (const value of [`${scheme}${any}`, `${scheme}${base64}`]) {
        const presented = parseAuthorization(value)
        if (presented.kind !== 'basic') continue
        assert.ok(!/[\p{Cc}]/u.test(presented.user + presented.password))
        assert.ok(!presented.user.includes(':'))
      }
    }),
    { numRuns: 500 },
  )
})

test('no altered token is accepted, and each is refused or means nothing', async () => {
  const clock = FakeClock.skipDelays()
  const issuer = await playIssuer('https://issuer.example.com', () => clock.wallMs())
  const auth = sectionsOf(`
auth:
  issuers: [{name: play, issuer: '${issuer.url}', audience: entrepot, identity: '{sub}'}]
`).auth
  const [config] = auth.issuers
  assert.ok(config !== undefined)
  const issuers = new Map([[issuer.url, new Issuer({ config, clock, fetchDocument: issuer.fetch })]])
  const store = {
    readRobots: async () => await Promise.resolve([]),
    addRobot: async () => undefined,
    removeRobot: async () => undefined,
    readUses: async () => await Promise.resolve(new Map<string, number>()),
    writeUses: async () => undefined,
  }
  const robots = new Robots({ clock, store, revoked: () => undefined })
  const sessions = new Sessions(async () => await Promise.resolve(Buffer.alloc(32, 1)), clock)
  const passwords = { isRight: async () => await Promise.resolve(false) }
  const events = { audited: () => undefined }
  const chain = new IdentityChain({ robots, sessions, passwords, clock, events }, { auth, issuers })
  const session = { name: 'root', groups: [], generation: 0, proof: undefined, untilMs: Infinity }
  const good = [await issuer.sign({ sub: 'root' }), (await sessions.sign(session)).token]
  for (const token of good)
    assert.match((await chain.identify(`Bearer ${token}`, undefined)).identity.name, /root$/)
  const altered = fc
    .tuple(
      fc.constantFrom(...good),
      fc.nat({ max: 600 }),
      fc.constantFrom('delete', 'replace', 'insert'),
      fc.base64String(),
    )
    .map(([token, position, how, other]) => {
      const at = position % token.length
      const part = how === 'delete' ? '' : (other.replace(/[+/=]/g, '') || 'A').slice(0, 3)
      return `${token.slice(0, at)}${part}${token.slice(at + (how === 'insert' ? 0 : 1 + part.length))}`
    })
    .filter(token => !good.includes(token))
  const anything = fc.oneof(
    altered,
    text,
    fc.string().map(rest => `entrepot_${rest}`),
  )
  await fc.assert(
    fc.asyncProperty(anything, async token => {
      try {
        const { identity } = await chain.identify(`Bearer ${token}`, undefined)
        assert.equal(identity.isForeign, true, `${identity.name} by ${token}`)
      } catch (error) {
        assert.ok(error instanceof OciError && error.code === 'UNAUTHORIZED', String(error))
      }
    }),
    { numRuns: 1000, examples: [['a'.repeat(100_000)], [`${'a'.repeat(50_000)}.${'b'.repeat(50_000)}.c`]] },
  )
})

test('no file of users makes the mirror fail, and only strong hashes are accepted', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-users-'))
  const line = fc.oneof(
    text,
    fc
      .tuple(
        fc.string({ maxLength: 12 }),
        fc.constantFrom('{SHA}x', '$apr1$a$b', '$2y$04$x', 'plain', '$6$a$b', ''),
      )
      .map(parts => parts.join(':')),
  )
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 6 }), async lines => {
        await writeFile(join(directory, 'users'), lines.join('\n'))
        const { users, problems } = readUsers('users', { name: 'u', path: join(directory, 'u') })
        for (const hash of users.values()) assert.match(hash, /^\$(?:2[aby]|argon2id)\$/)
        const isBlank = lines
          .join('\n')
          .split(/\r?\n/)
          .every(each => each.trim() === '' || each.startsWith('#'))
        assert.equal(users.size + problems.length === 0, isBlank)
      }),
      { numRuns: 300 },
    )
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})

test('no section of rules or identities makes the mirror fail, and what is refused has no rules', () => {
  const word = fc.oneof(
    fc.constantFrom(
      'everyone',
      'alice',
      '*',
      'group:x',
      'pull',
      'admin',
      'docker.io/**',
      '**',
      'may',
      'who',
      '',
    ),
    text,
  )
  const value = fc.oneof(word, fc.array(word, { maxLength: 3 }), fc.integer(), fc.constant(null), fc.object())
  const row = fc.record(
    { who: value, names: value, may: value, may_not: value, reason: value },
    { requiredKeys: [] },
  )
  const auth = fc.record(
    { groups: value, issuers: value, generations: value, realm: value, challenge: value },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(
      fc.oneof(fc.array(row, { maxLength: 4 }), value),
      fc.oneof(auth, value),
      (rules, identities) => {
        const { sections: read, problems } = readYamlFile(JSON.stringify({ rules, auth: identities }), 'u')
        const { sections, problems: others } = readSections(read, FILE)
        if (problems.length + others.length > 0) return
        for (const rule of sections.rules) {
          assert.ok(rule.who.length > 0 && rule.names.length > 0 && rule.rights.length > 0)
          assert.ok(rule.line > 0)
        }
      },
    ),
    { numRuns: 200 },
  )
})

test('no entry of the record of robots, and no right in text, makes the mirror fail', () => {
  fc.assert(
    fc.property(fc.anything(), text, (entry, right) => {
      const robot = parseRobot(entry)
      if (robot !== undefined) assert.match(robot.sha256, /^[0-9a-f]{64}$/)
      for (const grant of parseGrants(right) ?? []) assert.ok(grant.names.pattern.components.length > 0)
    }),
    { numRuns: 1000 },
  )
})
