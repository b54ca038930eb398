import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import {
  algorithmOf,
  digestOf,
  finishHash,
  hexOf,
  matchesDigest,
  parseDigest,
  startHash,
} from '../../src/oci/digest.ts'

const HEX64 = 'a1'.repeat(32)
const HEX128 = 'f0'.repeat(64)

for (const text of [`sha256:${HEX64}`, `sha512:${HEX128}`]) {
  test(`${text.slice(0, 12)}… is a digest, and keeps its algorithm and its hex`, () => {
    const digest = parseDigest(text)
    assert.ok(digest !== undefined)
    assert.equal(`${algorithmOf(digest)}:${hexOf(digest)}`, text)
  })
}

const NOT_DIGESTS: readonly (readonly [string, string])[] = [
  ['nothing', ''],
  ['an algorithm alone', 'sha256:'],
  ['hex alone', HEX64],
  ['one digit less', `sha256:${HEX64.slice(1)}`],
  ['one digit more', `sha256:${HEX64}0`],
  ['sha512 of the length of sha256', `sha512:${HEX64}`],
  ['sha256 of the length of sha512', `sha256:${HEX128}`],
  ['upper-case hex', `sha256:${HEX64.toUpperCase()}`],
  ['an upper-case algorithm', `SHA256:${HEX64}`],
  ['a digit that is no hex', `sha256:${HEX64.slice(1)}g`],
  ['an algorithm that we cannot prove', `sha384:${'a'.repeat(96)}`],
  ['a retired algorithm', `md5:${'a'.repeat(32)}`],
  ['a multihash', `multihash+base58:${HEX64}`],
  ['a newline after it', `sha256:${HEX64}\n`],
  ['a newline before it', `\nsha256:${HEX64}`],
  ['a space within', `sha256: ${HEX64.slice(1)}`],
  ['an encoded colon', `sha256%3A${HEX64}`],
  ['two colons', `sha256::${HEX64}`],
  ['a NUL at the end', `sha256:${HEX64}\0`],
  ['a path behind it', `sha256:${HEX64}/../x`],
  ['full-width digits', `sha256:${'１'.repeat(64)}`],
]
for (const [what, text] of NOT_DIGESTS) {
  test(`${what} is not a digest`, () => {
    assert.equal(parseDigest(text), undefined)
  })
}

test('a megabyte of text is refused without being looked at for long', () => {
  assert.equal(parseDigest(`sha256:${'a'.repeat(1024 * 1024)}`), undefined)
})

test('bytes match the digest of their hash by either algorithm, and no other', () => {
  const bytes = Buffer.from('entrepot')
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const digest = digestOf(bytes, algorithm)
    assert.equal(hexOf(digest), createHash(algorithm).update(bytes).digest('hex'))
    assert.ok(matchesDigest(bytes, digest))
    assert.ok(!matchesDigest(Buffer.from('entrepôt'), digest))
  }
})

test('a running hash can be looked at by a copy and still be gone on with', () => {
  const hash = startHash('sha256').update('entre')
  assert.equal(finishHash(hash.copy(), 'sha256'), digestOf(Buffer.from('entre')))
  assert.equal(finishHash(hash.update('pot'), 'sha256'), digestOf(Buffer.from('entrepot')))
})
