import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import type { Peer } from '../../../src/access/peer.ts'
import { describeCertificate, requireTrusted } from '../../../src/http/tls/peer.ts'
import { OciError } from '../../../src/oci/error.ts'
import { pem } from '../../support/certificates/listener-tls.ts'

/** A certificate with a subject and alternative names of our choice. */
function certificate(subjectAltName: string | undefined, subject: object): X509Certificate {
  return {
    subjectAltName,
    fingerprint256: 'AA:BB',
    toLegacyObject: () => ({ subject }),
  } as unknown as X509Certificate
}

test('a certificate shows its common name, its alternative names by type and its fingerprint', () => {
  const real = new X509Certificate(pem('server'))
  const { commonName, dnsNames, fingerprint } = describeCertificate(real, undefined)
  assert.equal(commonName, 'localhost')
  assert.deepEqual(dnsNames.slice(0, 2), ['localhost', '*.example.test'])
  assert.equal(fingerprint, real.fingerprint256)
  const names = 'URI:spiffe://prod/ns/ci, email:alice@example.test, DNS:a.example.test, IP Address:10.0.0.1'
  const shown = describeCertificate(certificate(names, { CN: 'alice', O: ['ops', 'ci'] }), undefined)
  assert.deepEqual(
    [shown.uris, shown.emails, shown.dnsNames, shown.organizations],
    [['spiffe://prod/ns/ci'], ['alice@example.test'], ['a.example.test'], ['ops', 'ci']],
  )
})

for (const [what, names, expected] of [
  [
    'a comma and a second name inside',
    'DNS:"a, DNS:admin.example.test", DNS:b',
    ['a, DNS:admin.example.test', 'b'],
  ],
  ['a quote that never ends', 'DNS:"a, DNS:admin', []],
  ['an empty value', 'DNS:, DNS:b', ['b']],
  ['an unknown type', 'othername:<unsupported>, DNS:b', ['b']],
  ['257 characters', `DNS:${'a'.repeat(257)}, DNS:b`, ['b']],
] as const) {
  test(`an alternative name with ${what} gives no other name`, () => {
    assert.deepEqual(describeCertificate(certificate(names, {}), undefined).dnsNames, expected)
  })
}

for (const [what, commonName] of [
  ['several common names', ['alice', 'root']],
  ['a common name of 257 characters', 'a'.repeat(257)],
  ['an empty common name', ''],
] as const) {
  test(`a certificate with ${what} has no common name`, () => {
    assert.equal(
      describeCertificate(certificate(undefined, { CN: commonName }), undefined).commonName,
      undefined,
    )
  })
}

test('names beyond the sixteenth are ignored', () => {
  const names = Array.from({ length: 40 }, (_, index) => `DNS:h${index}`).join(', ')
  assert.equal(describeCertificate(certificate(names, {}), undefined).dnsNames.length, 16)
})

test('a certificate that is not believed is refused with the reason, and none at all is not', () => {
  const peer = (problem: string | undefined): Peer => ({
    address: '10.0.0.1',
    isEncrypted: true,
    certificate: describeCertificate(certificate(undefined, { CN: 'alice' }), problem),
  })
  requireTrusted({ ...peer(undefined), certificate: undefined })
  requireTrusted(peer(undefined))
  assert.throws(
    () => requireTrusted(peer('cert has expired')),
    error => error instanceof OciError && error.code === 'UNAUTHORIZED' && /has expired/.test(error.message),
  )
})
