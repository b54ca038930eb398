import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import type { UpstreamConfig } from '../../src/config/config.ts'
import { Secret } from '../../src/config/secret.ts'
import type { DaemonOverrides } from '../../src/daemon/start.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import type { PutImage } from '../support/upstream-content.ts'
import { errorCodes, stored, until } from '../support/waiting.ts'

const TAG = '/v2/team/app/manifests/v1'
const MINUTE = 60_000

interface Scene extends AsyncDisposable {
  readonly upstream: FakeUpstream
  readonly mirror: TestMirror
  readonly clock: FakeClock
  readonly image: PutImage
}

interface SceneOptions {
  readonly entry?: Partial<UpstreamConfig>
  readonly overrides?: DaemonOverrides
  readonly auth?: Parameters<typeof startUpstream>[0]
}

/** A mirror that nobody has pulled from yet; no pause between tries takes time. */
async function startCold({ entry = {}, overrides = {}, auth = {} }: SceneOptions = {}): Promise<Scene> {
  const stack = new AsyncDisposableStack()
  const clock = FakeClock.skipDelays()
  const upstream = stack.use(await startUpstream(auth))
  const image = upstream.putImage({ config: { version: 'old' }, layers: [randomBytes(2000)] })
  upstream.tag('team/app', 'v1', image.manifest)
  const mirror = stack.use(
    await startMirror({
      upstream: upstream.host,
      // The clock jumps over pauses of up to 10 s, and not over this limit.
      entry: { revalidationWaitMs: MINUTE, ...entry },
      overrides: { clock, ...overrides },
    }),
  )
  return { upstream, mirror, clock, image, [Symbol.asyncDispose]: async () => await stack.disposeAsync() }
}

/** A mirror that has the whole image, and whose tag is not fresh any more. */
async function startWarm(options: SceneOptions = {}): Promise<Scene> {
  const scene = await startCold(options)
  const { mirror, image, clock } = scene
  assert.equal((await mirror.get(TAG)).status, 200)
  for (const digest of [image.config, ...image.layers]) {
    assert.equal((await mirror.get(`/v2/team/app/blobs/${digest}`)).status, 200)
    await stored(mirror, digest)
  }
  clock.advance(2 * MINUTE)
  return scene
}

const SOON = { upstream: { timings: { firstByteMs: 150 } } }

/** How an upstream can be in trouble, and what a client without a copy hears. */
const TROUBLES: readonly {
  readonly title: string
  readonly status: number
  readonly overrides?: DaemonOverrides
  readonly make: (upstream: FakeUpstream) => unknown
}[] = [
  { title: 'refuses connections', status: 502, make: async upstream => await upstream.refuse() },
  { title: 'answers 500', status: 502, make: upstream => upstream.on({}, { status: 500 }) },
  { title: 'answers 503', status: 502, make: upstream => upstream.on({}, { status: 503 }) },
  {
    title: 'resets the connection',
    status: 502,
    make: upstream => upstream.on({}, { isSilent: true, ending: 'rst' }),
  },
  {
    title: 'closes the connection',
    status: 502,
    make: upstream => upstream.on({}, { isSilent: true, ending: 'fin' }),
  },
  {
    title: 'does not speak HTTP',
    status: 502,
    make: upstream => upstream.on({}, { raw: 'SSH-2.0-x\r\n\r\n' }),
  },
  {
    title: 'is silent',
    status: 504,
    overrides: SOON,
    make: upstream => upstream.on({}, { isSilent: true }),
  },
]

for (const { title, status, overrides = {}, make } of TROUBLES) {
  test(`an upstream that ${title}: a tag without a copy is ${status} with Retry-After`, async () => {
    await using scene = await startCold({ overrides })
    await make(scene.upstream)
    for (const path of [TAG, `/v2/team/app/blobs/${scene.image.config}`, '/v2/team/app/tags/list']) {
      const reply = await scene.mirror.get(path)
      assert.equal(reply.status >= 502 && reply.status <= 504, true, path)
      if (path === TAG) assert.equal(reply.status, status)
      assert.deepEqual(errorCodes(reply), ['UNAVAILABLE'])
      assert.match(String(reply.headers['retry-after']), /^[1-9]\d*$/)
    }
  })

  test(`I12 an upstream that ${title}: a tag with a copy is stale, and its manifest and blobs by digest are hits`, async () => {
    await using scene = await startWarm({ overrides })
    const { mirror, image, upstream } = scene
    await make(upstream)
    for (const reply of [await mirror.get(TAG), await mirror.head(TAG)]) {
      assert.equal(reply.status, 200)
      assert.equal(reply.headers['docker-content-digest'], image.manifest)
      assert.match(String(reply.headers['warning']), /^299 /)
    }
    for (const path of [`manifests/${image.manifest}`, `blobs/${image.config}`]) {
      const reply = await mirror.get(`/v2/team/app/${path}`)
      assert.equal(reply.status, 200)
      assert.equal(reply.headers['cache-status'], 'entrepot; hit')
    }
  })
}

for (const [title, resolve] of [
  [
    'cannot be resolved',
    async () => await Promise.reject(Object.assign(new Error('no such host'), { code: 'ENOTFOUND' })),
  ],
  ['has no address', async () => await Promise.resolve([])],
] as const) {
  test(`F1 a registry that is not configured and ${title} is refused`, async () => {
    await using scene = await startCold({ overrides: { upstream: { resolve } } })
    const reply = await scene.mirror.get(`${TAG}?ns=registry.example.com`)
    assert.equal(reply.status, 403)
    assert.deepEqual(errorCodes(reply), ['DENIED'])
  })
}

test('F3 an upstream whose TLS cannot be believed is 502, and is never asked in the clear', async () => {
  await using upstream = await startUpstream({ tls: 'self-signed' })
  const overrides = { clock: FakeClock.skipDelays() }
  await using mirror = await startMirror({ upstream: upstream.host, entry: { tls: true }, overrides })
  const reply = await mirror.get(TAG)
  assert.equal(reply.status, 502)
  assert.equal(upstream.requests.length, 0)
})

test('I10 an upstream that does not answer until the deadline is 504 by then', async () => {
  await using scene = await startCold({ overrides: { firstHeaderMs: 150 } })
  const { mirror, upstream, image } = scene
  upstream.on({}, { isSilent: true })
  for (const path of [TAG, `/v2/team/app/blobs/${image.config}`]) {
    const reply = await mirror.get(path)
    assert.equal(reply.status, 504, path)
    assert.deepEqual(errorCodes(reply), ['UNAVAILABLE'])
    assert.ok(reply.headers['retry-after'] !== undefined)
  }
})

const BAD_MANIFESTS: readonly (readonly [title: string, document: string | object, mediaType?: string])[] = [
  ['is not JSON', 'not json'],
  ['is larger than 4 MiB', `{"schemaVersion":2,"layers":[],"x":"${'x'.repeat(4 * 1024 * 1024)}"}`],
  ['is an image and an index at once', { schemaVersion: 2, layers: [], manifests: [] }],
  ['is nested too deep', `${'['.repeat(40)}${']'.repeat(40)}`],
  [
    'is sent as another type than it has',
    { schemaVersion: 2, layers: [] },
    'application/vnd.oci.image.index.v1+json',
  ],
]

for (const [title, document, mediaType] of BAD_MANIFESTS) {
  test(`F12 a manifest that ${title} is 502 and not stored, and the tag's older copy is served stale`, async () => {
    await using cold = await startCold()
    await using warm = await startWarm()
    for (const { upstream, mirror, image } of [cold, warm]) {
      const digest = upstream.putManifest(document, mediaType)
      upstream.tag('team/app', 'v1', digest)
      const reply = await mirror.get(TAG)
      assert.equal(reply.status, mirror === cold.mirror ? 502 : 200)
      if (mirror === warm.mirror) {
        assert.equal(reply.headers['docker-content-digest'], image.manifest)
        assert.match(String(reply.headers['warning']), /^299 /)
      }
      assert.equal((await mirror.get(`/v2/team/app/manifests/${digest}`)).status, 502)
    }
  })
}

test('I5 a manifest that is not the digest asked for is 502, and the next request heals, whatever its header claims', async () => {
  await using scene = await startCold()
  const { mirror, upstream, image } = scene
  const other = upstream.putImage({ config: { version: 'other' } })
  const path = `/v2/team/app/manifests/${image.manifest}`
  upstream.on({ method: 'GET', path }, { body: other.manifestBytes }, 1)
  assert.equal((await mirror.get(path)).status, 502)
  upstream.on({ method: 'GET', path }, { headers: { 'docker-content-digest': other.manifest } }, 1)
  const healed = await mirror.get(path)
  assert.equal(healed.status, 200)
  assert.equal(healed.headers['docker-content-digest'], image.manifest)
  assert.deepEqual(healed.body, Buffer.from(image.manifestBytes))
})

const LIMITED = { status: 429, headers: { 'retry-after': '120' } }

test('429 without a copy is 503 TOOMANYREQUESTS with Retry-After, and the upstream is left alone for that long', async () => {
  await using scene = await startCold()
  const { mirror, upstream, clock } = scene
  const limit = upstream.on({}, LIMITED)
  const reply = await mirror.get(TAG)
  assert.equal(reply.status, 503)
  assert.deepEqual(errorCodes(reply), ['TOOMANYREQUESTS'])
  assert.equal(reply.headers['retry-after'], '120')
  const before = upstream.requests.length
  clock.advance(114_000)
  const again = await mirror.get('/v2/team/other/manifests/v1')
  assert.equal(again.status, 503)
  assert.equal(again.headers['retry-after'], '6')
  assert.equal(upstream.requests.length, before)
  limit.remove()
  clock.advance(6001)
  assert.equal((await mirror.get(TAG)).status, 200)
})

for (const status of [429, 503]) {
  for (const [what, auth, filter] of [
    ['a manifest', {}, { path: /manifests/ }],
    ['a blob', {}, { path: /blobs/ }],
    ['a token', { auth: { kind: 'bearer' } }, { path: '/token' }],
  ] as const) {
    // A 503 of a token service says nothing about when it will be back.
    if (status === 503 && what === 'a token') continue
    test(`one ${status} with Retry-After: 5 for ${what} is waited out within the request`, async () => {
      await using scene = await startCold({ auth })
      const { mirror, upstream, clock, image } = scene
      const before = clock.monotonicMs()
      const limit = upstream.on(filter, { status, headers: { 'retry-after': '5' } }, 1)
      const path = what === 'a blob' ? `/v2/team/app/blobs/${image.config}` : TAG
      assert.equal((await mirror.get(path)).status, 200)
      assert.equal(limit.hits, 1)
      const waitedMs = clock.monotonicMs() - before
      assert.ok(waitedMs >= 5000 && waitedMs < 6000, `${waitedMs} ms`)
    })
  }
}

test('a silence of 429 is waited out once for all requests, and nothing goes out before it is over', async () => {
  const clock = new FakeClock()
  await using scene = await startCold({ overrides: { clock } })
  const { mirror, upstream, image } = scene
  const limit = upstream.on({}, { status: 429, headers: { 'retry-after': '3' } }, 1)
  const paths = [TAG, `/v2/team/app/manifests/${image.manifest}`, `/v2/team/app/blobs/${image.config}`]
  const [first = '', ...others] = paths
  const replies = [mirror.get(first)]
  await until(() => clock.sleepers > 0, 'the first request waits')
  replies.push(...others.map(async path => await mirror.get(path)))
  await until(() => clock.sleepers >= 3, 'all requests wait')
  assert.equal(upstream.requests.length, 1)
  clock.advance(3005)
  for (const reply of await Promise.all(replies)) assert.equal(reply.status, 200)
  assert.equal(limit.hits, 1)
})

test('a second 429, a Retry-After of more than 5 s and retry_after_max: 0s are 503 at once', async () => {
  for (const [retryAfter, retryAfterMaxMs, requests] of [
    ['2', 5000, 2],
    ['6', 5000, 1],
    ['1', 0, 1],
  ] as const) {
    await using scene = await startCold({ entry: { retryAfterMaxMs } })
    const limit = scene.upstream.on({}, { status: 429, headers: { 'retry-after': retryAfter } })
    const reply = await scene.mirror.get(TAG)
    assert.deepEqual([reply.status, errorCodes(reply)], [503, ['TOOMANYREQUESTS']])
    assert.equal(limit.hits, requests, retryAfter)
  }
})

test('429 with a copy is a stale tag, and the upstream is left alone', async () => {
  await using scene = await startWarm()
  const { mirror, upstream } = scene
  upstream.on({}, LIMITED)
  const before = upstream.requests.length
  for (let round = 0; round < 3; round += 1) {
    const reply = await mirror.get(TAG)
    assert.equal(reply.status, 200)
    assert.match(String(reply.headers['warning']), /^299 /)
  }
  assert.equal(upstream.requests.length, before + 1)
})

const BEARER = { auth: { kind: 'bearer', expiresIn: 60 } } as const

test('429 of the token endpoint is 503 TOOMANYREQUESTS, and stale with a copy', async () => {
  for (const start of [startCold, startWarm]) {
    await using scene = await start({ auth: BEARER })
    const { mirror, upstream } = scene
    upstream.revokeTokens()
    upstream.on({ path: '/token' }, LIMITED)
    const reply = await mirror.get(TAG)
    if (start === startWarm) assert.match(String(reply.headers['warning']), /^299 /)
    else assert.deepEqual(errorCodes(reply), ['TOOMANYREQUESTS'])
    assert.equal(reply.status, start === startWarm ? 200 : 503)
  }
})

test('I12 a token endpoint that is down is 502 without a copy, and stale with one', async () => {
  for (const start of [startCold, startWarm]) {
    await using scene = await start({ auth: BEARER })
    const { mirror, upstream } = scene
    upstream.revokeTokens()
    upstream.on({ path: '/token' }, { status: 500 })
    const reply = await mirror.get(TAG)
    assert.equal(reply.status, start === startWarm ? 200 : 502)
  }
})

for (const status of [401, 403]) {
  test(`${status} after the best credentials is 403 DENIED without the challenge; a copy is served only where no credentials are configured`, async () => {
    const credentials = { kind: 'password', username: 'u', password: new Secret('p') } as const
    for (const [start, entry, expected] of [
      [startCold, {}, 403],
      [startCold, { credentials }, 403],
      [startWarm, {}, 200],
      [startWarm, { credentials }, 403],
    ] as const) {
      await using scene = await start({ entry })
      const { mirror, upstream } = scene
      upstream.on({}, { status, headers: { 'www-authenticate': 'Basic realm="theirs"' } })
      const reply = await mirror.get(TAG)
      assert.equal(reply.status, expected)
      assert.equal(reply.headers['www-authenticate'], undefined)
      if (expected === 403) assert.deepEqual(errorCodes(reply), ['DENIED'])
    }
  })
}

test('a manifest and a blob by digest are hits though the upstream has lost them', async () => {
  await using scene = await startWarm()
  const { mirror, upstream, image } = scene
  upstream.on({}, { status: 404 })
  const before = upstream.requests.length
  for (const path of [`manifests/${image.manifest}`, `blobs/${image.config}`]) {
    assert.equal((await mirror.get(`/v2/team/app/${path}`)).status, 200)
  }
  assert.equal(upstream.requests.length, before)
})

test('an image of which a blob is not cached is refused with 503 while the upstream is in trouble, by tag and by digest, but not to a HEAD', async () => {
  await using scene = await startCold()
  const { mirror, upstream, image, clock } = scene
  await mirror.get(TAG)
  await mirror.get(`/v2/team/app/blobs/${image.config}`)
  await stored(mirror, image.config)
  clock.advance(2 * MINUTE)
  await upstream.refuse()
  for (let round = 0; round < 3; round += 1) assert.equal((await mirror.get(TAG)).status, 503)
  for (const path of [TAG, `/v2/team/app/manifests/${image.manifest}`]) {
    const reply = await mirror.get(path)
    assert.equal(reply.status, 503, path)
    assert.deepEqual(errorCodes(reply), ['UNAVAILABLE'])
    assert.ok(reply.headers['retry-after'] !== undefined)
    const head = await mirror.head(path)
    assert.equal(head.status, 200, `HEAD ${path}: a node that has all of it needs no more`)
    assert.equal(head.headers['docker-content-digest'], image.manifest)
  }
})

test('I11 a 404 is remembered for 30 s and a refusal for 10 s, each for its own question only', async () => {
  await using scene = await startCold()
  const { mirror, upstream, clock } = scene
  upstream.on({ path: /manifests\/closed/ }, { status: 403 })
  for (const [tag, status, lifeMs] of [
    ['none', 404, 30_000],
    ['closed', 403, 10_000],
  ] as const) {
    const path = `/v2/team/app/manifests/${tag}`
    assert.equal((await mirror.get(path)).status, status)
    const before = upstream.requests.length
    clock.advance(lifeMs - 1)
    assert.equal((await mirror.get(path)).status, status)
    assert.equal(upstream.requests.length, before, tag)
    clock.advance(1)
    assert.equal((await mirror.get(path)).status, status)
    assert.ok(upstream.requests.length > before, tag)
  }
  assert.equal((await mirror.get(TAG)).status, 200)
})

test('F2 after three failures in a row of different repositories GET /v2/ decides that the upstream is left alone, and after the pause that it is asked again', async () => {
  await using scene = await startCold()
  const { mirror, upstream, clock } = scene
  const trouble = upstream.on({}, { status: 500, headers: { 'retry-after': '2' } })
  for (let count = 1; count <= 3; count += 1) await mirror.get(`/v2/team/app${count}/manifests/v1`)
  const before = upstream.requests.length
  for (let count = 4; count <= 10; count += 1) {
    assert.equal((await mirror.get(`/v2/team/app${count}/manifests/v1`)).status, 502)
  }
  const probes = (): readonly string[] => upstream.requests.slice(before).map(({ path }) => path)
  assert.deepEqual(probes(), ['/v2/'])
  trouble.remove()
  clock.advance(2001)
  assert.equal((await mirror.get(TAG)).status, 200)
  assert.deepEqual(probes().slice(0, 3), ['/v2/', '/v2/', '/v2/team/app/manifests/v1'])
})

/** Images of healthy repositories: many more than the failures after which a registry is left alone. */
const IMAGES = 12

for (const [title, behaviour] of [
  ['always answers 500', { status: 500 }],
  ['always breaks off', { isSilent: true, ending: 'rst' }],
  ['redirects to a host that refuses connections', { redirectTo: 'http://127.0.0.1:1/x' }],
] as const) {
  test(`a repository that ${title} costs no pull of another repository of its registry`, async () => {
    await using scene = await startCold()
    const { mirror, upstream } = scene
    const isBroken = { path: /^\/v2\/team\/broken\// }
    upstream.on(isBroken, behaviour)
    let served = 0
    for (let count = 0; count < IMAGES; count += 1) {
      const image = upstream.putImage({ config: { count }, layers: [randomBytes(100)] })
      upstream.tag(`team/app${count}`, 'v1', image.manifest)
      for (let retry = 0; retry < 4; retry += 1) {
        assert.notEqual((await mirror.get('/v2/team/broken/manifests/v1')).status, 200)
      }
      const replies = [
        await mirror.get(`/v2/team/app${count}/manifests/v1`),
        await mirror.get(`/v2/team/app${count}/blobs/${image.config}`),
      ]
      if (replies.every(({ status }) => status === 200)) served += 1
    }
    assert.equal(served, IMAGES)
    // Three failures, retries included, and then the repository is left alone.
    assert.ok(upstream.count(isBroken) <= 3 * 2 * 2, `${upstream.count(isBroken)} requests`)
  })
}

test('a repository that is left alone is asked again by one request after its pause', async () => {
  await using scene = await startCold()
  const { mirror, upstream, clock } = scene
  const trouble = upstream.on({ path: /manifests/ }, { status: 500, headers: { 'retry-after': '9' } })
  for (let count = 0; count < 5; count += 1) assert.equal((await mirror.get(TAG)).status, 502)
  assert.equal(trouble.hits, 3)
  clock.advance(2001)
  assert.equal((await mirror.get(TAG)).status, 502)
  assert.equal((await mirror.get(TAG)).status, 502)
  assert.equal(trouble.hits, 4)
  trouble.remove()
  clock.advance(4001)
  assert.equal((await mirror.get(TAG)).status, 200)
})
