import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { DigestAlgorithm } from '../../src/oci/digest.ts'
import { assertCreated, type Blob, blobOf, type RegistryClient } from './registry.ts'

export const IMAGE = 'application/vnd.oci.image.manifest.v1+json'
export const INDEX = 'application/vnd.oci.image.index.v1+json'
const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip'
export const CONFIG = 'application/vnd.oci.image.config.v1+json'
export const EMPTY = 'application/vnd.oci.empty.v1+json'

/** A manifest with its type, and what must be pushed before it. */
export interface Document {
  readonly manifest: Blob
  readonly mediaType: string
  readonly blobs: readonly Blob[]
  readonly children: readonly Document[]
  readonly subject?: Blob | undefined
}

export interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

export function descriptor({ bytes, digest }: Blob, mediaType: string): Descriptor {
  return { mediaType, digest, size: bytes.length }
}

export interface ImageParts {
  readonly algorithm?: DigestAlgorithm
  readonly layers?: number
  readonly extra?: object
  readonly configType?: string
  readonly layerType?: string
  readonly foreign?: readonly object[]
  readonly subject?: Blob
}

export function imageOf({
  algorithm = 'sha256',
  layers = 2,
  extra = {},
  configType = CONFIG,
  layerType = LAYER,
  foreign = [],
  subject,
}: ImageParts): Document {
  const config = blobOf(
    algorithm,
    Buffer.from(configType === EMPTY ? '{}' : JSON.stringify({ id: randomBytes(8).toString('hex') })),
  )
  const made = Array.from({ length: layers }, () => blobOf(algorithm))
  const document = {
    schemaVersion: 2,
    mediaType: IMAGE,
    config: descriptor(config, configType),
    layers: [...made.map(layer => descriptor(layer, layerType)), ...foreign],
    ...(subject === undefined ? {} : { subject: descriptor(subject, IMAGE) }),
    ...extra,
  }
  const manifest = blobOf(algorithm, Buffer.from(JSON.stringify(document)))
  return { manifest, mediaType: IMAGE, blobs: [config, ...made], children: [], subject }
}

export function indexOf(
  children: readonly Document[],
  extra: object = {},
  algorithm: DigestAlgorithm = 'sha256',
): Document {
  const document = {
    schemaVersion: 2,
    mediaType: INDEX,
    manifests: children.map(({ manifest, mediaType }) => descriptor(manifest, mediaType)),
    ...extra,
  }
  const manifest = blobOf(algorithm, Buffer.from(JSON.stringify(document)))
  return { manifest, mediaType: INDEX, blobs: [], children }
}

/** What BuildKit exports with `--export-cache type=registry`: an index whose entries are blobs. */
export function buildCacheOf(layers: number): Document {
  const config = blobOf('sha256', Buffer.from(JSON.stringify({ id: randomBytes(8).toString('hex') })))
  const made = Array.from({ length: layers }, () => blobOf('sha256'))
  const document = {
    schemaVersion: 2,
    mediaType: INDEX,
    manifests: [
      ...made.map(layer => descriptor(layer, LAYER)),
      descriptor(config, 'application/vnd.buildkit.cacheconfig.v0'),
    ],
  }
  const manifest = blobOf('sha256', Buffer.from(JSON.stringify(document)))
  return { manifest, mediaType: INDEX, blobs: [...made, config], children: [] }
}

/** Pushes a document, children first; the outermost one also under a tag. */
export async function push(
  client: RegistryClient,
  name: string,
  document: Document,
  tag?: string,
): Promise<void> {
  for (const child of document.children) await push(client, name, child)
  for (const blob of document.blobs) await client.upload(name, blob)
  const { manifest, mediaType, subject } = document
  for (const reference of [manifest.digest, ...(tag === undefined ? [] : [tag])]) {
    // A tag has no algorithm of its own: the registry names the manifest by the one it prefers.
    if (reference === tag && manifest.digest.startsWith('sha512:')) continue
    const answer = await client.publish(name, reference, manifest, mediaType)
    assertCreated(answer, manifest.digest)
    assert.equal(answer.headers['oci-subject'], subject?.digest)
  }
}

export async function assertPulled(
  client: RegistryClient,
  name: string,
  document: Document,
  tag?: string,
): Promise<void> {
  const { manifest, mediaType } = document
  for (const reference of [manifest.digest, ...(tag === undefined ? [] : [tag])]) {
    const path = `/v2/${name}/manifests/${reference}`
    const [head, got] = [await client.ask('HEAD', path), await client.ask('GET', path)]
    for (const { status, headers } of [head, got]) {
      assert.equal(status, 200)
      assert.equal(headers['content-type'], mediaType)
      assert.equal(headers['docker-content-digest'], manifest.digest)
      assert.equal(headers['content-length'], String(manifest.bytes.length))
    }
    assert.deepEqual(got.body, manifest.bytes)
  }
  for (const child of document.children) await assertPulled(client, name, child)
}
