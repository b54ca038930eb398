import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { Agent, type AgentOptions, createServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { hashSync } from 'bcryptjs'
import type { Digest } from '../../src/oci/digest.ts'
import { type Reply, readReply, startMirror, type TestMirror } from '../support/mirror.ts'
import { type PlayedIssuer, playIssuer } from '../support/oidc-issuer.ts'
import { sectionsOf } from '../support/sections.ts'
import { certificatePath, type FakeUpstream, readCertificate, startUpstream } from '../support/upstream.ts'
import { createGate } from '../support/upstream-behaviour.ts'
import { errorCodes, linesOf, stored, until } from '../support/waiting.ts'

const CA = readCertificate('ca.pem')
const CERTIFICATE = { cert: readCertificate('client.pem'), key: readCertificate('client.key.pem') }

/** Serves the documents of a played issuer over TLS, as a real one does. */
async function serveIssuer(t: TestContext): Promise<PlayedIssuer> {
  const server = createServer({ cert: readCertificate('server.pem'), key: readCertificate('server.key.pem') })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const issuer = await playIssuer(url, () => Date.now())
  server.on('request', (asked, response) => {
    const document = issuer.documents.get(`${url}${asked.url}`)
    response.statusCode = document === undefined ? 404 : 200
    response.end(JSON.stringify(document ?? {}))
  })
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  return issuer
}

const RULES = `
rules:
- {who: [alice, 'play:acme/*@refs/heads/main', 'cert:client'], names: team/private, may: pull}
- {who: everyone, names: team/private, may_not: [pull, push], reason: ask the team}
`

function authText(issuer: string): string {
  return `
auth:
  htpasswd_file: users
  issuers:
  - {name: play, issuer: '${issuer}', audience: entrepot, identity: '{repository}@{ref}', ca_file: '${certificatePath('ca.pem')}', allow_addresses: [127.0.0.0/8]}
`
}

interface Rig {
  readonly mirror: TestMirror
  readonly upstream: FakeUpstream
  readonly issuer: PlayedIssuer
  readonly directory: string
}

async function makeRig(t: TestContext, workers: number, rules = RULES): Promise<Rig> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-access-'))
  await writeFile(join(directory, 'users'), `alice:${hashSync('secret', 4)}\nbob:${hashSync('hidden', 4)}\n`)
  const issuer = await serveIssuer(t)
  const upstream = await startUpstream()
  const mirror = await startMirror({
    upstream: upstream.host,
    config: {
      workers,
      sections: sectionsOf(`${authText(issuer.url)}${rules}`, directory),
      tls: {
        listen: [],
        certificate: {
          kind: 'files',
          certFile: certificatePath('server.pem'),
          keyFile: certificatePath('server.key.pem'),
        },
        clients: { caFile: certificatePath('ca.pem'), isRequired: false },
      },
    },
  })
  t.after(async () => {
    await mirror[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })
  return { mirror, upstream, issuer, directory }
}

interface Asking {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly options?: AgentOptions
}

/** Sends one request on a connection of its own, so that any of the threads may get it. */
async function ask(mirror: Pick<TestMirror, 'daemon'>, path: string, asking: Asking = {}): Promise<Reply> {
  const agent = new Agent({ ca: CA, keepAlive: false, ...asking.options })
  try {
    return await askBy(agent, mirror, path, asking)
  } finally {
    agent.destroy()
  }
}

async function askBy(
  agent: Agent,
  { daemon }: Pick<TestMirror, 'daemon'>,
  path: string,
  { method = 'GET', headers = {}, body }: Asking,
): Promise<Reply> {
  const asked = request(`https://${daemon.addresses.client}${path}`, { agent, method, headers })
  asked.end(body)
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  return await readReply(response)
}

const basic = (user: string, password: string): Asking => ({
  headers: { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` },
})
const bearer = (token: string): Asking => ({ headers: { authorization: `Bearer ${token}` } })

/** Exchanges credentials for a token of the mirror. */
async function tokenFor(mirror: TestMirror, asking: Asking, query = ''): Promise<string> {
  const { status, body } = await ask(mirror, `/token?service=entrepot${query}`, asking)
  assert.equal(status, 200, body.toString())
  return String((JSON.parse(body.toString()) as { token: unknown }).token)
}

interface Sender {
  readonly name: string
  readonly asking: Asking
  /** Statuses of a public and of a private pull. */
  readonly expected: readonly [number, number]
  readonly isSlowed?: true
}

async function sendersOf({ mirror, issuer }: Rig): Promise<readonly Sender[]> {
  const workload = await issuer.sign({ repository: 'acme/app', ref: 'refs/heads/main' })
  const branch = await issuer.sign({ repository: 'acme/app', ref: 'refs/heads/else' })
  return [
    { name: 'anonymous', asking: {}, expected: [200, 401] },
    { name: 'a wrong password', asking: basic('alice', 'wrong'), expected: [401, 401], isSlowed: true },
    { name: 'a wrong token', asking: bearer('entrepot_wrong'), expected: [401, 401] },
    { name: 'a login of another registry', asking: basic('hubuser', 'dckr_pat'), expected: [200, 401] },
    { name: 'alice', asking: basic('alice', 'secret'), expected: [200, 200] },
    { name: 'bob', asking: basic('bob', 'hidden'), expected: [200, 403] },
    {
      name: 'alice by a token',
      asking: bearer(await tokenFor(mirror, basic('alice', 'secret'))),
      expected: [200, 200],
    },
    { name: 'anonymous by a token', asking: bearer(await tokenFor(mirror, {})), expected: [200, 401] },
    { name: 'OIDC', asking: bearer(workload), expected: [200, 200] },
    { name: 'OIDC as a password', asking: basic('oidc', workload), expected: [200, 200] },
    { name: 'OIDC of another branch', asking: bearer(branch), expected: [200, 403] },
    { name: 'a certificate', asking: { options: CERTIFICATE }, expected: [200, 200] },
  ]
}

interface Target {
  readonly path: string
  readonly asking?: Asking
}

function targetsOf(repository: string, { manifest, layer }: Image): readonly Target[] {
  const at = (rest: string): string => `/v2/${repository}/${rest}`
  return [
    { path: at('manifests/v1') },
    { path: at(`manifests/${manifest}`) },
    { path: at('manifests/v1'), asking: { method: 'HEAD' } },
    { path: at(`blobs/${layer}`) },
    { path: at(`blobs/${layer}`), asking: { method: 'HEAD' } },
    { path: at(`blobs/${layer}`), asking: { headers: { range: 'bytes=10-19' } } },
    { path: at('tags/list') },
    { path: at(`referrers/${manifest}`) },
    { path: `${at('manifests/v1')}?ns=docker.io` },
  ]
}

interface Image {
  readonly manifest: Digest
  readonly layer: Digest
  readonly bytes: Buffer
}

function putImage(upstream: FakeUpstream, repository: string): Image {
  const bytes = randomBytes(50_000)
  const image = upstream.putImage({ layers: [bytes] })
  upstream.tag(repository, 'v1', image.manifest)
  const [layer = image.config] = image.layers
  return { manifest: image.manifest, layer, bytes }
}

/**
 * Asks for all targets on one connection, which any of the threads may get, and checks their statuses and
 * everything that a refusal must not show.
 */
async function check(
  { mirror, upstream }: Rig,
  sender: Sender,
  { repository, image, expected }: { repository: string; image: Image; expected: number },
): Promise<void> {
  const asked = upstream.requests.length
  const agent = new Agent({ ca: CA, keepAlive: true, maxSockets: 1, ...sender.asking.options })
  try {
    for (const target of targetsOf(repository, image)) {
      const headers = { ...sender.asking.headers, ...target.asking?.headers }
      const reply = await askBy(agent, mirror, target.path, { ...target.asking, headers })
      // Wrong passwords are slowed down after a few.
      if (sender.isSlowed === true && reply.status === 503) continue
      const where = `${sender.name} ${target.asking?.method ?? 'GET'} ${target.path}`
      const allowed = headers['range'] === undefined ? 200 : 206
      assert.equal(reply.status, expected === 200 ? allowed : expected, where)
      if (expected !== 200) checkRefusal(reply, image, where)
    }
  } finally {
    agent.destroy()
  }
  if (expected !== 200) assert.equal(upstream.requests.length, asked, `${sender.name} reaches no registry`)
}

function checkRefusal({ status, headers, body }: Reply, image: Image, where: string): void {
  for (const field of ['docker-content-digest', 'cache-status', 'etag', 'link'])
    assert.equal(headers[field], undefined, where)
  assert.equal(headers['www-authenticate'] !== undefined, status === 401, where)
  assert.ok(!body.includes(image.bytes.subarray(0, 16)) && !body.includes('sha256:'), where)
}

for (const workers of [1, 2]) {
  test(`I29 the matrix of senders and targets, cold and warm, with ${workers} threads`, async t => {
    const rig = await makeRig(t, workers)
    const { mirror, upstream } = rig
    const pub = { repository: 'team/public', image: putImage(upstream, 'team/public') }
    const own = { repository: 'team/private', image: putImage(upstream, 'team/private') }
    const senders = await sendersOf(rig)
    const refused = senders.filter(({ expected }) => expected[1] !== 200)
    for (const sender of refused) await check(rig, sender, { ...own, expected: sender.expected[1] })
    for (const sender of senders) {
      await check(rig, sender, { ...pub, expected: sender.expected[0] })
      await check(rig, sender, { ...own, expected: sender.expected[1] })
    }
    await stored(mirror, own.image.layer)
    for (let round = 0; round < 3; round += 1)
      for (const sender of senders) await check(rig, sender, { ...own, expected: sender.expected[1] })
    const metrics = (await mirror.admin('GET', '/metrics')).body.toString()
    assert.match(metrics, /^entrepot_foreign_credentials_total [1-9]/m)
    const text = JSON.stringify(mirror.log)
    for (const secret of ['secret', 'hidden', 'dckr_pat', 'entrepot_wrong', 'eyJ', 'YWxpY2U6'])
      assert.ok(!text.includes(`"${secret}`) && !text.includes(`${secret}"`), `${secret} is in the log`)
    assert.ok(!text.includes('eyJ') && !metrics.includes('eyJ'))
    const seen = new Set(linesOf(mirror, 'request').map(({ identity }) => identity))
    for (const name of ['anonymous', 'alice', 'bob', 'play:acme/app@refs/heads/main', 'cert:client'])
      assert.ok(workers > 1 || seen.has(name), `${name} is in the access log`)
  })

  test(`I29 nobody joins a running fill without the right, with ${workers} threads`, async t => {
    const rig = await makeRig(t, workers)
    const { mirror, upstream } = rig
    const { layer, bytes } = putImage(upstream, 'team/private')
    const gate = createGate()
    upstream.on(
      { method: 'GET', path: `/v2/team/private/blobs/${layer}` },
      { pause: { at: 10, until: gate.opened } },
    )
    const path = `/v2/team/private/blobs/${layer}`
    const running = ask(mirror, path, basic('alice', 'secret'))
    await until(() => upstream.count({ method: 'GET', path }) === 1, 'the fill runs')
    for (const sender of await sendersOf(rig)) {
      if (sender.expected[1] === 200) continue
      const { status } = await ask(mirror, path, sender.asking)
      if (sender.isSlowed !== true) assert.equal(status, sender.expected[1], sender.name)
      else assert.ok(status === 401 || status === 503)
    }
    gate.open()
    assert.ok((await running).body.equals(bytes))
  })
}

test('a private name is refused alike whether it exists or not', async t => {
  const { mirror, upstream } = await makeRig(t, 1)
  putImage(upstream, 'team/private')
  const shown = async (reference: string): Promise<unknown> => {
    const { status, headers, body } = await ask(mirror, `/v2/team/private/manifests/${reference}`)
    const { date: _date, 'x-request-id': _id, ...rest } = headers
    return { status, rest, body: body.toString() }
  }
  assert.deepEqual(await shown('v1'), await shown('v2'))
})

test('the challenge names the token endpoint and what is missing, and the token lets its sender in', async t => {
  const { mirror } = await makeRig(t, 2)
  const host = mirror.daemon.addresses.client
  const reply = await ask(mirror, '/v2/team/private/manifests/v1')
  assert.deepEqual(errorCodes(reply), ['UNAUTHORIZED'])
  assert.match(reply.body.toString(), /ask the team/)
  assert.equal(
    reply.headers['www-authenticate'],
    `Bearer realm="https://${host}/token",service="entrepot",scope="repository:team/private:pull"`,
  )
  const nobody = bearer(await tokenFor(mirror, {}))
  const again = await ask(mirror, '/v2/team/private/manifests/v1', nobody)
  assert.match(String(again.headers['www-authenticate']), /error="insufficient_scope"/)
  const wrong = await ask(mirror, '/v2/team/private/manifests/v1', bearer('entrepot_x'))
  assert.match(String(wrong.headers['www-authenticate']), /error="invalid_token"/)
  const denied = await ask(mirror, '/v2/team/private/manifests/v1', basic('bob', 'hidden'))
  assert.deepEqual([denied.status, errorCodes(denied)], [403, ['DENIED']])
  assert.match(denied.body.toString(), /bob may not pull docker\.io\/team\/private: ask the team/)
})

test('GET /v2/ asks for a login only where that gives somebody more', async t => {
  const { mirror } = await makeRig(t, 1)
  assert.equal((await ask(mirror, '/v2/')).status, 401)
  assert.equal((await ask(mirror, '/v2/', basic('alice', 'secret'))).status, 200)
  assert.equal((await ask(mirror, '/v2/', bearer(await tokenFor(mirror, {})))).status, 401)
  const { mirror: open } = await makeRig(t, 1, "rules: [{who: everyone, names: '**:latest', may_not: pull}]")
  assert.equal((await ask(open, '/v2/')).status, 200)
  const { mirror: gentle } = await makeRig(t, 1, RULES.replace('rules:', '  challenge: needed\nrules:'))
  assert.equal((await ask(gentle, '/v2/')).status, 200)
  assert.equal((await ask(gentle, '/v2/', basic('alice', 'wrong'))).status, 401)
})

/** A request to the token endpoint, and the status of its answer. */
const TOKEN_REQUESTS: readonly (readonly [string, string, Asking, number])[] = [
  ['no credentials', '', {}, 200],
  ['a password', '?scope=repository:team/private:pull,push', basic('alice', 'secret'), 200],
  ['a wrong password', '', basic('alice', 'Secret'), 401],
  ['an unknown user who logs in', '?account=x&client_id=docker&offline_token=true', basic('x', 'y'), 401],
  ['an unknown user at a public name', '?scope=repository:team/public:pull', basic('x', 'y'), 200],
  ['an unknown user at a private name', '?scope=repository:team/private:pull', basic('x', 'y'), 401],
  ['an unknown user who would push', '?scope=repository:team/public:pull,push', basic('x', 'y'), 401],
  ['an unknown user at an odd scope', '?scope=registry:catalog:*', basic('x', 'y'), 401],
  ['an OAuth2 form', '', form('grant_type=password&username=alice&password=secret&scope=x'), 200],
  ['a wrong OAuth2 form', '', form('grant_type=password&username=alice&password=Secret'), 401],
  ['a refresh token of another registry', '', form('grant_type=refresh_token&refresh_token=abc'), 401],
  ['another grant', '', form('grant_type=client_credentials'), 400],
  ['JSON', '', { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } }, 400],
  ['a form of 100 KB', '', form(`grant_type=password&password=${'x'.repeat(100_000)}`), 400],
]

function form(body: string): Asking {
  return { method: 'POST', body, headers: { 'content-type': 'application/x-www-form-urlencoded' } }
}

test('the token endpoint answers each form of a request as its clients expect', async t => {
  const { mirror, upstream } = await makeRig(t, 2)
  for (const [what, query, asking, status] of TOKEN_REQUESTS) {
    const reply = await ask(mirror, `/token${query}`, asking)
    assert.equal(reply.status, status, `${what}: ${reply.body.toString()}`)
    if (status !== 200) continue
    const body = JSON.parse(reply.body.toString()) as Record<string, unknown>
    assert.equal(body['token'], body['access_token'])
    assert.equal(body['expires_in'], 3600)
    assert.equal(reply.headers['cache-control'], 'no-store')
  }
  assert.equal(upstream.requests.length, 0)
})

test('a refused login is in the audit log, with the user of the file and no other text of the client', async t => {
  const { mirror } = await makeRig(t, 1)
  const secret = `entrepot_${randomBytes(32).toString('base64url')}`
  for (const credentials of [basic('alice', 'Secret'), basic('ghp_canary', 'x'), basic(secret, secret)])
    assert.equal((await ask(mirror, '/token', credentials)).status, 401)
  const refused = linesOf(mirror, 'audit').filter(({ action }) => action === 'login-refused')
  assert.deepEqual(
    refused.map(({ who }) => who),
    ['alice', 'an unknown user', 'an unknown user'],
  )
  assert.doesNotMatch(JSON.stringify(mirror.log), new RegExp(`ghp_canary|${secret}`))
})

test('a reload changes rules and users for the next request, and a broken one changes nothing', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-access-'))
  const upstream = await startUpstream()
  const file = join(directory, 'upstreams.yaml')
  const entry = `upstreams:\n- {namespace: docker.io, host: '${upstream.host}', tls: false}\n`
  const write = async (rest: string): Promise<void> => await writeFile(file, `${entry}${rest}`)
  const users = async (password: string): Promise<void> =>
    await writeFile(join(directory, 'users'), `alice:${hashSync(password, 4)}\n`)
  await users('one')
  const text = `auth: {htpasswd_file: users}${RULES}`
  await write(text)
  const mirror = await startMirror({
    upstream: upstream.host,
    config: { workers: 2, upstreamConfigFile: file, sections: sectionsOf(text, directory) },
  })
  t.after(async () => {
    await mirror[Symbol.asyncDispose]()
    await upstream[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })
  putImage(upstream, 'team/private')
  const path = '/v2/team/private/manifests/v1'
  const statuses = async (asking: Asking): Promise<readonly number[]> => {
    const all = Array.from(
      { length: 6 },
      async () => (await mirror.get(path, { ...asking.headers, connection: 'close' })).status,
    )
    return [...new Set(await Promise.all(all))]
  }
  assert.deepEqual(await statuses(basic('alice', 'one')), [200])
  await users('two')
  await until(async () => (await statuses(basic('alice', 'one'))).includes(401), 'the new file is in force')
  assert.deepEqual(await statuses(basic('alice', 'two')), [200])
  for (const broken of [`${text}- {who: '*', may: pull}\n`, 'auth: {htpasswd_file: none}', 'rules: 7']) {
    await write(broken)
    await mirror.daemon.reload()
    assert.deepEqual(await statuses(basic('alice', 'two')), [200], broken)
    assert.deepEqual(await statuses({}), [401], broken)
  }
  await write(`auth: {htpasswd_file: users}\nrules: [{who: everyone, names: team/other, may_not: pull}]`)
  await mirror.daemon.reload()
  assert.deepEqual(await statuses({}), [200])
})
