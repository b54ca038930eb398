import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Secret } from '../../../src/config/secret.ts'
import type { UpstreamError } from '../../../src/oci/error.ts'
import { DIRECT, type Egress, type Proxy } from '../../../src/upstream/dial/egress.ts'
import type { RegistriesOptions } from '../../../src/upstream/registries.ts'
import { type ConnectProxy, startConnectProxy } from '../../support/connect-proxy.ts'
import { namespace, openRegistries, repository, tagged, upstreamOptions } from '../../support/registries.ts'
import { type FakeUpstream, startUpstream } from '../../support/upstream.ts'

const TOOLS = repository('library/tools')
const NAME = namespace('registry.example.test')
const BASIC = `Basic ${Buffer.from('robot:pass word').toString('base64')}`

async function startTools(options: Parameters<typeof startUpstream>[0] = {}): Promise<FakeUpstream> {
  const upstream = await startUpstream({ tls: 'server', ...options })
  upstream.tag('library/tools', '1', upstream.putImage().manifest)
  return upstream
}

function proxyAt({ host }: Pick<ConnectProxy, 'host'>, own: Partial<Proxy> = {}): Proxy {
  return { protocol: 'http:', host, credentials: undefined, ...own }
}

function by(proxy: Proxy, own: Partial<Egress> = {}): Egress {
  return { ...DIRECT, httpsProxy: proxy, httpProxy: proxy, ...own }
}

interface Asked {
  readonly error: UpstreamError | undefined
  readonly resolved: readonly string[]
  readonly lines: string
}

/** Asks for the tag once, and tells how that ended and which names were looked up for it. */
async function ask(options: Partial<RegistriesOptions>, of = NAME): Promise<Asked> {
  const resolved: string[] = []
  await using opened = openRegistries({
    resolve: async hostname => {
      resolved.push(hostname)
      return ['127.0.0.1']
    },
    ...options,
  })
  const { registries, lines } = opened
  const error = await registries
    .get(of)
    .headManifest(TOOLS, tagged('1'), AbortSignal.timeout(10_000))
    .then(
      () => undefined,
      (thrown: unknown) => thrown as UpstreamError,
    )
  return { error, resolved, lines: lines.join('') }
}

test('a registry is reached through the proxy of the environment, by its name, which only the proxy resolves', async () => {
  await using upstream = await startTools()
  await using proxy = await startConnectProxy({
    routes: { 'registry.example.test:5000': upstream.host },
  })
  const entry = upstreamOptions(upstream, { host: 'registry.example.test:5000' })
  const { error, resolved } = await ask({ upstreams: [entry], egress: by(proxyAt(proxy)) })
  assert.equal(error, undefined)
  assert.deepEqual(proxy.asked, ['registry.example.test:5000'])
  assert.deepEqual(resolved, [])
  assert.equal(upstream.count(), 1)
})

test('plain http goes through the proxy by CONNECT too', async () => {
  await using upstream = await startUpstream()
  upstream.tag('library/tools', '1', upstream.putImage().manifest)
  await using proxy = await startConnectProxy({ routes: { 'registry.example.test:80': upstream.host } })
  const entry = upstreamOptions(upstream, { host: 'registry.example.test' })
  const egress = by(proxyAt(proxy), { httpsProxy: undefined })
  assert.equal((await ask({ upstreams: [entry], egress })).error, undefined)
  assert.deepEqual(proxy.asked, ['registry.example.test:80'])
})

test('the credentials of a proxy reach the proxy alone, and no log line or error', async () => {
  await using upstream = await startTools()
  const routes = { 'registry.example.test:443': upstream.host }
  await using proxy = await startConnectProxy({ routes, authorization: BASIC })
  const entry = upstreamOptions(upstream, { host: 'registry.example.test' })
  const given = (password: string): Egress =>
    by(proxyAt(proxy, { credentials: { username: 'robot', password: new Secret(password) } }))
  const good = await ask({ upstreams: [entry], egress: given('pass word') })
  assert.equal(good.error, undefined)
  assert.doesNotMatch(JSON.stringify(upstream.requests), /proxy-authorization|cm9ib3Q/i)
  const bad = await ask({ upstreams: [entry], egress: given('hunter2') })
  assert.equal(bad.error?.kind, 'connect')
  assert.equal(
    bad.error?.message,
    `registry.example.test through proxy ${proxy.host} cannot be reached: the proxy wants other credentials (407)`,
  )
  assert.doesNotMatch(`${good.lines}${bad.lines}`, /hunter2|pass word|cm9ib3Q/)
})

test('a proxy behind TLS has to prove its identity', async () => {
  await using upstream = await startTools()
  await using proxy = await startConnectProxy({
    routes: { 'registry.example.test:443': upstream.host },
    tls: true,
  })
  const entry = upstreamOptions(upstream, { host: 'registry.example.test' })
  const egress = by(proxyAt(proxy, { protocol: 'https:' }))
  assert.equal((await ask({ upstreams: [entry], egress })).error, undefined)
  const { error } = await ask({ upstreams: [{ ...entry, caFile: undefined }], egress })
  assert.match(
    error?.message ?? '',
    /cannot be reached: the proxy did not prove its identity by TLS: its certificate is from a CA/,
  )
})

test('the certificate that counts is that of the registry, whatever the proxy connects to', async () => {
  await using upstream = await startTools({ tls: 'other-name' })
  await using proxy = await startConnectProxy({ routes: { 'registry.example.test:443': upstream.host } })
  const entry = upstreamOptions(upstream, { host: 'registry.example.test' })
  const { error } = await ask({ upstreams: [entry], egress: by(proxyAt(proxy)) })
  assert.equal(error?.kind, 'tls')
  assert.equal(upstream.count(), 0)
})

test('hosts of NO_PROXY, and an entry with "proxy: none", are connected to directly', async () => {
  await using upstream = await startTools()
  await using proxy = await startConnectProxy({ refuses: 403 })
  const port = upstream.host.split(':')[1]
  const entry = upstreamOptions(upstream, {
    host: `registry.example.test:${port}`,
    allowAddresses: ['127.0.0.1/32'],
  })
  const egress = by(proxyAt(proxy))
  const bypassed = await ask({ upstreams: [entry], egress: { ...egress, proxyBypass: ['example.test'] } })
  assert.equal(bypassed.error, undefined)
  assert.equal((await ask({ upstreams: [{ ...entry, proxy: 'none' }], egress })).error, undefined)
  assert.deepEqual(proxy.asked, [])
})

test('the proxy of an entry serves all hosts of that upstream, and no other one', async () => {
  await using upstream = await startTools()
  await using proxy = await startConnectProxy()
  await using refusing = await startConnectProxy({ refuses: 403 })
  const entry = upstreamOptions(upstream, { proxy: proxyAt(proxy) })
  const egress = by(proxyAt(refusing), { proxyBypass: ['*'] })
  assert.equal((await ask({ upstreams: [entry], egress })).error, undefined)
  assert.deepEqual(proxy.asked, [upstream.host])
  assert.deepEqual(refusing.asked, [])
})

test('a registry that is not configured goes through no proxy, unless the operator trusts it', async () => {
  await using proxy = await startConnectProxy({ refuses: 403 })
  const egress = by(proxyAt(proxy))
  const quay = namespace('quay.io')
  const refused = await ask({ egress }, quay)
  assert.match(refused.error?.message ?? '', /quay\.io .*proxy.*"--trust-egress-proxy"/)
  assert.deepEqual(proxy.asked, [])
  const trusted = await ask({ egress: { ...egress, trustsProxies: true } }, quay)
  assert.match(trusted.error?.message ?? '', /the proxy refuses to connect to it \(403\)$/)
  assert.deepEqual(proxy.asked, ['quay.io:443'])
})

test('the default namespace goes through a proxy without being configured, since no client chose it', async () => {
  await using proxy = await startConnectProxy({ refuses: 403 })
  const defaultNamespace = namespace('docker.io')
  await ask({ egress: by(proxyAt(proxy)), defaultNamespace }, defaultNamespace)
  assert.deepEqual(proxy.asked, ['registry-1.docker.io:443'])
})

const REFUSALS = [
  [403, 'refuses to connect to it (403)'],
  [502, 'cannot connect to it (502)'],
  [504, 'got no connection in time (504)'],
] as const

for (const [status, text] of REFUSALS) {
  test(`a proxy that answers ${status} is trouble that names the proxy, without the text that it sent`, async () => {
    await using proxy = await startConnectProxy({ refuses: status })
    const entry = upstreamOptions({ host: 'registry.example.test', origin: 'https://registry.example.test' })
    const { error } = await ask({ upstreams: [entry], egress: by(proxyAt(proxy)) })
    const expected = `registry.example.test through proxy ${proxy.host} cannot be reached: the proxy ${text}`
    assert.equal(error?.message, expected)
  })
}

test('a proxy that does not exist, or never answers, is trouble that names the proxy', async () => {
  const entry = upstreamOptions({ host: 'registry.example.test', origin: 'https://registry.example.test' })
  const silent = await startConnectProxy({ isSilent: true })
  const late = await ask({
    upstreams: [entry],
    egress: by(proxyAt(silent)),
    timings: { resolveMs: 20, connectMs: 20 },
  })
  assert.equal(late.error?.kind, 'timeout')
  assert.match(late.error?.message ?? '', /the proxy did not open a tunnel in time$/)
  await silent[Symbol.asyncDispose]()
  const absent = await ask({ upstreams: [entry], egress: by(proxyAt(silent)) })
  assert.equal(absent.error?.kind, 'connect')
  assert.match(absent.error?.message ?? '', /cannot be reached: the proxy cannot be connected to$/)
})

test('a redirect through a proxy leads to no internal name', async () => {
  await using upstream = await startTools()
  await using proxy = await startConnectProxy({ routes: { 'registry.example.test:443': upstream.host } })
  const entry = upstreamOptions(upstream, { host: 'registry.example.test' })
  upstream.on({}, { redirectTo: 'https://metadata.google.internal/v1' })
  const { error } = await ask({ upstreams: [entry], egress: by(proxyAt(proxy)) })
  assert.match(error?.message ?? '', /leads to metadata\.google\.internal, which is an internal name/)
  assert.deepEqual(proxy.asked, ['registry.example.test:443'])
})
