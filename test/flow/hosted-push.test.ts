import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import type { DaemonReport } from '../../src/admin/contract.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { type HostedMirror, startHosted } from '../support/hosted.ts'
import { startUpstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

const NAME = 'registry.example.com/team/app'

async function pushBlob(hosted: HostedMirror, bytes: Uint8Array, name = NAME): Promise<Digest> {
  const digest = digestOf(bytes)
  const reply = await hosted.send('POST', `/v2/${name}/blobs/uploads/?digest=${digest}`, { body: bytes })
  assert.equal(reply.status, 201, reply.body.toString())
  return digest
}

function manifestOf(config: Digest, extra: object = {}): Buffer {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: config, size: 2 },
      layers: [],
      ...extra,
    }),
  )
}

test('what was pushed is pulled again, by tag and by digest, also after a restart', async () => {
  await using hosted = await startHosted({})
  const config = await pushBlob(hosted, Buffer.from('{}'))
  const manifest = manifestOf(config)
  const put = await hosted.send('PUT', `/v2/${NAME}/manifests/v1`, { body: manifest })
  assert.equal(put.status, 201, put.body.toString())
  assert.equal(put.headers['docker-content-digest'], digestOf(manifest))
  await hosted.restart()
  for (const reference of ['v1', digestOf(manifest)]) {
    const got = await hosted.send('GET', `/v2/${NAME}/manifests/${reference}`)
    assert.equal(got.status, 200)
    assert.deepEqual(got.body, manifest)
    assert.equal(got.headers['content-type'], OCI_MANIFEST)
  }
  assert.deepEqual((await hosted.send('GET', `/v2/${NAME}/blobs/${config}`)).body, Buffer.from('{}'))
})

test('an upload that was cut goes on after a restart, and its digest is proved from the first byte', async () => {
  await using hosted = await startHosted({})
  const bytes = randomBytes(300_000)
  const begun = await hosted.send('POST', `/v2/${NAME}/blobs/uploads/`)
  assert.equal(begun.status, 202)
  assert.equal(begun.headers['range'], '0-0')
  const location = String(begun.headers.location)
  assert.ok(location.startsWith(`/v2/${NAME}/blobs/uploads/`))
  await hosted.breakOff('PATCH', location, { body: bytes.subarray(0, 100_000), announced: 300_000 })
  const received = 100_000
  await until(
    async () => (await hosted.send('GET', location)).headers['range'] === '0-99999',
    'all that was sent is received',
  )
  await hosted.restart()
  const state = await hosted.send('GET', location)
  assert.equal(state.status, 204)
  assert.equal(state.headers['range'], '0-99999')
  const headers = { 'content-range': `${received}-${bytes.length - 1}` }
  const rest = await hosted.send('PATCH', location, { body: bytes.subarray(received), headers })
  assert.equal(rest.status, 202)
  const digest = digestOf(bytes)
  const done = await hosted.send('PUT', `${location}?digest=${digest}`)
  assert.equal(done.status, 201, done.body.toString())
  assert.deepEqual((await hosted.send('GET', `/v2/${NAME}/blobs/${digest}`)).body, bytes)
  // Its first answer may have been lost: finishing it once more is no error.
  assert.equal((await hosted.send('PUT', `${location}?digest=${digest}`)).status, 201)
})

test('a blob is mounted only from a repository that has it, and its link is the new repository’s own', async () => {
  await using hosted = await startHosted({})
  const digest = await pushBlob(hosted, Buffer.from('shared'))
  const other = 'registry.example.com/team/other'
  const post = async (query: string): Promise<number> =>
    (await hosted.send('POST', `/v2/${other}/blobs/uploads/?${query}`)).status
  assert.equal(await post(`mount=${digest}&from=registry.example.com/team/none`), 202)
  assert.equal((await hosted.send('HEAD', `/v2/${other}/blobs/${digest}`)).status, 404)
  assert.equal(await post(`mount=${digest}&from=${NAME}`), 201)
  assert.equal((await hosted.send('DELETE', `/v2/${NAME}/blobs/${digest}`)).status, 202)
  assert.equal((await hosted.send('GET', `/v2/${NAME}/blobs/${digest}`)).status, 404)
  assert.deepEqual((await hosted.send('GET', `/v2/${other}/blobs/${digest}`)).body, Buffer.from('shared'))
  assert.equal(await post(`mount=${digest}`), 201)
})

test('a client without the right to push is refused, and one that is not hosted is 405 without telling what is', async () => {
  await using hosted = await startHosted({ mayPush: false })
  const refused = await hosted.send('POST', `/v2/${NAME}/blobs/uploads/`)
  assert.equal(refused.status, 403)
  const unhosted = await hosted.send('POST', '/v2/library/alpine/blobs/uploads/')
  assert.equal(unhosted.status, 405)
  assert.match(unhosted.body.toString(), /docker\.io\/library\/alpine is only mirrored here/)
  assert.doesNotMatch(unhosted.body.toString(), /registry\.example\.com/)
})

test('referrers are listed before their subject is there, and beside the entries of a fallback tag', async () => {
  await using hosted = await startHosted({})
  const config = await pushBlob(hosted, Buffer.from('{}'))
  const subject = manifestOf(config, { annotations: { of: 'subject' } })
  const about = { mediaType: OCI_MANIFEST, digest: digestOf(subject), size: subject.length }
  const signature = manifestOf(config, { subject: about, artifactType: 'application/signature' })
  const put = await hosted.send('PUT', `/v2/${NAME}/manifests/${digestOf(signature)}`, { body: signature })
  assert.equal(put.headers['oci-subject'], digestOf(subject))
  const old = manifestOf(config, { artifactType: 'application/sbom' })
  assert.equal(
    (await hosted.send('PUT', `/v2/${NAME}/manifests/${digestOf(old)}`, { body: old })).status,
    201,
  )
  const fallback = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [
        {
          mediaType: OCI_MANIFEST,
          digest: digestOf(old),
          size: old.length,
          artifactType: 'application/sbom',
        },
      ],
    }),
  )
  const tag = digestOf(subject).replace(':', '-')
  assert.equal((await hosted.send('PUT', `/v2/${NAME}/manifests/${tag}`, { body: fallback })).status, 201)
  const typesOf = async (query: string): Promise<string[]> => {
    const { body } = await hosted.send('GET', `/v2/${NAME}/referrers/${digestOf(subject)}${query}`)
    const { manifests } = JSON.parse(body.toString()) as { manifests: { artifactType: string }[] }
    return manifests.map(({ artifactType }) => artifactType).sort()
  }
  assert.deepEqual(await typesOf(''), ['application/sbom', 'application/signature'])
  assert.deepEqual(await typesOf('?artifactType=application/sbom'), ['application/sbom'])
})

test('the catalogue has every hosted repository in order, page by page', async () => {
  await using hosted = await startHosted({})
  for (const name of ['b', 'a/x', 'c'])
    await pushBlob(hosted, Buffer.from('{}'), `registry.example.com/${name}`)
  const first = await hosted.send('GET', '/v2/_catalog?n=2')
  assert.deepEqual(JSON.parse(first.body.toString()), {
    repositories: ['registry.example.com/a/x', 'registry.example.com/b'],
  })
  const [, next = ''] = /<([^>]+)>; rel="next"/.exec(String(first.headers['link'])) ?? []
  const second = await hosted.send('GET', next)
  assert.deepEqual(JSON.parse(second.body.toString()), { repositories: ['registry.example.com/c'] })
  assert.equal(second.headers['link'], undefined)
})

test('a cut or wrong body is not acknowledged: the statuses and codes of bad pushes', async () => {
  await using hosted = await startHosted({})
  const config = await pushBlob(hosted, Buffer.from('{}'))
  const id = '5f3a1c1e-9b1d-4c53-8a50-0f4f7f0c9a11'
  const digest = digestOf(Buffer.from('x'))
  const codeOf = async (method: string, path: string, body?: Uint8Array, headers = {}): Promise<string> => {
    const reply = await hosted.send(method, `/v2/${NAME}${path}`, { ...(body ? { body } : {}), headers })
    const { errors } = JSON.parse(reply.body.toString()) as { errors: { code: string }[] }
    return `${reply.status} ${errors[0]?.code}`
  }
  const manifest = (document: unknown): Buffer => Buffer.from(JSON.stringify(document))
  assert.equal(await codeOf('GET', `/blobs/uploads/${id}`), '404 BLOB_UPLOAD_UNKNOWN')
  assert.equal(await codeOf('PATCH', `/blobs/uploads/${id}`, Buffer.from('x')), '404 BLOB_UPLOAD_UNKNOWN')
  assert.equal(await codeOf('PUT', `/blobs/uploads/${id}?digest=${digest}`), '404 BLOB_UPLOAD_UNKNOWN')
  assert.equal(await codeOf('PUT', `/blobs/uploads/${id}`), '400 DIGEST_INVALID')
  assert.equal(
    await codeOf('PUT', `/blobs/uploads/${id}?digest=${digest}&digest=${digest}`),
    '400 DIGEST_INVALID',
  )
  assert.equal(await codeOf('POST', '/blobs/uploads/?digest=sha256:no'), '400 DIGEST_INVALID')
  assert.equal(
    await codeOf('POST', `/blobs/uploads/?digest=${digest}`, Buffer.from('y')),
    '400 DIGEST_INVALID',
  )
  assert.equal(await codeOf('PUT', '/manifests/v1', Buffer.from('no json')), '400 MANIFEST_INVALID')
  assert.equal(await codeOf('PUT', '/manifests/v1', Buffer.alloc(4 * 1024 * 1024 + 1)), '413 SIZE_INVALID')
  assert.equal(await codeOf('PUT', `/manifests/${digest}`, manifestOf(config)), '400 DIGEST_INVALID')
  assert.equal(await codeOf('PUT', '/manifests/v1', manifestOf(digest)), '400 MANIFEST_BLOB_UNKNOWN')
  assert.equal(
    await codeOf('PUT', '/manifests/v1', manifest({ schemaVersion: 2, manifests: [], layers: [] })),
    '400 MANIFEST_INVALID',
  )
  assert.equal(await codeOf('PUT', '/manifests/v1', manifest({ schemaVersion: 1 })), '400 MANIFEST_INVALID')
  assert.equal(
    await codeOf('PUT', '/manifests/v1', manifestOf(config), {
      'content-type': 'application/vnd.oci.image.index.v1+json',
    }),
    '400 MANIFEST_INVALID',
  )
  const layers = Array.from({ length: 10_001 }, () => ({ mediaType: 'a/b', digest, size: 1 }))
  assert.equal(await codeOf('PUT', '/manifests/v1', manifestOf(config, { layers })), '400 MANIFEST_INVALID')
  assert.equal(await codeOf('DELETE', '/manifests/none'), '404 MANIFEST_UNKNOWN')
  assert.equal(await codeOf('DELETE', `/blobs/${digest}`), '404 BLOB_UNKNOWN')
})

test('an upload belongs to its repository, and is gone once it is cancelled', async () => {
  await using hosted = await startHosted({})
  const begun = await hosted.send('POST', `/v2/${NAME}/blobs/uploads/`)
  const location = String(begun.headers.location)
  const foreign = location.replace('team/app', 'team/other')
  assert.equal((await hosted.send('PATCH', foreign, { body: Buffer.from('x') })).status, 404)
  assert.equal((await hosted.send('PATCH', location, { body: Buffer.from('x') })).status, 202)
  assert.equal((await hosted.send('DELETE', location)).status, 204)
  assert.equal((await hosted.send('GET', location)).status, 404)
})

test('a part that begins elsewhere is 416 with the place where the upload has got to', async () => {
  await using hosted = await startHosted({})
  const location = String((await hosted.send('POST', `/v2/${NAME}/blobs/uploads/`)).headers.location)
  const headers = { 'content-range': '5-9' }
  const early = await hosted.send('PATCH', location, { body: Buffer.from('56789'), headers })
  assert.equal(early.status, 416)
  assert.equal(early.headers['range'], '0-0')
  assert.equal(early.headers.location, location)
  assert.equal((await hosted.send('PATCH', location, { body: Buffer.from('01234') })).status, 202)
  const late = await hosted.send('PATCH', location, { body: Buffer.from('56789'), headers })
  assert.equal(late.status, 202)
  const digest = digestOf(Buffer.from('0123456789'))
  assert.equal((await hosted.send('PUT', `${location}?digest=${digest}`)).status, 201)
})

test('a list of referrers goes on by Link where it would be larger than a manifest may be', async () => {
  await using hosted = await startHosted({})
  const config = await pushBlob(hosted, Buffer.from('{}'))
  const subject = { mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from('subject')), size: 7 }
  const pushed: Digest[] = []
  for (const [version, artifactType] of ['a/a', 'a/b', 'a/a', 'a/b'].entries()) {
    const annotations = { version: String(version), text: 'é'.repeat(version === 3 ? 2_096_700 : 700_000) }
    const body = manifestOf(config, { subject, artifactType, annotations })
    const path = `/v2/${NAME}/manifests/${digestOf(body)}`
    assert.equal((await hosted.send('PUT', path, { body })).status, 201)
    pushed.push(digestOf(body))
  }
  const listed = async (
    query: string,
  ): Promise<readonly { digest: string; annotations?: { text: string } }[]> => {
    const found: { digest: string; annotations?: { text: string } }[] = []
    let path: string | undefined = `/v2/${NAME}/referrers/${subject.digest}${query}`
    while (path !== undefined) {
      const reply = await hosted.send('GET', path)
      assert.ok(reply.body.byteLength <= 4 * 1024 * 1024, `${reply.body.byteLength}`)
      found.push(...JSON.parse(String(reply.body)).manifests)
      path = /^<([^>]+)>; rel="next"$/.exec(String(reply.headers['link'] ?? ''))?.[1]
    }
    return found
  }
  const all = await listed('')
  assert.deepEqual(
    all.map(({ digest }) => digest),
    pushed.toSorted(),
  )
  const whole = all.filter(({ annotations }) => annotations?.text === 'é'.repeat(700_000))
  assert.equal(whole.length, 3)
  const ofType = pushed.filter((_, version) => version % 2 === 0)
  assert.deepEqual(
    (await listed('?artifactType=a/a')).map(({ digest }) => digest),
    ofType.toSorted(),
  )
})

test('content that a hosted repository holds does not count as removed with a mirrored image', async () => {
  await using upstream = await startUpstream()
  const layer = randomBytes(5000)
  const image = upstream.putImage({ layers: [layer] })
  upstream.tag('library/app', 'v1', image.manifest)
  await using hosted = await startHosted({ upstream: upstream.host })
  for (const path of [`manifests/v1`, `blobs/${image.config}`, `blobs/${digestOf(layer)}`])
    assert.equal((await hosted.send('GET', `/v2/library/app/${path}`)).status, 200)
  await pushBlob(hosted, layer)
  const path = '/_admin/v1/images?image=docker.io/library/app:v1'
  for (const query of ['&dry-run=true', '']) {
    const removed = JSON.parse(String((await hosted.admin('DELETE', `${path}${query}`)).body))
    assert.deepEqual([removed.objects, removed.keptObjects], [2, 1], JSON.stringify(removed))
    assert.ok(removed.bytes < layer.length)
  }
  assert.deepEqual((await hosted.send('GET', `/v2/${NAME}/blobs/${digestOf(layer)}`)).body, layer)
})

async function statusOf(hosted: HostedMirror): Promise<DaemonReport> {
  return JSON.parse(String((await hosted.admin('GET', '/_admin/v1/status')).body)) as DaemonReport
}

test('damaged hosted content is reported, also by status, and healed by the next push of it', async () => {
  await using hosted = await startHosted({})
  const bytes = randomBytes(5000)
  const digest = await pushBlob(hosted, bytes)
  await hosted.damage(digest)
  await hosted.restart()
  assert.equal((await hosted.send('GET', `/v2/${NAME}/blobs/${digest}`)).status, 404)
  assert.ok(hosted.log.some(line => line['msg'] === 'hosted content is damaged or gone: push it again'))
  assert.equal((await hosted.send('HEAD', `/v2/${NAME}/blobs/${digest}`)).status, 404)
  const lost = { count: 1, example: `${NAME}@${digest}` }
  assert.deepEqual((await statusOf(hosted)).lostContent, lost)
  assert.match(
    String((await statusOf(hosted)).degraded),
    /damaged or gone, 1 in all.*the next push of it heals it/,
  )
  // A new process learns of it from the collection, without a pull.
  await hosted.restart()
  assert.equal((await statusOf(hosted)).lostContent, undefined)
  assert.equal((await hosted.admin('POST', '/_admin/v1/collect?dry-run=true')).status, 200)
  assert.deepEqual((await statusOf(hosted)).lostContent, lost)
  await pushBlob(hosted, bytes)
  assert.equal((await statusOf(hosted)).lostContent, undefined)
  assert.deepEqual((await hosted.send('GET', `/v2/${NAME}/blobs/${digest}`)).body, bytes)
})
