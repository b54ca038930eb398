import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { HostedTerms } from '../../src/hosted/terms.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { StoreUnusableError } from '../../src/oci/error.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { parseNamePattern } from '../../src/oci/name-pattern.ts'
import type { S3Address } from '../../src/storage/s3/connection.ts'
import { defined } from '../storage/contract.ts'
import { type HostedMirror, sectionsOf, startHosted } from '../support/hosted.ts'
import { makeBucket, type S3Server } from './rig/bucket.ts'
import { openStoreOver } from './rig/hosted-over.ts'
import { againstServers } from './servers.ts'

const NAME = 'registry.example.com/team/app'
const POLICY: HostedTerms = {
  names: defined(parseNamePattern('registry.example.com/**')),
  immutableTags: [],
  quotaBytes: undefined,
  isReadOnly: false,
  retention: undefined,
}
const PUSHERS = 4
/** Races for a tag. */
const ROUNDS = 10
const IMMUTABLE = { immutableTags: ['v*'] }
/** A server that is away is given up soon. */
const PATIENCE = { attemptMs: 2000, totalMs: 5000 }
const IMPATIENT = { quick: PATIENCE, stream: PATIENCE, transfer: PATIENCE }

/** A daemon with hosted repositories over a bucket, as one of several replicas. */
async function startOver(
  t: TestContext,
  address: S3Address,
  terms: Partial<HostedTerms> = {},
): Promise<HostedMirror> {
  const store = await openStoreOver(t, address, IMPATIENT)
  const policy = { ...POLICY, ...terms }
  const sections = { ...sectionsOf({ 'registry.example.com/**': undefined }), policies: [policy] }
  const hosted = await startHosted({ config: { sections }, overrides: { store } })
  t.after(async () => await hosted[Symbol.asyncDispose]())
  return hosted
}

function imageOf(layer: Uint8Array, config: Uint8Array): Buffer {
  const describe = (mediaType: string, bytes: Uint8Array): object => {
    return { mediaType, digest: digestOf(bytes), size: bytes.length }
  }
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: describe('application/vnd.oci.empty.v1+json', config),
      layers: [describe('application/vnd.oci.image.layer.v1.tar', layer)],
    }),
  )
}

const CONFIG = Buffer.from('{}')

/** Pushes a blob by POST, PATCH and PUT; returns the last status. */
async function pushBlob(hosted: HostedMirror, bytes: Uint8Array): Promise<number> {
  const begun = await hosted.send('POST', `/v2/${NAME}/blobs/uploads/`)
  if (begun.status !== 202) return begun.status
  const location = String(begun.headers.location)
  const patched = await hosted.send('PATCH', location, { body: bytes })
  if (patched.status !== 202) return patched.status
  return (await hosted.send('PUT', `${location}?digest=${digestOf(bytes)}`)).status
}

async function putTag(hosted: HostedMirror, tag: string, body: Uint8Array): Promise<number> {
  return (await hosted.send('PUT', `/v2/${NAME}/manifests/${tag}`, { body })).status
}

/** The digest of what a pull gives; its status if that is not 200. */
async function pulled(hosted: HostedMirror, path: string): Promise<Digest | number> {
  const { status, body } = await hosted.send('GET', `/v2/${NAME}/${path}`)
  return status === 200 ? digestOf(body) : status
}

/** Pushes an image of its own to each replica; returns the manifests. */
async function pushLayers(replicas: readonly HostedMirror[]): Promise<readonly Buffer[]> {
  return await Promise.all(
    replicas.map(async replica => {
      const layer = randomBytes(1000)
      assert.equal(await pushBlob(replica, layer), 201)
      return imageOf(layer, CONFIG)
    }),
  )
}

/** Tags an image of each replica at the same moment; returns the statuses. */
async function tagAtOnce(
  replicas: readonly HostedMirror[],
  tag: string,
  images: readonly Buffer[],
): Promise<readonly number[]> {
  return await Promise.all(
    replicas.map(async (replica, at) => await putTag(replica, tag, defined(images[at]))),
  )
}

/** All digests that a tag ever had. */
async function historyOf(hosted: HostedMirror, tag: string): Promise<ReadonlySet<string>> {
  const { body } = await hosted.admin('GET', `/_admin/v1/history?image=${NAME}:${tag}`)
  const { moves } = JSON.parse(body.toString()) as { readonly moves: readonly { readonly digest: string }[] }
  return new Set(moves.map(({ digest }) => digest))
}

function testReplicas(server: () => S3Server): void {
  test('of two replicas that move a tag at the same moment one comes last for both, and neither move is lost', async t => {
    const address = await makeBucket(server())
    const replicas = [await startOver(t, address), await startOver(t, address)]
    assert.equal(await pushBlob(defined(replicas[0]), CONFIG), 201)
    const moved = new Set<Digest>()
    for (let round = 0; round < ROUNDS; round += 1) {
      const images = await pushLayers(replicas)
      const digests = images.map(image => digestOf(image))
      assert.deepEqual(await tagAtOnce(replicas, 'latest', images), [201, 201])
      const named = await Promise.all(replicas.map(async each => await pulled(each, 'manifests/latest')))
      assert.ok(digests.some(digest => digest === named[0]))
      assert.equal(named[1], named[0])
      for (const replica of replicas)
        for (const digest of digests) assert.equal(await pulled(replica, `manifests/${digest}`), digest)
      digests.forEach(digest => moved.add(digest))
    }
    for (const replica of replicas) assert.deepEqual(await historyOf(replica, 'latest'), moved)
  })

  test('a quota is exceeded by what another replica has taken since it was counted, and both refuse what comes then', async t => {
    const address = await makeBucket(server())
    const terms = { quotaBytes: 1000 }
    const replicas = [await startOver(t, address, terms), await startOver(t, address, terms)]
    for (const sizeBytes of [1, 600])
      for (const replica of replicas) assert.equal(await pushBlob(replica, randomBytes(sizeBytes)), 201)
    for (const sizeBytes of [600, 1])
      for (const replica of replicas) assert.equal(await pushBlob(replica, randomBytes(sizeBytes)), 403)
  })
}

againstServers(
  'hosted repositories',
  server => {
    testReplicas(server)

    test('Swift, which ignores conditional writes, is refused at the start', async t => {
      const address = await makeBucket(server())
      await assert.rejects(startOver(t, address, IMMUTABLE), StoreUnusableError)
      await startOver(t, address)
    })
  },
  ['Swift'],
)

againstServers(
  'hosted repositories',
  server => {
    testReplicas(server)

    test('of two replicas that set an immutable tag at the same moment one is answered 409, and both give the image of the other', async t => {
      const address = await makeBucket(server())
      const replicas = [await startOver(t, address, IMMUTABLE), await startOver(t, address, IMMUTABLE)]
      assert.equal(await pushBlob(defined(replicas[0]), CONFIG), 201)
      for (let round = 0; round < ROUNDS; round += 1) {
        const images = await pushLayers(replicas)
        const statuses = await tagAtOnce(replicas, `v${round}`, images)
        assert.deepEqual(
          statuses.toSorted((one, other) => one - other),
          [201, 409],
        )
        const first = digestOf(defined(images[statuses.indexOf(201)]))
        const named = replicas.map(async each => await pulled(each, `manifests/v${round}`))
        assert.deepEqual(await Promise.all(named), [first, first])
      }
      const [image = Buffer.alloc(0)] = await pushLayers(replicas.slice(0, 1))
      assert.deepEqual(await tagAtOnce(replicas, 'v-same', [image, image]), [201, 201])
    })

    test('a server that dies by SIGKILL in mid-push loses nothing that was acknowledged, and pushes go on when it is back', {
      timeout: 180_000,
    }, async t => {
      const address = await makeBucket(server())
      const hosted = await startOver(t, address)
      assert.equal(await pushBlob(hosted, CONFIG), 201)
      const told = { blobs: new Set<Digest>(), tags: new Map<string, Digest>() }
      const statuses = new Set<number>()
      const work = { isOver: false }
      const enough = Promise.withResolvers<void>()
      const pushers = Array.from({ length: PUSHERS }, async (_, at) => {
        for (let count = 0; !work.isOver; count += 1) {
          const layer = randomBytes(1000 + count * 40_000)
          const pushed = await pushBlob(hosted, layer)
          statuses.add(pushed)
          if (pushed !== 201) continue
          told.blobs.add(digestOf(layer))
          const image = imageOf(layer, CONFIG)
          const tagged = await putTag(hosted, `p${at}-${count}`, image)
          statuses.add(tagged)
          if (tagged === 201) told.tags.set(`p${at}-${count}`, digestOf(image))
          if (told.tags.size >= 3 * PUSHERS) enough.resolve()
        }
      })
      await enough.promise
      await server().kill()
      const before = told.tags.size
      // Each pusher is refused before the server is back.
      while (!statuses.has(503)) await sleep(50)
      await server().revive()
      while (told.tags.size < before + 2 * PUSHERS) await sleep(50)
      work.isOver = true
      await Promise.all(pushers)
      assert.deepEqual(
        [...statuses].toSorted((one, another) => one - another),
        [201, 503],
      )
      const replica = await startOver(t, address)
      for (const digest of told.blobs) assert.equal(await pulled(replica, `blobs/${digest}`), digest)
      for (const [tag, digest] of told.tags) assert.equal(await pulled(replica, `manifests/${tag}`), digest)
      t.diagnostic(`${told.blobs.size} blobs and ${told.tags.size} tags acknowledged, none lost`)
    })
  },
  ['radosgw'],
)
