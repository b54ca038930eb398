import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { CollectionMarks } from '../../src/hosted/collection-marks.ts'
import { Shelf } from '../../src/hosted/shelf.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { parseConfiguredNamespace } from '../../src/oci/namespace.ts'
import type { Place } from '../../src/oci/place.ts'
import type { S3Address } from '../../src/storage/s3/connection.ts'
import type { Store } from '../../src/storage/store.ts'
import { runCommandLine } from '../cli/rig.ts'
import { nameOf } from '../mirror/rig.ts'
import type { HostedMirror } from '../support/hosted.ts'
import { seeEvents } from '../support/seen-events.ts'
import { startAgingRelay } from './rig/aging-relay.ts'
import { bytesIn, makeBucket } from './rig/bucket.ts'
import { openStoreOver, startHostedOver } from './rig/hosted-over.ts'
import { againstServers } from './servers.ts'

const NAME = 'registry.example.com/team/app'
const HOUR_MS = 3_600_000
/** Longer than a claim lasts. */
const LATER_MS = 26 * HOUR_MS

/** A bucket with a daemon over it, whose contents can grow older. */
interface Rig {
  readonly hosted: HostedMirror
  /** Time passes for all that is stored, and for the claims and marks of these digests. */
  readonly pass: (ms: number, digests: readonly Digest[]) => Promise<void>
}

/**
 * The clocks stand still, because the daemon collects by itself as time passes. Instead the records are moved
 * back by as much: the dates that the server tells, and those inside the records of blobs and marks.
 */
async function startRig(t: TestContext, address: S3Address): Promise<Rig> {
  const relay = await startAgingRelay(address.endpoint ?? '')
  t.after(async () => await relay[Symbol.asyncDispose]())
  const late = { ...address, endpoint: relay.endpoint }
  const store = await openStoreOver(t, late)
  t.after(async () => await store[Symbol.asyncDispose]())
  const hosted = await startHostedOver(t, late)
  const pass = async (ms: number, digests: readonly Digest[]): Promise<void> => {
    for (const digest of digests) await moveBack(store, digest, ms)
    relay.age(ms)
  }
  return { hosted, pass }
}

async function moveBack(store: Store, digest: Digest, ms: number): Promise<void> {
  const namespace = parseConfiguredNamespace('registry.example.com')
  assert.ok(namespace !== undefined)
  const place: Place = { namespace, repository: nameOf('team/app') }
  const shelf = new Shelf(store, seeEvents().events)
  const name = { kind: 'hosted-blob', ...place, digest } as const
  const record = await shelf.content(name)
  if (record !== undefined) await shelf.renew(name, { ...record, claimedAtMs: record.claimedAtMs - ms })
  const mark = await new CollectionMarks({ store, clock: systemClock }).read(digest)
  if (mark === undefined) return
  const clock = { ...systemClock, wallMs: () => mark.atMs - ms }
  await new CollectionMarks({ store, clock }).write(digest, mark.state)
}

async function pushBlob(hosted: HostedMirror, text: string): Promise<Digest> {
  const body = Buffer.from(text)
  const digest = digestOf(body)
  const { status } = await hosted.send('POST', `/v2/${NAME}/blobs/uploads/?digest=${digest}`, { body })
  assert.equal(status, 201)
  return digest
}

async function pushImage(hosted: HostedMirror, layer: Digest): Promise<void> {
  const described = { mediaType: 'x/y', digest: layer, size: 5 }
  const image = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: described, layers: [described] }
  const body = Buffer.from(JSON.stringify(image))
  assert.equal((await hosted.send('PUT', `/v2/${NAME}/manifests/v1`, { body })).status, 201)
}

async function collect(hosted: HostedMirror, ...more: readonly string[]): Promise<string> {
  const env = { ENTREPOT_ADMIN: `http://${hosted.adminAddress}` }
  const { code, stdout, stderr } = await runCommandLine(['gc', '--hosted', ...more], { env })
  assert.equal(code, 0, stderr)
  return stdout
}

againstServers(
  'collection',
  server => {
    test('what nothing names goes a day after its push and an hour after it was marked, and nothing else does', async t => {
      const address = await makeBucket(server())
      const { hosted, pass } = await startRig(t, address)
      const layer = await pushBlob(hosted, 'layer')
      await pushImage(hosted, layer)
      const unnamed = await pushBlob(hosted, 'never named')
      const asked = await pushBlob(hosted, 'asked for')
      const all = [layer, unnamed, asked]
      const statuses = async (): Promise<readonly number[]> => {
        const replies = all.map(async digest => await hosted.send('HEAD', `/v2/${NAME}/blobs/${digest}`))
        return (await Promise.all(replies)).map(({ status }) => status)
      }
      assert.equal(await collect(hosted), 'removed 0 tags and 0 objects, 0 B freed\n')
      await pass(LATER_MS, all)
      assert.equal((await hosted.send('HEAD', `/v2/${NAME}/blobs/${asked}`)).status, 200)
      const line = `${unnamed}  11 B  of ${NAME}  no manifest names it, and no claim holds it\n`
      assert.equal(
        await collect(hosted, '--dry-run'),
        `mark    ${line}would remove 0 tags and 0 objects, 0 B freed\n`,
      )
      assert.equal(await collect(hosted), `mark    ${line}removed 0 tags and 0 objects, 0 B freed\n`)
      await pass(HOUR_MS - 60_000, all)
      assert.match(await collect(hosted), /^mark .*\nremoved 0 tags and 0 objects/)
      const before = await bytesIn(server(), address)
      await pass(61_000, all)
      assert.equal(await collect(hosted), `remove  ${line}removed 0 tags and 1 object, 11 B freed\n`)
      assert.deepEqual(await statuses(), [200, 404, 200])
      assert.equal(before - (await bytesIn(server(), address)), 11)
      await pass(LATER_MS, all)
      const last = await collect(hosted)
      assert.match(last, new RegExp(`^keep {4}${unnamed} .* it is gone\nmark {4}${asked} .*\nremoved 0 tags`))
      assert.deepEqual(await statuses(), [200, 404, 200])
    })
  },
  ['radosgw'],
)
