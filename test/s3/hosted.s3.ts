import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import type { S3Address } from '../../src/storage/s3/connection.ts'
import { openS3Store } from '../../src/storage/s3/store.ts'
import { seenS3Events } from '../storage/s3/rooms.ts'
import { type HostedMirror, startHosted } from '../support/hosted.ts'
import { makeBucket } from './rig/bucket.ts'
import { againstServers } from './servers.ts'

const NAME = 'registry.example.com/team/app'
const PUSHERS = 4
/** A server that is away is given up soon. */
const PATIENCE = { attemptMs: 2000, totalMs: 5000 }
const IMPATIENT = { quick: PATIENCE, stream: PATIENCE, transfer: PATIENCE }

/** A daemon with hosted repositories over a bucket. */
async function startOver(t: TestContext, address: S3Address): Promise<HostedMirror> {
  const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-s3-hosted-'))
  t.after(async () => await rm(spoolDirectory, { recursive: true, force: true }))
  const store = await openS3Store({ address, spoolDirectory, events: seenS3Events(), limits: IMPATIENT })
  const hosted = await startHosted({ overrides: { store } })
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

againstServers(
  'hosted repositories',
  server => {
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
