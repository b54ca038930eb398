import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestOf } from '../../src/oci/digest.ts'
import { MANIFEST_SIZE_MAX, type Manifest, ManifestError, parseManifest } from '../../src/oci/manifest.ts'
import { DOCKER_LIST, DOCKER_MANIFEST, essenceOf, OCI_INDEX, OCI_MANIFEST } from '../../src/oci/media-type.ts'

const one = digestOf(Buffer.from('one'))
const two = digestOf(Buffer.from('two'), 'sha512')
const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: one, size: 3 }
const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: two, size: 0 }
const image = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [layer] }
const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [{ ...config, mediaType: OCI_MANIFEST }] }

function bytesOf(value: unknown): Uint8Array {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))
}

test('an image names its configuration and its layers, and an index its manifests', () => {
  const parsed = parseManifest(bytesOf(image), OCI_MANIFEST)
  assert.deepEqual(
    [parsed.kind, parsed.mediaType, parsed.blobs.map(blob => [blob.digest, blob.sizeBytes])],
    [
      'image',
      OCI_MANIFEST,
      [
        [one, 3],
        [two, 0],
      ],
    ],
  )
  assert.deepEqual(parsed.manifests, [])
  const list = parseManifest(bytesOf(index), OCI_INDEX)
  assert.deepEqual([list.kind, list.blobs, list.manifests.map(entry => entry.digest)], ['index', [], [one]])
})

test('an index of a build cache names its layers and its configuration as blobs', () => {
  const types = [
    'application/vnd.oci.image.layer.v1.tar+zstd',
    'application/vnd.docker.image.rootfs.diff.tar.gzip',
    'application/vnd.buildkit.cacheconfig.v0',
  ]
  const digests = types.map(type => digestOf(Buffer.from(type)))
  const entries = types.map((mediaType, at) => ({ mediaType, digest: digests[at], size: 3 }))
  const { kind, blobs, manifests } = parseManifest(bytesOf({ ...index, manifests: entries }), OCI_INDEX)
  assert.deepEqual([kind, blobs.map(({ digest }) => digest), manifests], ['index', digests, []])
  const unknown = { ...config, mediaType: 'application/vnd.example.manifest.v1+json' }
  const other = parseManifest(bytesOf({ ...index, manifests: [unknown] }))
  assert.deepEqual([other.blobs, other.manifests.length], [[], 1])
})

const TYPES: readonly (readonly [string, unknown, string | undefined, string])[] = [
  [
    'without a mediaType an image is an OCI manifest',
    { ...image, mediaType: undefined },
    undefined,
    OCI_MANIFEST,
  ],
  ['with an empty mediaType an index is an OCI index', { ...index, mediaType: '' }, undefined, OCI_INDEX],
  [
    'a Docker image says so itself',
    { ...image, mediaType: DOCKER_MANIFEST },
    DOCKER_MANIFEST,
    DOCKER_MANIFEST,
  ],
  ['a Docker list says so itself', { ...index, mediaType: DOCKER_LIST }, undefined, DOCKER_LIST],
  ['a generic Content-Type says nothing', image, 'application/json; charset=utf-8', OCI_MANIFEST],
  [
    'a Content-Type is compared without case and parameters',
    image,
    `${OCI_MANIFEST.toUpperCase()};a=b`,
    OCI_MANIFEST,
  ],
]
for (const [title, document, contentType, mediaType] of TYPES) {
  test(title, () => {
    assert.equal(parseManifest(bytesOf(document), contentType).mediaType, mediaType)
  })
}

const REFUSED: readonly (readonly [string, unknown, (string | undefined)?])[] = [
  ['nothing', ''],
  ['a number', '1'],
  ['null', 'null'],
  ['a list', '[]'],
  ['an empty object', '{}'],
  ['text that is not JSON', '<html>not found</html>'],
  ['JSON with something behind it', `${JSON.stringify(image)}x`],
  ['a byte order mark', Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytesOf(image)])],
  ['an index and an image at once', { ...image, manifests: index.manifests }],
  ['an empty index that is an image at once', { ...image, manifests: [] }],
  ['an index with a configuration', { ...index, config }],
  ['schema 1', { schemaVersion: 1, name: 'x', fsLayers: [], history: [] }],
  ['schema 1 in the dress of an image', { ...image, fsLayers: [] }],
  ['the version number of schema 1', { ...image, schemaVersion: 1 }],
  ['an image that calls itself an index', { ...image, mediaType: OCI_INDEX }],
  ['an index that calls itself an image', { ...index, mediaType: DOCKER_MANIFEST }],
  ['an unknown mediaType', { ...image, mediaType: 'text/html' }],
  ['a mediaType that is no text', { ...image, mediaType: [OCI_MANIFEST] }],
  ['an image sent as an index', image, OCI_INDEX],
  ['an OCI image sent as a Docker image', image, DOCKER_MANIFEST],
  ['layers that are an object', { ...image, layers: {} }],
  ['layers that are a text', { ...image, layers: 'layers' }],
  ['a layer that is null', { ...image, layers: [null] }],
  ['a layer that is a list', { ...image, layers: [[]] }],
  ['a layer without a digest', { ...image, layers: [{ ...layer, digest: undefined }] }],
  ['a digest that is a number', { ...image, layers: [{ ...layer, digest: 7 }] }],
  ['a size that is a text', { ...image, layers: [{ ...layer, size: '3' }] }],
  ['a size below zero', { ...image, layers: [{ ...layer, size: -1 }] }],
  ['a size with a fraction', { ...image, layers: [{ ...layer, size: 1.5 }] }],
  ['a size beyond what a number can hold', { ...image, layers: [{ ...layer, size: 2 ** 60 }] }],
  ['a configuration that is a list', { ...image, config: [config] }],
  ['only a prototype with layers', '{"__proto__":{"layers":[],"config":{}}}'],
]
for (const [what, document, contentType] of REFUSED) {
  test(`${what} is refused as a manifest`, () => {
    const bytes = document instanceof Uint8Array ? document : bytesOf(document)
    assert.throws(() => parseManifest(bytes, contentType), ManifestError)
  })
}

test('invalid UTF-8 within a text is refused', () => {
  const bytes = Buffer.from(JSON.stringify({ ...image, annotations: { a: '@@' } }))
  bytes[bytes.indexOf('@@')] = 0xff
  assert.throws(() => parseManifest(bytes), ManifestError)
})

test('keys that would pollute a prototype are only keys', () => {
  const text = JSON.stringify(image).replace(
    '{',
    '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},',
  )
  assert.equal(parseManifest(bytesOf(text)).blobs.length, 2)
  assert.equal(({} as { polluted?: number }).polluted, undefined)
})

test('layers that live elsewhere, and digests that cannot be proved, are left out', () => {
  const foreign = { ...layer, urls: ['https://elsewhere.example/layer'] }
  const unknown = { ...layer, digest: `sha384:${'a'.repeat(96)}` }
  const parsed = parseManifest(bytesOf({ ...image, layers: [foreign, unknown, { ...layer, urls: [] }] }))
  assert.deepEqual(
    parsed.blobs.map(blob => blob.digest),
    [one, two],
  )
})

test('an artifact without layers is an image of its configuration alone', () => {
  assert.equal(parseManifest(bytesOf({ schemaVersion: 2, config })).blobs.length, 1)
})

test('depth 32 is accepted and depth 33 refused, brackets in texts and escapes not counted', () => {
  const nested = (depth: number): unknown => ({
    ...image,
    x: JSON.parse('['.repeat(depth) + ']'.repeat(depth)),
  })
  assert.equal(parseManifest(bytesOf(nested(31))).kind, 'image')
  assert.throws(() => parseManifest(bytesOf(nested(32))), /nested deeper than 32/)
  const text = { ...image, annotations: { note: `\\"${'[{'.repeat(100)}\\` } }
  assert.equal(parseManifest(bytesOf(text)).kind, 'image')
})

test('a million brackets are refused before they are parsed', () => {
  assert.throws(() => parseManifest(bytesOf('['.repeat(1_000_000))), /nested deeper/)
})

test('10,000 layers are accepted and 10,001 refused', () => {
  const layers = (count: number): unknown => ({
    ...image,
    layers: Array.from({ length: count }, () => ({ digest: one, size: 1 })),
  })
  assert.equal(parseManifest(bytesOf(layers(10_000))).blobs.length, 10_001)
  assert.throws(() => parseManifest(bytesOf(layers(10_001))), /over 10000 entries/)
})

test('a manifest of 4 MiB is accepted and one byte more refused', () => {
  const padded = Buffer.concat([bytesOf(image), Buffer.alloc(MANIFEST_SIZE_MAX + 1, ' ')])
  assert.equal(parseManifest(padded.subarray(0, MANIFEST_SIZE_MAX)).kind, 'image')
  assert.throws(() => parseManifest(padded.subarray(0, MANIFEST_SIZE_MAX + 1)), /larger than 4194304 bytes/)
})

test('a Content-Type is read without its parameters, in lower case', () => {
  assert.equal(essenceOf(' Text/HTML ; charset=utf-8'), 'text/html')
  assert.equal(essenceOf(undefined), '')
})

test('a list that Go wrote as null is an empty list', () => {
  const digest = `sha256:${'a'.repeat(64)}`
  const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: 2 }
  const parse = (document: object): Manifest => parseManifest(Buffer.from(JSON.stringify(document)))
  assert.deepEqual(parse({ schemaVersion: 2, manifests: null }).manifests, [])
  assert.equal(parse({ schemaVersion: 2, manifests: null }).kind, 'index')
  assert.equal(parse({ schemaVersion: 2, config, layers: null }).blobs.length, 1)
  assert.equal(parse({ schemaVersion: 2, config, layers: [], manifests: null }).kind, 'image')
})
