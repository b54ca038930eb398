import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { DigestAlgorithm } from '../../src/oci/digest.ts'
import {
  assertCreated,
  assertRefused,
  type Blob,
  blobOf,
  locationOf,
  missingDigest,
  type RegistryClient,
  withQuery,
} from './registry.ts'

/** One check: a sentence that can be false, and what it takes to see whether it is. */
export interface Check {
  readonly title: string
  readonly run: (client: RegistryClient, algorithm: DigestAlgorithm) => Promise<void>
}

/** A repository that hosted names allow; each check has its own. */
function repository(name: string): string {
  return `conformance/${name}-${randomBytes(4).toString('hex')}`
}

/** Ways to upload a blob, each with the status of its last answer for right and wrong bytes. */
const UPLOADS: Readonly<
  Record<string, (client: RegistryClient, name: string, blob: Blob) => ReturnType<RegistryClient['ask']>>
> = {
  'one POST': async (client, name, { bytes, digest }) =>
    await client.ask('POST', `/v2/${name}/blobs/uploads/?digest=${digest}`, { body: bytes }),
  'POST and PUT': async (client, name, { bytes, digest }) =>
    await client.ask('PUT', withQuery(await client.begin(name), { digest }), { body: bytes }),
  'one stream': async (client, name, { bytes, digest }) => {
    const patched = await client.stream('PATCH', await client.begin(name), bytes)
    assert.equal(patched.status, 202)
    return await client.ask('PUT', withQuery(locationOf(patched), { digest }), { body: Buffer.alloc(0) })
  },
  'one chunk': async (client, name, blob) => await inChunks(client, name, { blob, count: 1 }),
  'three chunks': async (client, name, blob) => await inChunks(client, name, { blob, count: 3 }),
  'chunks, the last in the PUT': async (client, name, blob) =>
    await inChunks(client, name, { blob, count: 3, isLastPut: true }),
}

interface Chunks {
  readonly blob: Blob
  readonly count: number
  readonly isLastPut?: boolean
  /** Sends a chunk that is out of order before each one. */
  readonly isMixed?: boolean
}

async function inChunks(
  client: RegistryClient,
  name: string,
  { blob, count, isLastPut = false, isMixed = false }: Chunks,
): ReturnType<RegistryClient['ask']> {
  const { bytes, digest } = blob
  const size = Math.ceil(bytes.length / count)
  let location = await client.begin(name)
  for (let start = 0; start < bytes.length; start += size) {
    const end = Math.min(start + size, bytes.length)
    const isLast = end === bytes.length
    if (isMixed)
      location = await sendOutOfOrder(client, location, { bytes, start, size, isPut: isLastPut && isLast })
    const chunk = { body: bytes.subarray(start, end), headers: { 'content-range': `${start}-${end - 1}` } }
    if (isLast && isLastPut) return await client.ask('PUT', withQuery(location, { digest }), chunk)
    const answer = await client.ask('PATCH', location, chunk)
    assert.equal(answer.status, 202)
    assert.equal(answer.headers['range'], `0-${end - 1}`)
    location = locationOf(answer)
  }
  return await client.ask('PUT', withQuery(location, { digest }), { body: Buffer.alloc(0) })
}

interface Misplaced {
  readonly bytes: Buffer
  readonly start: number
  readonly size: number
  readonly isPut: boolean
}

/** A chunk that skips one is 416; afterwards the status says where the upload is. */
async function sendOutOfOrder(
  client: RegistryClient,
  location: string,
  { bytes, start, size, isPut }: Misplaced,
): Promise<string> {
  const first = start + size < bytes.length ? start + size : start === 0 ? 1 : 0
  const chunk = {
    body: bytes.subarray(first, first + size),
    headers: { 'content-range': `${first}-${Math.min(first + size, bytes.length) - 1}` },
  }
  const answer = isPut
    ? await client.ask('PUT', withQuery(location, { digest: blobOf('sha256', bytes).digest }), chunk)
    : await client.ask('PATCH', location, chunk)
  assertRefused(answer, 416)
  const state = await client.ask('GET', locationOf(answer))
  assert.equal(state.status, 204)
  assert.equal(state.headers['range'], `0-${Math.max(0, start - 1)}`)
  return locationOf(state)
}

/** HEAD and GET give exactly these bytes, and DELETE takes them away at once. */
async function assertHeld(client: RegistryClient, name: string, { bytes, digest }: Blob): Promise<void> {
  const path = `/v2/${name}/blobs/${digest}`
  const head = await client.ask('HEAD', path)
  assert.deepEqual([head.status, head.body.length], [200, 0])
  const got = await client.ask('GET', path)
  assert.equal(got.status, 200)
  for (const { headers } of [head, got]) {
    assert.equal(headers['content-length'], String(bytes.length))
    assert.equal(headers['docker-content-digest'], digest)
  }
  assert.deepEqual(got.body, bytes)
}

async function assertDeleted(client: RegistryClient, name: string, { digest }: Blob): Promise<void> {
  const path = `/v2/${name}/blobs/${digest}`
  assert.equal((await client.ask('DELETE', path)).status, 202)
  assertRefused(await client.ask('GET', path), 404)
  assert.equal((await client.ask('HEAD', path)).status, 404)
  assertRefused(await client.ask('DELETE', path), 404)
}

const UPLOAD_CHECKS: readonly Check[] = Object.entries(UPLOADS).flatMap(([way, upload]) => [
  {
    title: `a blob sent by ${way} is here, and is gone when it is deleted`,
    run: async (client, algorithm) => {
      const name = repository('upload')
      const blob = blobOf(algorithm)
      assertCreated(await upload(client, name, blob), blob.digest)
      await assertHeld(client, name, blob)
      await assertDeleted(client, name, blob)
    },
  },
  {
    title: `a blob sent by ${way} under a wrong digest is refused with 400`,
    run: async (client, algorithm) => {
      const name = repository('wrong')
      const blob = { ...blobOf(algorithm), digest: missingDigest(algorithm) }
      assertRefused(await upload(client, name, blob), 400)
      assertRefused(await client.ask('GET', `/v2/${name}/blobs/${blob.digest}`), 404)
    },
  },
])

/** Ranges of a blob of 2,048 bytes: as asked, and first and last byte of the answer. */
const RANGES: readonly (readonly [string, readonly [number, number] | undefined])[] = [
  ['500-1499', [500, 1499]],
  ['500-', [500, 2047]],
  ['-500', [1548, 2047]],
  ['2000-5000', [2000, 2047]],
  ['500-0', undefined],
  ['5000-10000', undefined],
]

const RANGE_CHECKS: readonly Check[] = RANGES.map(([range, bounds]) => ({
  title: `the range ${range} of 2,048 bytes is ${bounds === undefined ? '416' : `bytes ${bounds.join(' to ')}`}`,
  run: async (client, algorithm) => {
    const name = repository('range')
    const blob = blobOf(algorithm, randomBytes(2048))
    await client.upload(name, blob)
    const answer = await client.ask('GET', `/v2/${name}/blobs/${blob.digest}`, {
      headers: { range: `bytes=${range}` },
    })
    if (bounds === undefined) return assertRefused(answer, 416)
    const [first, last] = bounds
    assert.equal(answer.status, 206)
    assert.equal(answer.headers['content-range'], `bytes ${first}-${last}/2048`)
    assert.equal(answer.headers['content-length'], String(last - first + 1))
    assert.deepEqual(answer.body, blob.bytes.subarray(first, last + 1))
    return undefined
  },
}))

const MOUNT_CHECKS: readonly Check[] = [
  ['with from', true],
  ['without from', false],
].map(([how, isNamed]) => ({
  title: `a blob of another repository is mounted ${String(how)}`,
  run: async (client, algorithm) => {
    const [source, name] = [repository('source'), repository('mount')]
    const blob = blobOf(algorithm)
    await client.upload(source, blob)
    const from: Record<string, string> = isNamed === true ? { from: source } : {}
    const path = withQuery(`/v2/${name}/blobs/uploads/`, { mount: blob.digest, ...from })
    assertCreated(await client.ask('POST', path), blob.digest)
    await assertHeld(client, name, blob)
    await assertDeleted(client, name, blob)
    await assertHeld(client, source, blob)
  },
}))

export const BLOB_CHECKS: readonly Check[] = [
  {
    title: 'a blob that was never pushed is 404',
    run: async (client, algorithm) => {
      const path = `/v2/${repository('none')}/blobs/${missingDigest(algorithm)}`
      assertRefused(await client.ask('GET', path), 404)
      assert.equal((await client.ask('HEAD', path)).status, 404)
    },
  },
  ...UPLOAD_CHECKS,
  ...[false, true].map(isLastPut => ({
    title: `chunks out of order are 416, and the upload goes on${isLastPut ? ', the last chunk in the PUT' : ''}`,
    run: async (client: RegistryClient, algorithm: DigestAlgorithm) => {
      const name = repository('order')
      const blob = blobOf(algorithm)
      const answer = await inChunks(client, name, { blob, count: 3, isLastPut, isMixed: true })
      assertCreated(answer, blob.digest)
      await assertHeld(client, name, blob)
    },
  })),
  ...MOUNT_CHECKS,
  {
    title: 'a mount of a blob that the source does not have becomes an upload',
    run: async (client, algorithm) => {
      const [source, name] = [repository('source'), repository('mount')]
      const blob = blobOf(algorithm)
      const path = withQuery(`/v2/${name}/blobs/uploads/`, { mount: blob.digest, from: source })
      const begun = await client.ask('POST', path)
      assert.equal(begun.status, 202)
      const put = await client.ask('PUT', withQuery(locationOf(begun), { digest: blob.digest }), {
        body: blob.bytes,
      })
      assertCreated(put, blob.digest)
      await assertHeld(client, name, blob)
    },
  },
  {
    title: 'an upload that is cancelled is gone',
    run: async client => {
      const location = await client.begin(repository('cancel'))
      assert.equal((await client.ask('DELETE', location)).status, 204)
      assertRefused(await client.ask('GET', location), 404)
      assertRefused(await client.ask('PATCH', location, { body: Buffer.from('x') }), 404)
    },
  },
  {
    title: 'an upload by a digest that was announced with digest-algorithm is taken',
    run: async (client, algorithm) => {
      const name = repository('announced')
      const blob = blobOf(algorithm)
      const begun = await client.ask('POST', `/v2/${name}/blobs/uploads/?digest-algorithm=${algorithm}`)
      const patched = await client.ask('PATCH', locationOf(begun), { body: blob.bytes })
      const put = await client.ask('PUT', withQuery(locationOf(patched), { digest: blob.digest }))
      assertCreated(put, blob.digest)
      await assertHeld(client, name, blob)
    },
  },
  ...RANGE_CHECKS,
  ...['', '{}'].map(text => ({
    title: `the blob ${JSON.stringify(text)} is a blob like any other`,
    run: async (client: RegistryClient, algorithm: DigestAlgorithm) => {
      const name = repository('known')
      const blob = blobOf(algorithm, Buffer.from(text))
      await client.upload(name, blob)
      await assertHeld(client, name, blob)
      await assertDeleted(client, name, blob)
    },
  })),
]
