import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Event } from '../../../src/observe/event.ts'
import { distributionEvents } from '../../../src/observe/notifications/envelope.ts'
import { draftNotice, type Notice } from '../../../src/observe/notifications/notice.ts'
import { parseSigningKey, signatureFields } from '../../../src/observe/notifications/signature.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { DOCKER_HUB } from '../../../src/oci/namespace.ts'
import { nameOf, tagOf } from '../../mirror/rig.ts'

const sender = { source: '/entrepot/test', instance: 'test' }
const digest = digestOf(Buffer.from('x'))
const place = { namespace: DOCKER_HUB, repository: nameOf('acme/app') }

function noticeFrom(event: Event): Notice {
  const draft = draftNotice(event)
  assert.ok(draft)
  const { type, subject, data } = draft
  return { id: '7', atMs: Date.UTC(2026, 0, 1), type, subject, data }
}

test('a push under two tags is two events in the envelope of Distribution, each with its own id', () => {
  const tags = [tagOf('1.0'), tagOf('latest')]
  const details = { ...place, digest, tags, mediaType: 'application/x', sizeBytes: 12, by: 'alice' }
  const envelope = distributionEvents(noticeFrom({ kind: 'pushed', details }), sender)
  assert.equal(envelope?.contentType, 'application/vnd.docker.distribution.events.v2+json')
  const target = {
    mediaType: 'application/x',
    digest,
    size: 12,
    length: 12,
    repository: 'docker.io/acme/app',
  }
  const common = { timestamp: '2026-01-01T00:00:00.000Z', action: 'push', request: { id: '7' } }
  const rest = { actor: { name: 'alice' }, source: { instanceID: 'test' } }
  assert.deepEqual(JSON.parse(envelope.body), {
    events: [
      { id: '7', ...common, target: { ...target, tag: '1.0' }, ...rest },
      { id: '7-1', ...common, target: { ...target, tag: 'latest' }, ...rest },
    ],
  })
})

test('a deletion is told in the envelope of Distribution, and the move of an upstream tag cannot be', () => {
  const tag = tagOf('1.0')
  const deleted = noticeFrom({
    kind: 'deleted',
    details: { ...place, what: 'tag', tag, digest: undefined, by: 'bob' },
  })
  assert.match(distributionEvents(deleted, sender)?.body ?? '', /"action":"delete".*"tag":"1.0"/)
  const moved = { ...place, tag, digest, before: undefined, by: 'upstream' }
  assert.equal(distributionEvents(noticeFrom({ kind: 'tag-moved', details: moved }), sender), undefined)
})

test('who moved a tag decides the type of its notice', () => {
  const details = { ...place, tag: tagOf('1.0'), digest, before: undefined }
  assert.equal(draftNotice({ kind: 'tag-moved', details: { ...details, by: 'bob' } })?.type, 'tag.moved')
  const upstream = draftNotice({ kind: 'tag-moved', details: { ...details, by: 'upstream' } })
  assert.equal(upstream?.type, 'upstream.tag.moved')
})

test('events of the daemon itself are told to nobody', () => {
  assert.equal(draftNotice({ kind: 'swept', details: { files: 3 } }), undefined)
  assert.equal(draftNotice({ kind: 'warned', details: { message: 'x', fields: {} } }), undefined)
})

test('the signature is that of the example in Standard Webhooks', () => {
  const key = parseSigningKey('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')
  const signed = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', atMs: 1_614_265_330_000, body: '{"test": 2432232314}' }
  assert.equal(
    signatureFields(key, signed)['webhook-signature'],
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  )
})

test('a key that is too short is refused, and without a key there is no signature', () => {
  assert.equal(parseSigningKey('short'), undefined)
  assert.equal(parseSigningKey('whsec_AAAA'), undefined)
  assert.equal(parseSigningKey('a text of 24 characters!')?.length, 24)
  assert.equal('webhook-signature' in signatureFields(undefined, { id: '1', atMs: 0, body: '' }), false)
})
