import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestOf } from '../../src/oci/digest.ts'
import { OciError, UpstreamError } from '../../src/oci/error.ts'
import { parseReference, referenceText } from '../../src/oci/reference.ts'

const digest = digestOf(Buffer.from('x'))

test('a digest is read as a digest and a tag as a tag, and both are written as they came', () => {
  for (const text of [digest, 'latest', 'sha256-abc', 'sha256']) {
    const reference = parseReference(text)
    assert.ok(reference !== undefined)
    assert.equal(reference.kind, text === digest ? 'digest' : 'tag')
    assert.equal(referenceText(reference), text)
  }
})

for (const text of ['', 'sha256:abc', `${digest}0`, 'a:b', 'a/b', `md5:${'a'.repeat(32)}`, '%2e']) {
  test(`${JSON.stringify(text.slice(0, 20))} is no reference`, () => {
    assert.equal(parseReference(text), undefined)
  })
}

test('a refusal keeps its code, its cause and how long to stay away', () => {
  const cause = new Error('inner')
  const error = new OciError('UNAVAILABLE', 'later', { cause, retryAfterMs: 7 })
  assert.deepEqual(
    [error.code, error.message, error.cause, error.retryAfterMs, error.name],
    ['UNAVAILABLE', 'later', cause, 7, 'OciError'],
  )
  assert.equal(new OciError('DENIED', 'no').retryAfterMs, undefined)
})

test("an upstream's trouble is not a refusal, and keeps its kind and status", () => {
  const error = new UpstreamError('status', 'broken', { status: 500 })
  assert.ok(!(error instanceof OciError))
  assert.deepEqual([error.kind, error.status, error.retryAfterMs], ['status', 500, undefined])
})
