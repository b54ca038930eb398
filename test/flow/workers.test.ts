import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Digest } from '../../src/oci/digest.ts'
import { openFilesystemStore } from '../../src/storage/filesystem/store.ts'
import { FaultyStore } from '../support/faulty-store.ts'
import { type MirrorOptions, startMirror, type TestMirror } from '../support/mirror.ts'
import { readParts } from '../support/multipart.ts'
import { seeEvents } from '../support/seen-events.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { createGate } from '../support/upstream-behaviour.ts'
import { inFlight, linesOf, logged, stored, until } from '../support/waiting.ts'
import { type Pulled, type PullOptions, pull } from '../torture/client.ts'

const MIB = 1024 * 1024
const WORKERS = 4
/**
 * So many connections reach every one of the threads, but for once in a thousand runs; nothing that is
 * asserted needs more than one of them.
 */
const CROWD = 32

/**
 * A mirror of several threads, of which only the first says in the log what it served: that others serve
 * shows by what is missing there.
 */
async function startThreads(
  upstream: FakeUpstream,
  options: Omit<MirrorOptions, 'upstream'> = {},
): Promise<TestMirror> {
  const config = { workers: WORKERS, logLevel: 'silent', ...options.config } as const
  return await startMirror({ upstream: upstream.host, ...options, config })
}

async function crowd(
  mirror: TestMirror,
  path: string,
  options: PullOptions = {},
  count = CROWD,
): Promise<readonly Pulled[]> {
  const { client } = mirror.daemon.addresses
  return await Promise.all(Array.from({ length: count }, async () => await pull(client, path, options)))
}

function requireAll(pulls: readonly Pulled[], digest: Digest): void {
  for (const { status, isComplete, digest: got } of pulls)
    assert.deepEqual({ status, isComplete, got }, { status: 200, isComplete: true, got: digest })
}

const blobPath = (digest: Digest): string => `/v2/team/app/blobs/${digest}`
const fetches = (upstream: FakeUpstream, digest: Digest): number =>
  upstream.count({ method: 'GET', path: blobPath(digest) })

test('I7 a herd on one cold blob costs one fetch whatever threads its clients are served by, and each gets it right', async () => {
  await using upstream = await startUpstream()
  const digest = upstream.putBlob(randomBytes(2 * MIB))
  await using mirror = await startThreads(upstream)
  requireAll(await crowd(mirror, blobPath(digest)), digest)
  assert.equal(fetches(upstream, digest), 1)
  await stored(mirror, digest)
  requireAll(await crowd(mirror, blobPath(digest)), digest)
  assert.equal(fetches(upstream, digest), 1)
  const here = linesOf(mirror, 'request').length
  assert.ok(here > 0 && here < 2 * CROWD, `${here} of ${2 * CROWD} requests were served by the first thread`)
  const metrics = (await mirror.admin('GET', '/metrics')).body.toString()
  const counts = [...metrics.matchAll(/^entrepot_requests_total\{[^}]*resource="blob"[^}]*\} ([0-9]+)$/gm)]
  assert.equal(
    counts.reduce((sum, match) => sum + Number(match[1]), 0),
    2 * CROWD,
  )
  assert.match(metrics, /^process_start_time_seconds [0-9]/m)
})

test('every kind of content is answered alike by every thread, cold and warm', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [randomBytes(300_000), randomBytes(2000)] })
  const [large = image.config, small = image.config] = image.layers
  upstream.tag('team/app', 'v1', image.manifest)
  await using mirror = await startThreads(upstream)
  for (const [path, digest] of [
    ['/v2/team/app/manifests/v1', image.manifest],
    [`/v2/team/app/manifests/${image.manifest}`, image.manifest],
    [blobPath(large), large],
    [blobPath(small), small],
  ] as const) {
    for (let round = 0; round < 3; round += 1) requireAll(await crowd(mirror, path), digest)
    const [first, ...others] = await crowd(mirror, path)
    const { date: _, ...headers } = first?.headers ?? {}
    for (const {
      headers: { date: __, ...same },
    } of others)
      assert.deepEqual(same, headers)
  }
  for (const { status, body } of await crowd(mirror, blobPath(large), {
    headers: { Range: 'bytes=1000-250999' },
    keeps: true,
  })) {
    assert.equal(status, 206)
    assert.equal(body?.byteLength, 250_000)
  }
  for (const { status, headers, body = Buffer.alloc(0) } of await crowd(mirror, blobPath(large), {
    headers: { Range: 'bytes=0-9,1000-250999' },
    keeps: true,
  })) {
    assert.equal(status, 206)
    const sizes = readParts(String(headers['content-type']), body).map(({ bytes }) => bytes.byteLength)
    assert.deepEqual(sizes, [10, 250_000])
  }
  const missing = await crowd(mirror, '/v2/team/app/manifests/none')
  assert.deepEqual(new Set(missing.map(({ status }) => status)), new Set([404]))
  const tags = await crowd(mirror, '/v2/team/app/tags/list', { keeps: true })
  assert.deepEqual(
    new Set(tags.map(({ body }) => body?.toString())),
    new Set(['{"name":"team/app","tags":["v1"]}']),
  )
})

test('I1 bytes that are wrong in the end complete in no thread', async () => {
  await using upstream = await startUpstream()
  const bytes = randomBytes(2 * MIB)
  const digest = upstream.putBlob(bytes)
  upstream.on({ path: blobPath(digest), method: 'GET' }, { corruptAt: 2 * MIB - 100 })
  await using mirror = await startThreads(upstream)
  for (const pulled of await crowd(mirror, blobPath(digest))) {
    assert.equal(pulled.isComplete && pulled.status === 200, false)
    assert.ok(pulled.sizeBytes <= 2 * MIB - 64 * 1024)
  }
})

test('a tag that was deleted is answered from memory by no thread any more', async () => {
  await using upstream = await startUpstream()
  const [old, young] = [upstream.putImage({ config: { a: 1 } }), upstream.putImage({ config: { a: 2 } })]
  upstream.tag('team/app', 'v1', old.manifest)
  await using mirror = await startThreads(upstream)
  const path = '/v2/team/app/manifests/v1'
  for (let round = 0; round < 3; round += 1) requireAll(await crowd(mirror, path), old.manifest)
  upstream.tag('team/app', 'v1', young.manifest)
  requireAll(await crowd(mirror, path), old.manifest)
  assert.equal((await mirror.admin('DELETE', '/_admin/team/app/manifests/v1')).status, 202)
  requireAll(await crowd(mirror, path), young.manifest)
})

test('I17 a disk that is full in the middle of a fill breaks no client of any thread off', async t => {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-flow-'))
  t.after(async () => await rm(root, { recursive: true, force: true }))
  await using disk = await openFilesystemStore({ root, events: seeEvents().events })
  const store = new FaultyStore(disk)
  store.faults.add('append')
  store.appendFailsAfter = MIB
  await using upstream = await startUpstream()
  const digest = upstream.putBlob(randomBytes(2 * MIB))
  await using mirror = await startThreads(upstream, { overrides: { store } })
  requireAll(await crowd(mirror, blobPath(digest), {}, 20), digest)
})

test('I21 a stop lets the transfers of all threads end, and a second one cuts them', async () => {
  await using upstream = await startUpstream()
  for (const isCut of [false, true]) {
    const gate = createGate()
    const digest = upstream.putBlob(randomBytes(2 * MIB))
    upstream.on({ path: blobPath(digest), method: 'GET' }, { pause: { at: MIB, until: gate.opened } })
    await using mirror = await startThreads(upstream)
    const pulls = crowd(mirror, blobPath(digest))
    await until(() => fetches(upstream, digest) > 0, 'the fetch begins')
    await inFlight(mirror, CROWD)
    const stopped = mirror.daemon.stop()
    await logged(mirror, 'draining')
    if (isCut) mirror.daemon.stopNow()
    else gate.open()
    for (const { isComplete, digest: got } of await pulls) assert.equal(isComplete && got === digest, !isCut)
    await stopped
    gate.open()
  }
})

test('a port that somebody listens at is refused, though threads share theirs', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startThreads(upstream)
  const port = Number(mirror.daemon.addresses.client.split(':')[1])
  const listen = { kind: 'tcp', host: '127.0.0.1', port } as const
  await assert.rejects(startThreads(upstream, { config: { listen } }), { code: 'EADDRINUSE' })
})

test('what the threads serve is accounted for: who asked, what for, and what is to stay', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [randomBytes(2000)] })
  upstream.tag('team/app', 'v1', image.manifest)
  await using mirror = await startThreads(upstream, { config: { logLevel: 'info' } })
  await crowd(mirror, '/v2/team/app/manifests/v1')
  await crowd(mirror, '/v2/team/app/manifests/v1')
  await logged(mirror, 'request', 2 * CROWD)
  interface Client {
    readonly requests: number
    readonly namespaces: readonly string[]
  }
  await until(async () => {
    const { body } = await mirror.admin('GET', '/_admin/v1/clients')
    const { clients } = JSON.parse(body.toString()) as { clients: readonly Client[] }
    return clients[0]?.requests === 2 * CROWD && clients[0].namespaces.includes('docker.io')
  }, 'all requests of the client are known')
  const explained = await mirror.admin('GET', '/_admin/v1/explain?image=team/app:v1')
  assert.match(explained.body.toString(), /"lastPull":\{[^}]*"status":200/)
})

test('I22 a reload that gives a name another meaning leaves no answer of the old one in any thread', async t => {
  await using hub = await startUpstream()
  await using internal = await startUpstream()
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-flow-'))
  t.after(async () => await rm(directory, { recursive: true, force: true }))
  const file = join(directory, 'upstreams.yaml')
  const entry = (namespace: string, host: string): string =>
    `- namespace: ${namespace}\n  host: ${host}\n  tls: false\n  allow_addresses: [127.0.0.0/8]\n`
  await writeFile(file, entry('docker.io', hub.host))
  const [old, young] = [hub.putImage({ config: { a: 1 } }), internal.putImage({ config: { a: 2 } })]
  hub.tag('inner/app', 'v1', old.manifest)
  internal.tag('app', 'v1', young.manifest)
  await using mirror = await startThreads(hub, { config: { upstreamConfigFile: file } })
  const path = '/v2/inner/app/manifests/v1'
  for (let round = 0; round < 3; round += 1) requireAll(await crowd(mirror, path), old.manifest)
  await writeFile(file, entry('docker.io', hub.host) + entry('inner', internal.host))
  await mirror.daemon.reload()
  for (let round = 0; round < 2; round += 1) requireAll(await crowd(mirror, path), young.manifest)
})

test('requests that are not for content are answered by the first thread, as if they had come directly', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ config: { a: 1 } })
  upstream.tag('team/app', 'v1', image.manifest)
  await using mirror = await startThreads(upstream)
  for (const [path, status] of [
    ['/v2/', 200],
    ['/readyz', 200],
    ['/v2/team/app/tags/list', 200],
    [`/v2/team/app/referrers/${image.manifest}`, 200],
    ['/v2/team/app/unknown', 404],
    ['/v2/team//app/tags/list', 400],
  ] as const) {
    const before = linesOf(mirror, 'request').length
    const answers = await crowd(mirror, path, {
      keeps: true,
      headers: { 'Entrepot-Client': 'x 203.0.113.9' },
    })
    assert.deepEqual(new Set(answers.map(answer => answer.status)), new Set([status]), path)
    const bodies = new Set(answers.map(({ body }) => body?.toString()))
    assert.equal(bodies.size, 1, path)
    const fields = answers.map(({ headers }) => {
      const names = Object.keys(headers).filter(
        name => !['date', 'cache-status', 'x-request-id'].includes(name),
      )
      return names
        .toSorted((a, b) => a.localeCompare(b))
        .map(name => `${name}: ${String(headers[name])}`)
        .join('\n')
    })
    assert.equal(new Set(fields).size, 1, [...new Set(fields)].join('\n\n'))
    await until(() => linesOf(mirror, 'request').length === before + CROWD, `the first thread logs ${path}`)
  }
  const clients = new Set(linesOf(mirror, 'request').map(({ client }) => client))
  assert.deepEqual(clients, new Set(['127.0.0.1']))
})
