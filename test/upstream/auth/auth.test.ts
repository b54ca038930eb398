import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { Secret } from '../../../src/config/secret.ts'
import type { Digest } from '../../../src/oci/digest.ts'
import type { RegistriesOptions } from '../../../src/upstream/registries.ts'
import type { Registry } from '../../../src/upstream/registry.ts'
import type { UpstreamOptions } from '../../../src/upstream/upstream-options.ts'
import {
  heldClock,
  must,
  namespace,
  openRegistries,
  repository,
  type TestRegistries,
  tagged,
  upstreamOptions,
} from '../../support/registries.ts'
import {
  type UpstreamOptions as FakeOptions,
  type FakeUpstream,
  startCanary,
  startUpstream,
  type UpstreamAuth,
} from '../../support/upstream.ts'
import { type Behaviour, createGate, type ReceivedRequest } from '../../support/upstream-behaviour.ts'

const TOOLS = repository('library/tools')
const CANARY = 'canary-secret-5f1c'
const TOKEN = { path: '/token' }
const USER = { username: 'robot', password: CANARY } as const
const BEARER: UpstreamAuth = { kind: 'bearer', ...USER }

interface Stage extends AsyncDisposable {
  readonly upstream: FakeUpstream
  readonly registry: Registry
  readonly opened: TestRegistries
  readonly manifest: Digest
  pull(name?: string): Promise<unknown>
}

async function setStage(
  auth: UpstreamAuth | undefined,
  options: Partial<UpstreamOptions> = {},
  others: { readonly registries?: Partial<RegistriesOptions>; readonly fake?: FakeOptions } = {},
): Promise<Stage> {
  const upstream = await startUpstream({ ...(auth === undefined ? {} : { auth }), ...others.fake })
  const { manifest } = upstream.putImage()
  for (const name of ['library/tools', 'library/other']) upstream.tag(name, '1', manifest)
  const opened = openRegistries({ upstreams: [upstreamOptions(upstream, options)], ...others.registries })
  const registry = opened.registries.get(namespace('registry.example.test'))
  return {
    upstream,
    opened,
    registry,
    manifest,
    pull: async (name = 'library/tools') =>
      await registry.getManifest(repository(name), tagged('1'), AbortSignal.timeout(10_000)),
    async [Symbol.asyncDispose]() {
      await opened[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    },
  }
}

function withPassword(): Partial<UpstreamOptions> {
  return { credentials: { kind: 'password', username: 'robot', password: new Secret(CANARY) } }
}

test('a token is got once for many requests, for the scope that we compute, with the service of the challenge', async () => {
  await using stage = await setStage({ kind: 'bearer', service: 'a service' })
  await Promise.all(Array.from({ length: 20 }, () => stage.pull()))
  await stage.pull()
  assert.equal(stage.upstream.count(TOKEN), 1)
  const { query, headers } = must(stage.upstream.requests.find(({ path }) => path === '/token'))
  assert.equal(query.get('scope'), 'repository:library/tools:pull')
  assert.equal(query.get('service'), 'a service')
  assert.equal(headers['authorization'], undefined)
  await stage.pull('library/other')
  assert.equal(stage.upstream.count(TOKEN), 2)
})

test('a scope of the challenge that asks for more is not asked for', async () => {
  await using stage = await setStage({ kind: 'bearer' })
  const realm = `${stage.upstream.origin}/token`
  const challenge = `Bearer realm="${realm}",scope="repository:library/tools:pull,push registry:catalog:*"`
  stage.upstream.on({ path: /manifests/ }, { status: 401, headers: { 'www-authenticate': challenge } }, 1)
  await stage.pull()
  const { query } = must(stage.upstream.requests.find(({ path }) => path === '/token'))
  assert.equal(query.get('scope'), 'repository:library/tools:pull')
})

for (const field of ['token', 'access_token'] as const) {
  test(`a token that is called ${field} is understood`, async () => {
    await using stage = await setStage({ kind: 'bearer', field })
    assert.notEqual(await stage.pull(), undefined)
  })
}

test('a password goes to the realm as Basic, and only there', async () => {
  await using stage = await setStage(BEARER, withPassword())
  assert.notEqual(await stage.pull(), undefined)
  const basic = `Basic ${Buffer.from(`robot:${CANARY}`).toString('base64')}`
  for (const { path, headers } of stage.upstream.requests)
    assert.equal(headers['authorization'] === basic, path === '/token')
})

test('Basic is sent where it is asked for, and from then on unasked', async () => {
  await using stage = await setStage({ kind: 'basic', ...USER }, withPassword())
  await stage.pull()
  await stage.pull('library/other')
  assert.deepEqual(
    stage.upstream.requests.map(({ headers }) => headers['authorization'] !== undefined),
    [false, true, true],
  )
})

test('a wrong password is a refusal after one try', async () => {
  await using stage = await setStage(
    { kind: 'basic', username: 'robot', password: 'another' },
    withPassword(),
  )
  await assert.rejects(stage.pull(), { kind: 'refused' })
  assert.equal(stage.upstream.count(), 2)
})

test('an upstream that refuses every token is refused after one token, and after two where one was held', async () => {
  await using stage = await setStage({ kind: 'bearer' })
  await stage.pull()
  const { upstream } = stage
  const headers = { 'www-authenticate': `Bearer realm="${upstream.origin}/token",service="fake"` }
  upstream.on({ path: /manifests/ }, { status: 401, headers })
  await assert.rejects(stage.pull(), { kind: 'refused' })
  assert.equal(upstream.count(TOKEN), 2)
  await assert.rejects(stage.pull('library/other'), { kind: 'refused' })
  assert.equal(upstream.count(TOKEN), 3)
})

test('a held token that is refused is replaced by one fresh token, for all who wait', async () => {
  await using stage = await setStage({ kind: 'bearer' })
  await stage.pull()
  stage.upstream.revokeTokens()
  await Promise.all(Array.from({ length: 10 }, () => stage.pull()))
  assert.equal(stage.upstream.count(TOKEN), 2)
})

const LIVES: readonly (readonly [number | null, number])[] = [
  [null, 60],
  [300, 300],
  [0, 60],
  [-5, 60],
  [1e12, 24 * 3600],
]

for (const [expiresIn, lifeSeconds] of LIVES) {
  test(`a token with expires_in ${expiresIn} is used for 80 % of ${lifeSeconds} s`, async () => {
    const clock = heldClock()
    await using stage = await setStage({ kind: 'bearer', expiresIn }, {}, { registries: { clock } })
    await stage.pull()
    clock.advance(lifeSeconds * 800 - 1)
    await stage.pull()
    assert.equal(stage.upstream.count(TOKEN), 1)
    clock.advance(1)
    await stage.pull()
    assert.equal(stage.upstream.count(TOKEN), 2)
    assert.equal(stage.upstream.count({ path: /manifests/ }), 4)
  })
}

test('a token that is due but still good is used while the token service is down', async () => {
  const clock = heldClock()
  await using stage = await setStage({ kind: 'bearer', expiresIn: 100 }, {}, { registries: { clock } })
  await stage.pull()
  stage.upstream.on(TOKEN, { status: 503 })
  clock.advance(90_000)
  assert.notEqual(await stage.pull(), undefined)
  clock.advance(10_000)
  await assert.rejects(stage.pull(), { kind: 'token' })
})

const TOKEN_FAULTS: readonly (readonly [string, Behaviour, string])[] = [
  ['answers 400', { status: 400 }, 'token'],
  ['answers 401', { status: 401 }, 'refused'],
  ['answers 403', { status: 403 }, 'refused'],
  ['answers 404', { status: 404 }, 'token'],
  ['answers 429', { status: 429, headers: { 'retry-after': '9' } }, 'rate-limited'],
  ['answers 500', { status: 500 }, 'token'],
  ['redirects', { redirectTo: '/token2' }, 'token'],
  ['breaks off', { isSilent: true, ending: 'rst' }, 'token'],
  ['answers in HTML', { body: '<html>' }, 'token'],
  ['answers no object', { body: 'null' }, 'token'],
  ['answers without a token', { body: '{"expires_in":60}' }, 'token'],
  ['answers an empty token', { body: '{"token":""}' }, 'token'],
  ['answers a token of another type', { body: '{"token":{"a":1}}' }, 'token'],
  ['answers a token with a line break', { body: '{"token":"a\\r\\nx-evil: 1"}' }, 'token'],
  ['answers a token beyond ASCII', { body: '{"token":"tökén"}' }, 'token'],
  ['answers a token of 10 MB', { body: JSON.stringify({ token: 'x'.repeat(10_000_000) }) }, 'token'],
  ['answers a token without end', { body: 'x'.repeat(1_000_000), length: 'chunked' }, 'token'],
  ['answers nested a million deep', { body: '['.repeat(60_000) }, 'token'],
  ['cuts the token', { cutAt: 10 }, 'token'],
]

for (const [what, behaviour, kind] of TOKEN_FAULTS) {
  test(`a token service that ${what} is trouble of kind ${kind}`, async () => {
    await using stage = await setStage(BEARER, withPassword())
    stage.upstream.on(TOKEN, behaviour)
    await assert.rejects(stage.pull(), { name: 'UpstreamError', kind })
    assert.ok(stage.upstream.count(TOKEN) <= 2)
    assert.equal(stage.upstream.count({ path: '/token2' }), 0)
  })
}

test('a token service that limits its rate is left alone, and so is its registry', async () => {
  await using stage = await setStage({ kind: 'bearer' })
  stage.upstream.on(TOKEN, { status: 429, headers: { 'retry-after': '9' } })
  await assert.rejects(stage.pull(), { kind: 'rate-limited', retryAfterMs: 9000 })
  const before = stage.upstream.count()
  await assert.rejects(stage.pull('library/other'), { kind: 'rate-limited' })
  assert.equal(stage.upstream.count(), before)
  assert.equal(stage.registry.trouble(TOOLS)?.kind, 'rate-limited')
})

test('a token service that is down is left alone after three failures, while held tokens still serve', async () => {
  await using stage = await setStage({ kind: 'bearer' })
  await stage.pull()
  stage.upstream.on(TOKEN, { status: 500 })
  for (let count = 0; count < 4; count += 1)
    await assert.rejects(stage.pull('library/other'), { kind: 'token' })
  assert.equal(stage.upstream.count(TOKEN), 1 + 3 * 2)
  assert.notEqual(await stage.pull(), undefined)
})

test('a token service that fails for one repository still gives tokens for others', async () => {
  await using stage = await setStage({ kind: 'bearer' })
  stage.upstream.on(
    { ...TOKEN, where: ({ query }) => query.get('scope')?.includes('other') === true },
    { status: 500 },
  )
  for (let count = 0; count < 5; count += 1)
    await assert.rejects(stage.pull('library/other'), { kind: 'token' })
  assert.equal(stage.upstream.count(TOKEN), 3 * 2)
  assert.notEqual(await stage.pull(), undefined)
})

test('whoever leaves while a token is fetched does not end it for the others', async () => {
  await using stage = await setStage({ kind: 'bearer' })
  const gate = createGate()
  stage.upstream.on(TOKEN, { until: gate.opened }, 1)
  const leaving = new AbortController()
  const leaver = stage.registry.getManifest(TOOLS, tagged('1'), leaving.signal)
  const stayer = stage.pull()
  await stage.upstream.received(TOKEN)
  leaving.abort(new Error('left'))
  await assert.rejects(leaver, /left/)
  gate.open()
  assert.notEqual(await stayer, undefined)
  assert.equal(stage.upstream.count(TOKEN), 1)
})

const CHALLENGES = [
  '',
  'Bearer',
  'Bearer realm=""',
  'Bearer realm="/token"',
  'Bearer realm="relative"',
  'Bearer realm="ftp://a/"',
  'Bearer realm="http://a@127.0.0.1/token"',
  'Negotiate',
  'Digest realm="x", nonce="y"',
  'Bearer realm="unended',
  '=====',
]

for (const challenge of CHALLENGES) {
  test(`the challenge ${JSON.stringify(challenge)} ends in trouble, and no secret leaves`, async () => {
    await using stage = await setStage(undefined, withPassword())
    stage.upstream.on({}, { status: 401, headers: { 'www-authenticate': challenge } })
    await assert.rejects(stage.pull(), { name: 'UpstreamError' })
    assert.deepEqual(secretsIn(stage.upstream.requests), [])
  })
}

test('a realm elsewhere never sees the password: the refusal names the setting, and listing the realm allows it', async () => {
  await using tokens = await startUpstream({ auth: BEARER })
  const auth: UpstreamAuth = { ...BEARER, realm: `${tokens.origin}/token` }
  await using stage = await setStage(auth, withPassword())
  await assert.rejects(stage.pull(), {
    code: 'DENIED',
    message: new RegExp(`"realms: \\[${tokens.host}\\]"`),
  })
  assert.equal(tokens.count(), 0)
  await using listed = await setStage(auth, { ...withPassword(), realms: [tokens.host] })
  await assert.rejects(listed.pull(), { kind: 'refused' })
  assert.equal(tokens.count(TOKEN), 1)
})

test('a realm elsewhere is asked without credentials where there are none', async () => {
  await using tokens = await startUpstream({ auth: { kind: 'bearer' } })
  await using stage = await setStage({ kind: 'bearer', realm: `${tokens.origin}/token?given=1` })
  await assert.rejects(stage.pull(), { kind: 'refused' })
  const { query, headers } = must(tokens.requests[0])
  assert.equal(query.get('given'), '1')
  assert.equal(query.get('scope'), 'repository:library/tools:pull')
  assert.equal(headers['authorization'], undefined)
})

test('a bearer token and a password are dropped on a redirect to another origin', async () => {
  for (const auth of [{ kind: 'bearer' }, { kind: 'basic', ...USER }] as const) {
    await using cdn = await startUpstream()
    await using stage = await setStage(auth, withPassword())
    const config = must(stage.upstream.blobs.keys().next().value) as Digest
    cdn.putBlob(Buffer.from(must(stage.upstream.blobs.get(config))))
    const redirectTo = `${cdn.origin}/v2/library/tools/blobs/${config}?signature=abc`
    const isAuthorised = (request: ReceivedRequest): boolean => request.headers['authorization'] !== undefined
    stage.upstream.on({ path: /blobs/, where: isAuthorised }, { redirectTo })
    await using body = must(
      await stage.registry.getBlob(TOOLS, config, { offset: 0 }, AbortSignal.timeout(5000)),
    )
    assert.equal(body.sizeBytes, stage.upstream.blobs.get(config)?.byteLength)
    assert.equal(must(cdn.requests[0]).headers['authorization'], undefined)
    assert.equal(must(cdn.requests[0]).query.get('signature'), 'abc')
  }
})

test('a redirect within the origin keeps the token', async () => {
  await using stage = await setStage({ kind: 'bearer' })
  const isFirst = (request: ReceivedRequest): boolean =>
    request.headers['authorization'] !== undefined && !request.query.has('again')
  stage.upstream.on(
    { path: /manifests/, where: isFirst },
    { redirectTo: '/v2/library/tools/manifests/1?again=1' },
  )
  assert.notEqual(await stage.pull(), undefined)
})

test('a redirect that comes back does not bring the token back', async () => {
  await using cdn = await startUpstream()
  await using stage = await setStage({ kind: 'basic', ...USER }, withPassword())
  await stage.pull('library/other')
  stage.upstream.on({ path: /tools\/manifests/ }, { redirectTo: `${cdn.origin}/there` }, 1)
  cdn.on({}, { redirectTo: `${stage.upstream.origin}/v2/library/tools/manifests/back` })
  await stage.pull().catch(() => undefined)
  const back = must(stage.upstream.requests.find(({ path }) => path.endsWith('/back')))
  assert.equal(back.headers['authorization'], undefined)
})

test('a redirect that ends at another registry is followed with a token got for nobody', async () => {
  await using mirror = await startUpstream({ auth: { kind: 'bearer' } })
  const { manifest } = mirror.putImage()
  mirror.tag('k8s/images/tools', '1', manifest)
  await using stage = await setStage(undefined, withPassword())
  stage.upstream.on({ path: /manifests/ }, { redirectTo: `${mirror.origin}/v2/k8s/images/tools/manifests/1` })
  assert.notEqual(await stage.pull(), undefined)
  assert.equal(
    must(mirror.requests.find(({ path }) => path === '/token')).query.get('scope'),
    'repository:k8s/images/tools:pull',
  )
  assert.deepEqual(secretsIn(mirror.requests), [])
})

test('a presigned URL that is refused is asked for once more by way of the upstream', async () => {
  await using cdn = await startUpstream()
  await using stage = await setStage(undefined)
  const config = must(stage.upstream.blobs.keys().next().value) as Digest
  cdn.on({}, { status: 200, body: must(stage.upstream.blobs.get(config)) })
  stage.upstream.on({ path: /blobs/ }, { redirectTo: `${cdn.origin}/bucket/key?signature=1` })
  cdn.on({}, { status: 403 }, 1)
  const signal = AbortSignal.timeout(5000)
  await using body = must(await stage.registry.getBlob(TOOLS, config, { offset: 0 }, signal))
  assert.equal(body.offset, 0)
  assert.deepEqual([stage.upstream.count(), cdn.count()], [2, 2])
  cdn.on({}, { status: 403 })
  await assert.rejects(stage.registry.getBlob(TOOLS, config, { offset: 0 }, signal))
  assert.equal(cdn.count(), 4)
  assert.deepEqual(await stage.registry.headBlob(TOOLS, config, signal), { sizeBytes: undefined })
})

test('five redirects are followed, a sixth is not', async () => {
  for (const [hops, expected] of [
    [5, 'answered'],
    [6, 'refused'],
  ] as const) {
    await using stage = await setStage(undefined)
    stage.upstream.on({ path: /manifests/ }, ({ query }) => {
      const hop = Number(query.get('hop') ?? 0)
      return hop < hops ? { redirectTo: `/v2/library/tools/manifests/1?hop=${hop + 1}` } : undefined
    })
    const ended = await stage.pull().then(
      () => 'answered',
      () => 'refused',
    )
    assert.equal(ended, expected)
    assert.equal(stage.upstream.count(), 6)
  }
})

test('a redirect from https to http is refused before anything is dialled', async () => {
  await using canary = await startCanary()
  await using stage = await setStage(undefined, {}, { fake: { tls: 'server' } })
  stage.upstream.on({}, { redirectTo: `http://127.0.0.1:${canary.port}/` })
  await assert.rejects(stage.pull(), { kind: 'invalid', message: /from https to http/ })
  assert.equal(canary.connections, 0)
})

test('a 404 of a storage service that a blob was redirected to is trouble, not absence', async () => {
  await using cdn = await startUpstream()
  await using stage = await setStage(undefined)
  stage.upstream.on({ path: /blobs/ }, { redirectTo: `${cdn.origin}/bucket/key` })
  cdn.on({}, { status: 404 })
  await assert.rejects(stage.registry.headBlob(TOOLS, stage.manifest, AbortSignal.timeout(5000)), {
    kind: 'status',
    status: 404,
  })
})

test('no secret stands in a log line, metric or error of any of this', async () => {
  await using stage = await setStage(
    { kind: 'bearer', username: 'robot', password: 'another' },
    withPassword(),
  )
  const error = await stage.pull().then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  stage.upstream.on({}, { isSilent: true, ending: 'rst' })
  const other = await stage.pull('library/other').then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  const encoded = Buffer.from(`robot:${CANARY}`).toString('base64')
  const everything = [
    ...stage.opened.lines,
    await stage.opened.metrics(),
    inspect([error, other], { depth: 10 }),
  ].join('\n')
  assert.match(everything, /refuses the user name and password of this mirror/)
  assert.doesNotMatch(everything, new RegExp(`${CANARY}|${encoded}`))
})

function secretsIn(requests: readonly ReceivedRequest[]): readonly ReceivedRequest[] {
  const encoded = Buffer.from(`robot:${CANARY}`).toString('base64')
  return requests.filter(request => {
    const text = JSON.stringify(request) + request.query.toString()
    return text.includes(CANARY) || text.includes(encoded)
  })
}
