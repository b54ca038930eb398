import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { digestOf } from '../../src/oci/digest.ts'
import { startMirror } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'
import { stored } from '../support/waiting.ts'

test('a cold pull fetches each object once from the upstream, and a warm one none', async () => {
  await using upstream = await startUpstream()
  const layer = randomBytes(300_000)
  const image = upstream.putImage({ layers: [layer, 'small'] })
  upstream.tag('library/tools', '1', image.manifest)
  await using mirror = await startMirror({ upstream: upstream.host })

  for (const outcome of ['entrepot; fwd=miss', 'entrepot; hit']) {
    const head = await mirror.head('/v2/library/tools/manifests/1?ns=docker.io')
    assert.equal(head.status, 200)
    assert.equal(head.headers['docker-content-digest'], image.manifest)
    assert.equal(head.headers['content-length'], String(image.manifestBytes.byteLength))
    const manifest = await mirror.get(`/v2/library/tools/manifests/${image.manifest}?ns=docker.io`)
    assert.deepEqual(manifest.body, Buffer.from(image.manifestBytes))
    assert.equal(manifest.headers['content-type'], 'application/vnd.oci.image.manifest.v1+json')
    assert.equal(manifest.headers['oci-namespace'], 'docker.io')
    for (const digest of [image.config, ...image.layers]) {
      const blob = await mirror.get(`/v2/library/tools/blobs/${digest}?ns=docker.io`)
      assert.equal(blob.status, 200)
      assert.equal(digestOf(blob.body), digest)
      assert.equal(blob.headers['cache-status'], outcome)
      await stored(mirror, digest)
      assert.equal(upstream.count({ method: 'GET', path: `/v2/library/tools/blobs/${digest}` }), 1)
    }
  }
  assert.equal(upstream.count({ method: 'HEAD' }), 1)
  assert.equal(upstream.count({ method: 'GET', path: /manifests/ }), 1)
})
