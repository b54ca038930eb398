import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { clientListeners, formatListen, openAddress } from '../../../src/config/listen.ts'
import { type LoadedConfig, loadConfig } from '../../../src/config/load.ts'
import { ConfigError } from '../../../src/config/problem.ts'
import type { Flag } from '../../../src/config/settings.ts'
import type { StoreKind } from '../../../src/config/store.ts'

const CWD = fileURLToPath(new URL('../../support/certificates/', import.meta.url))
const CERT = { 'tls-cert': 'server.pem', 'tls-key': 'server.key.pem' }

async function load(flags: Partial<Record<Flag, string>>, store?: StoreKind): Promise<LoadedConfig> {
  const given = new Map(Object.entries(flags) as [Flag, string][])
  return await loadConfig({ flags: given, env: {}, cwd: CWD, store, problems: [] })
}

async function problems(flags: Partial<Record<Flag, string>>, store?: StoreKind): Promise<string[]> {
  try {
    await load(flags, store)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n')
    throw error
  }
}

for (const [what, flags, expected] of [
  ['without a certificate the one listener is plain', {}, ['plain 0.0.0.0:8080']],
  ['with a certificate the one listener uses TLS', CERT, ['TLS 0.0.0.0:8080']],
  [
    'beside a TLS listener the plain one is on loopback',
    { ...CERT, 'listen-tls': '0.0.0.0:8443' },
    ['plain 127.0.0.1:8080', 'TLS 0.0.0.0:8443'],
  ],
  [
    'a plain listener may be named beside several TLS listeners',
    { ...CERT, listen: 'unix:/run/e.sock', 'listen-tls': '0.0.0.0:8443,[::1]:9443' },
    ['plain unix:/run/e.sock', 'TLS 0.0.0.0:8443', 'TLS [::1]:9443'],
  ],
  ['a self-signed certificate is enough', { 'tls-self-signed': 'true' }, ['TLS 0.0.0.0:8080']],
] as const) {
  test(what, async () => {
    const { config } = await load(flags)
    const listeners = clientListeners(config)
    assert.deepEqual(
      listeners.map(({ address, isTls }) => `${isTls ? 'TLS' : 'plain'} ${formatListen(address)}`),
      expected,
    )
  })
}

test('where client certificates are required, only the plain listener is open to strangers', async () => {
  const flags = { ...CERT, 'tls-client-ca': 'ca.pem', 'listen-tls': '0.0.0.0:8443' }
  const open = async (more: Partial<Record<Flag, string>>): Promise<string | undefined> => {
    const address = openAddress((await load({ ...flags, ...more })).config)
    return address === undefined ? undefined : formatListen(address)
  }
  assert.equal(await open({}), '0.0.0.0:8443')
  assert.equal(await open({ 'tls-client-auth': 'required' }), undefined)
  assert.equal(await open({ 'tls-client-auth': 'required', listen: '0.0.0.0:80' }), '0.0.0.0:80')
})

for (const [flags, expected] of [
  [{ 'tls-cert': 'server.pem' }, '--tls-cert: is given without --tls-key (they belong together)'],
  [{ 'tls-key': 'server.key.pem' }, '--tls-key: is given without --tls-cert (they belong together)'],
  [{ ...CERT, 'tls-self-signed': 'true' }, '--tls-cert: contradicts --tls-self-signed (keep one of them)'],
  [
    { 'listen-tls': '0.0.0.0:8443' },
    '--listen-tls: has no effect without a certificate (give --tls-cert and --tls-key, or --tls-self-signed)',
  ],
  [
    { 'tls-client-ca': 'ca.pem', 'tls-self-signed': 'false' },
    '--tls-client-ca: has no effect without a certificate (give --tls-cert and --tls-key, or --tls-self-signed)',
  ],
  [
    { ...CERT, 'tls-client-auth': 'required' },
    '--tls-client-auth: is given without --tls-client-ca (they belong together)',
  ],
  [
    { ...CERT, 'tls-client-auth': 'perhaps' },
    '--tls-client-auth: is not a word: "perhaps" (optional or required)',
  ],
  [{ ...CERT, 'tls-names': 'a.example' }, '--tls-names: has no effect without --tls-self-signed'],
  [
    { 'tls-self-signed': 'true', 'tls-names': 'a.example,b c' },
    '--tls-names: is not a host name or an IP address: "a.example,b c" (such as mirror.example.com or 192.0.2.7; several may be given)',
  ],
  [
    { ...CERT, 'listen-tls': 'unix:/run/e.sock' },
    '--listen-tls: is not a TCP address to listen on: "unix:/run/e.sock" (such as 0.0.0.0:8443; several may be given)',
  ],
  [
    { ...CERT, listen: 'unix:/run/e.sock' },
    'command line: listen is a unix socket, which needs no TLS (name the TLS listener with --listen-tls)',
  ],
] as const) {
  test(`${Object.keys(flags).join(' and ')} as ${Object.values(flags).join(' and ')} is a problem`, async () => {
    assert.deepEqual(await problems(flags), [expected])
  })
}

test('a bucket cannot keep the keys of a self-signed certificate', async () => {
  assert.deepEqual(await problems({ 'tls-self-signed': 'true', bucket: 'b' }, 's3'), [
    '--tls-self-signed: cannot keep its keys in a bucket (give --tls-cert and --tls-key)',
  ])
})

test('a certificate that cannot be used is a problem of the configuration', async () => {
  const [problem = ''] = await problems({ 'tls-cert': 'expired.pem', 'tls-key': 'expired.key.pem' })
  assert.match(problem, /expired\.pem: \(--tls-cert\) expired on 2020-02-01/)
})

test('the effective configuration shows the settings of TLS, and no key', async () => {
  const { settings } = await load({ ...CERT, 'tls-client-ca': 'ca.pem', 'listen-tls': '0.0.0.0:8443' })
  const shown = settings.filter(({ name }) => name.includes('tls')).map(({ name, value }) => [name, value])
  assert.deepEqual(shown, [
    ['listen_tls', '0.0.0.0:8443'],
    ['tls_cert', `${CWD}server.pem`],
    ['tls_key', `${CWD}server.key.pem`],
    ['tls_client_ca', `${CWD}ca.pem`],
    ['tls_client_auth', 'optional'],
  ])
})
