import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { digestOf } from '../../src/oci/digest.ts'
import type { Check } from './blob-checks.ts'
import {
  assertPulled,
  CONFIG,
  type Descriptor,
  type Document,
  descriptor,
  EMPTY,
  IMAGE,
  type ImageParts,
  INDEX,
  imageOf,
  indexOf,
  push,
} from './image-documents.ts'
import {
  assertCreated,
  assertRefused,
  blobOf,
  hashed,
  missingDigest,
  type RegistryClient,
} from './registry.ts'

function two(parts: ImageParts = {}): readonly Document[] {
  return [imageOf(parts), imageOf(parts)]
}

const MISSING = { bytes: Buffer.alloc(123), digest: missingDigest('sha256') }

/** Kinds of documents that a registry must take. */
const DOCUMENTS: Readonly<Record<string, () => Document>> = {
  'an image': () => imageOf({}),
  'an image of one layer': () => imageOf({ layers: 1 }),
  'an image without layers': () => imageOf({ layers: 0 }),
  'a manifest of nearly 4 MiB': () =>
    imageOf({
      extra: {
        annotations: Object.fromEntries(
          Array.from({ length: 390 }, (_, i) => [`large-${i}`, 'A'.repeat(10_000)]),
        ),
      },
    }),
  'an index': () => indexOf(two()),
  'an index of indexes': () => indexOf([indexOf(two()), indexOf(two())]),
  'an empty index': () => indexOf([]),
  'an artifact': () =>
    imageOf({ configType: EMPTY, extra: { artifactType: 'application/vnd.example+json' } }),
  'an index of artifacts': () =>
    indexOf(two({ configType: EMPTY, extra: { artifactType: 'application/vnd.example+json' } }), {
      artifactType: 'application/vnd.example+json',
    }),
  'descriptors with data': () => {
    const data = blobOf('sha256', Buffer.from('{}'))
    const config = { ...descriptor(data, EMPTY), data: data.bytes.toString('base64') }
    return { ...imageOf({ configType: EMPTY, extra: { config } }) }
  },
  'layers that may not be distributed': () =>
    imageOf({
      foreign: ['+gzip', ''].map(suffix => {
        const digest = missingDigest('sha256')
        return {
          mediaType: `application/vnd.oci.image.layer.nondistributable.v1.tar${suffix}`,
          digest,
          size: 123_456,
          urls: [`https://store.example.com/${digest}`],
        }
      }),
    }),
  'unknown fields': () => indexOf(two({ extra: { 'x-custom': { a: [1] } } }), { 'x-custom': 'value' }),
  'an index by sha512': () => indexOf(two({ algorithm: 'sha512' }), {}, 'sha512'),
}

async function tagsOf(client: RegistryClient, name: string, query = ''): Promise<readonly string[]> {
  const { status, body } = await client.ask('GET', `/v2/${name}/tags/list${query}`)
  assert.equal(status, 200)
  return (JSON.parse(body.toString()) as { tags: string[] }).tags
}

function repositoryFor(): string {
  return `conformance/image-${randomBytes(4).toString('hex')}`
}

const DOCUMENT_CHECKS: readonly Check[] = Object.entries(DOCUMENTS).map(([kind, make]) => ({
  title: `${kind} is pushed, listed, pulled and deleted`,
  run: async client => {
    const [name, document] = [repositoryFor(), make()]
    const isTagged = document.manifest.digest.startsWith('sha256:')
    const tag = isTagged ? 'tagged' : undefined
    await push(client, name, document, tag)
    assert.deepEqual(await tagsOf(client, name), isTagged ? ['tagged'] : [])
    await assertPulled(client, name, document, tag)
    const path = `/v2/${name}/manifests`
    if (isTagged) {
      assert.equal((await client.ask('DELETE', `${path}/tagged`)).status, 202)
      assertRefused(await client.ask('GET', `${path}/tagged`), 404)
      assert.equal((await client.ask('GET', `${path}/${document.manifest.digest}`)).status, 200)
    }
    assert.equal((await client.ask('DELETE', `${path}/${document.manifest.digest}`)).status, 202)
    assertRefused(await client.ask('GET', `${path}/${document.manifest.digest}`), 404)
    assert.equal((await client.ask('HEAD', `${path}/${document.manifest.digest}`)).status, 404)
  },
}))

interface Referrers {
  readonly mediaType: string
  readonly manifests: readonly (Descriptor & {
    artifactType?: string
    annotations?: Record<string, string>
  })[]
}

async function referrersOf(
  client: RegistryClient,
  name: string,
  subject: string,
  type?: string,
): Promise<Referrers> {
  const query = type === undefined ? '' : `?${new URLSearchParams({ artifactType: type }).toString()}`
  const { status, headers, body } = await client.ask('GET', `/v2/${name}/referrers/${subject}${query}`)
  assert.equal(status, 200)
  assert.equal(headers['content-type'], INDEX)
  assert.equal(headers['oci-filters-applied'], type === undefined ? undefined : 'artifactType')
  return JSON.parse(body.toString()) as Referrers
}

const ANNOTATIONS = { 'org.example.check': 'hello' }

export const IMAGE_CHECKS: readonly Check[] = [
  ...DOCUMENT_CHECKS,
  {
    title: 'a repository without tags or referrers lists none of them',
    run: async client => {
      const name = repositoryFor()
      const list = await client.ask('GET', `/v2/${name}/tags/list`)
      assert.ok(list.status === 404 || list.status === 200)
      assert.deepEqual((await referrersOf(client, name, missingDigest('sha256'))).manifests, [])
    },
  },
  {
    title: 'referrers name their subject, by type and with their annotations, and go when they are deleted',
    run: async client => {
      const [name, subject] = [repositoryFor(), imageOf({})]
      const types = ['application/vnd.one', 'application/vnd.two']
      const artifacts = types.map(artifactType =>
        imageOf({
          configType: EMPTY,
          subject: subject.manifest,
          extra: { artifactType, annotations: ANNOTATIONS },
        }),
      )
      const image = imageOf({ subject: subject.manifest })
      await push(client, name, subject, 'subject')
      for (const artifact of [...artifacts, image]) await push(client, name, artifact)
      const { mediaType, manifests } = await referrersOf(client, name, subject.manifest.digest)
      assert.equal(mediaType, INDEX)
      const found = manifests.map(({ digest, artifactType }) => `${digest} ${artifactType}`).sort()
      const expected = [...artifacts, image].map(
        ({ manifest }, at) => `${manifest.digest} ${types[at] ?? CONFIG}`,
      )
      assert.deepEqual(found, expected.sort())
      for (const [at, type] of types.entries()) {
        const [only, ...others] = (await referrersOf(client, name, subject.manifest.digest, type)).manifests
        assert.deepEqual(others, [])
        assert.equal(only?.digest, artifacts[at]?.manifest.digest)
        assert.equal(only?.size, artifacts[at]?.manifest.bytes.length)
        assert.deepEqual(only?.annotations, ANNOTATIONS)
      }
      await client.ask('DELETE', `/v2/${name}/manifests/${image.manifest.digest}`)
      const left = (await referrersOf(client, name, subject.manifest.digest)).manifests
      assert.equal(left.length, 2)
    },
  },
  {
    title: 'a referrer whose subject is missing is taken and listed',
    run: async client => {
      const name = repositoryFor()
      const artifact = imageOf({
        configType: EMPTY,
        subject: MISSING,
        extra: { artifactType: 'application/vnd.one' },
      })
      await push(client, name, artifact, 'referrer')
      const { manifests } = await referrersOf(client, name, MISSING.digest)
      assert.deepEqual(
        manifests.map(({ digest }) => digest),
        [artifact.manifest.digest],
      )
    },
  },
  {
    title: 'tags are listed in order, from any of them and page by page',
    run: async client => {
      const [name, document] = [repositoryFor(), imageOf({ layers: 0 })]
      await push(client, name, document)
      for (const tag of ['c', 'A', 'b', 'a', '1.0'])
        assertCreated(await client.publish(name, tag, document.manifest, IMAGE), document.manifest.digest)
      const sorted = ['1.0', 'A', 'a', 'b', 'c']
      assert.deepEqual(await tagsOf(client, name), sorted)
      assert.deepEqual(await tagsOf(client, name, '?last=A'), sorted.slice(2))
      assert.deepEqual(await tagsOf(client, name, '?n=2&last=1.0'), ['A', 'a'])
      assert.deepEqual(await tagsOf(client, name, '?n=0'), [])
      const { headers } = await client.ask('GET', `/v2/${name}/tags/list?n=4`)
      const [, next = ''] = /^<([^>]+)>; rel="next"$/.exec(String(headers['link'])) ?? []
      assert.deepEqual(JSON.parse((await client.ask('GET', next)).body.toString()), { name, tags: ['c'] })
      assert.deepEqual(await tagsOf(client, name, '?last=c'), [])
    },
  },
  ...(['sha256', 'sha512'] as const).map(algorithm => ({
    title: `a manifest by ${algorithm} takes ten tags in one request`,
    run: async (client: RegistryClient) => {
      const [name, document] = [repositoryFor(), imageOf({ algorithm, layers: 1 })]
      for (const blob of document.blobs) await client.upload(name, blob)
      const tags = Array.from({ length: 10 }, (_, at) => `tag-${at}`)
      const query = tags.map(tag => `tag=${tag}`).join('&')
      const { digest } = document.manifest
      const answer = await client.publish(name, `${digest}?${query}`, document.manifest, IMAGE)
      assertCreated(answer, digest)
      assert.deepEqual(String(answer.headers['oci-tag']).split(/, */), tags)
      assert.deepEqual(await tagsOf(client, name), tags)
      for (const tag of tags) {
        const got = await client.ask('GET', `/v2/${name}/manifests/${tag}`)
        assert.equal(got.headers['docker-content-digest'], digest)
        assert.deepEqual(got.body, document.manifest.bytes)
      }
      assert.equal((await client.ask('DELETE', `/v2/${name}/manifests/${digest}`)).status, 202)
      for (const tag of tags) assertRefused(await client.ask('GET', `/v2/${name}/manifests/${tag}`), 404)
      assert.deepEqual(await tagsOf(client, name), [])
    },
  })),
  {
    title: 'a manifest that is missing, by tag and by digest, is 404',
    run: async client => {
      for (const reference of ['missing', missingDigest('sha256'), missingDigest('sha512')])
        assertRefused(await client.ask('GET', `/v2/${repositoryFor()}/manifests/${reference}`), 404)
    },
  },
  {
    title: 'a manifest under a digest that is malformed or not its own is 400',
    run: async client => {
      const [name, { manifest, blobs }] = [repositoryFor(), imageOf({})]
      for (const blob of blobs) await client.upload(name, blob)
      for (const reference of ['sha256:baddigeststring', missingDigest('sha256')])
        assertRefused(await client.publish(name, reference, manifest, IMAGE), 400)
      assertRefused(await client.ask('GET', `/v2/${name}/manifests/sha256:baddigeststring`), 400)
      const padded = { ...manifest, bytes: Buffer.concat([manifest.bytes, Buffer.from('  ')]) }
      assert.notEqual(hashed('sha256', padded.bytes), manifest.digest)
      assertRefused(await client.publish(name, manifest.digest, padded, IMAGE), 400)
      assert.equal(digestOf(manifest.bytes), manifest.digest)
    },
  },
  {
    title: 'the same manifest again is 201, and changes nothing',
    run: async client => {
      const [name, document] = [repositoryFor(), imageOf({})]
      await push(client, name, document, 'v1')
      await push(client, name, document, 'v1')
      await assertPulled(client, name, document, 'v1')
    },
  },
  {
    title: 'GET /v2/ is 200',
    run: async client => {
      assert.equal((await client.ask('GET', '/v2/')).status, 200)
    },
  },
]
