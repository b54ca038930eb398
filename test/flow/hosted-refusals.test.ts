import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { test } from 'node:test'
import { digestOf } from '../../src/oci/digest.ts'
import { OCI_INDEX, OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { startHosted } from '../support/hosted.ts'
import { errorCodes, errorMessage } from '../support/waiting.ts'

const NAME = 'registry.example.com/team/app'
const MISSING = digestOf(Buffer.from('never pushed'))
const ENTRY = { mediaType: 'a/b', digest: MISSING, size: 1 }
const IMAGE = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: ENTRY, layers: [] }

/** Bodies of manifests, their types, and what the refusal says of them. */
const MANIFESTS: readonly (readonly [string | object, string | undefined, string, string])[] = [
  ['no json', undefined, 'MANIFEST_INVALID', 'manifest is not JSON'],
  [[], undefined, 'MANIFEST_INVALID', 'not a JSON object'],
  [{ ...IMAGE, manifests: [] }, undefined, 'MANIFEST_INVALID', 'an index and an image at once'],
  [IMAGE, OCI_INDEX, 'MANIFEST_INVALID', `sent as ${OCI_INDEX} but is ${OCI_MANIFEST}`],
  [{ ...IMAGE, mediaType: OCI_INDEX }, undefined, 'MANIFEST_INVALID', 'but another "mediaType"'],
  [{ schemaVersion: 1, fsLayers: [] }, undefined, 'MANIFEST_INVALID', 'the retired schema 1'],
  [{ schemaVersion: 2 }, undefined, 'MANIFEST_INVALID', 'neither "manifests" nor "layers"'],
  [
    { ...IMAGE, layers: Array.from({ length: 10_001 }, () => ENTRY) },
    undefined,
    'MANIFEST_INVALID',
    '"layers" of the manifest has over 10000 entries',
  ],
  [{ ...IMAGE, subject: {} }, undefined, 'MANIFEST_INVALID', '"subject"'],
  [IMAGE, undefined, 'MANIFEST_BLOB_UNKNOWN', `the blob ${MISSING}`],
  [
    { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [{ ...ENTRY, mediaType: OCI_MANIFEST }] },
    undefined,
    'MANIFEST_BLOB_UNKNOWN',
    `the manifest ${MISSING}`,
  ],
]

test('a manifest that is refused is refused with what is wrong with it, and nothing of it is kept', async () => {
  await using hosted = await startHosted({})
  for (const [document, contentType, code, says] of MANIFESTS) {
    const body = Buffer.from(typeof document === 'string' ? document : JSON.stringify(document))
    const headers: Record<string, string> = contentType === undefined ? {} : { 'content-type': contentType }
    const reply = await hosted.send('PUT', `/v2/${NAME}/manifests/v1`, { body, headers })
    assert.equal(reply.status, 400, says)
    assert.deepEqual(errorCodes(reply), [code], says)
    assert.ok(errorMessage(reply).includes(says), errorMessage(reply))
  }
  assert.equal((await hosted.send('GET', `/v2/${NAME}/tags/list`)).status, 404)
})

test('an upload that is finished is unknown from then on', async () => {
  await using hosted = await startHosted({})
  const location = String((await hosted.send('POST', `/v2/${NAME}/blobs/uploads/`)).headers.location)
  const body = Buffer.from('blob')
  const finish = `${location}?digest=${digestOf(body)}`
  assert.equal((await hosted.send('PUT', finish, { body })).status, 201)
  for (const method of ['GET', 'PATCH', 'DELETE']) {
    const reply = await hosted.send(method, location, method === 'PATCH' ? { body } : {})
    assert.equal(reply.status, 404, method)
    assert.deepEqual(errorCodes(reply), ['BLOB_UPLOAD_UNKNOWN'], method)
  }
  const wrong = await hosted.send('PUT', `${location}?digest=${MISSING}`)
  assert.equal(wrong.status, 404)
})

test('a part longer or shorter than announced is SIZE_INVALID, and the bytes of a short one stay', async () => {
  await using hosted = await startHosted({})
  const location = String((await hosted.send('POST', `/v2/${NAME}/blobs/uploads/`)).headers.location)
  const range = { 'content-range': '0-4' }
  const disagreeing = await hosted.send('PATCH', location, {
    body: Buffer.from('0123456789'),
    headers: range,
  })
  assert.equal(disagreeing.status, 400)
  assert.deepEqual(errorCodes(disagreeing), ['SIZE_INVALID'])
  const stream = async (headers: Record<string, string>, ...pieces: readonly string[]): Promise<number> => {
    const [host, port] = hosted.address.split(':')
    const sent = request({ host, port, method: 'PATCH', path: location, agent: false, headers })
    for (const piece of pieces) sent.write(piece)
    sent.end()
    const [answer] = (await once(sent, 'response')) as [IncomingMessage]
    answer.resume()
    return answer.statusCode ?? 0
  }
  assert.equal(await stream(range, '0123456789'), 400, 'longer, without a length')
  assert.equal(await stream(range, '012'), 400, 'shorter, without a length')
  assert.equal((await hosted.send('GET', location)).headers['range'], '0-2')
  assert.equal(await stream({ 'content-range': '3-9' }, '3456', '789'), 202)
  const digest = digestOf(Buffer.from('0123456789'))
  assert.equal((await hosted.send('PUT', `${location}?digest=${digest}`)).status, 201)
})
