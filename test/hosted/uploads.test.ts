import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UploadPart } from '../../src/content/hosting.ts'
import { Hosted } from '../../src/hosted/hosted.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName } from '../../src/oci/name.ts'
import { parseNamespace } from '../../src/oci/namespace.ts'
import { defined } from '../storage/contract.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'

const ASKED = {
  namespace: defined(parseNamespace('registry.example.com')),
  repository: defined(parseRepositoryName('team/app')),
  actor: 'alice',
  mayPush: true,
  trail: [],
}

function partOf(text: string): UploadPart {
  async function* pieces(): AsyncGenerator<Uint8Array> {
    if (text !== '') yield await Promise.resolve(Buffer.from(text))
  }
  return { start: undefined, sizeBytes: text.length, pieces: { [Symbol.asyncIterator]: pieces } }
}

test('a client that finishes again while it is being finished is told that the blob is here', async () => {
  const store = new MemoryStore()
  const adopting = Promise.withResolvers<void>()
  const may = Promise.withResolvers<void>()
  const adopt = store.adopt.bind(store)
  store.adopt = async (...adopted) => {
    adopting.resolve()
    await may.promise
    await adopt(...adopted)
  }
  const parties = { rules: [], witnesses: [] }
  await using hosted = new Hosted({ store, clock: new FakeClock(), events: seeEvents().events, parties })
  const { id } = await hosted.beginUpload(ASKED, undefined)
  const digest = digestOf(Buffer.from('blob'))
  const first = hosted.finishUpload(ASKED, { id, digest }, partOf('blob'))
  await adopting.promise
  const again = hosted.finishUpload(ASKED, { id, digest }, partOf(''))
  const late = assert.rejects(hosted.appendUpload(ASKED, id, partOf('more')), { code: 'BLOB_UPLOAD_UNKNOWN' })
  may.resolve()
  assert.equal(await first, undefined)
  assert.equal(await again, undefined)
  await late
  assert.equal((await hosted.headBlob(ASKED, digest)).sizeBytes, 4)
})

test('what sends a part is let go of when the part is refused half-way', async () => {
  const parties = { rules: [], witnesses: [] }
  const store = new MemoryStore()
  await using hosted = new Hosted({ store, clock: new FakeClock(), events: seeEvents().events, parties })
  const { id } = await hosted.beginUpload(ASKED, undefined)
  const letGo = Promise.withResolvers<void>()
  async function* pieces(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield await Promise.resolve(Buffer.from('more'))
    } finally {
      letGo.resolve()
    }
  }
  const part = { start: undefined, sizeBytes: 6, pieces: { [Symbol.asyncIterator]: pieces } }
  await assert.rejects(hosted.appendUpload(ASKED, id, part), { code: 'SIZE_INVALID' })
  await letGo.promise
  assert.deepEqual(await hosted.uploadState(ASKED, id), { id, receivedBytes: 4 })
})

test('a client that leaves uploads behind is told to wait, and to end some, after a thousand', async () => {
  const parties = { rules: [], witnesses: [] }
  const store = new MemoryStore()
  await using hosted = new Hosted({ store, clock: new FakeClock(), events: seeEvents().events, parties })
  const { id } = await hosted.beginUpload(ASKED, undefined)
  for (let count = 1; count < 1000; count += 1) await hosted.beginUpload(ASKED, undefined)
  await assert.rejects(hosted.beginUpload(ASKED, undefined), {
    code: 'RATE_LIMITED',
    retryAfterMs: 60_000,
    message: 'alice has begun 1000 uploads that have not ended: finish or cancel some first',
  })
  await hosted.beginUpload({ ...ASKED, actor: 'bob' }, undefined)
  await hosted.cancelUpload(ASKED, id)
  await hosted.beginUpload(ASKED, undefined)
})
