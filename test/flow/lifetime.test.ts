import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { readReply, startMirror, type TestMirror } from '../support/mirror.ts'
import { RawClient } from '../support/raw-client.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { createGate } from '../support/upstream-behaviour.ts'
import { linesOf, logged, stored, until } from '../support/waiting.ts'

const SIZE = 1_000_000

async function newDirectory(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'entrepot-flow-'))
  return { path, [Symbol.asyncDispose]: async () => await rm(path, { recursive: true, force: true }) }
}

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: mirror\r\n\r\n`
}

test('I21 stop() closes idle connections and the listener at once, and lets a running transfer finish whole', async () => {
  await using upstream = await startUpstream()
  const bytes = randomBytes(SIZE)
  const digest = upstream.putBlob(bytes)
  const gate = createGate()
  upstream.on({ method: 'GET' }, { pause: { at: 300_000, until: gate.opened } })
  await using mirror = await startMirror({ upstream: upstream.host })
  const { client: address } = mirror.daemon.addresses
  using idle = await RawClient.connect(address)
  idle.send(get('/v2/'))
  await idle.until(({ statuses }) => statuses.length === 1)
  const transfer = await mirror.open(`/v2/team/app/blobs/${digest}`)
  const stopped = mirror.daemon.stop()
  assert.equal(await idle.ended(), 'fin')
  await assert.rejects(RawClient.connect(address), { code: 'ECONNREFUSED' })
  assert.equal(linesOf(mirror, 'stopped').length, 0)
  gate.open()
  const reply = await readReply(transfer)
  assert.equal(reply.isComplete, true)
  assert.deepEqual(reply.body, bytes)
  await stopped
  assert.deepEqual(
    linesOf(mirror, 'stopped').map(line => line['cutRequests']),
    [0],
  )
})

for (const workers of [1, 2]) {
  test(`I21 within the drain delay ${workers} threads serve new pulls on new connections while /readyz says 503`, async () => {
    await using upstream = await startUpstream()
    const digest = upstream.putBlob(randomBytes(SIZE))
    await using mirror = await startMirror({
      upstream: upstream.host,
      config: { workers, drainDelayMs: 600_000 },
    })
    const { client: address } = mirror.daemon.addresses
    const stopped = mirror.daemon.stop()
    await logged(mirror, 'told to stop: serving until load balancers have noticed')
    const ready = await mirror.get('/readyz')
    assert.deepEqual([ready.status, ready.body.toString()], [503, '{"status":"draining"}'])
    for (let count = 0; count < 8; count += 1) {
      using client = await RawClient.connect(address)
      client.send(get(`/v2/team/app/blobs/${digest}`).replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'))
      assert.equal(await client.ended(), 'fin')
      assert.deepEqual(client.statuses, [200])
    }
    mirror.daemon.stopNow()
    await stopped
    await assert.rejects(RawClient.connect(address), { code: 'ECONNREFUSED' })
  })
}

test('I21 after the drain delay the mirror drains and closes by itself', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host, config: { drainDelayMs: 1 } })
  await mirror.daemon.stop()
  assert.equal(linesOf(mirror, 'draining').length, 1)
  await assert.rejects(RawClient.connect(mirror.daemon.addresses.client), { code: 'ECONNREFUSED' })
})

for (const [path, status] of [
  ['/v2/', 503],
  ['/v2/team/app/manifests/v1', 503],
  ['/readyz', 503],
  ['/livez', 200],
] as const) {
  test(`I21 ${path} is answered ${status} while draining, behind the transfer that its connection finishes, and then the connection is closed`, async () => {
    await using upstream = await startUpstream()
    const digest = upstream.putBlob(randomBytes(SIZE))
    const gate = createGate()
    upstream.on({ method: 'GET' }, { pause: { at: 300_000, until: gate.opened } })
    await using mirror = await startMirror({ upstream: upstream.host })
    const { client: address } = mirror.daemon.addresses
    using client = await RawClient.connect(address)
    client.send(get(`/v2/team/app/blobs/${digest}`))
    await client.until(({ statuses }) => statuses.length === 1)
    const stopped = mirror.daemon.stop()
    client.send(get(path))
    gate.open()
    assert.equal(await client.ended(), 'fin')
    assert.deepEqual(client.statuses, [200, status])
    const second = client.received.slice(client.received.lastIndexOf('HTTP/1.1 '))
    assert.match(second, /^Connection: close\r$/im)
    if (status === 503) assert.match(second, /^Retry-After: [1-9]\d*\r$/im)
    await stopped
  })
}

test('I21 stopNow() cuts what still runs: nothing is cut short yet complete, and stop() resolves', async () => {
  await using upstream = await startUpstream()
  const digest = upstream.putBlob(randomBytes(SIZE))
  const gate = createGate()
  upstream.on({ method: 'GET' }, { pause: { at: 300_000, until: gate.opened } })
  await using mirror = await startMirror({ upstream: upstream.host })
  const transfer = await mirror.open(`/v2/team/app/blobs/${digest}`)
  const stopped = mirror.daemon.stop()
  mirror.daemon.stopNow()
  const reply = await readReply(transfer)
  assert.equal(reply.isComplete, false)
  await stopped
  assert.equal(linesOf(mirror, 'stopped')[0]?.['cutRequests'], 1)
})

test('I21 a transfer that outlives the drain limit is cut', async () => {
  await using upstream = await startUpstream()
  const digest = upstream.putBlob(randomBytes(SIZE))
  const gate = createGate()
  upstream.on({ method: 'GET' }, { pause: { at: 300_000, until: gate.opened } })
  await using mirror = await startMirror({ upstream: upstream.host, config: { drainMs: 50 } })
  const transfer = await mirror.open(`/v2/team/app/blobs/${digest}`)
  const stopped = mirror.daemon.stop()
  assert.equal((await readReply(transfer)).isComplete, false)
  await stopped
})

test('I12 after a restart with the upstream dead a warm image is served, and /v2/ answers 200', async () => {
  await using directory = await newDirectory()
  const { path: root } = directory
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [randomBytes(SIZE), 'small'] })
  upstream.tag('team/app', 'v1', image.manifest)
  const paths = [
    'manifests/v1',
    `manifests/${image.manifest}`,
    ...[image.config, ...image.layers].map(digest => `blobs/${digest}`),
  ].map(path => `/v2/team/app/${path}`)
  const entry = { manifestInvalidationMs: 0 }
  const bodies: Buffer[] = []
  {
    await using mirror = await startMirror({ upstream: upstream.host, entry, root })
    for (const path of paths) bodies.push((await mirror.get(path)).body)
    for (const digest of [image.config, ...image.layers]) await stored(mirror, digest)
  }
  await upstream.refuse()
  await using mirror = await startMirror({ upstream: upstream.host, entry, root })
  assert.equal((await mirror.get('/v2/')).status, 200)
  assert.equal((await mirror.get('/readyz')).status, 200)
  for (const [index, path] of paths.entries()) {
    const reply = await mirror.get(path)
    assert.equal(reply.status, 200, path)
    assert.equal(reply.isComplete, true)
    assert.deepEqual(reply.body, bodies[index])
  }
})

interface Reloading extends AsyncDisposable {
  readonly mirror: TestMirror
  readonly upstream: FakeUpstream
  /** Writes the file and waits until it has been read. */
  readonly write: (text: string) => Promise<void>
  readonly entry: (namespace: string) => string
  readonly statusOf: (namespace: string) => Promise<number>
}

async function startReloading(): Promise<Reloading> {
  const stack = new AsyncDisposableStack()
  const { path } = stack.use(await newDirectory())
  const upstream = stack.use(await startUpstream())
  upstream.tag('team/app', 'v1', upstream.putImage().manifest)
  const file = join(path, 'upstreams.yaml')
  const entry = (namespace: string): string =>
    `- {namespace: ${namespace}, host: "${upstream.host}", tls: false}\n`
  await writeFile(file, entry('docker.io'))
  const config = { upstreamConfigFile: file, namespaces: 'configured' } as const
  const mirror = stack.use(await startMirror({ upstream: upstream.host, config }))
  return {
    mirror,
    upstream,
    entry,
    write: async text => {
      await writeFile(file, text)
      await mirror.daemon.reload()
    },
    statusOf: async namespace => (await mirror.get(`/v2/team/app/manifests/v1?ns=${namespace}`)).status,
    [Symbol.asyncDispose]: async () => await stack.disposeAsync(),
  }
}

test('I22 a reload lets namespaces appear and disappear', async () => {
  await using scene = await startReloading()
  const { entry, write, statusOf } = scene
  assert.deepEqual([await statusOf('docker.io'), await statusOf('quay.io')], [200, 403])
  await write(entry('docker.io') + entry('quay.io'))
  assert.deepEqual([await statusOf('docker.io'), await statusOf('quay.io')], [200, 200])
  await write(entry('quay.io'))
  assert.deepEqual([await statusOf('docker.io'), await statusOf('quay.io')], [403, 200])
})

for (const [title, text] of [
  ['is not valid YAML', '- {namespace: quay.io, host: '],
  ['has an unknown key', '- {namespace: quay.io, host: quay.io, colour: blue}\n'],
  [
    'names a namespace twice',
    '- {namespace: quay.io, host: a.example}\n- {namespace: quay.io, host: b.example}\n',
  ],
  ['names a CA file that is not there', '- {namespace: quay.io, host: quay.io, ca_file: /nowhere/ca.pem}\n'],
] as const) {
  test(`I22 a file that ${title} changes nothing on reload and is logged; a good one after it is taken`, async () => {
    await using scene = await startReloading()
    const { entry, write, statusOf, mirror } = scene
    await write(entry('docker.io') + entry('ghcr.io'))
    await write(text)
    await logged(mirror, 'upstream file not reloaded, nothing changed')
    assert.deepEqual(
      [await statusOf('docker.io'), await statusOf('ghcr.io'), await statusOf('quay.io')],
      [200, 200, 403],
    )
    await write(entry('docker.io') + entry('quay.io'))
    assert.deepEqual([await statusOf('ghcr.io'), await statusOf('quay.io')], [403, 200])
  })
}

test('I22 a transfer that began before a reload goes on though its namespace is gone', async () => {
  await using scene = await startReloading()
  const { mirror, upstream, entry, write, statusOf } = scene
  const bytes = randomBytes(SIZE)
  const digest = upstream.putBlob(bytes)
  const gate = createGate()
  upstream.on({ method: 'GET', path: /blobs/ }, { pause: { at: 300_000, until: gate.opened } })
  const transfer = await mirror.open(`/v2/team/app/blobs/${digest}?ns=docker.io`)
  await write(entry('quay.io'))
  assert.equal(await statusOf('docker.io'), 403)
  gate.open()
  const reply = await readReply(transfer)
  assert.equal(reply.isComplete, true)
  assert.deepEqual(reply.body, bytes)
})

test('I22 a changed file is read without a signal', async () => {
  await using directory = await newDirectory()
  await using upstream = await startUpstream()
  upstream.tag('team/app', 'v1', upstream.putImage().manifest)
  const file = join(directory.path, 'upstreams.yaml')
  await writeFile(file, '[]\n')
  const config = { upstreamConfigFile: file, namespaces: 'configured' } as const
  await using mirror = await startMirror({ upstream: upstream.host, config })
  await writeFile(file, `- {namespace: quay.io, host: "${upstream.host}", tls: false}\n`)
  await until(
    async () => (await mirror.get('/v2/team/app/manifests/v1?ns=quay.io')).status === 200,
    'the file is read',
  )
})
