import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { after, before, test } from 'node:test'
import { digestOf } from '../../src/oci/digest.ts'
import { type Ran, runCommandLine } from '../cli/rig.ts'
import { DistributionTree } from '../support/distribution-tree.ts'
import { type HostedMirror, startHosted } from '../support/hosted.ts'
import { startS3Stub } from '../support/s3-stub.ts'

let hosted: HostedMirror

before(async () => {
  hosted = await startHosted({})
})

after(async () => await hosted[Symbol.asyncDispose]())

const PREFIX = ['--prefix', 'registry.example.com'] as const

async function imported(tree: DistributionTree, ...more: readonly string[]): Promise<Ran> {
  const env = { ENTREPOT_REGISTRY: `http://${hosted.address}` }
  return await runCommandLine(['import', tree.root, ...PREFIX, ...more], { env })
}

async function digestAt(name: string, reference: string): Promise<string | undefined> {
  const reply = await hosted.send('GET', `/v2/registry.example.com/${name}/manifests/${reference}`)
  if (reply.status === 404) return undefined
  assert.equal(reply.status, 200)
  assert.equal(digestOf(reply.body), reply.headers['docker-content-digest'])
  return digestOf(reply.body)
}

test('a dry run sends nothing, a run takes over indexes, tags and referrers, and a second run has nothing to do', async () => {
  await using tree = await DistributionTree.make()
  const layer = randomBytes(2_500_000)
  const images = [
    await tree.image('one/app', { layers: [layer] }),
    await tree.image('one/app', { layers: [layer, Buffer.from('arm')] }),
  ]
  const index = await tree.index('one/app', images)
  await tree.tag('one/app', 'v1', index)
  const subject = { mediaType: 'application/vnd.oci.image.index.v1+json', digest: index, size: 1 }
  const signature = await tree.image('one/app', { layers: [], extra: { subject } })
  const nested = await tree.image('one/app/nested', { layers: [layer] })
  await tree.tag('one/app/nested', 'latest', nested)
  await tree.blob('one/app', Buffer.from('an orphan'))

  const dry = await imported(tree, '--dry-run')
  assert.equal(dry.code, 0, dry.stdout + dry.stderr)
  assert.match(dry.stdout, /would import 2 tags, 5 manifests, 5 blobs, .* of 2 repositories\n$/)
  assert.equal(await digestAt('one/app', 'v1'), undefined)

  const ran = await imported(tree)
  assert.equal(ran.code, 0, ran.stdout + ran.stderr)
  assert.match(ran.stdout, /registry\.example\.com\/one\/app {2}1 tag, 4 manifests, 3 blobs, 2\.38 MiB\n/)
  // The layer of the nested repository is mounted.
  assert.match(ran.stdout, /one\/app\/nested {2}1 tag, 1 manifest, 2 blobs, 0 B\n/)
  assert.equal(await digestAt('one/app', 'v1'), index)
  for (const image of images) assert.equal(await digestAt('one/app', image), image)
  assert.equal(await digestAt('one/app/nested', 'latest'), nested)
  const name = '/v2/registry.example.com/one/app'
  const referrers = JSON.parse(String((await hosted.send('GET', `${name}/referrers/${index}`)).body))
  assert.deepEqual(
    referrers.manifests.map(({ digest }: { digest: string }) => digest),
    [signature],
  )
  assert.deepEqual((await hosted.send('GET', `${name}/blobs/${digestOf(layer)}`)).body, layer)

  const again = await imported(tree)
  assert.equal(again.code, 0)
  assert.match(again.stdout, /imported 0 tags, 0 manifests, 0 blobs, 0 B, of 2 repositories\n$/)
})

test('what is damaged or missing is named with all that depends on it, the rest is imported, and the exit code is 1', async () => {
  await using tree = await DistributionTree.make()
  const [whole, broken, gone] = [
    await tree.image('two', { layers: [Buffer.from('whole')] }),
    await tree.image('two', { layers: [randomBytes(3_000_000)] }),
    await tree.image('two', { layers: [Buffer.from('gone')] }),
  ]
  const damagedLayer = randomBytes(2_000_000)
  const half = await tree.image('two', { layers: [damagedLayer] })
  const index = await tree.index('two', [whole, half])
  const digests = { whole, broken, gone, half, index }
  for (const [tag, digest] of Object.entries(digests)) await tree.tag('two', tag, digest)
  await tree.damage(broken)
  await tree.damage(digestOf(damagedLayer))
  await tree.remove(tree.dataOf(digestOf(Buffer.from('gone'))))
  await tree.tag('two', 'deleted', digestOf(Buffer.from('a manifest that was deleted')))
  await writeFile(tree.path('repositories/two/_manifests/tags/deleted/current/link'), '')

  for (const mode of ['--dry-run', '--tagged-only']) {
    const { stdout, code } = await imported(tree, mode)
    assert.equal(code, 1)
    assert.match(stdout, new RegExp(`manifest ${broken}: it is damaged`))
    assert.match(stdout, new RegExp(`manifest ${gone}: blob sha256:[0-9a-f]+: its bytes are missing`))
    assert.match(
      stdout,
      new RegExp(`manifest ${half}: blob sha256:[0-9a-f]+: it is damaged: its 7 bytes hash to`),
    )
    assert.match(
      stdout,
      new RegExp(`manifest ${index}: it names the manifest ${half}, which is not imported`),
    )
    assert.match(stdout, /tag deleted: its link has no digest/)
    for (const tag of ['broken', 'gone', 'half', 'index'] as const)
      assert.match(stdout, new RegExp(`tag ${tag}: its manifest ${digests[tag]} is not imported`))
    assert.match(
      stdout,
      /(?:would import|imported) 1 tag, 1 manifest, 2 blobs.*\n9 things are not imported: see above\n$/,
    )
  }
  assert.equal(await digestAt('two', 'whole'), whole)
  assert.equal(await digestAt('two', 'half'), undefined)
})

test('a repository that no claim covers is refused with the claim to add, and others are imported', async () => {
  await using tree = await DistributionTree.make()
  const image = await tree.image('three', { layers: [] })
  await tree.tag('three', 'v1', image)
  const env = { ENTREPOT_REGISTRY: `http://${hosted.address}` }
  for (const [prefix, claim] of [
    [[], 'docker.io/**'],
    [['--prefix', 'docker.io/acme'], 'docker.io/acme/**'],
  ] as const) {
    const { stdout, code } = await runCommandLine(['import', tree.root, ...prefix, '--dry-run'], { env })
    assert.equal(code, 1)
    assert.ok(stdout.includes(`add "- names: ${claim}" to the section hosted of the upstream file`), stdout)
  }
})

test('names in the directory cannot command the terminal', async () => {
  await using tree = await DistributionTree.make()
  await tree.image('eight/\u001B[2J\u202Ehidden', { layers: [] })
  const { stdout, code } = await imported(tree)
  assert.equal(code, 1)
  assert.match(stdout, /eight\/\[U\+001B\]\[2J\[U\+202E\]hidden {2}NOT IMPORTED: it is not the name/)
  for (const hidden of ['\u001B', '\u202E']) assert.ok(!stdout.includes(hidden))
})

test('a tag that was moved in the target since is not moved back without --move-tags', async () => {
  await using tree = await DistributionTree.make()
  const [old, recent] = [
    await tree.image('four', { layers: [Buffer.from('old')] }),
    await tree.image('four', { layers: [Buffer.from('recent')] }),
  ]
  await tree.tag('four', 'latest', recent)
  assert.equal((await imported(tree)).code, 0)
  await tree.tag('four', 'latest', old)
  const kept = await imported(tree)
  assert.equal(kept.code, 1)
  assert.match(kept.stdout, new RegExp(`tag latest: it names ${recent} there, and ${old} here`))
  assert.equal(await digestAt('four', 'latest'), recent)
  assert.equal((await imported(tree, '--move-tags')).code, 0)
  assert.equal(await digestAt('four', 'latest'), old)
})

test('--only chooses repositories, and --tagged-only leaves out what no tag leads to', async () => {
  await using tree = await DistributionTree.make()
  const tagged = await tree.image('five/a', { layers: [Buffer.from('tagged')] })
  const loose = await tree.image('five/a', { layers: [Buffer.from('loose')] })
  await tree.tag('five/a', 'v1', tagged)
  await tree.tag('five/b', 'v1', await tree.image('five/b', { layers: [] }))
  const { stdout, code } = await imported(tree, '--only', '*/a', '--tagged-only')
  assert.equal(code, 0)
  assert.match(stdout, /imported 1 tag, 1 manifest, 2 blobs, .*, of 1 repository\n$/)
  assert.equal(await digestAt('five/a', loose), undefined)
  assert.equal(await digestAt('five/b', 'v1'), undefined)
})

test('the times of tags keep their order, so that retention keeps the same ones', async () => {
  await using tree = await DistributionTree.make()
  const image = await tree.image('six', { layers: [] })
  for (const [tag, at] of [
    ['a', 3],
    ['b', 1],
    ['c', 2],
  ] as const)
    await tree.tag('six', tag, image, 1_700_000_000 + at)
  assert.equal((await imported(tree)).code, 0)
  const movedAt = async (tag: string): Promise<string> => {
    const reply = await hosted.admin('GET', `/_admin/v1/history?image=registry.example.com/six:${tag}`)
    return JSON.parse(String(reply.body)).moves[0].at
  }
  const times = [await movedAt('b'), await movedAt('c'), await movedAt('a')]
  assert.deepEqual(times, times.toSorted())
})

test('a bucket is imported like a directory, with the times of its tags', async () => {
  await using tree = await DistributionTree.make()
  await using stub = await startS3Stub({ pageSize: 5 })
  const layer = randomBytes(300_000)
  const image = await tree.image('seven/a', { layers: [layer] })
  const broken = await tree.image('seven/b', { layers: [Buffer.from('damaged later')] })
  await tree.tag('seven/a', 'old', image, 1_700_000_001)
  await tree.tag('seven/a', 'new', image, 1_700_000_002)
  await tree.tag('seven/b', 'v1', broken)
  await tree.damage(broken)
  for (const file of await readdir(tree.root, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    const path = join(file.parentPath, file.name)
    const [bytes, { mtimeMs }] = [await readFile(path), await stat(path)]
    const etag = `"${digestOf(bytes).slice(7, 39)}"`
    stub.objects.set(`root/${relative(tree.root, path)}`, { bytes, etag, modifiedAtMs: mtimeMs })
  }
  const env = {
    ENTREPOT_REGISTRY: `http://${hosted.address}`,
    SOURCE_S3_HOST: stub.endpoint,
    SOURCE_S3_ACCESS_KEY: 'key',
    SOURCE_S3_SECRET_KEY: 'secret',
  }
  const bucket = `s3://${stub.bucket}/root/`
  const { stdout, stderr, code } = await runCommandLine(['import', bucket, ...PREFIX], { env })
  assert.equal(code, 1, stderr)
  assert.match(stdout, /seven\/a {2}2 tags, 1 manifest, 2 blobs, 293 KiB\n/)
  assert.match(stdout, new RegExp(`manifest ${broken}: it is damaged`))
  assert.equal(await digestAt('seven/a', 'new'), image)
  const gone = await runCommandLine(['import', `s3://${stub.bucket}/other`, ...PREFIX], { env })
  assert.equal(gone.code, 1)
  assert.match(gone.stderr, /is not the storage of a registry/)
})

for (const [argv, problem] of [
  [['import'], /needs a directory or a bucket/],
  [['import', '/a', '/b'], /unexpected argument/],
  [['import', '/a', '--source-region', 'x'], /is about a bucket/],
  [['import', 's3://'], /has a wrong bucket/],
  [['import', 's3://b', '--source-host', 'ftp://x'], /is not an endpoint/],
  [['import', '/a', '--registry', 'mirror:5000/x'], /--registry: is not an address/],
  [['import', '/a', '--username', 'ci'], /--password-file: is missing/],
  [['import', '/a', '--prefix', 'Upper'], /--prefix: is not the beginning of a name/],
] as const) {
  test(`"entrepot ${argv.join(' ')}" is refused before anything is read`, async () => {
    const { stderr, code } = await runCommandLine(argv)
    assert.equal(code, 2)
    assert.match(stderr, problem)
  })
}
