import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestOf } from '../../src/oci/digest.ts'
import { ManifestError } from '../../src/oci/manifest.ts'
import { parsePushedManifest, requiredBy } from '../../src/oci/pushed-manifest.ts'

const DIGEST = digestOf(Buffer.from('x'))
const OTHER = digestOf(Buffer.from('y'))
const CONFIG = { mediaType: 'application/vnd.example.config', digest: DIGEST, size: 1 }

function parsed(extra: object): ReturnType<typeof parsePushedManifest> {
  return parsePushedManifest(
    Buffer.from(JSON.stringify({ schemaVersion: 2, config: CONFIG, layers: [], ...extra })),
  )
}

test('the artifact type is the own one, or else that of the configuration', () => {
  assert.equal(parsed({ artifactType: 'application/vnd.example' }).artifactType, 'application/vnd.example')
  assert.equal(parsed({ artifactType: '' }).artifactType, CONFIG.mediaType)
  assert.equal(parsed({}).artifactType, CONFIG.mediaType)
})

test('the subject is read and not required', () => {
  const manifest = parsed({ subject: { mediaType: 'a/b', digest: OTHER, size: 1 } })
  assert.equal(manifest.subject, OTHER)
  assert.deepEqual(requiredBy(manifest), { blobs: [DIGEST], manifests: [] })
  assert.equal(parsed({ subject: null }).subject, undefined)
})

test('layers whose bytes may be elsewhere are not required', () => {
  const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'
  const layers = [
    { mediaType: foreign, digest: OTHER, size: 1 },
    { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: DIGEST, size: 1 },
  ]
  assert.deepEqual(requiredBy(parsed({ layers })).blobs, [DIGEST, DIGEST])
})

for (const [what, extra, message] of [
  ['a subject without a digest', { subject: {} }, '"subject" of the manifest has no valid digest'],
  ['a subject that is a text', { subject: 'x' }, '"subject" of the manifest has no valid digest'],
  [
    'an annotation that is a number',
    { annotations: { a: 1 } },
    '"annotations" of the manifest are not texts',
  ],
  ['a list of annotations', { annotations: ['a'] }, '"annotations" of the manifest are not texts'],
] as const)
  test(`${what} is refused`, () => {
    assert.throws(() => parsed(extra), new ManifestError(message))
  })
