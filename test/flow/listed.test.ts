import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ImageList } from '../../src/admin/contract.ts'
import { runCommandLine } from '../cli/rig.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'
import { stored, until } from '../support/waiting.ts'

async function imagesOf(mirror: TestMirror, query = ''): Promise<ImageList> {
  const reply = await mirror.admin('GET', `/_admin/v1/images?${query}`)
  assert.equal(reply.status, 200, reply.body.toString())
  return JSON.parse(reply.body.toString()) as ImageList
}

async function isListed(mirror: TestMirror, name: string): Promise<boolean> {
  return (await imagesOf(mirror)).images.some(({ image }) => image === name)
}

async function entrepot(mirror: TestMirror, ...argv: readonly string[]): ReturnType<typeof runCommandLine> {
  const env = { ENTREPOT_ADMIN: `http://${mirror.daemon.addresses.admin}` }
  return await runCommandLine(argv, { env })
}

for (const workers of [1, 2]) {
  test(`an image that was only pulled by digest is listed with its uses, with ${workers} threads`, async () => {
    await using upstream = await startUpstream()
    const image = upstream.putImage({ layers: [randomBytes(1000)] })
    await using mirror = await startMirror({ upstream: upstream.host, config: { workers } })
    upstream.tag('team/app', 'v1', image.manifest)
    const path = `/v2/team/app/manifests/${image.manifest}?ns=docker.io`
    for (const _ of [1, 2, 3]) assert.equal((await mirror.get(path)).status, 200)
    const name = `docker.io/team/app@${image.manifest}`
    await until(async () => {
      const { images } = await imagesOf(mirror)
      return images.some(({ image: listed, hits }) => listed === name && hits === 2)
    }, 'it is listed with its hits')
    const { stdout } = await entrepot(mirror, 'ls')
    assert.match(stdout, new RegExp(`^docker.io/team/app@${image.manifest.slice(7, 19)} +`, 'm'))
  })
}

test('the uses of two tags of one digest are told apart', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [randomBytes(1000)] })
  for (const tag of ['a', 'b']) upstream.tag('team/app', tag, image.manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  for (const tag of ['a', 'b', 'b', 'b']) await mirror.get(`/v2/team/app/manifests/${tag}`)
  const { images } = await imagesOf(mirror)
  assert.deepEqual(
    images.map(({ image: name, hits }) => [name, hits]),
    [
      ['docker.io/team/app:a', 0],
      ['docker.io/team/app:b', 3],
    ],
  )
})

test('an image by digest is listed again after the index was lost, and until then the output says so', async () => {
  await using upstream = await startUpstream()
  const child = upstream.putImage({ layers: [randomBytes(1000)] })
  const index = upstream.putIndex([child.manifest])
  const alone = upstream.putImage({ layers: [randomBytes(1000)] })
  const mirror = await startMirror({ upstream: upstream.host })
  await using _ = mirror
  for (const digest of [index, child.manifest, alone.manifest])
    assert.equal((await mirror.get(`/v2/team/app/manifests/${digest}`)).status, 200)
  await mirror.get(`/v2/team/app/blobs/${alone.config}`)
  await stored(mirror, alone.config)
  await until(async () => await isListed(mirror, `docker.io/team/app@${alone.manifest}`), 'it is listed')
  const { root, daemon } = mirror
  await daemon.stop()
  for (const suffix of ['', '-wal']) await rm(join(root, `index.sqlite${suffix}`), { force: true })
  await using second = await startMirror({ upstream: upstream.host, root })
  const first = await entrepot(second, 'ls')
  if (!/^docker/m.test(first.stdout)) assert.match(first.stderr, /the index is being rebuilt from the store/)
  await until(async () => (await imagesOf(second)).isComplete, 'the index is complete')
  const { images, total } = await imagesOf(second)
  assert.deepEqual(
    images.map(({ image }) => image),
    [index, alone.manifest].map(digest => `docker.io/team/app@${digest}`).toSorted(),
  )
  assert.equal(total, 2)
  assert.equal((await entrepot(second, 'ls')).stderr, '')
})

test('every command takes a digest as ls prints it, and refuses one that means several images', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [randomBytes(1000)] })
  for (const repository of ['team/one', 'team/two']) upstream.tag(repository, 'v1', image.manifest)
  const other = upstream.putImage({ layers: [randomBytes(1000)] })
  upstream.tag('team/other', 'v1', other.manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  for (const name of ['one', 'two', 'other']) await mirror.get(`/v2/team/${name}/manifests/v1`)
  const short = image.manifest.slice(7, 19)
  const otherShort = other.manifest.slice(7, 19)
  assert.match((await entrepot(mirror, 'explain', otherShort)).stdout, /^docker\.io\/team\/other@sha256:/)
  assert.match(
    (await entrepot(mirror, 'explain', `team/one@${short}`)).stdout,
    new RegExp(`^docker\\.io/team/one@${image.manifest}`),
  )
  const ambiguous = await entrepot(mirror, 'rm', short)
  assert.equal(ambiguous.code, 1)
  assert.match(ambiguous.stderr, /means more than one: docker\.io\/team\/(?:one|two)@sha256:.*, docker\.io/)
  const nobody = await entrepot(mirror, 'explain', `team/one@${'0'.repeat(12)}`)
  assert.match(nobody.stderr, /no cached image has a digest that begins as "team\/one@0{12}" does/)
  assert.equal((await entrepot(mirror, 'pin', `sha256:${otherShort}`)).code, 0)
  assert.equal((await entrepot(mirror, 'unpin', otherShort)).code, 0)
  assert.match((await entrepot(mirror, 'rm', otherShort)).stdout, /^removed docker\.io\/team\/other@sha256/)
  const blob = await entrepot(mirror, 'ls', '--blobs', '--no-trunc')
  assert.match(blob.stdout, /^sha256:[0-9a-f]{64} /m)
})

test('ls lists what a pattern or a registry selects, sorts it, and says what a limit leaves out', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host })
  await until(async () => (await imagesOf(mirror)).isComplete, 'the index is complete')
  for (const [number, name] of ['small', 'middle', 'large'].entries()) {
    const image = upstream.putImage({ layers: [randomBytes(1000 * 10 ** number)] })
    upstream.tag(`team/${name}`, 'v1', image.manifest)
    await mirror.get(`/v2/team/${name}/manifests/v1`)
    for (const digest of [image.config, ...image.layers]) {
      await mirror.get(`/v2/team/${name}/blobs/${digest}`)
      await stored(mirror, digest)
    }
  }
  const namesOf = (stdout: string): readonly string[] =>
    [...stdout.matchAll(/^docker\.io\/team\/(\w+):v1/gm)].map(([, name = '']) => name)
  assert.deepEqual(namesOf((await entrepot(mirror, 'ls')).stdout), ['large', 'middle', 'small'])
  assert.deepEqual(namesOf((await entrepot(mirror, 'ls', 'team/[lm]*')).stdout), [])
  assert.deepEqual(namesOf((await entrepot(mirror, 'ls', 'docker.io/team/*l')).stdout), ['small'])
  assert.deepEqual(namesOf((await entrepot(mirror, 'ls', 'docker.io')).stdout), ['large', 'middle', 'small'])
  assert.equal((await entrepot(mirror, 'ls', '--registry', 'ghcr.io')).stdout, 'nothing stored matches\n')
  const sorted = await entrepot(mirror, 'ls', '--sort', 'size', '--limit', '2')
  assert.deepEqual(namesOf(sorted.stdout), ['large', 'middle'])
  assert.equal(sorted.stderr, 'entrepot: 1 more is left out: --limit is 2\n')
})

test('rm by pattern removes what matches and nothing else, and a dry run says so beforehand', async () => {
  await using upstream = await startUpstream()
  const layers = [randomBytes(5000)]
  await using mirror = await startMirror({ upstream: upstream.host })
  for (const name of ['app:1', 'app:2', 'other:1']) {
    const [repository = '', tag = ''] = name.split(':')
    const image = upstream.putImage({ layers, config: { os: 'linux', name } })
    upstream.tag(`team/${repository}`, tag, image.manifest)
    await mirror.get(`/v2/team/${repository}/manifests/${tag}`)
    for (const digest of [image.config, ...image.layers])
      await mirror.get(`/v2/team/${repository}/blobs/${digest}`)
    await stored(mirror, image.config)
  }
  const bytesOf = (stdout: string): string => /^.* 2 images: (.*)$/m.exec(stdout)?.[1] ?? ''
  assert.equal((await entrepot(mirror, 'pin', 'team/other:1')).code, 0)
  const dry = await entrepot(mirror, 'rm', 'team/app:*', '--dry-run')
  assert.equal(dry.code, 0)
  assert.match(dry.stdout, /^would remove docker\.io\/team\/app:1: /)
  assert.match(dry.stdout, /would remove 2 images: 4 objects, /)
  assert.equal((await imagesOf(mirror)).total, 3)
  const done = await entrepot(mirror, 'rm', 'team/app:*')
  assert.equal(done.stderr, '')
  assert.equal(bytesOf(done.stdout), bytesOf(dry.stdout))
  assert.deepEqual(
    (await imagesOf(mirror)).images.map(({ image, isWhole }) => [image, isWhole]),
    [['docker.io/team/other:1', true]],
  )
  const pinned = await entrepot(mirror, 'rm', '--registry', 'docker.io')
  assert.equal(pinned.code, 1)
  assert.match(pinned.stderr, /^entrepot: docker\.io\/team\/other:1: the image is pinned/)
  assert.equal((await entrepot(mirror, 'rm', '*', '--unused-for', '1h')).stdout, 'nothing was removed\n')
  assert.equal((await entrepot(mirror, 'unpin', 'team/nobody:1', 'team/other:1')).code, 1)
  assert.match((await entrepot(mirror, 'rm', '*', '--unused-for', '0s')).stdout, /removed 1 image: 3 objects/)
  const { body } = await mirror.admin('GET', '/_admin/v1/blobs')
  assert.deepEqual((JSON.parse(body.toString()) as { readonly blobs: readonly unknown[] }).blobs, [])
})

test('a second process on the directory says that the first one has the index, and explains what needs none', async () => {
  await using upstream = await startUpstream()
  upstream.tag('team/app', 'v1', upstream.putImage({ layers: [] }).manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  await mirror.get('/v2/team/app/manifests/v1')
  await until(async () => await isListed(mirror, 'docker.io/team/app:v1'), 'it is listed')
  await using second = await startMirror({ upstream: upstream.host, root: mirror.root })
  for (const argv of [['ls'], ['ls', '--blobs'], ['rm', 'team/app:v1'], ['rm', '*'], ['gc']]) {
    const ran = await entrepot(second, ...argv)
    assert.equal(ran.code, 1, argv.join(' '))
    assert.match(ran.stderr, /another process uses this cache directory and has its index/)
  }
  const explained = await entrepot(second, 'explain', 'team/app:v1')
  assert.match(explained.stdout, /^docker\.io\/team\/app:v1\ncached /)
  assert.match((await entrepot(second, 'status')).stdout, /\n {2}another process uses this cache directory/)
})

test('warm of a platform that the image lacks fails and names those that it has, with and without an index', async () => {
  await using upstream = await startUpstream()
  const config = { os: 'linux', architecture: 'arm', variant: 'v7' }
  const image = upstream.putImage({ layers: [randomBytes(1000)], config })
  upstream.tag('team/app', 'index', upstream.putIndex([image.manifest]))
  upstream.tag('team/app', 'single', image.manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  for (const [tag, has] of [
    ['index', 'linux/amd64'],
    ['single', 'linux/arm/v7'],
  ] as const) {
    const ran = await entrepot(mirror, 'warm', `team/app:${tag}`, '--platform', 'linux/mips64')
    assert.equal(ran.code, 1)
    assert.match(ran.stderr, new RegExp(`no manifest for linux/mips64, only for ${has}\n`))
    assert.equal((await entrepot(mirror, 'warm', `team/app:${tag}`, '--platform', has)).code, 0)
  }
})

test('prune removes the image that a tag has left and keeps the one that it leads to, and the one in use by digest', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host, entry: { manifestInvalidationMs: 0 } })
  const images = ['old', 'new', 'pulled'].map(name => upstream.putImage({ config: { name }, layers: [] }))
  const [old, next, pulled] = images
  assert.ok(old !== undefined && next !== undefined && pulled !== undefined)
  for (const { manifest } of [old, next]) {
    upstream.tag('team/app', 'v1', manifest)
    await mirror.get('/v2/team/app/manifests/v1')
  }
  await mirror.get(`/v2/team/app/manifests/${pulled.manifest}`)
  assert.equal((await imagesOf(mirror)).total, 3)
  assert.equal((await entrepot(mirror, 'prune')).stdout, 'nothing was removed\n')
  const dry = await entrepot(mirror, 'prune', '--unused-for', '0s', '--dry-run')
  assert.match(dry.stdout, /would remove 2 images: /)
  assert.equal((await entrepot(mirror, 'pin', `team/app@${pulled.manifest}`)).code, 0)
  const ran = await entrepot(mirror, 'prune', '--unused-for', '0s')
  assert.match(ran.stdout, new RegExp(`^removed docker.io/team/app@${old.manifest}: 1 object`))
  assert.match(ran.stderr, /the image is pinned/)
  assert.deepEqual(
    (await imagesOf(mirror)).images.map(({ digest }) => digest),
    [pulled.manifest, next.manifest],
  )
})

test('gc --dry-run counts what gc then evicts, and evicts nothing', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host })
  for (const name of ['one', 'two', 'three']) {
    const image = upstream.putImage({ layers: [randomBytes(100_000)], config: { name } })
    upstream.tag(`team/${name}`, 'v1', image.manifest)
    await mirror.get(`/v2/team/${name}/manifests/v1`)
    for (const digest of image.layers) {
      await mirror.get(`/v2/team/${name}/blobs/${digest}`)
      await stored(mirror, digest)
    }
  }
  const dry = await entrepot(mirror, 'gc', '--free', '150kB', '--dry-run')
  assert.equal(dry.stdout, 'would evict 2 objects, 195 KiB\n')
  assert.equal((await imagesOf(mirror)).images.filter(({ cachedBytes }) => cachedBytes > 100_000).length, 3)
  assert.equal((await entrepot(mirror, 'gc', '--free', '150kB')).stdout, 'evicted 2 objects, 195 KiB\n')
})
