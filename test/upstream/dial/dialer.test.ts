import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Resolve } from '../../../src/upstream/dial/resolve.ts'
import type { UpstreamOptions } from '../../../src/upstream/upstream-options.ts'
import { namespace, openRegistries, repository, tagged, upstreamOptions } from '../../support/registries.ts'
import {
  type CertificateName,
  certificatePath,
  type FakeUpstream,
  readCertificate,
  startCanary,
  startUpstream,
} from '../../support/upstream.ts'

const TOOLS = repository('library/tools')
const NAME = namespace('registry.example.test')

async function head(
  options: UpstreamOptions,
  resolve?: Resolve,
  timings: object = {},
): Promise<{ readonly ended: string; readonly error?: unknown }> {
  await using opened = openRegistries({
    upstreams: [options],
    timings,
    ...(resolve === undefined ? {} : { resolve }),
  })
  try {
    await opened.registries.get(NAME).headManifest(TOOLS, tagged('1'), AbortSignal.timeout(10_000))
    return { ended: 'answered' }
  } catch (error) {
    const { kind, code } = error as { kind?: string; code?: string }
    return { ended: kind ?? code ?? 'other', error }
  }
}

async function startTools(options: Parameters<typeof startUpstream>[0]): Promise<FakeUpstream> {
  const upstream = await startUpstream(options)
  upstream.tag('library/tools', '1', upstream.putImage().manifest)
  return upstream
}

const REFUSED_CERTIFICATES: readonly CertificateName[] = ['expired', 'other-name', 'self-signed']

for (const certificate of REFUSED_CERTIFICATES) {
  test(`a certificate that is ${certificate} is refused, and nothing is asked without TLS`, async () => {
    await using upstream = await startTools({ tls: certificate })
    assert.equal((await head(upstreamOptions(upstream))).ended, 'tls')
    assert.equal(upstream.count(), 0)
  })

  test(`accept_invalid_certs takes a certificate that is ${certificate}`, async () => {
    await using upstream = await startTools({ tls: certificate })
    assert.equal((await head(upstreamOptions(upstream, { acceptInvalidCerts: true }))).ended, 'answered')
  })
}

test('a certificate of an authority that is not trusted is refused, and taken once ca_file names the authority', async () => {
  await using upstream = await startTools({ tls: 'server' })
  assert.equal((await head(upstreamOptions(upstream, { caFile: undefined }))).ended, 'tls')
  assert.equal((await head(upstreamOptions(upstream))).ended, 'answered')
})

test('TLS before 1.2 is refused', async () => {
  const cert = readCertificate('server.pem')
  const key = readCertificate('server.key.pem')
  const ciphers = 'DEFAULT@SECLEVEL=0'
  await using upstream = await startTools({
    tls: { cert, key, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers },
  })
  assert.equal((await head(upstreamOptions(upstream))).ended, 'tls')
})

test('the server name that is sent is the host of the configuration', async () => {
  const names: string[] = []
  const cert = readCertificate('server.pem')
  const key = readCertificate('server.key.pem')
  const ALPNCallback = ({ servername }: { servername: string }): string => {
    names.push(servername)
    return 'http/1.1'
  }
  await using upstream = await startTools({
    tls: { cert, key, ALPNCallback },
    hostname: 'registry.example.test',
  })
  const options = upstreamOptions(upstream, { allowAddresses: ['127.0.0.1'] })
  assert.equal((await head(options, async () => ['127.0.0.1'])).ended, 'answered')
  assert.deepEqual(names, ['registry.example.test'])
})

test('a client certificate is shown to a server that asks for one', async () => {
  const [cert, key, ca] = ['server.pem', 'server.key.pem', 'ca.pem'].map(readCertificate)
  await using upstream = await startTools({
    tls: { cert, key, ca, requestCert: true, rejectUnauthorized: true },
  })
  const withoutOne = await head(upstreamOptions(upstream))
  assert.notEqual(withoutOne.ended, 'answered')
  const options = {
    clientCertFile: certificatePath('client.pem'),
    clientKeyFile: certificatePath('client.key.pem'),
  }
  assert.equal((await head(upstreamOptions(upstream, options))).ended, 'answered')
})

/** An upstream that redirects every question to the same path of another server. */
async function startLeading(
  options: Parameters<typeof startUpstream>[0],
  to: FakeUpstream,
): Promise<FakeUpstream> {
  const upstream = await startUpstream(options)
  upstream.on({}, ({ path }) => ({ status: 307, headers: { location: `${to.origin}${path}` } }))
  return upstream
}

test('a client certificate is shown to the upstream and to listed realms, not to where it redirects', async () => {
  const [cert, key, ca] = ['server.pem', 'server.key.pem', 'ca.pem'].map(readCertificate)
  const tls = { cert, key, ca, requestCert: true, rejectUnauthorized: true }
  await using elsewhere = await startTools({ tls })
  await using upstream = await startLeading({ tls }, elsewhere)
  const options = {
    clientCertFile: certificatePath('client.pem'),
    clientKeyFile: certificatePath('client.key.pem'),
  }
  assert.notEqual((await head(upstreamOptions(upstream, options))).ended, 'answered')
  assert.equal(elsewhere.count(), 0)
  assert.equal(upstream.count() > 0, true)
  const listed = { ...options, realms: [elsewhere.host] }
  assert.equal((await head(upstreamOptions(upstream, listed))).ended, 'answered')
})

test('accept_invalid_certs takes the certificates of the upstream and of listed realms, and no others', async () => {
  await using elsewhere = await startTools({ tls: 'self-signed' })
  await using upstream = await startLeading({ tls: 'self-signed' }, elsewhere)
  const options = { acceptInvalidCerts: true }
  assert.equal((await head(upstreamOptions(upstream, options))).ended, 'tls')
  assert.equal(elsewhere.count(), 0)
  const listed = { ...options, realms: [elsewhere.host] }
  assert.equal((await head(upstreamOptions(upstream, listed))).ended, 'answered')
})

test('the authorities of ca_file are trusted where the upstream redirects, too', async () => {
  await using elsewhere = await startTools({ tls: 'server' })
  await using upstream = await startLeading({ tls: 'server' }, elsewhere)
  assert.equal((await head(upstreamOptions(upstream))).ended, 'answered')
})

test('a server that accepts and never finishes the handshake is given up', async () => {
  await using canary = await startCanary()
  const host = `127.0.0.1:${canary.port}`
  const options = upstreamOptions({ host, origin: `https://${host}` })
  const { ended, error } = await head(options, undefined, { handshakeMs: 50 })
  assert.equal(ended, 'tls')
  assert.match(String(error), /handshake in time/)
})

test('a name is resolved once, and the address that was judged is the one that is dialled', async () => {
  await using upstream = await startTools({ hostname: 'registry.example.test' })
  await using canary = await startCanary('127.0.0.2')
  let asked = 0
  const rebinding: Resolve = async () => {
    asked += 1
    return asked === 1 ? ['127.0.0.1'] : ['127.0.0.2']
  }
  const options = upstreamOptions(upstream, { allowAddresses: ['127.0.0.1/32'] })
  assert.equal((await head(options, rebinding)).ended, 'answered')
  assert.equal(asked, 1)
  assert.equal(canary.connections, 0)
})

test('addresses of a configured upstream that it may not live at are left out', async () => {
  await using upstream = await startTools({ hostname: 'registry.example.test' })
  const options = upstreamOptions(upstream, { allowAddresses: ['127.0.0.1/32'] })
  assert.equal((await head(options, async () => ['127.0.0.2', '127.0.0.1', '::1'])).ended, 'answered')
})

test('one forbidden address forbids a public namespace, whatever else it has', async () => {
  await using opened = openRegistries({ resolve: async () => ['1.1.1.1', '127.0.0.1'] })
  const registry = opened.registries.get(namespace('quay.io'))
  await assert.rejects(registry.headManifest(TOOLS, tagged('1'), AbortSignal.timeout(5000)), {
    code: 'DENIED',
  })
})

test('the next address is tried when one refuses the connection', async () => {
  await using upstream = await startTools({ hostname: 'registry.example.test', address: '127.0.0.5' })
  const options = upstreamOptions(upstream, { allowAddresses: ['127.0.0.0/8'] })
  assert.equal((await head(options, async () => ['127.0.0.4', '127.0.0.5'])).ended, 'answered')
})

test('an IPv6 literal is dialled', async t => {
  let upstream: FakeUpstream
  try {
    upstream = await startTools({ address: '::1', hostname: '[::1]' })
  } catch {
    t.skip('this machine has no IPv6')
    return
  }
  await using _upstream = upstream
  assert.equal((await head(upstreamOptions(upstream))).ended, 'answered')
})

const DNS: readonly (readonly [string, Resolve, string])[] = [
  [
    'does not know the name',
    async () => Promise.reject(Object.assign(new Error('x'), { code: 'ENOTFOUND' })),
    'dns',
  ],
  ['is in trouble', async () => Promise.reject(Object.assign(new Error('x'), { code: 'EAI_AGAIN' })), 'dns'],
  ['says nothing', () => new Promise(() => undefined), 'dns'],
  ['has no address', async () => [], 'dns'],
  ['answers with what is no address', async () => ['localhost', '127.1'], 'dns'],
  [
    'answers with thousands of forbidden addresses',
    async () => Array.from({ length: 2000 }, () => '127.0.0.1'),
    'DENIED',
  ],
]

for (const [what, resolve, expected] of DNS) {
  test(`a resolver that ${what} comes to ${expected}`, async () => {
    const options = upstreamOptions({ host: 'registry.example.test', origin: 'http://registry.example.test' })
    assert.equal((await head(options, resolve, { resolveMs: 30 })).ended, expected)
  })
}

test('a refused connection is trouble of kind connect', async () => {
  await using upstream = await startTools({})
  await upstream.refuse()
  assert.equal((await head(upstreamOptions(upstream))).ended, 'connect')
})
