import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { mkdtemp, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { SpaceConfig } from '../../src/config/config.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { readReply, startMirror, type TestMirror } from '../support/mirror.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { contentPath, linesOf, logged, until } from '../support/waiting.ts'

const MIB = 1024 * 1024

function bounded(bytes: number): { readonly space: SpaceConfig } {
  return {
    space: {
      maxSize: { kind: 'bytes', bytes },
      minFree: { kind: 'bytes', bytes: 0 },
      dynamicShare: 1,
    },
  }
}

/** Puts images of one layer each into an upstream, and returns how a client asks for them. */
function putImages(upstream: FakeUpstream, count: number, layerBytes: number): readonly PutImage[] {
  return Array.from({ length: count }, (_, number) => {
    const image = upstream.putImage({ layers: [randomBytes(layerBytes)] })
    upstream.tag('library/tools', `v${number}`, image.manifest)
    const [layer = image.config] = image.layers
    return { tag: `v${number}`, manifest: image.manifest, layer, config: image.config }
  })
}

/** A directory that outlives the mirrors declared after it. */
async function temporary(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'entrepot-space-'))
  return { path, [Symbol.asyncDispose]: async () => await rm(path, { recursive: true, force: true }) }
}

interface PutImage {
  readonly tag: string
  readonly manifest: Digest
  readonly layer: Digest
  readonly config: Digest
}

function objectsOf(images: readonly PutImage[]): number {
  return new Set(images.flatMap(({ manifest, layer, config }) => [manifest, layer, config])).size
}

const blobPath = (digest: Digest): string => `/v2/library/tools/blobs/${digest}?ns=docker.io`

async function pull(mirror: TestMirror, image: PutImage): Promise<void> {
  const manifest = await mirror.get(`/v2/library/tools/manifests/${image.tag}?ns=docker.io`)
  assert.equal(manifest.status, 200)
  for (const digest of [image.config, image.layer]) {
    const blob = await mirror.get(blobPath(digest))
    assert.equal(blob.status, 200)
    assert.equal(digestOf(blob.body), digest)
  }
}

/**
 * The bytes of all content and downloads below a root. In one go, so that nothing new begins meanwhile, and
 * content first: what moves from the downloads to the content just then is missed, never counted twice.
 */
function bytesOnDisk(root: string): number {
  let sum = 0
  for (const directory of ['blobs', 'spool', 'quarantine']) {
    const path = join(root, directory)
    if (!existsSync(path)) continue
    for (const entry of readdirSync(path, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || entry.name === 'owner') continue
      sum += statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0
    }
  }
  return sum
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}

interface Status {
  readonly space: {
    readonly objects: number
    readonly storedBytes: number
    readonly isComplete: boolean
    readonly indexState: string
  }
}

async function statusOf(mirror: TestMirror): Promise<Status['space']> {
  const reply = await mirror.admin('GET', '/_admin/v1/status')
  assert.equal(reply.status, 200)
  return (JSON.parse(reply.body.toString()) as Status).space
}

test('a blob that no manifest announced and that outgrows the cache is served whole, and nothing goes for it', async () => {
  await using upstream = await startUpstream()
  const images = putImages(upstream, 4, 2 * MIB)
  await using mirror = await startMirror({ upstream: upstream.host, config: bounded(10 * MIB) })
  for (const image of images) await pull(mirror, image)
  const large = upstream.putBlob(randomBytes(16 * MIB))
  upstream.on({ path: new RegExp(large) }, { length: 'chunked' })
  const reply = await mirror.get(blobPath(large))
  assert.equal(digestOf(reply.body), large)
  for (const { layer } of images) assert.equal(await isThere(contentPath(mirror, layer)), true)
  const messages = mirror.log.map(line => String(line['msg']))
  assert.deepEqual(
    messages.filter(message => message === 'evicted' || message.startsWith('store cannot be written')),
    [],
  )
  assert.ok(messages.some(message => message.startsWith('no room')))
})

test('three times the bound is pulled while readers hold content open, and what is on disk never exceeds the bound', async () => {
  await using upstream = await startUpstream()
  const bound = 12 * MIB
  const images = putImages(upstream, 36, MIB)
  await using mirror = await startMirror({ upstream: upstream.host, config: bounded(bound) })
  const [first, second, ...others] = images
  assert.ok(first !== undefined && second !== undefined)
  await pull(mirror, first)
  await pull(mirror, second)
  const readers = await Promise.all(
    [first, second].map(async image => await mirror.open(blobPath(image.layer))),
  )
  const work = { isOver: false }
  const sizes: number[] = []
  const watching = (async (): Promise<void> => {
    while (!work.isOver) {
      sizes.push(bytesOnDisk(mirror.root))
      await setImmediate()
    }
  })()
  for (let start = 0; start < others.length; start += 4) {
    await Promise.all(others.slice(start, start + 4).map(async image => await pull(mirror, image)))
  }
  work.isOver = true
  await watching
  assert.ok(sizes.length > 5)
  assert.ok(Math.max(...sizes) <= bound, `${Math.max(...sizes)} bytes of ${bound}`)
  assert.ok(linesOf(mirror, 'evicted').length > 0)
  for (const [position, reader] of readers.entries()) {
    const reply = await readReply(reader)
    assert.equal(digestOf(reply.body), images[position]?.layer)
    assert.equal(
      upstream.count({ method: 'GET', path: `/v2/library/tools/blobs/${images[position]?.layer}` }),
      1,
    )
  }
})

test('what is evicted is fetched again, an image that shares it stays whole, and its manifest goes last', async () => {
  await using upstream = await startUpstream()
  const images = putImages(upstream, 12, MIB)
  await using mirror = await startMirror({ upstream: upstream.host, config: bounded(6 * MIB) })
  for (const image of images) await pull(mirror, image)
  await until(() => bytesOnDisk(mirror.root) < 6 * MIB, 'the bound holds')
  const [oldest] = images
  assert.ok(oldest !== undefined)
  assert.ok(!(await isThere(contentPath(mirror, oldest.layer))))
  assert.ok(await isThere(contentPath(mirror, oldest.manifest)))
  await pull(mirror, oldest)
  assert.equal(upstream.count({ method: 'GET', path: `/v2/library/tools/blobs/${oldest.layer}` }), 2)
  assert.equal(upstream.count({ method: 'GET', path: /manifests/ }), images.length)
})

test('a blob that is larger than the bound passes through, and evicts nothing', async () => {
  await using upstream = await startUpstream()
  const [small] = putImages(upstream, 1, MIB)
  assert.ok(small !== undefined)
  const large = upstream.putImage({ layers: [randomBytes(5 * MIB)] })
  const [layer = large.config] = large.layers
  upstream.tag('library/tools', 'large', large.manifest)
  await using mirror = await startMirror({ upstream: upstream.host, config: bounded(4 * MIB) })
  await pull(mirror, small)
  await pull(mirror, { tag: 'large', manifest: large.manifest, layer, config: large.config })
  assert.ok(await isThere(contentPath(mirror, small.layer)))
  assert.ok(!(await isThere(contentPath(mirror, layer))))
  assert.equal(linesOf(mirror, 'evicted').length, 0)
})

test('what is pinned stays when everything else goes, and its protection moves with the tag', async () => {
  await using upstream = await startUpstream()
  const images = putImages(upstream, 10, MIB)
  const [pinned, next, ...others] = images
  assert.ok(pinned !== undefined && next !== undefined)
  const terms = { manifestInvalidationMs: 0 }
  await using mirror = await startMirror({
    upstream: upstream.host,
    entry: terms,
    config: bounded(5 * MIB),
  })
  assert.equal((await mirror.admin('PUT', '/_admin/v1/pins?image=tools:v0')).status, 200)
  await pull(mirror, pinned)
  for (const image of others) await pull(mirror, image)
  assert.ok(await isThere(contentPath(mirror, pinned.layer)))
  upstream.tag('library/tools', 'v0', next.manifest)
  await pull(mirror, { ...next, tag: 'v0' })
  for (const image of others) await pull(mirror, image)
  assert.ok(await isThere(contentPath(mirror, next.layer)))
  assert.ok(!(await isThere(contentPath(mirror, pinned.layer))))
})

test('eviction races with pulls of the same blobs, and every pull is whole', async () => {
  await using upstream = await startUpstream()
  const images = putImages(upstream, 8, MIB / 4)
  await using mirror = await startMirror({ upstream: upstream.host, config: bounded(64 * MIB) })
  const work = { isOver: false }
  const evicting = (async (): Promise<void> => {
    while (!work.isOver)
      assert.equal((await mirror.admin('POST', `/_admin/v1/evict?bytes=${4 * MIB}`)).status, 200)
  })()
  const pulling = images.map(async image => {
    for (let round = 0; round < 5; round += 1) await pull(mirror, image)
  })
  await Promise.all(pulling)
  work.isOver = true
  await evicting
  assert.ok(linesOf(mirror, 'evicted').length > 0)
  assert.equal(linesOf(mirror, 'storage failed').length, 0)
  await until(
    async () => (await statusOf(mirror)).storedBytes === bytesOnDisk(mirror.root),
    'the sum is exact',
  )
})

test('an index that is deleted under load is rebuilt by the next process while pulls are served', async () => {
  await using upstream = await startUpstream()
  await using directory = await temporary()
  const root = directory.path
  const images = putImages(upstream, 6, MIB / 4)
  {
    await using mirror = await startMirror({ upstream: upstream.host, root, config: bounded(64 * MIB) })
    for (const image of images.slice(0, 4)) await pull(mirror, image)
    await until(
      async () => (await statusOf(mirror)).objects === objectsOf(images.slice(0, 4)),
      'all are known',
    )
    await unlink(join(root, 'index.sqlite'))
    for (const image of images) await pull(mirror, image)
  }
  await using mirror = await startMirror({ upstream: upstream.host, root, config: bounded(64 * MIB) })
  for (const image of images) await pull(mirror, image)
  await logged(mirror, 'index is up to date with the store')
  const space = await statusOf(mirror)
  assert.deepEqual(
    { objects: space.objects, storedBytes: space.storedBytes, isComplete: space.isComplete },
    { objects: objectsOf(images), storedBytes: bytesOnDisk(root), isComplete: true },
  )
  const { images: listed } = JSON.parse((await mirror.admin('GET', '/_admin/v1/images')).body.toString()) as {
    images: readonly { readonly image: string; readonly isWhole: boolean }[]
  }
  assert.deepEqual(
    listed.map(({ image, isWhole }) => `${image} ${isWhole}`).toSorted(),
    images.map(({ tag }) => `docker.io/library/tools:${tag} true`),
  )
})

for (const [name, damage] of [
  ['overwritten', async (path: string) => await writeFile(path, randomBytes(200_000))],
  ['cut', async (path: string) => await truncate(path, 5000)],
] as const) {
  test(`an index that is ${name} while it is in use is dropped and rebuilt, and pulls do not notice`, async () => {
    await using upstream = await startUpstream()
    await using directory = await temporary()
    const root = directory.path
    const images = putImages(upstream, 6, MIB / 4)
    {
      await using mirror = await startMirror({ upstream: upstream.host, root, config: bounded(64 * MIB) })
      for (const image of images.slice(0, 3)) await pull(mirror, image)
      await statusOf(mirror)
      await damage(join(root, 'index.sqlite'))
      for (const image of images) await pull(mirror, image)
    }
    await using mirror = await startMirror({ upstream: upstream.host, root, config: bounded(64 * MIB) })
    for (const image of images) await pull(mirror, image)
    await until(async () => {
      const { isComplete, objects } = await statusOf(mirror)
      return isComplete && objects === objectsOf(images)
    }, 'the index is rebuilt')
    assert.equal((await statusOf(mirror)).storedBytes, bytesOnDisk(root))
  })
}

test('a second process on the same store leaves the bounds to the first, and serves', async () => {
  await using upstream = await startUpstream()
  const images = putImages(upstream, 2, MIB / 4)
  await using first = await startMirror({ upstream: upstream.host, config: bounded(64 * MIB) })
  assert.equal((await statusOf(first)).indexState, 'open')
  await using second = await startMirror({
    upstream: upstream.host,
    root: first.root,
    config: bounded(64 * MIB),
  })
  await until(async () => (await statusOf(second)).indexState === 'locked', 'the second finds it locked')
  for (const image of images) await pull(second, image)
  for (const image of images) await pull(first, image)
  assert.equal((await statusOf(first)).indexState, 'open')
})

test('when the first of two processes ends, the second takes the index over and finds what is there', async () => {
  await using upstream = await startUpstream()
  await using directory = await temporary()
  const root = directory.path
  const images = putImages(upstream, 2, MIB / 4)
  const clock = { ...systemClock, skippedMs: 0, monotonicMs: () => performance.now() + clock.skippedMs }
  const first = await startMirror({ upstream: upstream.host, root, config: bounded(64 * MIB) })
  await statusOf(first)
  await using second = await startMirror({
    upstream: upstream.host,
    root,
    config: bounded(64 * MIB),
    overrides: { clock },
  })
  await until(async () => (await statusOf(second)).indexState === 'locked', 'the second finds it locked')
  for (const image of images) await pull(second, image)
  await statusOf(second)
  await first[Symbol.asyncDispose]()
  clock.skippedMs = 61_000
  await until(async () => {
    const { isComplete, objects } = await statusOf(second)
    return isComplete && objects === objectsOf(images)
  }, 'the second knows everything')
})

test('over a store without an index, administration says what it cannot tell and does the rest', async () => {
  await using upstream = await startUpstream()
  const [image] = putImages(upstream, 1, MIB / 4)
  assert.ok(image !== undefined)
  await using mirror = await startMirror({ upstream: upstream.host, overrides: { store: new MemoryStore() } })
  assert.equal((await mirror.admin('POST', '/_admin/v1/warm?image=tools:v0')).status, 200)
  assert.equal(await statusOf(mirror), null)
  for (const [method, path] of [
    ['GET', 'images'],
    ['GET', 'blobs'],
    ['POST', 'evict'],
  ] as const) {
    const reply = await mirror.admin(method, `/_admin/v1/${path}`)
    assert.equal(reply.status, 405)
    assert.match(reply.body.toString(), /keeps no index/)
  }
  assert.equal((await mirror.admin('GET', '/_admin/v1/explain?image=tools:v0')).status, 200)
  assert.equal((await mirror.admin('DELETE', '/_admin/v1/images?image=tools:v0')).status, 200)
  await pull(mirror, image)
  assert.equal(upstream.count({ method: 'GET', path: `/v2/library/tools/blobs/${image.layer}` }), 1)
  assert.equal(upstream.count({ method: 'GET', path: /manifests/ }), 2)
})

test('links that outlived their content go with the next walk, and those of cached manifests stay', async () => {
  await using upstream = await startUpstream()
  await using directory = await temporary()
  const root = directory.path
  const [image] = putImages(upstream, 1, MIB)
  assert.ok(image !== undefined)
  const linkPath = (digest: Digest): string =>
    join(root, 'repositories/docker.io/library/tools/_links', digest.replace(':', '/'))
  const dead = digestOf(Buffer.from('what was evicted long ago'))
  {
    await using mirror = await startMirror({ upstream: upstream.host, root, config: bounded(64 * MIB) })
    assert.equal((await mirror.get('/v2/library/tools/manifests/v0?ns=docker.io')).status, 200)
    await until(async () => await isThere(linkPath(image.layer)), 'the manifest is linked')
  }
  await writeFile(linkPath(dead), '')
  await unlink(join(root, 'index.sqlite'))
  await using mirror = await startMirror({ upstream: upstream.host, root, config: bounded(64 * MIB) })
  await logged(mirror, 'index is up to date with the store')
  assert.equal(await isThere(linkPath(dead)), false)
  assert.equal(await isThere(linkPath(image.layer)), true, 'a cached manifest names it')
  assert.equal(await isThere(linkPath(image.manifest)), true)
  assert.equal(linesOf(mirror, 'index is up to date with the store')[0]?.['deadLinks'], 1)
})
