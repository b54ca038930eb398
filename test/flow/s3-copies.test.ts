import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { DaemonReport } from '../../src/admin/contract.ts'
import type { Config } from '../../src/config/config.ts'
import { Secret } from '../../src/config/secret.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { contentKey, digestFileName } from '../../src/storage/layout.ts'
import { startHosted } from '../support/hosted.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { type S3Stub, startS3Stub } from '../support/s3-stub.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { linesOf, stored } from '../support/waiting.ts'

const MiB = 1024 * 1024

interface World {
  readonly stub: S3Stub
  readonly upstream: FakeUpstream
  readonly store: Config['store']
  readonly start: (config?: Partial<Config>) => Promise<TestMirror>
  /** The files of the copies of a digest. */
  readonly copiesOf: (digest: Digest) => Promise<readonly string[]>
  /** Number of reads of content from the bucket. */
  readonly reads: () => number
}

async function startWorld(t: TestContext): Promise<World> {
  const stub = await startS3Stub()
  t.after(async () => stub[Symbol.asyncDispose]())
  const upstream = await startUpstream()
  t.after(async () => upstream[Symbol.asyncDispose]())
  const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-copies-'))
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
    copiesBytes: 64 * MiB,
    isRedirecting: false,
    redirectEndpoint: undefined,
  }
  return {
    stub,
    upstream,
    store,
    start: async (config = {}) => {
      const mirror = await startMirror({ upstream: upstream.host, config: { store, ...config } })
      t.after(async () => mirror[Symbol.asyncDispose]())
      return mirror
    },
    copiesOf: async digest => {
      const paths = await readdir(spoolDirectory, { recursive: true })
      const isCopy = (path: string): boolean =>
        path.startsWith('copies-') && path.includes(`/${digestFileName(digest)}.`)
      return paths.filter(isCopy).map(path => join(spoolDirectory, path))
    },
    reads: () =>
      stub.requests.filter(({ operation, key }) => isRead(operation) && key.startsWith('blobs/')).length,
  }
}

function isRead(operation: string): boolean {
  return operation === 'GetObject' || operation === 'HeadObject'
}

const REPOSITORY = '/v2/library/tools'

async function statusOf(mirror: TestMirror): Promise<DaemonReport> {
  return JSON.parse((await mirror.admin('GET', '/_admin/v1/status')).body.toString()) as DaemonReport
}

/** Pulls an image by its digests, and proves every byte. */
async function pull(mirror: TestMirror, manifest: Digest, blobs: readonly Digest[]): Promise<void> {
  for (const path of [`manifests/${manifest}`, ...blobs.map(digest => `blobs/${digest}`)]) {
    const { status, body } = await mirror.get(`${REPOSITORY}/${path}`)
    assert.equal(status, 200, path)
    assert.equal(digestOf(body), path.replace(/^.*\//, ''))
  }
}

/** Pulls a cold image, waits until it is in the bucket, and stops the mirror. */
async function fill(world: World): Promise<{ readonly manifest: Digest; readonly blobs: readonly Digest[] }> {
  const { manifest, config, layers } = world.upstream.putImage({
    layers: [randomBytes(700_000), randomBytes(900)],
  })
  const blobs = [config, ...layers]
  world.upstream.tag('library/tools', '1', manifest)
  await using mirror = await world.start()
  await pull(mirror, manifest, blobs)
  for (const digest of blobs) await stored(mirror, digest)
  return { manifest, blobs }
}

test('a mirror with local copies reads nothing small from the bucket, before a restart and after it', async t => {
  const world = await startWorld(t)
  const { manifest, blobs } = await fill(world)
  const before = world.reads()
  const mirror = await world.start()
  for (let round = 0; round < 2; round += 1) await pull(mirror, manifest, blobs)
  assert.equal(world.reads(), before)
  assert.equal(world.upstream.count({ path: /blobs/ }), 3)
  const { copies } = await statusOf(mirror)
  assert.equal(copies?.objects, 4)
  assert.equal(copies.misses, 0)
  assert.ok(copies.hits >= 4 && copies.bytes > 700_000 && copies.maxBytes === 64 * MiB)
  const metrics = (await mirror.admin('GET', '/metrics')).body.toString()
  assert.match(metrics, /\nentrepot_s3_cache_objects 4\n/)
  assert.match(metrics, /\nentrepot_s3_cache_reads_total\{result="hit"\} [1-9]/)
})

test('I1 I4 damaged copies are replaced by the content of the bucket, which stays as it is', async t => {
  const world = await startWorld(t)
  const { manifest, blobs } = await fill(world)
  for (const digest of [manifest, ...blobs]) {
    const [path = ''] = await world.copiesOf(digest)
    const bytes = await readFile(path)
    await writeFile(path, bytes.fill(0, 10, 20))
  }
  const asked = world.upstream.requests.length
  const mirror = await world.start()
  await pull(mirror, manifest, blobs)
  assert.equal(world.upstream.requests.length, asked)
  for (const digest of [manifest, ...blobs]) {
    assert.ok(world.stub.objects.has(contentKey(digest)))
    assert.deepEqual(await world.copiesOf(digest), [])
  }
  assert.equal(linesOf(mirror, 'stored object is damaged and was quarantined').length, 0)
})

test('I1 damaged content of the bucket is fetched again from its registry, as without copies', async t => {
  const world = await startWorld(t)
  const { manifest, blobs } = await fill(world)
  const [, large] = blobs
  assert.ok(large !== undefined)
  for (const path of await world.copiesOf(large)) await rm(path)
  world.stub.put(contentKey(large), Buffer.alloc(700_000))
  const mirror = await world.start()
  await pull(mirror, manifest, blobs)
  await stored(mirror, large)
  assert.equal(digestOf(world.stub.objects.get(contentKey(large))?.bytes ?? Buffer.alloc(0)), large)
})

test('the verification reads the bucket and not the copies, and removes both if the bucket is wrong', async t => {
  const world = await startWorld(t)
  const { blobs } = await fill(world)
  const [, large] = blobs
  assert.ok(large !== undefined)
  world.stub.put(contentKey(large), Buffer.alloc(700_000))
  const mirror = await world.start()
  await mirror.admin('POST', '/_admin/v1/verify')
  assert.equal(world.stub.objects.has(contentKey(large)), false)
  assert.deepEqual(await world.copiesOf(large), [])
})

test('entrepot rm removes the copies of what it removes', async t => {
  const world = await startWorld(t)
  const { manifest, blobs } = await fill(world)
  const mirror = await world.start()
  await pull(mirror, manifest, blobs)
  const image = `docker.io/library/tools@${manifest}`
  assert.equal((await mirror.admin('DELETE', `/_admin/v1/images?image=${image}&recursive=true`)).status, 200)
  assert.deepEqual(await world.copiesOf(manifest), [])
  world.upstream.on({}, { status: 404 })
  assert.equal((await mirror.get(`${REPOSITORY}/manifests/${manifest}`)).status, 404)
})

test('hosted content that is deleted is absent at once, whatever copies there are', async t => {
  const world = await startWorld(t)
  await using hosted = await startHosted({ config: { store: world.store } })
  const bytes = randomBytes(400_000)
  const digest = digestOf(bytes)
  const path = '/v2/registry.example.com/app/blobs'
  assert.equal((await hosted.send('POST', `${path}/uploads/?digest=${digest}`, { body: bytes })).status, 201)
  const before = world.reads()
  const pulled = await hosted.send('GET', `${path}/${digest}`)
  assert.equal(digestOf(pulled.body), digest)
  assert.equal((await world.copiesOf(digest)).length, 1)
  assert.equal(world.reads(), before)
  assert.equal((await hosted.send('DELETE', `${path}/${digest}`)).status, 202)
  assert.equal((await hosted.send('GET', `${path}/${digest}`)).status, 404)
  assert.equal((await hosted.send('HEAD', `${path}/${digest}`)).status, 404)
})

test('with --redirect a blob that clients are sent to the bucket for has no copy, and smaller ones have', async t => {
  const world = await startWorld(t)
  const store = { ...world.store, isRedirecting: true } as Config['store']
  const mirror = await world.start({ store })
  const [small, large] = [randomBytes(200_000), randomBytes(300_000)].map(bytes =>
    world.upstream.putBlob(bytes),
  )
  assert.ok(small !== undefined && large !== undefined)
  for (const digest of [small, large]) {
    await mirror.get(`${REPOSITORY}/blobs/${digest}`)
    await stored(mirror, digest)
  }
  assert.equal((await mirror.get(`${REPOSITORY}/blobs/${large}`)).status, 307)
  assert.equal((await mirror.get(`${REPOSITORY}/blobs/${small}`)).status, 200)
  assert.equal((await world.copiesOf(small)).length, 1)
  assert.equal((await world.copiesOf(large)).length, 0)
})
