import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { cp } from 'node:fs/promises'
import { test } from 'node:test'
import type { Explanation } from '../../src/admin/contract.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { contentKey } from '../../src/storage/layout.ts'
import { type Ran, runCommandLine } from '../cli/rig.ts'
import { type HostedMirror, startHosted } from '../support/hosted.ts'
import { startMirror } from '../support/mirror.ts'
import { OciRegistryTree } from '../support/oci-registry-tree.ts'

const DAY_MS = 24 * 3_600_000

async function imported(
  hosted: HostedMirror,
  tree: OciRegistryTree,
  ...more: readonly string[]
): Promise<Ran> {
  const env = {
    ENTREPOT_REGISTRY: `http://${hosted.address}`,
    ENTREPOT_ADMIN: `http://${hosted.adminAddress}`,
  }
  return await runCommandLine(['import', tree.root, ...more], { env })
}

async function explained(hosted: HostedMirror, image: string): Promise<Explanation> {
  const { body } = await hosted.admin('GET', `/_admin/v1/explain?image=${image}`)
  return JSON.parse(body.toString()) as Explanation
}

test('a cache is imported into the cache: proved, with the times of its tags, and once', async () => {
  await using hosted = await startHosted({})
  await using tree = await OciRegistryTree.make()
  const [layer, broken] = [randomBytes(300_000), randomBytes(2000)]
  const image = await tree.image('docker.io/library/alpine', [layer], ['3.20', 'latest'])
  const half = await tree.image('docker.io/team/half', [broken], ['v1'])
  await tree.write(contentKey(digestOf(broken)), 'damaged')
  await tree.manifest('docker.io/team/half/v2', { manifest: [1, 2, 300], media_type: 'x/y' })
  await tree.manifest(`docker.io/team/half/${half.digest}`, { manifest: [123, 125], digest: null })

  const dry = await imported(hosted, tree, '--dry-run')
  assert.match(
    dry.stdout,
    /would import 3 tags, 2 manifests, 1 blob, 293 KiB, of 2 repositories\n3 things are/,
  )
  assert.equal((await explained(hosted, 'alpine:3.20')).manifest, undefined)

  const ran = await imported(hosted, tree)
  assert.equal(ran.code, 1, ran.stderr)
  assert.match(ran.stdout, /the cache of an oci-registry\n/)
  assert.match(ran.stdout, /library\/alpine {2}2 tags, 1 manifest, 1 blob, 293 KiB\n/)
  assert.match(ran.stdout, /NOT IMPORTED: blob sha256:[0-9a-f]+: it is damaged/)
  assert.match(ran.stdout, /NOT IMPORTED: manifest: v2: it is damaged: it is not the file of a manifest/)
  assert.match(ran.stdout, /NOT IMPORTED: manifest: sha256:[0-9a-f]+: it is damaged: its bytes hash to/)
  const { tag, manifest, isLinked } = await explained(hosted, 'alpine:3.20')
  assert.deepEqual([tag?.digest, isLinked], [image.digest, true])
  assert.ok(tag !== undefined && tag.ageMs > 300 * DAY_MS)
  assert.ok(manifest?.blobs.every(({ isCached }) => isCached))
  const pulled = await hosted.send('GET', `/v2/library/alpine/blobs/${digestOf(layer)}?ns=docker.io`)
  assert.deepEqual(pulled.body, layer)
  const again = await imported(hosted, tree, '--only', 'docker.io/library/*')
  assert.equal(again.code, 0, again.stdout)
  assert.match(again.stdout, /imported 0 tags, 0 manifests, 0 blobs, 0 B, of 1 repository\n$/)
})

test('what an oci-registry has cached of a hosted name is pushed, and a tag that is known later stays', async () => {
  await using hosted = await startHosted({ claims: { 'registry.example.com/**': undefined } })
  await using tree = await OciRegistryTree.make()
  const { digest, bytes } = await tree.image('registry.example.com/team/app', [randomBytes(1000)], ['v1'])
  const newer = await tree.image('quay.io/a/b', [randomBytes(100)], ['v1'])
  assert.equal((await imported(hosted, tree)).code, 0)
  const { body } = await hosted.send('GET', '/v2/registry.example.com/team/app/manifests/v1')
  assert.deepEqual([digestOf(body), body], [digest, bytes])
  const older = await tree.image('quay.io/a/b', [randomBytes(100)])
  await tree.manifest('quay.io/a/b/v1', { manifest: [...older.bytes] }, 1_600_000_000)
  assert.equal((await imported(hosted, tree)).code, 0)
  assert.equal((await explained(hosted, 'quay.io/a/b:v1')).tag?.digest, newer.digest)
  const wrong = await imported(hosted, tree, '--prefix', 'registry.example.com')
  assert.equal(wrong.code, 2)
  assert.match(wrong.stderr, /--prefix: has no effect on a cache/)
})

test('a mirror in the place of an oci-registry imports its own directory, without a byte of the blobs', async () => {
  await using tree = await OciRegistryTree.make()
  const layer = randomBytes(1000)
  const { digest } = await tree.image('docker.io/library/alpine', [layer], ['3.20'])
  await using mirror = await startMirror({ upstream: '127.0.0.1:9' })
  await cp(tree.root, mirror.root, { recursive: true })
  const env = {
    ENTREPOT_REGISTRY: `http://${mirror.daemon.addresses.client}`,
    ENTREPOT_ADMIN: `http://${mirror.daemon.addresses.admin}`,
  }
  const { stdout } = await runCommandLine(['import', mirror.root], { env })
  assert.match(stdout, /imported 1 tag, 1 manifest, 0 blobs, 0 B, of 1 repository\n$/)
  const reply = await mirror.get('/v2/library/alpine/manifests/3.20?ns=docker.io')
  assert.equal(digestOf(reply.body), digest)
  assert.deepEqual((await mirror.get(`/v2/library/alpine/blobs/${digestOf(layer)}?ns=docker.io`)).body, layer)
})
