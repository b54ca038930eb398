import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Links } from '../../src/content/links.ts'
import { StoredManifests } from '../../src/content/stored-manifests.ts'
import { Tags } from '../../src/content/tags.ts'
import { isComplete } from '../../src/mirror/complete.ts'
import { Manifests } from '../../src/mirror/manifests.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { UpstreamError } from '../../src/oci/error.ts'
import { DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from '../../src/oci/media-type.ts'
import type { Store } from '../../src/storage/store.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { FakeRegistry, type RegistryScript } from '../support/fake-registry.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'
import { type Blob, makeBlob, sourceOf, storeAs, storeWith, strangerOf, systemError, tagOf } from './rig.ts'

interface Document {
  readonly bytes: Buffer
  readonly digest: Digest
}

function documentOf(value: object): Document {
  const bytes = Buffer.from(JSON.stringify(value))
  return { bytes, digest: digestOf(bytes) }
}

const config = makeBlob(10)
const layer = makeBlob(20)
const descriptor = ({ bytes, digest }: Blob | Document): object => ({
  mediaType: 'x/y',
  digest,
  size: bytes.length,
})
const image = documentOf({ mediaType: OCI_MANIFEST, config: descriptor(config), layers: [descriptor(layer)] })
const isVisible = async (): Promise<boolean> => await Promise.resolve(true)
const byDigest = { kind: 'digest', digest: image.digest } as const
const byTag = { kind: 'tag', tag: tagOf('latest') } as const

function makeManifests(t: TestContext, script: RegistryScript = {}, store: Store = new MemoryStore()) {
  const seen = seeEvents()
  const links = new Links(store, seen.events)
  t.after(async () => await links[Symbol.asyncDispose]())
  const tags = new Tags(store, seen.events, new FakeClock())
  const lifetime = new AbortController().signal
  const stored = new StoredManifests({ store, events: seen.events })
  const manifests = new Manifests({ stored, links, tags, lifetime })
  const registry = new FakeRegistry(script)
  return { manifests, stored, links, registry, seen, store, source: sourceOf(registry) }
}

const serving = (
  bytes: Uint8Array,
  claimedDigest?: Digest,
  contentType: string | undefined = OCI_MANIFEST,
): RegistryScript => ({
  getManifest: () => ({ bytes, contentType, claimedDigest }),
})

test('a manifest is fetched once for all who ask, stored, and lets its repository see what it names', async t => {
  const { manifests, links, registry, source, store } = makeManifests(t, serving(image.bytes, image.digest))
  const all = await Promise.all(
    Array.from({ length: 9 }, async () => await manifests.fetch(source, byDigest)),
  )
  for (const manifest of all) assert.equal(manifest?.digest, image.digest)
  assert.equal(registry.asked.length, 1)
  assert.equal((await makeManifests(t, {}, store).stored.find(image.digest))?.mediaType, OCI_MANIFEST)
  for (const digest of [image.digest, config.digest, layer.digest]) assert.ok(await links.has(source, digest))
  assert.ok(!(await links.has(sourceOf(registry, 'library/b'), layer.digest)))
})

for (const mediaType of [
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  'application/vnd.oci.image.layer.nondistributable.v1.tar',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
  'Application/vnd.OCI.image.layer.nondistributable.v1.tar; a=b',
]) {
  test(`T6 a manifest lets its repository see no layer of type ${mediaType}, which a registry need not have, and all else that it names`, async t => {
    const foreign = { ...descriptor(layer), mediaType }
    const named = documentOf({ mediaType: OCI_MANIFEST, config: descriptor(config), layers: [foreign] })
    const { manifests, links, source } = makeManifests(t, serving(named.bytes, named.digest))
    await manifests.fetch(source, { kind: 'digest', digest: named.digest })
    assert.deepEqual(
      [await links.has(source, config.digest), await links.has(source, layer.digest)],
      [true, false],
    )
  })
}

test('T6 a manifest of a registry that is not configured lets its repository see itself, and nothing that it names', async t => {
  const { manifests, links, registry } = makeManifests(t, serving(image.bytes, image.digest))
  const source = strangerOf(registry)
  await manifests.fetch(source, byDigest)
  const seen = [image, config, layer].map(async ({ digest }) => await links.has(source, digest))
  assert.deepEqual(await Promise.all(seen), [true, false, false])
})

test('a manifest that the upstream does not have is absent', async t => {
  const { manifests, source } = makeManifests(t)
  assert.equal(await manifests.fetch(source, byTag), undefined)
})

const LIES: readonly (readonly [string, RegistryScript, typeof byDigest | typeof byTag])[] = [
  ['other bytes than those of the digest', serving(Buffer.from(`${String(image.bytes)} `)), byDigest],
  ['another digest than that of its bytes, by tag', serving(image.bytes, config.digest), byTag],
  ['another digest than that of its bytes, by digest', serving(image.bytes, config.digest), byDigest],
  ['HTML', serving(Buffer.from('<html>'), undefined, 'text/html'), byTag],
  ['a manifest under the type of another', serving(image.bytes, image.digest, DOCKER_MANIFEST), byTag],
  ['nothing', serving(Buffer.alloc(0)), byTag],
]
for (const [what, script, reference] of LIES) {
  test(`an upstream that sends ${what} is in trouble, and nothing is stored or linked`, async t => {
    const { manifests, links, source, store } = makeManifests(t, script)
    await assert.rejects(
      manifests.fetch(source, reference),
      error => error instanceof UpstreamError && error.kind === 'invalid',
    )
    assert.equal(await store.open(image.digest), undefined)
    assert.equal(await links.has(source, image.digest), false)
  })
}

test('a manifest under sha512 is proved and served under sha512', async t => {
  const digest = digestOf(image.bytes, 'sha512')
  const { manifests, source } = makeManifests(t, serving(image.bytes, image.digest))
  assert.equal((await manifests.fetch(source, { kind: 'digest', digest }))?.digest, digest)
})

test('a store that cannot take a manifest does not keep it from the client, and moves no tag', async t => {
  const store = storeWith(new MemoryStore(), { adopt: async () => await Promise.reject(new Error('ENOSPC')) })
  const { manifests, source, seen } = makeManifests(t, serving(image.bytes), store)
  assert.equal((await manifests.fetch(source, byTag))?.digest, image.digest)
  assert.equal(await store.readRecord({ kind: 'tag', ...source, tag: byTag.tag }), undefined)
  assert.equal(seen.of('storage failed').length, 1)
})

test('a leftover spool under the digest of a manifest does not get into it', async t => {
  const { manifests, source, store } = makeManifests(t, serving(image.bytes))
  const file = await store.createSpool(image.digest)
  await file.append(Buffer.from('left over'))
  file.keep()
  await file[Symbol.asyncDispose]()
  await manifests.fetch(source, byDigest)
  assert.ok((await makeManifests(t, {}, store).stored.find(image.digest)) !== undefined)
})

test('a damaged manifest is absent, and quarantined', async t => {
  const { stored, store, seen } = makeManifests(t)
  await storeAs(store, image.digest, Buffer.from(`${String(image.bytes)} `))
  assert.equal(await stored.find(image.digest), undefined)
  assert.equal(await store.open(image.digest), undefined)
  assert.equal(seen.of('stored object is damaged and was quarantined').length, 1)
})

test('stored content that is no manifest is absent as a manifest, and stays stored', async t => {
  const { stored, store } = makeManifests(t)
  await storeAs(store, layer.digest, layer.bytes)
  assert.equal(await stored.find(layer.digest), undefined)
  assert.ok((await store.open(layer.digest)) !== undefined)
})

test('a sick store has no manifests, and is told of', async t => {
  const store = storeWith(new MemoryStore(), { open: async () => await Promise.reject(systemError('EIO')) })
  const { stored, seen } = makeManifests(t, {}, store)
  assert.equal(await stored.find(image.digest), undefined)
  assert.equal(seen.of('storage failed').length, 1)
})

test('an image can be completed from the store when all of its blobs are there, and not before', async t => {
  const { manifests, stored, source, store } = makeManifests(t, serving(image.bytes))
  const manifest = await manifests.fetch(source, byDigest)
  assert.ok(manifest !== undefined)
  await storeAs(store, config.digest, config.bytes)
  assert.equal(await isComplete(manifest, { store, manifests: stored, isVisible }), false)
  await storeAs(store, layer.digest, layer.bytes)
  assert.equal(await isComplete(manifest, { store, manifests: stored, isVisible }), true)
})

test('a build cache can be completed from the store when all of the blobs that it lists are there', async t => {
  const layers = [config, layer].map(blob => ({
    ...descriptor(blob),
    mediaType: 'application/vnd.oci.image.layer.v1.tar',
  }))
  const cache = documentOf({ mediaType: OCI_INDEX, manifests: layers })
  const { stored, store } = makeManifests(t)
  for (const { bytes, digest } of [cache, config]) await storeAs(store, digest, bytes)
  const manifest = await stored.find(cache.digest)
  assert.ok(manifest !== undefined)
  assert.equal(await isComplete(manifest, { store, manifests: stored, isVisible }), false)
  await storeAs(store, layer.digest, layer.bytes)
  assert.equal(await isComplete(manifest, { store, manifests: stored, isVisible }), true)
})

test('what is stored but could not be shown does not complete an image, nor a manifest an index', async t => {
  const index = documentOf({ mediaType: OCI_INDEX, manifests: [descriptor(image)] })
  const { stored, store } = makeManifests(t)
  for (const { bytes, digest } of [image, config, layer, index]) await storeAs(store, digest, bytes)
  const whole = await stored.find(index.digest)
  assert.ok(whole !== undefined)
  for (const hidden of [image.digest, config.digest, layer.digest]) {
    const sees = async (digest: Digest): Promise<boolean> => await Promise.resolve(digest !== hidden)
    assert.equal(await isComplete(whole, { store, manifests: stored, isVisible: sees }), false, hidden)
  }
  assert.equal(await isComplete(whole, { store, manifests: stored, isVisible }), true)
})

test('an index can be completed when one of its images can, or when it is empty', async t => {
  const missing = documentOf({ mediaType: OCI_MANIFEST, config: descriptor(makeBlob(5)), layers: [] })
  const index = documentOf({ mediaType: OCI_INDEX, manifests: [descriptor(missing), descriptor(image)] })
  const empty = documentOf({ mediaType: OCI_INDEX, manifests: [] })
  const { stored, store } = makeManifests(t)
  for (const { bytes, digest } of [missing, index, empty]) await storeAs(store, digest, bytes)
  const [whole, none] = [await stored.find(index.digest), await stored.find(empty.digest)]
  assert.ok(whole !== undefined && none !== undefined)
  assert.equal(await isComplete(none, { store, manifests: stored, isVisible }), true)
  assert.equal(await isComplete(whole, { store, manifests: stored, isVisible }), false)
  for (const { bytes, digest } of [image, config, layer]) await storeAs(store, digest, bytes)
  assert.equal(await isComplete(whole, { store, manifests: stored, isVisible }), true)
})

test('a store that cannot tell counts as complete: it is not the upstream that is in trouble', async t => {
  const { manifests, stored, source, store } = makeManifests(t, serving(image.bytes))
  const manifest = await manifests.fetch(source, byDigest)
  assert.ok(manifest !== undefined)
  const sick = storeWith(store, { open: async () => await Promise.reject(new Error('EIO')) })
  assert.equal(await isComplete(manifest, { store: sick, manifests: stored, isVisible }), true)
})

test('a manifest that the store could not take is stored as soon as it can, by whoever asks for it next', async t => {
  const memory = new MemoryStore()
  let isFull = true
  const store = storeWith(memory, {
    createSpool: async digest => {
      if (isFull) throw systemError('ENOSPC')
      return await memory.createSpool(digest)
    },
  })
  const { manifests, stored, source } = makeManifests(t, serving(image.bytes), store)
  await manifests.fetch(source, byTag)
  assert.equal((await stored.find(image.digest))?.digest, image.digest)
  assert.equal(stored.isStored(image.digest), false)
  isFull = false
  assert.equal((await stored.find(image.digest))?.digest, image.digest)
  assert.equal(stored.isStored(image.digest), true)
  assert.ok((await memory.open(image.digest)) !== undefined)
})
