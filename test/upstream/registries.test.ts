import assert from 'node:assert/strict'
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { UpstreamConfig } from '../../src/config/config.ts'
import { Secret } from '../../src/config/secret.ts'
import type { UpstreamOptions } from '../../src/upstream/registries.ts'
import {
  must,
  namespace,
  openRegistries,
  repository,
  tagged,
  upstreamOptions,
} from '../support/registries.ts'
import { certificatePath, startUpstream } from '../support/upstream.ts'
import { createGate } from '../support/upstream-behaviour.ts'

const NAME = namespace('registry.example.test')
const TOOLS = repository('library/tools')

test('an entry of the configuration is taken as it is', async () => {
  await using upstream = await startUpstream()
  const config: UpstreamConfig = {
    ...upstreamOptions(upstream),
    credentials: { kind: 'password', username: 'robot', password: new Secret('pw') },
    manifestInvalidationMs: 0,
    blobInvalidationMs: undefined,
    staleIfErrorMs: 0,
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
  await assert.rejects(registry.headManifest(TOOLS, tagged('1'), AbortSignal.timeout(5000)), { kind: 'dns' })
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

test('a stranger who names hosts whose DNS never answers holds up one lookup, and no configured upstream', async () => {
  await using upstream = await startUpstream({ hostname: 'registry.example.test' })
  const options = upstreamOptions(upstream, { allowAddresses: ['127.0.0.1'] })
  const asked: string[] = []
  await using opened = openRegistries({
    upstreams: [options],
    timings: { resolveMs: 30 },
    resolve: async hostname => {
      asked.push(hostname)
      return hostname === 'registry.example.test' ? ['127.0.0.1'] : await new Promise(() => undefined)
    },
  })
  const head = async (name: string): Promise<unknown> =>
    await opened.registries.get(namespace(name)).headManifest(TOOLS, tagged('1'), AbortSignal.timeout(5000))
  const strangers = Array.from({ length: 20 }, (_, count) => head(`slow${count}.example.com`))
  for (const outcome of await Promise.allSettled(strangers)) {
    assert.equal(outcome.status === 'rejected' && (outcome.reason as { kind: string }).kind, 'dns')
  }
  assert.equal(await head('registry.example.test'), undefined)
  assert.deepEqual(asked, ['slow0.example.com', 'registry.example.test'])
})
