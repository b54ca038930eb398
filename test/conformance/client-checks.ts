import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Check } from './blob-checks.ts'
import {
  assertPulled,
  buildCacheOf,
  type Document,
  EMPTY,
  IMAGE,
  INDEX,
  imageOf,
  indexOf,
} from './image-documents.ts'
import {
  assertCreated,
  type Blob,
  locationOf,
  missingDigest,
  type RegistryAnswer,
  type RegistryClient,
  withQuery,
} from './registry.ts'

// Pushes as clients send them, request by request, by the source of each: docker (distribution's client),
// containerd's pusher, which is also that of nerdctl and BuildKit, oras-go and regclient. Each client refuses
// what it does not expect, so each check asserts what its client reads.

const NOTHING = Buffer.alloc(0)
const OCTETS = 'application/octet-stream'
const IN_TOTO = 'application/vnd.in-toto+json'

function repositoryFor(client: string): string {
  return `conformance/${client}-${randomBytes(4).toString('hex')}`
}

function uploadsOf(name: string, parameters: Readonly<Record<string, string>> = {}): string {
  return withQuery(`/v2/${name}/blobs/uploads/`, parameters)
}

/** Asserts the existence check of a client. */
async function assertHead(client: RegistryClient, path: string, expected: Blob | undefined): Promise<void> {
  const { status, headers } = await client.ask('HEAD', path, { headers: { accept: '*/*' } })
  assert.equal(status, expected === undefined ? 404 : 200, path)
  if (expected === undefined) return
  assert.equal(headers['docker-content-digest'], expected.digest)
  assert.equal(headers['content-length'], String(expected.bytes.length))
}

/** docker with its own image store: a mount, one stream without Content-Range, an empty PUT, and a HEAD. */
async function pushByDocker(client: RegistryClient, name: string, blob: Blob): Promise<void> {
  const from = repositoryFor('elsewhere')
  const begun = await client.ask('POST', uploadsOf(name, { mount: blob.digest, from }), { body: NOTHING })
  assert.equal(begun.status, 202)
  assert.match(String(begun.headers['docker-upload-uuid']), /^[0-9a-f-]{36}$/)
  const patched = await client.stream('PATCH', locationOf(begun), blob.bytes)
  assert.equal(patched.status, 202)
  assert.equal(endOf(patched), Math.max(0, blob.bytes.length - 1))
  const target = withQuery(locationOf(patched), { digest: blob.digest })
  assertCreated(await client.ask('PUT', target, { body: NOTHING }), blob.digest)
  await assertHead(client, `/v2/${name}/blobs/${blob.digest}`, blob)
}

/** The end of a `Range`, as docker reads it: it refuses one that ends before it begins. */
function endOf({ headers }: RegistryAnswer): number {
  const [, start, end] = /^([0-9]+)-([0-9]+)$/.exec(String(headers['range'])) ?? []
  assert.equal(start, '0')
  assert.ok(Number(end) >= 0)
  return Number(end)
}

/** containerd's pusher: HEAD, POST, and one PUT with its length. Returns what it found by HEAD. */
async function pushByContainerd(
  client: RegistryClient,
  name: string,
  { blob, from }: { readonly blob: Blob; readonly from?: string },
): Promise<'there' | 'mounted' | 'uploaded'> {
  const path = `/v2/${name}/blobs/${blob.digest}`
  const found = await client.ask('HEAD', path, { headers: { accept: `${OCTETS}, */*` } })
  if (found.status === 200) return 'there'
  assert.equal(found.status, 404)
  const mount: Record<string, string> = from === undefined ? {} : { mount: blob.digest, from }
  const begun = await client.ask('POST', uploadsOf(name, mount), { body: NOTHING })
  if (begun.status === 201) {
    assert.equal(begun.headers['docker-content-digest'], blob.digest)
    return 'mounted'
  }
  assert.equal(begun.status, 202)
  // With another host or scheme in it the pusher would drop its login.
  assert.match(locationOf(begun), /^\/v2\//)
  const target = withQuery(locationOf(begun), { digest: blob.digest })
  const put = await client.ask('PUT', target, { body: blob.bytes, headers: { 'content-type': OCTETS } })
  assertCreated(put, blob.digest)
  return 'uploaded'
}

/** Pushes a document, children first, skipping a manifest whose reference has its digest already. */
async function pushAllByContainerd(
  client: RegistryClient,
  name: string,
  { document, tag, from }: { readonly document: Document; readonly tag?: string; readonly from?: string },
): Promise<readonly string[]> {
  const done: string[] = []
  for (const child of document.children)
    done.push(...(await pushAllByContainerd(client, name, { document: child, ...(from ? { from } : {}) })))
  for (const blob of document.blobs)
    done.push(await pushByContainerd(client, name, { blob, ...(from ? { from } : {}) }))
  const { manifest, mediaType } = document
  const path = `/v2/${name}/manifests/${tag ?? manifest.digest}`
  const { status, headers } = await client.ask('HEAD', path, { headers: { accept: `${mediaType}, */*` } })
  if (status === 200 && headers['docker-content-digest'] === manifest.digest) return [...done, 'there']
  const put = { body: manifest.bytes, headers: { 'content-type': mediaType } }
  assertCreated(await client.ask('PUT', path, put), manifest.digest)
  return [...done, 'published']
}

/** The manifest of an attestation as BuildKit makes it, beside the image in one index. */
function attestationOf(image: Document): Document {
  const annotations = {
    'vnd.docker.reference.type': 'attestation-manifest',
    'vnd.docker.reference.digest': image.manifest.digest,
  }
  return imageOf({ layers: 1, layerType: IN_TOTO, extra: { annotations } })
}

/** The same as a referrer of the image, which BuildKit pushes before the image. */
function referrerOf(image: Document): Document {
  const artifactType = 'application/vnd.docker.attestation.manifest.v1+json'
  return imageOf({
    layers: 1,
    layerType: IN_TOTO,
    configType: EMPTY,
    subject: image.manifest,
    extra: { artifactType },
  })
}

/** oras-go: HEAD, POST without a body, and one PUT; it wants exactly 201 and the digest. */
async function pushByOras(client: RegistryClient, name: string, blob: Blob): Promise<void> {
  await assertHead(client, `/v2/${name}/blobs/${blob.digest}`, undefined)
  const begun = await client.ask('POST', uploadsOf(name))
  assert.equal(begun.status, 202)
  const target = withQuery(locationOf(begun), { digest: blob.digest })
  const put = await client.ask('PUT', target, { body: blob.bytes, headers: { 'content-type': OCTETS } })
  assertCreated(put, blob.digest)
}

async function publishByOras(
  client: RegistryClient,
  name: string,
  { document, reference }: { readonly document: Document; readonly reference: string },
): Promise<void> {
  const { manifest, mediaType, subject } = document
  await assertHead(client, `/v2/${name}/manifests/${reference}`, undefined)
  const put = await client.publish(name, reference, manifest, mediaType)
  assertCreated(put, manifest.digest)
  // Without this header oras would write the fallback tag, and lose one of two writes at a time.
  assert.equal(put.headers['oci-subject'], subject?.digest)
}

async function referrersOf(client: RegistryClient, name: string, digest: string): Promise<readonly string[]> {
  const { status, headers, body } = await client.ask('GET', `/v2/${name}/referrers/${digest}`)
  assert.equal(status, 200)
  assert.equal(headers['content-type'], INDEX)
  return (JSON.parse(body.toString()) as { manifests: { digest: string }[] }).manifests.map(
    entry => entry.digest,
  )
}

export const CLIENT_CHECKS: readonly Check[] = [
  {
    title: 'docker with its own store pushes an image, and cancels an upload',
    run: async client => {
      const [name, document] = [repositoryFor('docker'), imageOf({})]
      for (const blob of document.blobs) await pushByDocker(client, name, blob)
      const put = await client.publish(name, 'v1', document.manifest, document.mediaType)
      assertCreated(put, document.manifest.digest)
      await assertPulled(client, name, document, 'v1')
      const begun = await client.ask('POST', uploadsOf(name), { body: NOTHING })
      assert.equal(endOf(await client.stream('PATCH', locationOf(begun), NOTHING)), 0)
      assert.equal((await client.ask('DELETE', locationOf(begun))).status, 204)
      assert.equal((await client.ask('GET', locationOf(begun))).status, 404)
    },
  },
  {
    title: 'nerdctl pushes an image, then nothing of it again, and mounts it under another name',
    run: async client => {
      const [name, document] = [repositoryFor('nerdctl'), indexOf([imageOf({}), imageOf({})])]
      const pushed = { document, tag: 'v1' }
      const first = await pushAllByContainerd(client, name, pushed)
      assert.deepEqual(new Set(first), new Set(['uploaded', 'published']))
      assert.deepEqual(new Set(await pushAllByContainerd(client, name, pushed)), new Set(['there']))
      const other = repositoryFor('nerdctl')
      const moved = await pushAllByContainerd(client, other, { ...pushed, from: name })
      assert.deepEqual(new Set(moved), new Set(['mounted', 'published']))
      await assertPulled(client, other, document, 'v1')
    },
  },
  {
    title: 'buildx pushes an index with attestations, and a new build that shares layers moves the tag',
    run: async client => {
      const name = repositoryFor('buildx')
      const build = (images: readonly Document[]): Document =>
        indexOf(images.flatMap(image => [image, attestationOf(image)]))
      const [kept, replaced] = [imageOf({}), imageOf({})]
      const [before, after] = [build([kept, replaced]), build([kept, imageOf({})])]
      await pushAllByContainerd(client, name, { document: before, tag: 'latest' })
      const again = await pushAllByContainerd(client, name, { document: after, tag: 'latest' })
      // The three blobs and the manifest of the image that both have.
      assert.equal(again.filter(step => step === 'there').length, 4)
      await assertPulled(client, name, after, 'latest')
      await assertPulled(client, name, before)
    },
  },
  {
    title: 'buildx pushes an attestation as a referrer before the image that it is of',
    run: async client => {
      const [name, image] = [repositoryFor('buildx'), imageOf({})]
      const referrer = referrerOf(image)
      await pushAllByContainerd(client, name, { document: referrer })
      assert.deepEqual(await referrersOf(client, name, image.manifest.digest), [referrer.manifest.digest])
      await assertHead(client, `/v2/${name}/manifests/${image.manifest.digest}`, undefined)
      await pushAllByContainerd(client, name, { document: indexOf([image]), tag: 'latest' })
      assert.deepEqual(await referrersOf(client, name, image.manifest.digest), [referrer.manifest.digest])
      await assertPulled(client, name, referrer)
    },
  },
  {
    title: 'buildx exports its cache as an index of layers, and needs each of them to be there',
    run: async client => {
      const [name, document] = [repositoryFor('buildx'), buildCacheOf(2)]
      const { manifest, mediaType, blobs } = document
      const [first, ...others] = blobs
      for (const blob of others) await pushByContainerd(client, name, { blob })
      const early = await client.publish(name, 'cache', manifest, mediaType)
      assert.equal(early.status, 400)
      assert.match(String(early.body), new RegExp(`MANIFEST_BLOB_UNKNOWN.*the blob ${first?.digest}`))
      const done = await pushAllByContainerd(client, name, { document, tag: 'cache' })
      assert.deepEqual(done, ['uploaded', 'there', 'there', 'published'])
      await assertPulled(client, name, document, 'cache')
      for (const blob of blobs) await assertHead(client, `/v2/${name}/blobs/${blob.digest}`, blob)
    },
  },
  {
    title: 'oras pushes an artifact, attaches another to it, discovers, copies and deletes it',
    run: async client => {
      const [name, copy] = [repositoryFor('oras'), repositoryFor('oras')]
      const parts = { layers: 1, layerType: 'text/plain', configType: EMPTY }
      const artifact = imageOf({ ...parts, extra: { artifactType: 'application/vnd.example.report' } })
      for (const blob of artifact.blobs) await pushByOras(client, name, blob)
      await publishByOras(client, name, { document: artifact, reference: 'v1' })
      const extra = { artifactType: 'application/vnd.example.signature' }
      const attached = imageOf({ ...parts, subject: artifact.manifest, extra })
      const [config, ...layers] = attached.blobs
      await assertHead(client, `/v2/${name}/blobs/${config?.digest}`, config)
      for (const blob of layers) await pushByOras(client, name, blob)
      await publishByOras(client, name, { document: attached, reference: attached.manifest.digest })
      // Without the header OCI-Subject oras asks this to learn if there is the API.
      assert.deepEqual(await referrersOf(client, name, `sha256:${'0'.repeat(64)}`), [])
      assert.deepEqual(await referrersOf(client, name, artifact.manifest.digest), [attached.manifest.digest])
      for (const blob of artifact.blobs) {
        const mounted = await client.ask('POST', uploadsOf(copy, { mount: blob.digest, from: name }))
        assert.equal(mounted.status, 201)
      }
      await publishByOras(client, copy, { document: artifact, reference: 'v1' })
      await assertPulled(client, copy, artifact, 'v1')
      const path = `/v2/${name}/manifests/${attached.manifest.digest}`
      assert.equal((await client.ask('DELETE', path)).status, 202)
      assert.deepEqual(await referrersOf(client, name, artifact.manifest.digest), [])
    },
  },
  {
    title: 'regctl mounts without a source, goes on in chunks, and finds its place after a 416',
    run: async client => {
      const name = repositoryFor('regctl')
      const document = imageOf({ layers: 1 })
      const [config, layer] = document.blobs
      assert.ok(config !== undefined && layer !== undefined)
      const unknown = { mount: missingDigest('sha256') }
      const begun = await client.ask('POST', uploadsOf(name, unknown), { body: NOTHING })
      assert.equal(begun.status, 202)
      assert.equal(begun.headers['oci-chunk-min-length'], undefined)
      const chunk = async (from: number, to: number): Promise<RegistryAnswer> =>
        await client.ask('PATCH', locationOf(begun), {
          body: layer.bytes.subarray(from, to),
          headers: { 'content-range': `${from}-${to - 1}`, 'content-type': OCTETS },
        })
      assert.equal(endOf(await chunk(0, 200)), 199)
      assert.equal((await chunk(300, 400)).status, 416)
      const state = await client.ask('GET', locationOf(begun))
      assert.deepEqual([state.status, endOf(state)], [204, 199])
      assert.equal(endOf(await chunk(200, layer.bytes.length)), layer.bytes.length - 1)
      const target = withQuery(locationOf(begun), { digest: layer.digest })
      assertCreated(await client.ask('PUT', target, { body: NOTHING }), layer.digest)
      const mounted = await client.ask('POST', uploadsOf(repositoryFor('regctl'), { mount: layer.digest }))
      assert.equal(mounted.status, 201)
      await client.upload(name, config)
      assertCreated(await client.publish(name, 'v1', document.manifest, IMAGE), document.manifest.digest)
    },
  },
]
