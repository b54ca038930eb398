import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Config, SpaceConfig } from '../../src/config/config.ts'
import { Secret } from '../../src/config/secret.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { contentKey } from '../../src/storage/layout.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { type S3Stub, type S3StubOptions, startS3Stub } from '../support/s3-stub.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { stored, until } from '../support/waiting.ts'

const LAYER_BYTES = 200_000
const MAX_BYTES = 1_000_000

interface World {
  readonly stub: S3Stub
  readonly upstream: FakeUpstream
  readonly start: (space?: Partial<SpaceConfig>) => Promise<TestMirror>
}

async function startWorld(t: TestContext, options: S3StubOptions = {}): Promise<World> {
  const stub = await startS3Stub(options)
  t.after(async () => stub[Symbol.asyncDispose]())
  const upstream = await startUpstream()
  t.after(async () => upstream[Symbol.asyncDispose]())
  const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-s3-space-'))
  t.after(async () => rm(spoolDirectory, { recursive: true, force: true }))
  const store: Config['store'] = {
    kind: 's3',
    bucket: stub.bucket,
    region: 'us-east-1',
    endpoint: stub.endpoint,
    accessKey: new Secret('key'),
    secretKey: new Secret('secret'),
    prefix: '',
    isPathStyle: true,
    spoolDirectory,
    isRedirecting: false,
    redirectEndpoint: undefined,
  }
  const bounds = { maxSize: undefined, minFree: undefined, dynamicShare: 1 }
  const start = async (space: Partial<SpaceConfig> = {}): Promise<TestMirror> => {
    const config = { store, space: { ...bounds, ...space } }
    const mirror = await startMirror({ upstream: upstream.host, config })
    t.after(async () => mirror[Symbol.asyncDispose]())
    return mirror
  }
  return { stub, upstream, start }
}

interface Pulled {
  readonly tag: string
  readonly manifest: Digest
  readonly layer: Digest
}

/** Pulls an image of one layer, and resolves once the bucket has all of it. */
async function pullNew({ upstream }: World, mirror: TestMirror, tag: string): Promise<Pulled> {
  const { manifest, config, layers } = upstream.putImage({
    layers: [randomBytes(LAYER_BYTES)],
    config: { architecture: 'amd64', os: 'linux', tag },
  })
  const [layer = config] = layers
  upstream.tag('library/tools', tag, manifest)
  assert.equal((await mirror.get(`/v2/library/tools/manifests/${tag}`)).status, 200)
  for (const digest of [config, layer]) {
    assert.equal((await mirror.get(`/v2/library/tools/blobs/${digest}`)).status, 200)
    await stored(mirror, digest)
  }
  return { tag, manifest, layer }
}

async function ask<T>(mirror: TestMirror, method: string, path: string): Promise<T> {
  const reply = await mirror.admin(method, `/_admin/v1/${path}`)
  assert.equal(reply.status, 200, reply.body.toString())
  return JSON.parse(reply.body.toString()) as T
}

interface Listed {
  readonly images: readonly { readonly image: string }[]
  readonly isComplete: boolean
}

interface Evicted {
  readonly objects: number
  readonly bytes: number
}

const bound = {
  maxSize: { kind: 'bytes', bytes: MAX_BYTES },
  maxBlob: { kind: 'percent', percent: 100 },
} as const

function has({ stub }: World, digest: Digest): boolean {
  return stub.objects.has(contentKey(digest))
}

test('a bucket with a maximum keeps to it: what was used longest ago goes by batches, and what is pinned stays', async t => {
  const world = await startWorld(t)
  const mirror = await world.start(bound)
  const pinned = await pullNew(world, mirror, 'pinned')
  await ask(mirror, 'PUT', 'pins?image=tools:pinned')
  const first = await pullNew(world, mirror, 'first')
  for (let count = 0; count < 6; count += 1) await pullNew(world, mirror, `v${count}`)
  await until(() => !has(world, first.layer), 'the oldest layer is evicted')
  assert.equal(has(world, pinned.layer), true)
  const { space } = await ask<{ space: { usedBytes: number; maxBytes: number } }>(mirror, 'GET', 'status')
  assert.equal(space.maxBytes, MAX_BYTES)
  assert.ok(space.usedBytes <= MAX_BYTES)
  const evicted = await ask<Evicted>(mirror, 'POST', 'evict?bytes=500000')
  assert.ok(evicted.objects >= 3)
  assert.ok(world.stub.requests.some(({ operation }) => operation === 'DeleteObjects'))
  assert.equal(has(world, pinned.layer), true)
  assert.equal((await mirror.get('/v2/library/tools/manifests/pinned')).status, 200)
})

test('a dry run of an eviction counts what the eviction then evicts, and deletes nothing', async t => {
  const world = await startWorld(t)
  const mirror = await world.start(bound)
  for (let count = 0; count < 3; count += 1) await pullNew(world, mirror, `v${count}`)
  const before = world.stub.objects.size
  const planned = await ask<Evicted>(mirror, 'POST', 'evict?bytes=300000&dry-run=true')
  assert.ok(planned.objects >= 2 && planned.bytes >= 300_000)
  assert.equal(world.stub.objects.size, before)
  assert.deepEqual(await ask<Evicted>(mirror, 'POST', 'evict?bytes=300000'), planned)
})

test('a bucket that knows no batches is asked to delete one object after another', async t => {
  const world = await startWorld(t, { refusesBatches: true })
  const mirror = await world.start(bound)
  const images = [await pullNew(world, mirror, 'v0'), await pullNew(world, mirror, 'v1')]
  const { bytes } = await ask<Evicted>(mirror, 'POST', 'evict?bytes=400000')
  assert.ok(bytes >= 400_000)
  assert.deepEqual(
    images.map(({ layer }) => has(world, layer)),
    [false, false],
  )
})

test('without bounds the bucket is walked only when somebody asks, and the list is then complete', async t => {
  const world = await startWorld(t)
  {
    await using mirror = await world.start()
    await pullNew(world, mirror, 'v0')
    await pullNew(world, mirror, 'v1')
    await ask(mirror, 'GET', 'status')
  }
  const another = await world.start()
  assert.equal((await another.get('/v2/library/tools/manifests/v0')).status, 200)
  const { space } = await ask<{ space: { indexState: string } }>(another, 'GET', 'status')
  assert.equal(space.indexState, 'absent')
  const metrics = (await another.admin('GET', '/metrics')).body.toString()
  assert.match(metrics, /^entrepot_index_state/m)
  assert.doesNotMatch(metrics, /^entrepot_cache_(?:used_bytes|objects|max_bytes) /m)
  const walks = world.stub.requests.filter(
    ({ operation, key }) => operation === 'ListObjectsV2' && !/^(?:runs|decisions|history)\//.test(key),
  )
  assert.deepEqual(walks, [])
  await ask(another, 'GET', 'images')
  await until(async () => (await ask<Listed>(another, 'GET', 'images')).isComplete, 'the bucket is walked')
  const { images } = await ask<Listed>(another, 'GET', 'images')
  assert.deepEqual(
    images.map(({ image }) => image),
    ['docker.io/library/tools:v0', 'docker.io/library/tools:v1'],
  )
})
