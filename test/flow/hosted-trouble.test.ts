import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { contentKey } from '../../src/storage/layout.ts'
import { openS3Store } from '../../src/storage/s3/store.ts'
import { addressOf, SHORT, seenS3Events } from '../storage/s3/rooms.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { type HostedMirror, startHosted } from '../support/hosted.ts'
import type { S3Fault } from '../support/s3-fault.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { until } from '../support/waiting.ts'

const NAME = 'registry.example.com/team/app'
const UPLOADS = `/v2/${NAME}/blobs/uploads/`

async function begin(hosted: HostedMirror): Promise<string> {
  return String((await hosted.send('POST', UPLOADS)).headers.location)
}

/** Bytes that an upload has, of which there are some; NaN if the answer does not say. */
async function receivedOf(hosted: HostedMirror, location: string): Promise<number> {
  const { headers } = await hosted.send('GET', location)
  return Number(/^0-([0-9]+)$/.exec(String(headers['range']))?.[1] ?? Number.NaN) + 1
}

function manifestOf(config: Digest): Buffer {
  const descriptor = { mediaType: 'application/vnd.oci.empty.v1+json', digest: config, size: 2 }
  const document = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: descriptor, layers: [] }
  return Buffer.from(JSON.stringify(document))
}

/** Pushes an image without layers as `v1`. */
async function pushImage(hosted: HostedMirror): Promise<{ readonly config: Digest }> {
  const bytes = Buffer.from('{}')
  const config = digestOf(bytes)
  assert.equal((await hosted.send('POST', `${UPLOADS}?digest=${config}`, { body: bytes })).status, 201)
  const put = await hosted.send('PUT', `/v2/${NAME}/manifests/v1`, { body: manifestOf(config) })
  assert.equal(put.status, 201)
  return { config }
}

test('a store that cannot take more refuses with 503, and the upload stays', async () => {
  await using hosted = await startHosted({ isFaulty: true })
  const location = await begin(hosted)
  assert.equal((await hosted.send('PATCH', location, { body: Buffer.from('first') })).status, 202)
  hosted.faults.add('append')
  const refused = await hosted.send('PATCH', location, { body: Buffer.from('second') })
  assert.equal(refused.status, 503)
  hosted.faults.delete('append')
  assert.equal((await hosted.send('GET', location)).headers['range'], '0-4')
  assert.equal((await hosted.send('PATCH', location, { body: Buffer.from('second') })).status, 202)
  hosted.faults.add('adopt')
  const digest = digestOf(Buffer.from('firstsecond'))
  assert.equal((await hosted.send('PUT', `${location}?digest=${digest}`)).status, 503)
  hosted.faults.delete('adopt')
  assert.equal((await hosted.send('GET', `/v2/${NAME}/blobs/${digest}`)).status, 404)
  assert.equal((await hosted.send('PUT', `${location}?digest=${digest}`)).status, 201)
})

test('a disk that is full in the middle of a part refuses with 503, and the upload goes on once there is room', async () => {
  await using hosted = await startHosted({ isFaulty: true, appendFailsAfter: 1_000_000 })
  const [location, bytes] = [await begin(hosted), randomBytes(3_000_000)]
  const digest = digestOf(bytes)
  hosted.faults.add('append')
  const refused = await hosted.send('PATCH', location, { body: bytes })
  assert.equal(refused.status, 503)
  assert.ok(Number(refused.headers['retry-after']) > 0)
  const finish = async (): Promise<number> => {
    const received = await receivedOf(hosted, location)
    assert.ok(received > 1 && received <= 1_000_000, `${received} bytes`)
    const headers = { 'content-range': `${received}-2999999` }
    const last = { body: bytes.subarray(received), headers }
    return (await hosted.send('PUT', `${location}?digest=${digest}`, last)).status
  }
  assert.equal(await finish(), 503)
  assert.equal((await hosted.send('GET', `/v2/${NAME}/blobs/${digest}`)).status, 404)
  hosted.faults.delete('append')
  assert.equal(await finish(), 201)
  assert.deepEqual((await hosted.send('GET', `/v2/${NAME}/blobs/${digest}`)).body, bytes)
})

const BUCKETS: readonly (readonly [string, S3Fault])[] = [
  ['answers 503', { kind: 'error', status: 503, code: 'ServiceUnavailable' }],
  ['breaks every connection', { kind: 'reset' }],
]

for (const [title, fault] of BUCKETS) {
  test(`a bucket that ${title} in mid-push acknowledges nothing, and the push goes on once it is back`, async () => {
    await using stub = await startS3Stub()
    const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-s3-push-'))
    await using undo = new AsyncDisposableStack()
    undo.defer(async () => await rm(spoolDirectory, { recursive: true, force: true }))
    const address = addressOf(stub)
    const store = await openS3Store({ address, spoolDirectory, events: seenS3Events(), limits: SHORT })
    await using hosted = await startHosted({ overrides: { store } })
    await pushImage(hosted)
    const [location, bytes] = [await begin(hosted), randomBytes(300_000)]
    const digest = digestOf(bytes)
    const half = { body: bytes.subarray(0, 150_000) }
    assert.equal((await hosted.send('PATCH', location, half)).status, 202)
    stub.fault(() => true, fault)
    const rest = { body: bytes.subarray(150_000), headers: { 'content-range': '150000-299999' } }
    const refused = await hosted.send('PUT', `${location}?digest=${digest}`, rest)
    assert.equal(refused.status, 503)
    assert.ok(Number(refused.headers['retry-after']) > 0)
    const other = Buffer.concat([manifestOf(digestOf(Buffer.from('{}'))), Buffer.from(' ')])
    const manifest = async (): Promise<number> =>
      (await hosted.send('PUT', `/v2/${NAME}/manifests/v2`, { body: other })).status
    assert.equal(await manifest(), 503)
    stub.heal()
    assert.ok(!stub.objects.has(`${address.prefix}${contentKey(digest)}`))
    await until(async () => {
      const received = await receivedOf(hosted, location)
      if (Number.isNaN(received)) return false
      assert.ok(received >= 150_000, `${received} bytes`)
      const last = { body: bytes.subarray(received), headers: { 'content-range': `${received}-299999` } }
      const more = received === bytes.length ? {} : last
      return (await hosted.send('PUT', `${location}?digest=${digest}`, more)).status === 201
    }, 'the upload is finished')
    assert.deepEqual((await hosted.send('GET', `/v2/${NAME}/blobs/${digest}`)).body, bytes)
    await until(async () => (await manifest()) === 201, 'the manifest is taken')
    for (const tag of ['v1', 'v2'])
      assert.equal((await hosted.send('GET', `/v2/${NAME}/manifests/${tag}`)).status, 200)
  })
}

test('a store that takes no records does not stop a client that may push from pulling', async () => {
  const clock = new FakeClock()
  await using hosted = await startHosted({ isFaulty: true, overrides: { clock } })
  const { config } = await pushImage(hosted)
  clock.advance(2 * 3_600_000)
  hosted.faults.add('writeRecord')
  for (const path of ['manifests/v1', `blobs/${config}`])
    for (const method of ['HEAD', 'GET'])
      assert.equal((await hosted.send(method, `/v2/${NAME}/${path}`)).status, 200, `${method} ${path}`)
})
