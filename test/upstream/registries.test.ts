import assert from 'node:assert/strict'
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { UPSTREAM_DEFAULTS, type UpstreamConfig } from '../../src/config/config.ts'
import { Secret } from '../../src/config/secret.ts'
import { failureOf } from '../../src/http/failure.ts'
import type { StrangerLimits } from '../../src/upstream/dial/strangers.ts'
import type { UpstreamOptions } from '../../src/upstream/upstream-options.ts'
import {
  must,
  namespace,
  openRegistries,
  repository,
  tagged,
  upstreamOptions,
} from '../support/registries.ts'
import { certificatePath, type FakeUpstream, readCertificate, startUpstream } from '../support/upstream.ts'
import { createGate } from '../support/upstream-behaviour.ts'
import { until } from '../support/waiting.ts'

const NAME = namespace('registry.example.test')
const TOOLS = repository('library/tools')

test('an entry of the configuration is taken as it is', async () => {
  await using upstream = await startUpstream()
  const config: UpstreamConfig = {
    ...UPSTREAM_DEFAULTS,
    ...upstreamOptions(upstream),
    credentials: { kind: 'password', username: 'robot', password: new Secret('pw') },
    proxy: 'none',
    blobInvalidationMs: undefined,
  }
  await using opened = openRegistries({ upstreams: [config] })
  assert.equal(opened.registries.get(NAME).hasCredentials, true)
})

test('a registry is the same for every request, configured or not', async () => {
  await using upstream = await startUpstream()
  await using opened = openRegistries({ upstreams: [upstreamOptions(upstream)] })
  const { registries } = opened
  assert.equal(registries.get(NAME), registries.get(NAME))
  assert.equal(registries.get(namespace('quay.io')), registries.get(namespace('quay.io')))
  assert.equal(registries.get(namespace('quay.io')).hasCredentials, false)
})

test('docker.io is asked at the host that serves it', async () => {
  const asked: string[] = []
  await using opened = openRegistries({
    resolve: async hostname => {
      asked.push(hostname)
      return []
    },
  })
  const registry = opened.registries.get(namespace('docker.io'))
  await assert.rejects(registry.headManifest(TOOLS, tagged('1'), AbortSignal.timeout(5000)), {
    kind: 'not-public',
  })
  assert.deepEqual([...new Set(asked)], ['registry-1.docker.io'])
})

test('the thousand namespaces that were named last are kept, and no more', async () => {
  await using opened = openRegistries({})
  const first = opened.registries.get(namespace('first.example.com'))
  for (let count = 0; count < 999; count += 1) opened.registries.get(namespace(`r${count}.example.com`))
  assert.equal(opened.registries.get(namespace('first.example.com')), first)
  const second = opened.registries.get(namespace('r0.example.com'))
  for (let count = 0; count < 1000; count += 1) opened.registries.get(namespace(`s${count}.example.com`))
  assert.notEqual(opened.registries.get(namespace('r0.example.com')), second)
})

test('replacing the configuration keeps what stays the same, and only that', async () => {
  await using upstream = await startUpstream()
  const options = upstreamOptions(upstream, {
    credentials: { kind: 'password', username: 'robot', password: new Secret('one') },
  })
  await using opened = openRegistries({ upstreams: [options] })
  const { registries } = opened
  const before = registries.get(NAME)
  const password = (text: string): UpstreamOptions['credentials'] => ({
    kind: 'password',
    username: 'robot',
    password: new Secret(text),
  })
  registries.replace([{ ...options, credentials: password('one') }])
  assert.equal(registries.get(NAME), before)
  const changes: readonly Partial<UpstreamOptions>[] = [
    { credentials: password('two') },
    { credentials: undefined },
    { allowAddresses: ['127.0.0.0/8'] },
    { realms: ['auth.example.net'] },
    { userAgent: 'other' },
    { acceptInvalidCerts: true },
    { tls: true },
    { host: 'localhost:1' },
  ]
  for (const change of changes) {
    registries.replace([{ ...options, ...change }])
    const changed = registries.get(NAME)
    registries.replace([options])
    assert.notEqual(changed, before, JSON.stringify(Object.keys(change)))
  }
})

test('an authority file whose content has changed makes another upstream, though its name is the same', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-registries-'))
  t.after(async () => await rm(directory, { recursive: true, force: true }))
  const caFile = join(directory, 'ca.pem')
  await copyFile(certificatePath('ca.pem'), caFile)
  await using upstream = await startUpstream({ tls: 'server' })
  await using opened = openRegistries({ upstreams: [upstreamOptions(upstream, { caFile })] })
  const before = opened.registries.get(NAME)
  await copyFile(certificatePath('self-signed.pem'), caFile)
  opened.registries.replace([upstreamOptions(upstream, { caFile })])
  assert.notEqual(opened.registries.get(NAME), before)
})

test('a configuration that cannot be opened changes nothing', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-registries-'))
  t.after(async () => await rm(directory, { recursive: true, force: true }))
  await writeFile(join(directory, 'here'), '')
  await using upstream = await startUpstream()
  const options = upstreamOptions(upstream)
  await using opened = openRegistries({ upstreams: [options] })
  const before = opened.registries.get(NAME)
  const broken = { ...options, namespace: namespace('other.example.test'), caFile: join(directory, 'absent') }
  assert.throws(() => opened.registries.replace([broken]), { code: 'ENOENT' })
  assert.throws(() => opened.registries.replace([{ ...options, host: 'not a host' }]), TypeError)
  assert.equal(opened.registries.get(NAME), before)
})

test('a download that runs while its upstream is configured away goes on to its end, and can be resumed', async () => {
  await using upstream = await startUpstream()
  const layer = upstream.putBlob(Buffer.alloc(500_000, 7))
  await using opened = openRegistries({ upstreams: [upstreamOptions(upstream)] })
  const gate = createGate()
  upstream.on({}, { pause: { at: 1000, until: gate.opened } }, 1)
  const registry = opened.registries.get(NAME)
  const { signal } = new AbortController()
  await using body = must(await registry.getBlob(TOOLS, layer, { offset: 0 }, signal))
  opened.registries.replace([])
  gate.open()
  let sizeBytes = 0
  for await (const piece of body.chunks) sizeBytes += piece.byteLength
  assert.equal(sizeBytes, 500_000)
  await using rest = must(await registry.getBlob(TOOLS, layer, { offset: 400_000 }, signal))
  assert.equal(rest.offset, 400_000)
})

test('"configured" mirrors what is configured and refuses all else', async () => {
  await using upstream = await startUpstream()
  await using opened = openRegistries({ upstreams: [upstreamOptions(upstream)], namespaces: 'configured' })
  assert.equal(opened.registries.get(NAME).namespace, NAME)
  assert.throws(() => opened.registries.get(namespace('quay.io')), { code: 'DENIED' })
})

test('the registry with credentials says so', async () => {
  await using upstream = await startUpstream()
  const credentials = { kind: 'docker-config', file: '/nonexistent/config.json' } as const
  await using opened = openRegistries({ upstreams: [upstreamOptions(upstream, { credentials })] })
  assert.equal(opened.registries.get(NAME).hasCredentials, true)
})

test('the identity of a registry tells the users of Docker config files apart, and no secret', async () => {
  await using upstream = await startUpstream()
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-identity-'))
  const file = join(directory, 'config.json')
  const credentials = { kind: 'docker-config', file } as const
  await using opened = openRegistries({ upstreams: [upstreamOptions(upstream, { credentials })] })
  await using _ = { [Symbol.asyncDispose]: async () => await rm(directory, { recursive: true }) }
  const identify = async (auth: string): Promise<string | undefined> => {
    const auths = { [upstream.host]: { auth: Buffer.from(auth).toString('base64') } }
    await writeFile(file, JSON.stringify({ auths }))
    return (await opened.registries.get(NAME).identify())?.text
  }
  assert.equal(await opened.registries.get(NAME).identify(), undefined)
  const alice = await identify('alice:secret')
  assert.notEqual(alice, undefined)
  assert.notEqual(await identify('bobby:secret'), alice)
  assert.equal(await identify('alice:another secret'), alice)
  await writeFile(file, '{}')
  assert.equal((await opened.registries.get(NAME).identify())?.isUser, false)
})

test('strangers whose DNS never answers hold up neither other strangers nor a configured upstream', async () => {
  await using upstream = await startUpstream({ hostname: 'registry.example.test' })
  const options = upstreamOptions(upstream, { allowAddresses: ['127.0.0.1'] })
  const { promise: never } = Promise.withResolvers<readonly string[]>()
  const asked: string[] = []
  await using opened = openRegistries({
    upstreams: [options],
    timings: { resolveMs: 300 },
    strangerLimits: { waitMs: 20 },
    resolve: async hostname => {
      asked.push(hostname)
      if (hostname.endsWith('.silent.example')) return await never
      return hostname === 'registry.example.test' ? ['127.0.0.1'] : []
    },
  })
  const head = async (name: string): Promise<unknown> =>
    await opened.registries
      .get(namespace(name))
      .onBehalfOf({ trail: [], client: '192.0.2.1' })
      .headManifest(TOOLS, tagged('1'), AbortSignal.timeout(5000))
  const slow = Promise.allSettled(
    Array.from({ length: 16 }, async (_, count) => await head(`r${count}.silent.example`)),
  )
  assert.equal(await head('registry.example.test'), undefined)
  await assert.rejects(head('sound.example.net'), { kind: 'not-public' })
  for (const outcome of await slow) assert.equal(outcome.status, 'rejected')
  assert.deepEqual(asked.toSorted(), [
    'r0.silent.example',
    'r1.silent.example',
    'registry.example.test',
    'sound.example.net',
  ])
})

test('the default namespace shares no limits with the names that clients bring up', async () => {
  await using opened = openRegistries({
    defaultNamespace: namespace('docker.io'),
    strangerLimits: { newNamesMax: 0, newNamesPerSecond: 0 },
    resolve: async () => [],
  })
  const head = async (name: string): Promise<unknown> =>
    await opened.registries
      .get(namespace(name))
      .onBehalfOf({ trail: [], client: '192.0.2.1' })
      .headManifest(TOOLS, tagged('1'), AbortSignal.timeout(5000))
  await assert.rejects(head('quay.io'), { kind: 'too-many' })
  await assert.rejects(head('docker.io'), { kind: 'dns' })
})

test('a name that does not exist and one at a private address are refused with one status and one text', async () => {
  const refusals: unknown[] = []
  for (const addresses of [[], ['10.0.0.1'], ['1.1.1.1', '127.0.0.1']]) {
    await using opened = openRegistries({ resolve: async () => addresses })
    const registry = opened.registries.get(namespace('db.prod.example'))
    const head = registry.headManifest(TOOLS, tagged('1'), AbortSignal.timeout(5000))
    const { status, code, message } = failureOf(await head.catch((error: unknown) => error))
    refusals.push({ status, code, message })
  }
  const [first, ...others] = refusals
  assert.deepEqual(others, [first, first])
  assert.equal((first as { status: number }).status, 403)
})

/** A registry that answers for every name of example.test, as any client may name it. */
async function openStrangers(
  t: TestContext,
  strangerLimits: Partial<StrangerLimits>,
): Promise<{ readonly upstream: FakeUpstream; head: (name: string, client?: string) => Promise<unknown> }> {
  const trusted = getCACertificates('default')
  setDefaultCACertificates([readCertificate('ca.pem')])
  t.after(() => setDefaultCACertificates(trusted))
  const upstream = await startUpstream({ tls: 'server' })
  t.after(async () => await upstream[Symbol.asyncDispose]())
  const opened = openRegistries({ namespaces: 'any', resolve: async () => ['127.0.0.1'], strangerLimits })
  t.after(async () => await opened[Symbol.asyncDispose]())
  const port = upstream.host.split(':')[1]
  const head = async (name: string, client = '192.0.2.1'): Promise<unknown> =>
    await opened.registries
      .get(namespace(`${name}.example.test:${port}`))
      .onBehalfOf({ trail: [], client })
      .headManifest(TOOLS, tagged('1'), AbortSignal.timeout(5000))
  return { upstream, head }
}

test('the connections of a registry that gives way to another one are closed at once', async t => {
  const { upstream, head } = await openStrangers(t, { upstreamsMax: 1, connectionsMax: 2 })
  for (let count = 0; count < 5; count += 1) assert.equal(await head(`n${count}`), undefined)
  await until(() => upstream.openConnections === 1, 'the others to be closed')
})

test('connections to strangers are limited, for each client and for all, and end with the registry', async t => {
  const { upstream, head } = await openStrangers(t, { connectionsMax: 3, connectionsPerClientMax: 2 })
  const gate = createGate()
  upstream.on({}, { until: gate.opened })
  const running = [head('a'), head('b'), head('c', '192.0.2.2')]
  await upstream.received({}, 3)
  await assert.rejects(head('d'), { kind: 'too-many', message: /for this client/ })
  await assert.rejects(head('e', '192.0.2.3'), { kind: 'too-many', message: /are open;/ })
  gate.open()
  assert.deepEqual(await Promise.all(running), [undefined, undefined, undefined])
})
