import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { hashSync } from 'bcryptjs'
import { SignJWT } from 'jose'
import { IdentityChain, type Proved, provedAnonymous } from '../../src/access/chain.ts'
import { Issuer } from '../../src/access/issuer.ts'
import { Passwords } from '../../src/access/passwords.ts'
import { parseGrants } from '../../src/access/robot-record.ts'
import { Robots } from '../../src/access/robots.ts'
import { Sessions } from '../../src/access/sessions.ts'
import type { AuthConfig } from '../../src/config/config.ts'
import { OciError } from '../../src/oci/error.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { type PlayedIssuer, playIssuer } from '../support/oidc-issuer.ts'
import { sectionsOf } from '../support/sections.ts'

const ISSUER = 'https://issuer.example.com'
const KEY = Buffer.alloc(32, 7)

interface Rig {
  readonly chain: IdentityChain
  readonly robots: Robots
  readonly issuer: PlayedIssuer
  readonly clock: FakeClock
  readonly sessions: Sessions
  readonly auth: (text: string) => Promise<AuthConfig>
  readonly replace: (text: string) => Promise<void>
  readonly issued: Issuer
  readonly revocations: () => number
  readonly basic: (user: string, password: string) => Promise<Proved>
  readonly bearer: (token: string) => Promise<Proved>
}

const USERS = `alice:${hashSync('secret', 4)}\nbob:$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$VXym+zGcjiXyxj5UHzvtgmqe7HffFotdp2kWC3AztjI\n`

const AUTH = `
auth:
  htpasswd_file: users
  groups: {staff: [alice, 'play:acme/*@refs/heads/main']}
  issuers:
  - {name: play, issuer: '${ISSUER}', audience: entrepot, identity: '{repository}@{ref}', groups_claim: teams, require: {owner: [acme, acme-*]}}
`

async function makeRig(t: TestContext): Promise<Rig> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-chain-'))
  const clock = FakeClock.skipDelays()
  const issuer = await playIssuer(ISSUER, () => clock.wallMs())
  const passwords = new Passwords(clock)
  t.after(async () => {
    await passwords[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })
  const auth: Rig['auth'] = async text => {
    await writeFile(join(directory, 'users'), USERS)
    return await Promise.resolve(sectionsOf(text, directory).auth)
  }
  let entries: readonly object[] = []
  let revocations = 0
  const robots = new Robots({
    clock,
    store: {
      readRobots: async () => await Promise.resolve(entries),
      addRobot: async entry => {
        entries = [...entries, JSON.parse(JSON.stringify(entry)) as object]
        await Promise.resolve()
      },
      removeRobot: async id => {
        entries = entries.filter(entry => !('id' in entry) || entry.id !== id)
        await Promise.resolve()
      },
      readUses: async () => await Promise.resolve(new Map<string, number>()),
      writeUses: async () => await Promise.resolve(),
    },
    revoked: () => {
      revocations += 1
    },
  })
  const sessions = new Sessions(async () => await Promise.resolve(KEY), clock)
  const first = await auth(AUTH)
  const [config] = first.issuers
  assert.ok(config !== undefined)
  const issued = new Issuer({ config, clock, fetchDocument: issuer.fetch })
  const issuers = new Map([[ISSUER, issued]])
  const events = { audited: () => undefined }
  const chain = new IdentityChain({ robots, sessions, passwords, clock, events }, { auth: first, issuers })
  return {
    chain,
    robots,
    issuer,
    clock,
    sessions,
    auth,
    issued,
    revocations: () => revocations,
    replace: async text => chain.replace({ auth: await auth(text), issuers }),
    basic: async (user, password) =>
      await chain.identify(`Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`, '192.0.2.1'),
    bearer: async token => await chain.identify(`Bearer ${token}`, '192.0.2.1'),
  }
}

const refused = (error: unknown): boolean => error instanceof OciError && error.code === 'UNAUTHORIZED'

const CLAIMS = { repository: 'acme/app', ref: 'refs/heads/main', owner: 'acme', teams: ['web', 7] }

test('a password names its user and the groups of the configuration; a wrong one is refused', async t => {
  const { basic } = await makeRig(t)
  assert.deepEqual((await basic('alice', 'secret')).identity, { name: 'alice', groups: ['staff'] })
  assert.deepEqual((await basic('bob', 'hunter2')).identity, { name: 'bob', groups: [] })
  await assert.rejects(basic('alice', 'Secret'), refused)
  await assert.rejects(basic('bob', 'secret'), refused)
})

test('credentials of which nothing is known make their sender anonymous and foreign', async t => {
  const { basic, bearer, chain } = await makeRig(t)
  const all = [
    await basic('dockerhubuser', 'dckr_pat_x'),
    await bearer('ghp_something'),
    await bearer('a.b.c'),
    await chain.identify('Digest username="x"', undefined),
    await chain.identify('Basic ???', undefined),
    await chain.identify(`Basic ${Buffer.from('alice\0:secret').toString('base64')}`, undefined),
    await chain.identify(`Basic ${Buffer.from(`${'a'.repeat(10_000)}:x`).toString('base64')}`, undefined),
    await chain.identify('', undefined),
  ]
  for (const { identity } of all)
    assert.deepEqual(identity, { name: 'anonymous', groups: [], isForeign: true })
})

test('a robot token counts as a bearer token and as the password of any user, until it ends', async t => {
  const { robots, basic, bearer, clock, revocations } = await makeRig(t)
  const grants = parseGrants('push:docker.io/acme/**') ?? []
  const wanted = { name: 'ci', grants, createdBy: 'test' }
  const { robot, token } = await robots.create({ ...wanted, expiresAtMs: clock.wallMs() + 1000 })
  assert.match(token, /^entrepot_[A-Za-z0-9_-]{43}$/)
  assert.equal(JSON.stringify(robots.list()).includes(token.slice(9)), false)
  for (const { identity } of [await bearer(token), await basic('x', token)])
    assert.deepEqual(identity, { name: 'robot:ci', groups: [], grants })
  assert.equal(robots.list()[0]?.lastUsedAtMs, clock.wallMs())
  await assert.rejects(bearer(`${token}x`), refused)
  await assert.rejects(bearer('entrepot_'), refused)
  const session = await bearer(token)
  clock.advance(1001)
  await assert.rejects(bearer(token), refused)
  const { token: other } = await robots.create({ ...wanted, expiresAtMs: undefined })
  assert.equal((await bearer(other)).untilMs, Infinity)
  assert.deepEqual(
    (await robots.revoke(robot.id)).map(({ id }) => id),
    [robot.id],
  )
  assert.equal((await robots.revoke('ci')).length, 1)
  assert.equal((await robots.revoke('ci')).length, 0)
  assert.equal(revocations(), 2)
  await assert.rejects(bearer(other), refused)
  assert.equal(session.proof, `robot ${robot.id}`)
})

test('a session names its identity for an hour, and ends with the password, token or generation it came from', async t => {
  const { chain, robots, basic, bearer, clock, replace } = await makeRig(t)
  const alice = await chain.exchange(await basic('alice', 'secret'))
  assert.equal(alice.seconds, 3600)
  assert.deepEqual((await bearer(alice.token)).identity, { name: 'alice', groups: ['staff'] })
  assert.deepEqual((await basic('anything', alice.token)).identity, { name: 'alice', groups: ['staff'] })
  const { robot, token } = await robots.create({
    name: 'ci',
    grants: parseGrants('pull:docker.io/a/b') ?? [],
    createdBy: 'test',
    expiresAtMs: clock.wallMs() + 60_000,
  })
  const machine = await chain.exchange(await bearer(token))
  assert.equal(machine.seconds, 60)
  assert.deepEqual((await bearer(machine.token)).identity.grants, robot.grants)
  await robots.revoke('ci')
  await assert.rejects(bearer(machine.token), refused)
  const nobody = await chain.exchange(provedAnonymous())
  assert.deepEqual((await bearer(nobody.token)).identity, { name: 'anonymous', groups: [] })

  await replace(`${AUTH}  generations: {alice: 1}\n`)
  await assert.rejects(bearer(alice.token), refused)
  const second = await chain.exchange(await basic('alice', 'secret'))
  assert.equal((await bearer(second.token)).identity.name, 'alice')
  await replace('auth: {generations: {alice: 1}}')
  await assert.rejects(bearer(second.token), refused)
  await replace(`${AUTH}  generations: {alice: 1}\n`)
  clock.advance(3_601_000)
  await assert.rejects(bearer(second.token), refused)
})

test('a session from an OIDC token ends when its issuer leaves the configuration, or accepts other tokens', async t => {
  const { chain, issuer, issued, clock, auth, bearer } = await makeRig(t)
  const session = await chain.exchange(await bearer(await issuer.sign(CLAIMS)))
  const terms = { auth: await auth(AUTH), issuers: new Map([[ISSUER, issued]]) }
  const [config] = terms.auth.issuers
  assert.ok(config !== undefined)
  const again = new Issuer({ config, clock, fetchDocument: issuer.fetch })
  chain.replace({ ...terms, issuers: new Map([[ISSUER, again]]) })
  assert.equal((await bearer(session.token)).identity.name, 'play:acme/app@refs/heads/main')
  const stricter = new Issuer({
    config: { ...config, requiredClaims: new Map([['owner', ['other']]]) },
    clock,
    fetchDocument: issuer.fetch,
  })
  chain.replace({ ...terms, issuers: new Map([[ISSUER, stricter]]) })
  await assert.rejects(bearer(session.token), refused)
  chain.replace({ ...terms, issuers: new Map() })
  await assert.rejects(bearer(session.token), refused)
})

test('refused credentials are named in logs by a user of the file, and never by another text of the client', async t => {
  const { chain } = await makeRig(t)
  const password = 'x'
  assert.equal(chain.triedName({ kind: 'basic', user: 'alice', password }), 'alice')
  assert.equal(chain.triedName({ kind: 'basic', user: 'ghp_canary', password }), 'an unknown user')
  assert.equal(chain.triedName({ kind: 'bearer', token: 'ghp_canary' }), 'a token')
})

test('a token that claims to be ours is refused unless our key signed it as we do', async t => {
  const { bearer, clock, sessions } = await makeRig(t)
  const session = { name: 'alice', groups: [], generation: 0, proof: undefined }
  const good = await sessions.sign({ ...session, untilMs: clock.wallMs() + 60_000 })
  const [header = '', payload = '', signature = ''] = good.token.split('.')
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const none = `${encode({ alg: 'none', typ: 'JWT' })}.${payload}.`
  const forged = await new SignJWT({ gen: 0 })
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuer('entrepot')
    .setAudience('entrepot')
    .setSubject('alice')
    .setIssuedAt(Math.floor(clock.wallMs() / 1000))
    .setExpirationTime(Math.floor(clock.wallMs() / 1000) + 60)
    .sign(Buffer.alloc(32, 8))
  const bad = [
    none,
    forged,
    `${header}.${payload}.`,
    `${header}.${payload}.${signature.slice(0, -2)}AA`,
    `${header}.${encode({ iss: 'entrepot', aud: 'entrepot', sub: 'root', gen: 0, exp: 9e9, iat: 0 })}.${signature}`,
    `${encode({ alg: 'HS512' })}.${payload}.${signature}`,
    `${encode({ alg: 'HS256', crit: ['x'] })}.${payload}.${signature}`,
  ]
  for (const token of bad) await assert.rejects(bearer(token), refused)
  assert.equal((await bearer(good.token)).identity.name, 'alice')
})

test('an OIDC token names its identity by its claims, as a bearer token and as a password', async t => {
  const { issuer, bearer, basic, chain } = await makeRig(t)
  const token = await issuer.sign(CLAIMS)
  const expected = { name: 'play:acme/app@refs/heads/main', groups: ['play:web', 'staff'] }
  const proved = await bearer(token)
  assert.deepEqual(proved.identity, expected)
  assert.deepEqual((await basic('github', token)).identity, expected)
  const session = await chain.exchange(proved)
  assert.ok(session.seconds <= 600)
  assert.deepEqual((await bearer(session.token)).identity, expected)
  assert.deepEqual(issuer.fetched, [`${ISSUER}/.well-known/openid-configuration`, `${ISSUER}/keys`])
})

test('an OIDC token is refused for each thing that is wrong with it', async t => {
  const { issuer, bearer, clock } = await makeRig(t)
  const nowSeconds = Math.floor(clock.wallMs() / 1000)
  const tokens = [
    await issuer.sign({ ...CLAIMS, aud: 'another' }),
    await issuer.sign({ ...CLAIMS, exp: nowSeconds - 60 }),
    await issuer.sign({ ...CLAIMS, nbf: nowSeconds + 600 }),
    await issuer.sign({ ...CLAIMS, owner: 'evil' }),
    await issuer.sign({ ...CLAIMS, owner: ['acme'] }),
    await issuer.sign({ ...CLAIMS, ref: undefined }),
    await issuer.sign({ ...CLAIMS, ref: '' }),
    await issuer.sign(CLAIMS, { kid: '../../etc/passwd' }),
  ]
  for (const token of tokens) {
    await assert.rejects(bearer(token), (error: Error) => {
      assert.ok(refused(error), error.message)
      assert.ok(!error.message.includes(token.slice(0, 20)))
      return true
    })
  }
})

test('nobody moves the borders of an identity by the name of a branch', async t => {
  const { issuer, bearer } = await makeRig(t)
  const names = []
  for (const ref of ['x@refs/heads/main', 'a b', '*', 'ü', '\ud800', 'a%40b'])
    names.push((await bearer(await issuer.sign({ ...CLAIMS, ref }))).identity.name)
  assert.deepEqual(names, [
    'play:acme/app@x%40refs/heads/main',
    'play:acme/app@a%20b',
    'play:acme/app@%2A',
    'play:acme/app@%C3%BC',
    'play:acme/app@%EF%BF%BD',
    'play:acme/app@a%2540b',
  ])
})

test('a new key of an issuer is found, and a key that nobody has heard of costs a fetch in a while', async t => {
  const { issuer, bearer, clock } = await makeRig(t)
  await bearer(await issuer.sign(CLAIMS))
  await issuer.rotate({ isPublished: true })
  clock.advance(31_000)
  assert.equal((await bearer(await issuer.sign(CLAIMS))).identity.groups[1], 'staff')
  const count = issuer.fetched.length
  await issuer.rotate({ isPublished: false })
  for (let round = 0; round < 20; round += 1) await assert.rejects(bearer(await issuer.sign(CLAIMS)), refused)
  assert.equal(issuer.fetched.length, count)
})

test('known keys outlast an outage of their issuer; without keys nobody can tell, and that is no 401', async t => {
  const { issuer, bearer, clock } = await makeRig(t)
  const keys = issuer.documents.get(`${ISSUER}/keys`)
  issuer.documents.delete(`${ISSUER}/keys`)
  const unavailable = (error: unknown): boolean => error instanceof OciError && error.code === 'UNAVAILABLE'
  await assert.rejects(bearer(await issuer.sign(CLAIMS)), unavailable)
  await assert.rejects(bearer(await issuer.sign(CLAIMS)), unavailable)
  assert.equal(issuer.fetched.length, 2, 'the second request does not ask again at once')
  issuer.documents.set(`${ISSUER}/keys`, keys)
  clock.advance(3000)
  await bearer(await issuer.sign(CLAIMS))
  issuer.documents.delete(`${ISSUER}/keys`)
  clock.advance(3_600_000)
  await bearer(await issuer.sign(CLAIMS))
  clock.advance(24 * 3_600_000)
  await assert.rejects(bearer(await issuer.sign(CLAIMS)), unavailable)
})

test('a discovery document of another issuer, or with keys at another host, is not believed', async t => {
  for (const document of [
    { issuer: 'https://evil.example.com', jwks_uri: `${ISSUER}/keys` },
    { issuer: ISSUER, jwks_uri: 'http://169.254.169.254/keys' },
    { issuer: ISSUER, jwks_uri: 'https://issuer.example.com:8443/keys' },
    { issuer: ISSUER, jwks_uri: 7 },
    [],
    null,
  ]) {
    const { issuer, bearer } = await makeRig(t)
    issuer.documents.set(`${ISSUER}/.well-known/openid-configuration`, document)
    await assert.rejects(bearer(await issuer.sign(CLAIMS)), { code: 'UNAVAILABLE' })
    assert.equal(issuer.fetched.length, 1)
  }
})

test('a session that a client certificate began ends when another CA is believed', async t => {
  const { chain, bearer } = await makeRig(t)
  const identity = { name: 'cert:build-7', groups: [] }
  chain.trustCertificatesOf('one CA')
  const { token } = await chain.exchange(chain.certified(identity))
  assert.equal((await bearer(token)).identity.name, 'cert:build-7')
  chain.trustCertificatesOf('another CA')
  await assert.rejects(bearer(token), refused)
  const { token: next } = await chain.exchange(chain.certified(identity))
  assert.equal((await bearer(next)).identity.name, 'cert:build-7')
  chain.trustCertificatesOf(undefined)
  await assert.rejects(bearer(next), refused)
})
