import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import type { Digest } from '../../src/oci/digest.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { bytesIn, emptyBucket, makeBucket } from './rig/bucket.ts'
import { startEndlessUpstream } from './rig/endless.ts'
import { type RunningEntrepot, startEntrepot } from './rig/entrepot.ts'
import { type PulledBlob, pull } from './rig/pull.ts'
import { againstServers } from './servers.ts'

const MiB = 1024 * 1024
/** 200 MiB for a mirror of one thread, and 40 for a further one, as machines of two cores have it. */
const RSS_MAX = 240 * MiB

/** Asks until the blob comes from the store; a fill ends for its clients before it ends for the bucket. */
async function untilHit(entrepot: RunningEntrepot, digest: Digest): Promise<PulledBlob> {
  for (;;) {
    const blob = await pull(blobUrl(entrepot, digest))
    if (blob.headers['cache-status'] === 'entrepot; hit') return blob
    await new Promise(resolve => void setTimeout(resolve, 50))
  }
}

function blobUrl({ url }: RunningEntrepot, digest: Digest): string {
  return `${url}/v2/library/tools/blobs/${digest}`
}

async function pullImage(
  entrepot: RunningEntrepot,
  upstream: FakeUpstream,
  layers: readonly Digest[],
): Promise<void> {
  const manifest = await pull(`${entrepot.url}/v2/library/tools/manifests/1`)
  assert.equal(manifest.status, 200, entrepot.log())
  assert.equal(manifest.headers['docker-content-digest'], manifest.digest)
  for (const digest of layers) {
    const blob = await pull(blobUrl(entrepot, digest))
    assert.equal(blob.digest, digest, entrepot.log())
  }
  assert.ok(upstream.openConnections >= 0)
}

againstServers('the daemon', server => {
  test('a bucket with a maximum keeps to it, and what was evicted is fetched again', async () => {
    await using upstream = await startUpstream()
    const layers = Array.from({ length: 12 }, () => upstream.putBlob(randomBytes(MiB)))
    const address = await makeBucket(server())
    await using entrepot = await startEntrepot(address, upstream.host, '--max-size', '6MiB')
    for (const digest of layers) {
      assert.equal((await pull(blobUrl(entrepot, digest))).digest, digest)
      await untilHit(entrepot, digest)
    }
    const kept = await bytesIn(server(), address)
    assert.ok(kept <= 6 * MiB + 64 * 1024, `${kept} bytes are in the bucket`)
    assert.match(entrepot.log(), /"msg":"evicted"/)
    const [first] = layers
    assert.ok(first !== undefined)
    assert.equal((await pull(blobUrl(entrepot, first))).digest, first)
    assert.equal(upstream.count({ method: 'GET', path: `/v2/library/tools/blobs/${first}` }), 2)
  })

  test('an image is pulled once from the upstream, and from the bucket by any replica, the upstream being dead', async () => {
    await using upstream = await startUpstream()
    const image = upstream.putImage({ layers: [randomBytes(30 * MiB), randomBytes(500_000), 'small'] })
    upstream.tag('library/tools', '1', image.manifest)
    const blobs = [image.config, ...image.layers]
    const address = await makeBucket(server())
    {
      await using first = await startEntrepot(address, upstream.host)
      await pullImage(first, upstream, blobs)
      for (const digest of blobs) await untilHit(first, digest)
      await pullImage(first, upstream, blobs)
    }
    for (const digest of blobs) {
      assert.equal(upstream.count({ method: 'GET', path: `/v2/library/tools/blobs/${digest}` }), 1)
    }
    await upstream.refuse()
    await using second = await startEntrepot(address, upstream.host)
    for (const digest of blobs) {
      const blob = await pull(blobUrl(second, digest))
      assert.equal(blob.digest, digest)
      assert.equal(blob.headers['cache-status'], 'entrepot; hit')
    }
    const manifest = await pull(`${second.url}/v2/library/tools/manifests/1`)
    assert.equal(manifest.digest, image.manifest)
  })

  test('a client that is sent to the bucket gets its blob there, a HEAD and a manifest never are', async () => {
    await using upstream = await startUpstream()
    const image = upstream.putImage({ layers: [randomBytes(3 * MiB)] })
    upstream.tag('library/tools', '1', image.manifest)
    const [layer] = image.layers
    assert.ok(layer !== undefined)
    const address = await makeBucket(server())
    await using entrepot = await startEntrepot(address, upstream.host, '--redirect')
    assert.equal((await pull(blobUrl(entrepot, layer))).digest, layer)
    let sent = await pull(blobUrl(entrepot, layer))
    while (sent.status !== 307) {
      assert.equal(sent.digest, layer)
      await new Promise(resolve => void setTimeout(resolve, 50))
      sent = await pull(blobUrl(entrepot, layer))
    }
    const location = sent.headers.location ?? ''
    assert.ok(location.startsWith(`${address.endpoint}/${address.bucket}/mirror/blobs/sha256/`))
    assert.equal((await pull(location)).digest, layer)
    assert.equal((await pull(location, { range: 'bytes=100-199' })).sizeBytes, 100)
    const head = await fetch(blobUrl(entrepot, layer), { method: 'HEAD', redirect: 'manual' })
    assert.equal(head.status, 200)
    assert.equal((await pull(`${entrepot.url}/v2/library/tools/manifests/${image.manifest}`)).status, 200)
  })
})

againstServers(
  'the daemon at full size',
  server => {
    test('a blob of 1 GiB passes through, cold and warm, in memory that does not grow with it', {
      timeout: 240_000,
    }, async t => {
      await using upstream = await startEndlessUpstream(1_024)
      const address = await makeBucket(server())
      await using entrepot = await startEntrepot(address, upstream.host)
      const cold = await pull(blobUrl(entrepot, upstream.digest))
      assert.equal(cold.digest, upstream.digest)
      const coldPeak = await entrepot.peakBytes()
      const warm = await untilHit(entrepot, upstream.digest)
      assert.equal(warm.digest, upstream.digest)
      const peak = await entrepot.peakBytes()
      t.diagnostic(
        `peak of memory: cold ${Math.round(coldPeak / MiB)} MiB, warm ${Math.round(peak / MiB)} MiB`,
      )
      assert.ok(peak < RSS_MAX, `${Math.round(peak / MiB)} MiB`)
      assert.equal(upstream.fetches(), 1)
      await emptyBucket(server(), address.bucket)
    })

    test('two replicas race for a thousand blobs and one tag, and nothing is torn', {
      timeout: 120_000,
    }, async () => {
      await using upstream = await startUpstream()
      const blobs = Array.from({ length: 250 }, () => upstream.putBlob(randomBytes(2_000)))
      const image = upstream.putImage({ layers: ['one'] })
      const other = upstream.putImage({ layers: ['other'] })
      upstream.tag('library/tools', '1', image.manifest)
      const address = await makeBucket(server())
      await using one = await startEntrepot(address, upstream.host)
      await using another = await startEntrepot(address, upstream.host)
      const wrong: string[] = []
      // Each blob is asked of each replica twice at once, so that every key is written by both.
      await inParallel(16, blobs, async digest => {
        const pulls = [one, another, one, another].map(async entrepot => pull(blobUrl(entrepot, digest)))
        for (const blob of await Promise.all(pulls)) if (blob.digest !== digest) wrong.push(digest)
        if (Math.random() < 0.2) {
          upstream.tag('library/tools', '1', Math.random() < 0.5 ? image.manifest : other.manifest)
          const tags = [one, another].map(async ({ url }) => pull(`${url}/v2/library/tools/manifests/1`))
          for (const { digest: served } of await Promise.all(tags)) {
            if (served !== image.manifest && served !== other.manifest) wrong.push(served)
          }
        }
      })
      assert.equal(wrong.join(), '')
      await upstream.refuse()
      await using third = await startEntrepot(address, upstream.host)
      await inParallel(16, blobs, async digest => {
        for (const entrepot of [one, third]) {
          if ((await pull(blobUrl(entrepot, digest))).digest !== digest) wrong.push(digest)
        }
      })
      const tag = await pull(`${third.url}/v2/library/tools/manifests/1`)
      assert.ok([image.manifest, other.manifest].some(digest => digest === tag.digest))
      assert.equal(wrong.join(), '')
    })
  },
  ['radosgw'],
)

async function inParallel<T>(
  workers: number,
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items]
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item)
  }
  await Promise.all(Array.from({ length: workers }, worker))
}
