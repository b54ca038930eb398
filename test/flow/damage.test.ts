import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { appendFile, mkdir, mkdtemp, open, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { type Digest, digestOf, hexOf } from '../../src/oci/digest.ts'
import { startMirror } from '../support/mirror.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { contentPath, linesOf, stored } from '../support/waiting.ts'

const SIZE = 1_000_000

async function flip(path: string, position: number): Promise<void> {
  await using file = await open(path, 'r+')
  const byte = new Uint8Array(1)
  await file.read(byte, 0, 1, position)
  await file.write(Uint8Array.of((byte[0] ?? 0) ^ 1), 0, 1, position)
}

/** What can happen to a file behind our back. `isFound`: it is taken for damaged, not for absent. */
const DAMAGES: readonly {
  readonly title: string
  readonly isFound: boolean
  readonly make: (path: string) => Promise<unknown>
}[] = [
  { title: 'has a flipped bit', isFound: true, make: async path => await flip(path, 100) },
  { title: 'is cut short', isFound: true, make: async path => await truncate(path, 50) },
  { title: 'is empty', isFound: true, make: async path => await truncate(path, 0) },
  { title: 'has a byte too many', isFound: true, make: async path => await appendFile(path, 'x') },
  { title: 'is deleted', isFound: false, make: async path => await rm(path) },
  {
    title: 'is replaced by a directory',
    isFound: true,
    make: async path => {
      await rm(path)
      await mkdir(join(path, 'inner'), { recursive: true })
    },
  },
]

async function roomFor(): Promise<{ readonly root: string } & AsyncDisposable> {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-flow-'))
  return { root, [Symbol.asyncDispose]: async () => await rm(root, { recursive: true, force: true }) }
}

function fetches(upstream: FakeUpstream, digest: Digest): number {
  return upstream.count({ method: 'GET', where: ({ path }) => path.endsWith(digest) })
}

for (const { title, isFound, make } of DAMAGES) {
  test(`I4 a stored blob that ${title}, while we run or while we do not, is fetched again within the request that finds it`, async () => {
    await using room = await roomFor()
    const { root } = room
    await using upstream = await startUpstream()
    const bytes = randomBytes(SIZE)
    const digest = upstream.putBlob(bytes)
    const path = `/v2/team/app/blobs/${digest}`
    for (let round = 0; round < 2; round += 1) {
      await using mirror = await startMirror({ upstream: upstream.host, root })
      // In the first round it is damaged while we run, after that while we did not.
      if (round === 0) {
        await mirror.get(path)
        await stored(mirror, digest)
        await make(contentPath(mirror, digest))
      }
      const before = fetches(upstream, digest)
      const reply = await mirror.get(path)
      assert.equal(reply.isComplete, true)
      assert.deepEqual(reply.body, bytes)
      assert.equal(fetches(upstream, digest), before + 1)
      await stored(mirror, digest, round === 0 ? 2 : 1)
      assert.equal(linesOf(mirror, 'stored object is damaged and was quarantined').length, isFound ? 1 : 0)
      if (isFound) assert.ok((await readdir(join(root, 'quarantine'))).length > round)
      const healed = await mirror.get(path)
      assert.equal(healed.headers['cache-status'], 'entrepot; hit')
      assert.deepEqual(healed.body, bytes)
      await make(contentPath(mirror, digest))
    }
  })

  test(`I4 a stored manifest that ${title} while we do not run is fetched again`, async () => {
    await using room = await roomFor()
    const { root } = room
    await using upstream = await startUpstream()
    const image = upstream.putImage({ layers: ['a layer, so that there are more than a hundred bytes'] })
    upstream.tag('team/app', 'v1', image.manifest)
    for (let round = 0; round < 2; round += 1) {
      await using mirror = await startMirror({ upstream: upstream.host, root })
      for (const reference of ['v1', image.manifest]) {
        const reply = await mirror.get(`/v2/team/app/manifests/${reference}`)
        assert.equal(reply.status, 200)
        assert.deepEqual(reply.body, Buffer.from(image.manifestBytes))
      }
      if (round === 0) await make(contentPath(mirror, image.manifest))
    }
    assert.equal(fetches(upstream, image.manifest), 2)
  })
}

test('I4 a stored blob of 65 MiB with a wrong byte never completes, is quarantined, and the next request heals', async () => {
  await using upstream = await startUpstream()
  const bytes = Buffer.alloc(65 * 1024 * 1024, 'entrepot')
  const digest = upstream.putBlob(bytes)
  await using mirror = await startMirror({ upstream: upstream.host })
  await mkdir(dirname(contentPath(mirror, digest)), { recursive: true })
  await writeFile(contentPath(mirror, digest), bytes)
  await flip(contentPath(mirror, digest), 1000)
  const path = `/v2/team/app/blobs/${digest}`
  const reply = await mirror.get(path)
  assert.equal(reply.status, 200)
  assert.equal(reply.isComplete, false)
  assert.ok(reply.body.byteLength <= bytes.byteLength - 64 * 1024)
  assert.equal(linesOf(mirror, 'stored object is damaged and was quarantined').length, 1)
  const healed = await mirror.get(path)
  assert.equal(healed.isComplete, true)
  assert.equal(digestOf(healed.body), digest)
  assert.equal(fetches(upstream, digest), 1)
})

test("oci-registry's layout: a blob file under blobs/sha256/xx/rest is served after one HEAD and without a GET", async () => {
  await using upstream = await startUpstream()
  const bytes = randomBytes(SIZE)
  const digest = upstream.putBlob(bytes)
  await using mirror = await startMirror({ upstream: upstream.host })
  const hex = hexOf(digest)
  const directory = join(mirror.root, 'blobs', 'sha256', hex.slice(0, 2))
  await mkdir(directory, { recursive: true })
  await writeFile(join(directory, hex.slice(2)), bytes)
  for (let round = 0; round < 2; round += 1) {
    const reply = await mirror.get(`/v2/team/app/blobs/${digest}`)
    assert.equal(reply.headers['cache-status'], 'entrepot; hit')
    assert.deepEqual(reply.body, bytes)
  }
  assert.deepEqual(
    upstream.requests.map(request => request.method),
    ['HEAD'],
  )
})

test("oci-registry's layout: a damaged blob file is not believed, but fetched again", async () => {
  await using upstream = await startUpstream()
  const bytes = randomBytes(SIZE)
  const digest = upstream.putBlob(bytes)
  await using mirror = await startMirror({ upstream: upstream.host })
  await mkdir(dirname(contentPath(mirror, digest)), { recursive: true })
  await writeFile(contentPath(mirror, digest), bytes.subarray(1))
  const reply = await mirror.get(`/v2/team/app/blobs/${digest}`)
  assert.equal(reply.isComplete, true)
  assert.deepEqual(reply.body, bytes)
  assert.equal(fetches(upstream, digest), 1)
})

for (const garbage of ['', 'not json', '{"digest":"sha256:1","checkedAt":"yesterday"}', '[]', 'null']) {
  test(`I4 a tag record that holds ${JSON.stringify(garbage)} is asked of the upstream again`, async () => {
    await using room = await roomFor()
    const { root } = room
    await using upstream = await startUpstream()
    const image = upstream.putImage()
    upstream.tag('team/app', 'v1', image.manifest)
    for (let round = 1; round <= 2; round += 1) {
      await using mirror = await startMirror({ upstream: upstream.host, root })
      assert.equal((await mirror.get('/v2/team/app/manifests/v1')).status, 200)
      assert.equal(upstream.count({ method: 'HEAD' }), round)
      await writeFile(join(root, 'repositories/docker.io/team/app/_tags/v1'), garbage)
    }
  })
}
