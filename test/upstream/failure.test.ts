import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asUpstreamError } from '../../src/upstream/failure.ts'

for (const [code, reason] of [
  ['DEPTH_ZERO_SELF_SIGNED_CERT', /did not prove its identity by TLS: .*CA that is not trusted.*ca_file/],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', /did not prove its identity by TLS: .*CA that is not trusted/],
  ['CERT_HAS_EXPIRED', /did not prove its identity by TLS: .*expired.*clock/],
  ['CERT_NOT_YET_VALID', /did not prove its identity by TLS: .*not valid yet.*clock/],
  ['ERR_TLS_CERT_ALTNAME_INVALID', /did not prove its identity by TLS: .*another name/],
  ['EPROTO', /did not prove its identity by TLS: it does not speak TLS/],
  ['EMFILE', /cannot be connected to: .*too many files open/],
  ['ECONNREFUSED', /cannot be connected to$/],
] as const) {
  test(`a connection that fails with ${code} gives the operator its reason`, () => {
    const error = asUpstreamError(Object.assign(new Error('inner text'), { code }), 'registry.example')
    assert.ok(error instanceof Error)
    assert.match(error.message, reason)
    assert.match(error.message, /^registry\.example /)
    assert.doesNotMatch(error.message, /inner text/)
  })
}
