import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import { digestOf } from '../../src/oci/digest.ts'
import { contentKey } from '../../src/storage/layout.ts'
import { type Ran, runCommandLine } from '../cli/rig.ts'
import type { HostedMirror } from '../support/hosted.ts'
import { OciRegistryTree } from '../support/oci-registry-tree.ts'
import { clientOf, makeBucket, type S3Server } from './rig/bucket.ts'
import { startHostedOver } from './rig/hosted-over.ts'
import { againstServers } from './servers.ts'

/** Puts a tree of files into a bucket, below a prefix. */
async function upload(server: S3Server, { root }: OciRegistryTree, bucket: string): Promise<void> {
  const client = clientOf(server)
  const found = await readdir(root, { recursive: true, withFileTypes: true })
  const files = found.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
  for (const file of files) {
    const Key = `cache/${file.slice(root.length + 1)}`
    await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: await readFile(file) }))
  }
  client.destroy()
}

async function imported(
  hosted: HostedMirror,
  { server, bucket }: { readonly server: S3Server; readonly bucket: string },
  ...more: readonly string[]
): Promise<Ran> {
  const env = {
    ENTREPOT_REGISTRY: `http://${hosted.address}`,
    ENTREPOT_ADMIN: `http://${hosted.adminAddress}`,
    SOURCE_S3_HOST: server.endpoint,
    SOURCE_S3_ACCESS_KEY: server.credentials.accessKeyId,
    SOURCE_S3_SECRET_KEY: server.credentials.secretAccessKey,
  }
  return await runCommandLine(['import', `s3://${bucket}/cache`, ...more], { env })
}

againstServers('import', server => {
  test('the cache of an oci-registry in a bucket is imported, proved and once', async t => {
    await using tree = await OciRegistryTree.make()
    const [layer, broken, own] = [randomBytes(9_000_000), randomBytes(2000), randomBytes(3000)]
    const tags = ['3.20', 'latest']
    const image = await tree.image('docker.io/library/alpine', [layer], tags)
    await tree.image('quay.io/team/half', [broken], ['v1'])
    await tree.write(contentKey(digestOf(broken)), 'damaged')
    const hostedImage = await tree.image('registry.example.com/team/app', [own], ['v1'])
    const { bucket } = await makeBucket(server())
    await upload(server(), tree, bucket)
    const source = { server: server(), bucket }
    const hosted = await startHostedOver(t, await makeBucket(server()))

    const dry = await imported(hosted, source, '--dry-run')
    assert.match(dry.stdout, /^s3:\/\/[^ ]+, the cache of an oci-registry\n/)
    assert.match(dry.stdout, /would import 4 tags, 3 manifests, 2 blobs, .* of 3 repositories\n/)

    const ran = await imported(hosted, source)
    assert.equal(ran.code, 1, ran.stderr)
    assert.match(ran.stdout, /NOT IMPORTED: blob sha256:[0-9a-f]+: it is damaged/)
    assert.match(ran.stdout, /\n1 thing is not imported: see above\n$/)
    for (const tag of tags) {
      const { body } = await hosted.send('GET', `/v2/library/alpine/manifests/${tag}?ns=docker.io`)
      assert.equal(digestOf(body), image.digest, tag)
    }
    const blob = await hosted.send('GET', `/v2/library/alpine/blobs/${digestOf(layer)}?ns=docker.io`)
    assert.equal(digestOf(blob.body), digestOf(layer))
    const pushed = await hosted.send('GET', '/v2/registry.example.com/team/app/manifests/v1')
    assert.equal(digestOf(pushed.body), hostedImage.digest)

    const again = await imported(hosted, source, '--only', 'docker.io/library/*')
    assert.equal(again.code, 0, again.stdout)
    assert.match(again.stdout, /imported 0 tags, 0 manifests, 0 blobs, 0 B, of 1 repository\n$/)
  })
})
