import assert from 'node:assert/strict'
import { test } from 'node:test'
import { failureBody, failureOf } from '../../src/http/failure.ts'
import { OciError, type OciErrorCode, UpstreamError, type UpstreamErrorKind } from '../../src/oci/error.ts'

/** Code, status, default Retry-After in ms, and if the connection is closed. */
const REFUSALS = {
  BLOB_UNKNOWN: [404, undefined, false],
  BLOB_UPLOAD_INVALID: [400, undefined, false],
  BLOB_UPLOAD_UNKNOWN: [404, undefined, false],
  DENIED: [403, undefined, false],
  DIGEST_INVALID: [400, undefined, false],
  HEADERS_TOO_LARGE: [431, undefined, true],
  LOOP_DETECTED: [508, undefined, true],
  MANIFEST_BLOB_UNKNOWN: [400, undefined, false],
  MANIFEST_INVALID: [400, undefined, false],
  BODY_TOO_LARGE: [413, undefined, false],
  MANIFEST_UNKNOWN: [404, undefined, false],
  NAME_INVALID: [400, undefined, false],
  NAME_UNKNOWN: [404, undefined, false],
  RANGE_INVALID: [416, undefined, false],
  RATE_LIMITED: [429, 5000, false],
  REQUEST_INVALID: [400, undefined, true],
  SIZE_INVALID: [400, undefined, false],
  TAG_IMMUTABLE: [409, undefined, false],
  TAG_INVALID: [400, undefined, false],
  TOOMANYREQUESTS: [503, 5000, false],
  UNAUTHORIZED: [401, undefined, false],
  UNAVAILABLE: [503, 5000, false],
  UNSUPPORTED: [405, undefined, true],
  URI_TOO_LONG: [414, undefined, true],
} as const satisfies Record<OciErrorCode, readonly [number, number | undefined, boolean]>

/** Codes that the specification does not have, and those that it has for them. */
const SENT_AS: Readonly<Record<string, string>> = {
  BODY_TOO_LARGE: 'SIZE_INVALID',
  TAG_IMMUTABLE: 'DENIED',
}

for (const [code, [status, retryAfterMs, mustClose]] of Object.entries(REFUSALS)) {
  test(`${code} is ${status}${retryAfterMs === undefined ? '' : ' with Retry-After'}${mustClose ? ' and closes' : ''}`, () => {
    const failure = failureOf(new OciError(code as OciErrorCode, 'told'))
    const told = SENT_AS[code] ?? code
    assert.deepEqual(failure, { status, code: told, message: 'told', retryAfterMs, mustClose })
  })
}

const TROUBLES = {
  breaker: [502, 'UNAVAILABLE'],
  connect: [502, 'UNAVAILABLE'],
  cut: [502, 'UNAVAILABLE'],
  dns: [502, 'UNAVAILABLE'],
  invalid: [502, 'UNAVAILABLE'],
  mismatch: [502, 'UNAVAILABLE'],
  offline: [404, 'MANIFEST_UNKNOWN'],
  'not-public': [403, 'DENIED'],
  'rate-limited': [503, 'TOOMANYREQUESTS'],
  refused: [403, 'DENIED'],
  stalled: [502, 'UNAVAILABLE'],
  status: [502, 'UNAVAILABLE'],
  timeout: [504, 'UNAVAILABLE'],
  tls: [502, 'UNAVAILABLE'],
  token: [502, 'UNAVAILABLE'],
  'too-many': [503, 'TOOMANYREQUESTS'],
} as const satisfies Record<UpstreamErrorKind, readonly [number, OciErrorCode]>

for (const [kind, [status, code]] of Object.entries(TROUBLES)) {
  test(`an upstream in trouble (${kind}) is ${status} ${code}, whatever it answered`, () => {
    const failure = failureOf(new UpstreamError(kind as UpstreamErrorKind, 'told', { status: 404 }))
    assert.deepEqual(
      [failure.status, failure.code, failure.message, failure.retryAfterMs],
      [status, code, 'told', status === 403 || status === 404 ? undefined : 5000],
    )
  })
}

test('when an upstream detects a loop, our client gets LOOP_DETECTED too', () => {
  const failure = failureOf(new UpstreamError('status', 'told', { status: 508 }))
  assert.deepEqual([failure.status, failure.code], [508, 'LOOP_DETECTED'])
})

test('the Retry-After of an upstream or a refusal is kept, but only on failures that pass', () => {
  assert.equal(
    failureOf(new UpstreamError('rate-limited', 'x', { retryAfterMs: 90_000 })).retryAfterMs,
    90_000,
  )
  assert.equal(failureOf(new UpstreamError('refused', 'x', { retryAfterMs: 90_000 })).retryAfterMs, undefined)
  assert.equal(failureOf(new OciError('UNAVAILABLE', 'x', { retryAfterMs: 7 })).retryAfterMs, 7)
  assert.equal(failureOf(new OciError('DENIED', 'x', { retryAfterMs: 7 })).retryAfterMs, undefined)
})

for (const broken of [
  new Error('/data/blobs: EIO'),
  new TypeError('x of undefined'),
  'text',
  undefined,
  null,
  7,
]) {
  test(`what is broken (${String(broken)}) is a 500 that reveals nothing of it`, () => {
    const failure = failureOf(broken)
    assert.deepEqual([failure.status, failure.code], [500, 'UNKNOWN'])
    assert.equal(failureBody(failure), '{"errors":[{"code":"UNKNOWN","message":"internal error"}]}')
  })
}

test('an error body is JSON whatever its message holds', () => {
  const message = '"}]}\n\u2028<script>'
  assert.deepEqual(JSON.parse(failureBody({ code: 'DENIED', message })), {
    errors: [{ code: 'DENIED', message }],
  })
})
