import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { hashSync } from 'bcryptjs'
import { Secret } from '../../src/config/secret.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { openAdmin } from '../support/admin-request.ts'
import { type Reply, readReply, startMirror, type TestMirror } from '../support/mirror.ts'
import { sectionsOf } from '../support/sections.ts'
import { startUpstream } from '../support/upstream.ts'
import { linesOf } from '../support/waiting.ts'

const RULES = `
auth: {htpasswd_file: users}
hosted: [{names: 'own.example.com/**'}]
rules:
- {who: alice, names: 'own.example.com/**', may: [pull, push, delete]}
- {who: everyone, names: 'own.example.com/**', may_not: [pull, push, delete], reason: ask the team}
- {who: carol, may: admin}
`
const CONFIG = Buffer.from('{}')
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(CONFIG), size: 2 },
    layers: [],
  }),
)
const PASSWORDS = { alice: 'wonderland-7', bob: 'builder-9', carol: 'christmas-5' } as const

interface Rig {
  readonly mirror: TestMirror
  readonly directory: string
  /** Writes the rest of the upstream file, and reloads it. */
  readonly reload: (rest: string) => Promise<void>
}

async function makeRig(t: TestContext, workers = 1): Promise<Rig> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-audit-'))
  const users = Object.entries(PASSWORDS).map(([user, password]) => `${user}:${hashSync(password, 4)}\n`)
  await writeFile(join(directory, 'users'), users.join(''))
  const sections = sectionsOf(RULES, directory)
  const upstream = await startUpstream()
  upstream.tag('team/public', 'v1', upstream.putImage({ layers: [Buffer.alloc(3000)] }).manifest)
  const file = join(directory, 'upstreams.yaml')
  const entry = `upstreams:\n- {namespace: docker.io, host: '${upstream.host}', tls: false}\n`
  await writeFile(file, `${entry}${RULES}`)
  const mirror = await startMirror({
    upstream: upstream.host,
    config: {
      workers,
      upstreamConfigFile: file,
      sections,
      adminToken: new Secret('token-of-administrators'),
    },
  })
  t.after(async () => {
    await mirror[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })
  const reload = async (rest: string): Promise<void> => {
    await writeFile(file, `${entry}${rest}`)
    await mirror.daemon.reload()
  }
  return { mirror, directory, reload }
}

/** The audit lines so far, without what differs from run to run. */
function auditOf(mirror: TestMirror): readonly Record<string, unknown>[] {
  return linesOf(mirror, 'audit').map(({ level, time, msg, ...line }) => {
    assert.deepEqual([level, msg], ['info', 'audit'])
    assert.ok(!Number.isNaN(Date.parse(String(time))))
    return line
  })
}

interface Asking {
  readonly as?: readonly [string, string]
  readonly body?: Buffer
}

async function ask(mirror: TestMirror, method: string, path: string, asking: Asking = {}): Promise<Reply> {
  const { as, body } = asking
  const headers = {
    ...(as === undefined ? {} : { authorization: `Basic ${btoa(as.join(':'))}` }),
    ...(body === undefined ? {} : { 'content-type': OCI_MANIFEST, 'content-length': String(body.length) }),
  }
  const options = { method, headers, agent: false }
  const asked = request(`http://${mirror.daemon.addresses.client}${path}`, options)
  asked.end(body)
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  return await readReply(response)
}

const ALICE = ['alice', PASSWORDS.alice] as const
const FROM = { from: '127.0.0.1' }
const WRONG = 'the password is wrong'

for (const workers of [1, 2]) {
  test(`a login is one line, by the token endpoint or with a request, with ${workers} threads`, async t => {
    const { mirror } = await makeRig(t, workers)
    assert.equal((await ask(mirror, 'GET', '/token', { as: ALICE })).status, 200)
    assert.equal((await ask(mirror, 'GET', '/token', { as: ['alice', 'no-1'] })).status, 401)
    assert.equal((await ask(mirror, 'GET', '/token', { as: ['mallory', 'no-2'] })).status, 401)
    assert.equal((await ask(mirror, 'GET', '/token')).status, 200)
    const pull = '/v2/team/public/manifests/v1'
    assert.equal((await ask(mirror, 'GET', pull, { as: ['bob', 'no-3'] })).status, 401)
    assert.equal((await ask(mirror, 'GET', pull, { as: ['bob', PASSWORDS.bob] })).status, 200)
    assert.equal((await ask(mirror, 'GET', pull)).status, 200)
    assert.deepEqual(auditOf(mirror), [
      { action: 'login', who: 'alice', ...FROM },
      { action: 'login-refused', who: 'alice', ...FROM, reason: WRONG },
      {
        action: 'login-refused',
        who: 'an unknown user',
        ...FROM,
        reason: 'this user or token is not known here',
      },
      { action: 'login-refused', who: 'bob', ...FROM, reason: WRONG },
      { action: 'login', who: 'bob', ...FROM },
    ])
    for (const secret of [...Object.values(PASSWORDS), 'no-1', 'no-2', 'no-3'])
      assert.ok(!JSON.stringify(mirror.log).includes(secret), `${secret} is in the log`)
  })
}

test('the use of a token of the mirror is no second login', async t => {
  const { mirror } = await makeRig(t)
  const { body } = await ask(mirror, 'GET', '/token', { as: ALICE })
  const { token } = JSON.parse(body.toString()) as { readonly token: string }
  const path = '/v2/own.example.com/app/tags/list'
  assert.equal((await mirror.get(path, { authorization: `Bearer ${token}` })).status, 404)
  assert.equal((await ask(mirror, 'GET', path, { as: ['alice', token] })).status, 404)
  assert.deepEqual(auditOf(mirror), [{ action: 'login', who: 'alice', ...FROM }])
})

test('a refusal by the rules is one line, which names the row and its reason', async t => {
  const { mirror } = await makeRig(t)
  const pull = '/v2/own.example.com/app/manifests/v1'
  assert.equal((await ask(mirror, 'GET', pull)).status, 401)
  assert.equal((await ask(mirror, 'GET', pull, { as: ['bob', PASSWORDS.bob] })).status, 403)
  const put = { as: ['bob', PASSWORDS.bob], body: MANIFEST } as const
  assert.equal((await ask(mirror, 'PUT', pull, put)).status, 403)
  const row = { ...FROM, row: 'line 6', reason: 'ask the team' }
  assert.deepEqual(
    auditOf(mirror).filter(({ action }) => action !== 'login'),
    [
      { action: 'refused', who: 'anonymous', what: 'pull own.example.com/app:v1', ...row },
      { action: 'refused', who: 'bob', what: 'pull own.example.com/app:v1', ...row },
      { action: 'refused', who: 'bob', what: 'push own.example.com/app:v1', ...row },
    ],
  )
})

test('a push is one line for its manifest, and each deletion is one line, unless it failed', async t => {
  const { mirror } = await makeRig(t)
  const at = (rest: string): string => `/v2/own.example.com/app/${rest}`
  const [config, manifest] = [digestOf(CONFIG), digestOf(MANIFEST)]
  const send = async (method: string, rest: string, body?: Buffer): Promise<number> =>
    (await ask(mirror, method, at(rest), { as: ALICE, ...(body === undefined ? {} : { body }) })).status
  assert.equal(await send('PUT', 'manifests/v1', MANIFEST), 400)
  assert.equal(await send('POST', `blobs/uploads/?digest=${config}`, CONFIG), 201)
  assert.equal(await send('PUT', 'manifests/v1', MANIFEST), 201)
  assert.equal(await send('PUT', `manifests/${manifest}?tag=v2&tag=v3`, MANIFEST), 201)
  assert.equal(await send('DELETE', 'manifests/v1'), 202)
  assert.equal(await send('DELETE', 'manifests/v1'), 404)
  assert.equal(await send('DELETE', `manifests/${manifest}`), 202)
  assert.equal(await send('DELETE', `blobs/${config}`), 202)
  const name = 'own.example.com/app'
  const row = { who: 'alice', ...FROM, row: 'line 5' }
  assert.deepEqual(
    auditOf(mirror).filter(({ action }) => action !== 'login'),
    [
      { action: 'push', what: `manifest ${name}:v1@${manifest}`, ...row },
      { action: 'push', what: `manifest ${name}:v2,v3@${manifest}`, ...row },
      { action: 'delete', what: `tag ${name}:v1`, ...row },
      { action: 'delete', what: `manifest ${name}@${manifest}`, ...row },
      { action: 'delete', what: `blob ${name}@${config}`, ...row },
    ],
  )
})

test('a reload is one line if it changes rules or identities, and none otherwise', async t => {
  const { mirror, directory, reload } = await makeRig(t)
  await reload(`# A comment moves the rows.\n${RULES}`)
  await reload(`${RULES}- {who: '*', may: pull}\n`)
  assert.deepEqual(auditOf(mirror), [])
  await reload(`${RULES}- {who: bob, may_not: pull}\n`)
  await writeFile(join(directory, 'users'), `alice:${hashSync(PASSWORDS.alice, 4)}\n`)
  await mirror.daemon.reload()
  await reload(`auth: {htpasswd_file: users, challenge: always, groups: {staff: [alice]}}\n`)
  const file = join(directory, 'upstreams.yaml')
  const lines = auditOf(mirror)
  assert.ok(lines.every(({ action, who }) => action === 'rules' && who === 'administrator'))
  assert.deepEqual(
    lines.map(({ what }) => what),
    [`rules in ${file}`, `users in ${file}`, `rules, groups, challenge in ${file}`],
  )
})

test('each change by an administrator is one line, such as a robot token created and revoked', async t => {
  const { mirror } = await makeRig(t)
  const admin = async (method: string, path: string, token: string): Promise<{ readonly text: string }> =>
    await openAdmin(mirror, { method, path, token })
  const carol = await ask(mirror, 'GET', '/token', { as: ['carol', PASSWORDS.carol] })
  const { token } = JSON.parse(carol.body.toString()) as { readonly token: string }
  const bob = await ask(mirror, 'GET', '/token', { as: ['bob', PASSWORDS.bob] })
  const other = (JSON.parse(bob.body.toString()) as { readonly token: string }).token
  const create = '/_admin/v1/tokens?for=ci&may=push:own.example.com/app'
  const { text } = await admin('POST', create, 'token-of-administrators')
  const created = JSON.parse(text) as { readonly id: string; readonly token: string }
  await admin('GET', '/_admin/v1/tokens', token)
  const revoke = `/_admin/v1/tokens?token=${created.id}`
  await admin('DELETE', revoke, other)
  await admin('DELETE', revoke, 'a-wrong-token')
  await admin('DELETE', revoke, token)
  const what = `DELETE ${revoke}`
  const [denied, unknown, ...changes] = auditOf(mirror)
    .filter(({ action }) => action !== 'login')
    .toSorted((a, b) => String(b['action']).localeCompare(String(a['action'])))
  const reason = 'bob may not administer this mirror'
  assert.deepEqual(denied, { action: 'refused', who: 'bob', what, ...FROM, row: 'default', reason })
  const { reason: why, ...stranger } = unknown ?? {}
  assert.deepEqual(stranger, { action: 'refused', who: 'anonymous', what, ...FROM, row: 'default' })
  assert.match(String(why), /administration needs the token/)
  assert.deepEqual(changes, [
    { action: 'admin', who: 'administrator', what: `POST ${create}`, ...FROM },
    { action: 'admin', who: 'carol', what, ...FROM, row: 'line 7' },
  ])
  assert.ok(!JSON.stringify(mirror.log).includes(created.token), 'the secret of a token is not logged')
})
