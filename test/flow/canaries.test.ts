import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Secret } from '../../src/config/secret.ts'
import { runCommandLine } from '../cli/rig.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { type Reply, startMirror, type TestMirror, upstreamEntry } from '../support/mirror.ts'
import { RawClient } from '../support/raw-client.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import type { Behaviour, ReceivedRequest } from '../support/upstream-behaviour.ts'
import type { PutImage } from '../support/upstream-content.ts'
import { stored } from '../support/waiting.ts'

/** A secret that is easy to find again, in every spelling in which it might leave. */
interface Canary {
  readonly text: string
  readonly spellings: readonly string[]
}

function canary(name: string, wrap: (text: string) => readonly string[] = () => []): Canary {
  const text = `canary-${name}-${randomBytes(9).toString('hex')}`
  const base64 = (of: string): string => Buffer.from(of).toString('base64').replace(/=+$/, '')
  return { text, spellings: [text, base64(text), ...wrap(text).map(base64)] }
}

const PASSWORD = canary('password', text => [`robot:${text}`])
const FILE_PASSWORD = canary('file-password', text => [`robot:${text}`])
const IDENTITY = canary('identity')
const PRESIGNED = canary('presigned')
const CLIENT = {
  authorization: canary('client-authorization'),
  cookie: canary('client-cookie'),
  proxy: canary('client-proxy'),
  header: canary('client-header'),
  query: canary('client-query'),
  userinfo: canary('client-userinfo'),
}

/** The images of one upstream, and what is asked of it. */
interface Post {
  readonly namespace: string
  readonly upstream: FakeUpstream
  readonly image: PutImage
  /** What this upstream, and nobody else, may see. */
  readonly secret: Canary | undefined
}

interface Stage {
  readonly posts: readonly Post[]
  readonly cdn: FakeUpstream
  readonly thief: FakeUpstream
  readonly mirror: TestMirror
  readonly clock: FakeClock
  /** Everything that clients were told. */
  readonly told: string[]
}

async function setStage(t: TestContext): Promise<Stage> {
  const stack = new AsyncDisposableStack()
  t.after(async () => await stack.disposeAsync())
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-canaries-'))
  stack.defer(async () => await rm(directory, { recursive: true, force: true }))
  const cdn = stack.use(await startUpstream())
  const thief = stack.use(await startUpstream({ auth: { kind: 'bearer' } }))
  const basic = { kind: 'basic', username: 'robot', password: PASSWORD.text } as const
  const bearer = { kind: 'bearer', username: 'robot', password: FILE_PASSWORD.text } as const
  const identity = { kind: 'bearer', refreshToken: IDENTITY.text } as const
  const stolen = { kind: 'bearer', realm: `${thief.origin}/token` } as const
  const posts: Post[] = []
  for (const [namespace, auth, secret] of [
    ['docker.io', basic, PASSWORD],
    ['file.example.test', bearer, FILE_PASSWORD],
    ['identity.example.test', identity, IDENTITY],
    ['stolen.example.test', stolen, PASSWORD],
    ['anonymous.example.test', { kind: 'bearer' }, undefined],
  ] as const) {
    const upstream = stack.use(await startUpstream({ auth }))
    const image = upstream.putImage({ config: { namespace }, layers: [randomBytes(3000)] })
    for (const digest of [image.config, ...image.layers]) cdn.putBlob(upstream.blobs.get(digest) ?? '')
    upstream.tag('team/app', 'v1', image.manifest)
    // Layers are elsewhere, behind a URL that is as good as a password.
    const [layer = image.config] = image.layers
    upstream.on(
      { path: new RegExp(layer) },
      { redirectTo: `${cdn.origin}/v2/team/app/blobs/${layer}?X-Amz-Signature=${PRESIGNED.text}` },
    )
    posts.push({ namespace, upstream, image, secret })
  }
  const passwordFile = join(directory, 'password')
  await writeFile(passwordFile, `${FILE_PASSWORD.text}\n`)
  const dockerConfig = join(directory, 'config.json')
  const identityHost = posts[2]?.upstream.host ?? ''
  await writeFile(
    dockerConfig,
    JSON.stringify({ auths: { [identityHost]: { auth: 'eDp5', identitytoken: IDENTITY.text } } }),
  )
  const clock = FakeClock.skipDelays(2000)
  const password = { kind: 'password', username: 'robot', password: new Secret(PASSWORD.text) } as const
  const entries = [
    password,
    { kind: 'password-file', username: 'robot', passwordFile } as const,
    { kind: 'docker-config', file: dockerConfig } as const,
    password,
    undefined,
  ].map((credentials, index) =>
    upstreamEntry(posts[index]?.namespace ?? '', posts[index]?.upstream.host ?? '', { credentials }),
  )
  const mirror = stack.use(
    await startMirror({
      upstream: '127.0.0.1:9',
      config: { upstreams: entries },
      overrides: {
        clock,
        upstream: { resolve: async () => ['127.0.0.1'], timings: { firstByteMs: 1500, retryPauseMs: 1 } },
      },
    }),
  )
  return { posts, cdn, thief, mirror, clock, told: [] }
}

const CLIENT_HEADERS = {
  Authorization: `Bearer ${CLIENT.authorization.text}`,
  Cookie: `session=${CLIENT.cookie.text}`,
  'Proxy-Authorization': `Basic ${CLIENT.proxy.text}`,
  'X-Secret': CLIENT.header.text,
}

/** Asks for everything that can be asked for of one upstream, and notes what is told. */
async function askAll({ mirror, told }: Stage, { namespace, image }: Post): Promise<readonly Reply[]> {
  const name = `/v2/${namespace}/team/app`
  const query = `?token=${CLIENT.query.text}`
  const replies: Reply[] = []
  for (const path of [
    `${name}/manifests/v1${query}`,
    `${name}/manifests/${image.manifest}`,
    ...[image.config, ...image.layers].map(digest => `${name}/blobs/${digest}${query}`),
    `${name}/blobs/sha256:${'1'.repeat(64)}`,
    `${name}/tags/list${query}`,
    `${name}/referrers/${image.manifest}${query}`,
  ]) {
    for (const verb of ['head', 'get'] as const) {
      const reply = await mirror[verb](path, CLIENT_HEADERS)
      replies.push(reply)
      told.push(JSON.stringify(reply.headers), reply.body.toString('latin1'))
    }
  }
  return replies
}

/** Answers that hand back what they were sent, where a mirror might pass it on. */
function echo(request: ReceivedRequest): Behaviour {
  const sent = `${request.headers['authorization'] ?? ''} ${request.body} ${request.query.toString()}`
  return {
    status: 500,
    headers: { 'x-echo': sent, 'www-authenticate': `Basic realm="${PRESIGNED.text}"`, warning: sent },
    body: `{"errors":[{"code":"DENIED","message":${JSON.stringify(sent)}}]}`,
  }
}

const TROUBLES: readonly (readonly [string, Behaviour | ((request: ReceivedRequest) => Behaviour)])[] = [
  ['hands back what it was sent', echo],
  ['answers 401 for ever', { status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } }],
  ['answers 403', { status: 403 }],
  ['answers 429', { status: 429, headers: { 'retry-after': '1' } }],
  ['cuts its answers', { cutAt: 10 }],
  [
    'sends tokens and manifests that are no JSON',
    request => ({ body: `{${echo(request).headers?.['x-echo'] as string}` }),
  ],
  ['redirects to nowhere that can be', { redirectTo: `https://x:${PRESIGNED.text}@127.0.0.1/` }],
  ['closes without an answer', { isSilent: true, ending: 'fin' }],
]

/** Every file below the directory, names and contents, as one text. */
async function filesBelow(root: string): Promise<string> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  const texts = entries.map(async entry => {
    const path = join(entry.parentPath, entry.name)
    return entry.isFile() ? `${path}\n${await readFile(path, 'latin1')}` : path
  })
  return (await Promise.all(texts)).join('\n')
}

/** What a server received, all of it, as one text. */
function receivedBy(server: FakeUpstream): string {
  return server.requests
    .map(({ method, path, query, rawHeaders, body }) =>
      JSON.stringify([method, path, query.toString(), rawHeaders, body]),
    )
    .join('\n')
}

function assertAbsent(canaries: readonly Canary[], text: string, where: string): void {
  for (const { text: name, spellings } of canaries)
    for (const spelling of spellings)
      assert.ok(!text.includes(spelling), `${name} is in ${where}: …${around(text, spelling)}…`)
}

function around(text: string, spelling: string): string {
  const at = text.indexOf(spelling)
  return text.slice(Math.max(0, at - 200), at + spelling.length + 50)
}

test('I13 no secret of the operator, of an upstream or of a client is in any sink but where it belongs, whatever goes wrong', async t => {
  const stage = await setStage(t)
  const { posts, cdn, thief, mirror, clock, told } = stage
  for (const post of posts) {
    const replies = await askAll(stage, post)
    const [first] = replies
    // The stolen realm is refused; everybody else is served, or this test would look at nothing.
    assert.equal(first?.status, post.namespace === 'stolen.example.test' ? 403 : 200, post.namespace)
    if (first?.status === 200) for (const digest of post.image.layers) await stored(mirror, digest)
  }
  using raw = await RawClient.connect(mirror.daemon.addresses.client)
  raw.send(
    `GET http://user:${CLIENT.userinfo.text}@mirror/v2/team/app/manifests/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
  )
  await raw.ended()
  told.push(raw.received)
  for (const [, behaviour] of TROUBLES) {
    clock.advance(4_000_000)
    const rules = posts.map(({ upstream }) => upstream.on({}, behaviour))
    for (const post of posts) await askAll(stage, post)
    for (const rule of rules) rule.remove()
  }
  const metrics = (await mirror.admin('GET', '/metrics')).body.toString()

  const bearers = posts.flatMap(({ upstream }) =>
    upstream.requests
      .map(({ headers }) => /^Bearer (.+)$/.exec(headers['authorization'] ?? '')?.[1])
      .filter(token => token !== undefined)
      .map(text => ({ text, spellings: [text], upstream })),
  )
  assert.ok(bearers.length > 0, 'bearer tokens were in use')
  const clients = Object.values(CLIENT)
  const own = [PASSWORD, FILE_PASSWORD, IDENTITY]
  const all = [...clients, ...own, ...bearers, PRESIGNED]
  const log = mirror.log.map(line => JSON.stringify(line)).join('\n')
  assert.ok(mirror.log.some(line => line['level'] === 'debug'))
  assertAbsent(all, log, 'the log')
  assertAbsent(all, metrics, 'the metrics')
  assertAbsent(all, told.join('\n'), 'what clients were told')
  assertAbsent(all, await filesBelow(mirror.root), 'the files of the store')

  assert.ok(receivedBy(cdn).includes(PRESIGNED.text), 'the presigned URL was used')
  assertAbsent([...clients, ...own, ...bearers], receivedBy(cdn), 'requests at the storage service')
  assert.equal(receivedBy(thief), '')
  for (const { upstream, namespace, secret } of posts) {
    const text = receivedBy(upstream)
    const others = bearers.filter(bearer => bearer.upstream !== upstream)
    const strange = own.filter(other => other !== secret)
    assertAbsent([...clients, ...others, ...strange, PRESIGNED], text, `requests at ${namespace}`)
    if (secret === undefined || namespace === 'stolen.example.test') continue
    assert.ok(
      secret.spellings.some(spelling => text.includes(spelling)),
      `${namespace} got its own secret`,
    )
  }
})

test('I13 the keys of a bucket are in no log line, metric or answer, whatever the bucket does', async t => {
  const access = canary('access-key')
  const secret = canary('secret-key')
  const stub = await startS3Stub()
  t.after(async () => await stub[Symbol.asyncDispose]())
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [randomBytes(3000)] })
  upstream.tag('team/app', 'v1', image.manifest)
  const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-canaries-'))
  t.after(async () => await rm(spoolDirectory, { recursive: true, force: true }))
  const told: string[] = []
  await using mirror = await startMirror({
    upstream: upstream.host,
    config: {
      store: {
        kind: 's3',
        bucket: stub.bucket,
        region: 'us-east-1',
        endpoint: stub.endpoint,
        accessKey: new Secret(access.text),
        secretKey: new Secret(secret.text),
        prefix: '',
        isPathStyle: true,
        spoolDirectory,
        isRedirecting: false,
        redirectEndpoint: undefined,
      },
    },
  })
  for (const fault of [undefined, 'refused'] as const) {
    if (fault === 'refused') stub.accessKeyId = 'another'
    for (const path of [
      'manifests/v1',
      `manifests/${image.manifest}`,
      ...image.layers.map(layer => `blobs/${layer}`),
    ]) {
      const reply = await mirror.get(`/v2/team/app/${path}`)
      assert.equal(reply.status, 200, path)
      told.push(JSON.stringify(reply.headers), reply.body.toString('latin1'))
    }
  }
  const metrics = (await mirror.admin('GET', '/metrics')).body.toString()
  const log = mirror.log.map(line => JSON.stringify(line)).join('\n')
  assert.ok(stub.requests.length > 0)
  for (const [where, text] of Object.entries({ log, metrics, told: told.join('\n') }))
    assertAbsent([access, secret], text, where)
  assertAbsent([access, secret], receivedBy(upstream), 'requests at the upstream')
})

test('I13 entrepot check shows no secret, whether the configuration is right or wrong', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-canaries-'))
  t.after(async () => await rm(directory, { recursive: true, force: true }))
  const secrets = ['upstream', 'map', 'access', 'secret'].map(name => canary(`check-${name}`))
  const [upstream, map, access, secret] = secrets.map(({ text }) => text)
  const good = join(directory, 'good.yaml')
  await writeFile(good, `- namespace: a.test\n  host: a.test\n  username: u\n  password: ${upstream}\n`)
  const bad = join(directory, 'bad.yaml')
  await writeFile(
    bad,
    `- namespace: a.test\n  host: a.test\n  pasword: ${upstream}\n  password: [${upstream}]\n`,
  )
  const env = {
    UPSTREAM_CREDENTIALS: JSON.stringify({ 'docker.io': { username: 'u', password: map } }),
    S3_ACCESS_KEY: access ?? '',
    S3_SECRET_KEY: secret ?? '',
    S3_BUCKET: 'cache',
  }
  for (const [file, code, environment] of [
    [good, 0, env],
    [bad, 2, env],
    [good, 2, { ...env, UPSTREAM_CREDENTIALS: `{"docker.io": {"username": "u", "password": "${map}"` }],
    [good, 2, { ...env, UPSTREAM_CREDENTIALS: `{"docker.io": {"user": "u", "password": ["${map}"]}}` }],
  ] as const) {
    for (const command of [['check', 's3'], ['s3']]) {
      const ran = await runCommandLine(['--upstream-config-file', file, ...command], { env: environment })
      assert.equal(ran.code, code, ran.stderr)
      assertAbsent(secrets, `${ran.stdout}\n${ran.stderr}`, `the output of ${command.join(' ')}`)
    }
  }
})
