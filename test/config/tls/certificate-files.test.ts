import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { loadCertificate } from '../../../src/config/tls/certificate-files.ts'
import { pem } from '../../support/certificates/listener-tls.ts'

const NOW_MS = Date.parse('2026-01-01')

/** Loads a certificate from these texts; a missing text is a missing file. */
async function load(
  t: TestContext,
  { cert, key, clientCa }: { readonly cert?: string; readonly key?: string; readonly clientCa?: string },
): Promise<Awaited<ReturnType<typeof loadCertificate>>> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-cert-'))
  t.after(async () => await rm(directory, { recursive: true }))
  const files = { certFile: join(directory, 'c'), keyFile: join(directory, 'k'), clientCaFile: undefined }
  if (cert !== undefined) await writeFile(files.certFile, cert)
  if (key !== undefined) await writeFile(files.keyFile, key)
  if (clientCa === undefined) return await loadCertificate(files, NOW_MS)
  await writeFile(join(directory, 'ca'), clientCa)
  return await loadCertificate({ ...files, clientCaFile: join(directory, 'ca') }, NOW_MS)
}

/** A self-signed certificate by OpenSSL, with a subject and no name. */
function withoutName(): { readonly cert: string; readonly key: string } {
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const text = execFileSync(
    'openssl',
    [...args, '-subj', '/CN=localhost', '-days', '99999', '-keyout', '-'],
    {
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  ).toString()
  const at = text.indexOf('-----BEGIN CERTIFICATE')
  return { key: text.slice(0, at), cert: text.slice(at) }
}

test('a certificate with its key and a client CA is loaded, with its names and its end', async t => {
  const loaded = await load(t, { cert: pem('server'), key: pem('server.key'), clientCa: pem('ca') })
  assert.deepEqual(
    [loaded.certificates, loaded.key, loaded.clientCa],
    [pem('server'), pem('server.key'), pem('ca')],
  )
  assert.match(loaded.names, /DNS:localhost/)
  assert.equal(new Date(loaded.notAfterMs).getUTCFullYear(), 2120)
})

const key = pem('server.key')
const cert = pem('server')
for (const [what, files, expected] of [
  ['a missing certificate', { key }, /c: \(--tls-cert\) cannot be read: ENOENT/],
  ['a missing key', { cert }, /k: \(--tls-key\) cannot be read: ENOENT/],
  ['an expired certificate', { cert: pem('expired'), key: pem('expired.key') }, /expired on 2020-02-01T/],
  ['a key of another certificate', { cert, key: pem('client.key') }, /k: .* is not the key of the cert/],
  ['a certificate without a name', withoutName(), /c: .* has no subject alternative name/],
  ['text that is no certificate', { cert: 'hello', key }, /c: .* holds no certificate/],
  ['a damaged certificate', { cert: cert.replace(/[A-Z]{4}/g, 'AAAA'), key }, /holds (?:a damaged|no) certi/],
  ['text that is no key', { cert, key: cert }, /k: .* holds no private key/],
  ['a damaged key', { cert, key: key.replace(/\n[^-]{20}/, '\nAAAAAAAAAAAAAAAAAAAA') }, /a damaged private/],
  ['an encrypted key', { cert, key: '-----BEGIN ENCRYPTED PRIVATE KEY-----' }, /encrypted with a passphrase/],
  ['a client CA that is no CA', { cert, key, clientCa: cert }, /not one of a CA/],
  [
    'a client CA that is no certificate',
    { cert, key, clientCa: key },
    /--tls-client-ca\) holds no certificate/,
  ],
] as const) {
  test(`${what} is refused with the file and the reason, and no part of the key`, async t => {
    await assert.rejects(load(t, files), (error: Error) => {
      assert.match(error.message, expected)
      assert.doesNotMatch(error.message, /[A-Za-z0-9+/]{40}/)
      return true
    })
  })
}

test('both files are reported if both are wrong', async t => {
  await assert.rejects(load(t, {}), (error: Error) => error.message.split('\n').length === 2)
})
