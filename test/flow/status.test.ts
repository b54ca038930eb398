import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { DaemonReport } from '../../src/admin/contract.ts'
import { Secret } from '../../src/config/secret.ts'
import { type Ran, runCommandLine } from '../cli/rig.ts'
import { startMirror, type TestMirror, upstreamEntry } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'
import { createGate } from '../support/upstream-behaviour.ts'
import { spoolFiles, stored, until } from '../support/waiting.ts'

async function statusOf(mirror: TestMirror): Promise<DaemonReport> {
  const reply = await mirror.admin('GET', '/_admin/v1/status')
  assert.equal(reply.status, 200, reply.body.toString())
  return JSON.parse(reply.body.toString()) as DaemonReport
}

async function entrepot(mirror: TestMirror, ...argv: readonly string[]): Promise<Ran> {
  const env = { ENTREPOT_ADMIN: `http://${mirror.daemon.addresses.admin}` }
  return await runCommandLine(argv, { env })
}

test('status of a healthy mirror has its registries with budgets, what it saved, and content that two share in both', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [randomBytes(20_000)] })
  upstream.tag('team/app', 'v1', image.manifest)
  const headers = { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '57;w=21600' }
  upstream.on({ path: /manifests/ }, { headers })
  const others = [upstreamEntry('other.example', upstream.host)]
  await using mirror = await startMirror({ upstream: upstream.host, others })
  for (const ns of ['docker.io', 'other.example', 'docker.io']) {
    assert.equal((await mirror.get(`/v2/team/app/manifests/v1?ns=${ns}`)).status, 200)
    for (const digest of [image.config, ...image.layers])
      await mirror.get(`/v2/team/app/blobs/${digest}?ns=${ns}`)
  }
  for (const digest of image.layers) await stored(mirror, digest)
  const report = await statusOf(mirror)
  assert.deepEqual(report.degraded, [])
  assert.equal(report.traffic.requests, 9)
  assert.ok(report.traffic.hits >= 3, `${report.traffic.hits} hits`)
  assert.ok(report.traffic.savedBytes >= 20_000)
  const [docker, other] = report.registries
  assert.equal(docker?.state, 'reachable')
  assert.equal(docker?.budget?.remaining, 57)
  assert.equal(docker?.budget?.limit, 100)
  assert.ok(Date.parse(docker?.budget?.resetsAt ?? '') > Date.now())
  assert.equal(other?.registry, 'other.example')
  assert.ok(docker !== undefined && docker.cachedBytes > 20_000)
  assert.deepEqual(
    [other?.cachedBytes, other?.sharedBytes, docker.sharedBytes],
    [docker.cachedBytes, docker.cachedBytes, docker.cachedBytes],
  )
  const { stdout } = await entrepot(mirror, 'status')
  assert.match(stdout, /\nhealth +healthy\n/)
  assert.match(
    stdout,
    /\ntraffic +9 requests, \d+ % from the cache; \S+ KiB sent, \S+ KiB fetched, \S+ KiB saved\n/,
  )
  assert.match(stdout, /\ndocker\.io +reachable +\S+ KiB +\S+ KiB +57 of 100, reset within [56] h/)
})

test('manifests that a registry sent count as fetched, so that a first pull has saved nothing', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [randomBytes(2000)] })
  upstream.tag('team/app', 'v1', image.manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  await mirror.get('/v2/team/app/manifests/v1?ns=docker.io')
  for (const digest of [image.config, ...image.layers])
    await mirror.get(`/v2/team/app/blobs/${digest}?ns=docker.io`)
  for (const digest of image.layers) await stored(mirror, digest)
  const { traffic } = await statusOf(mirror)
  assert.ok(traffic.sentBytes > 2000)
  assert.deepEqual([traffic.receivedBytes, traffic.savedBytes], [traffic.sentBytes, 0])
})

test('status says that a registry cannot be reached, and is healthy again once it answers', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [] })
  upstream.tag('team/app', 'v1', image.manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  await upstream.refuse()
  assert.equal((await mirror.get('/v2/team/app/manifests/v1')).status, 502)
  const { degraded, registries } = await statusOf(mirror)
  assert.match(degraded.join(), /^docker\.io (?:cannot be reached|is not asked for now): 127\.0\.0\.1:\d+ /)
  assert.match(registries[0]?.state ?? '', /^(?:unreachable|paused)$/)
  assert.match((await entrepot(mirror, 'status')).stdout, /\nhealth +degraded\n {2}docker\.io /)
})

for (const kind of ['basic', 'bearer'] as const)
  test(`status says that a registry which asks for ${kind} refuses the password, until it takes it`, async () => {
    await using upstream = await startUpstream({ auth: { kind, username: 'robot', password: 'right' } })
    upstream.tag('team/app', 'v1', upstream.putImage({}).manifest)
    const credentials = { kind: 'password', username: 'robot', password: new Secret('wrong') } as const
    await using mirror = await startMirror({ upstream: upstream.host, entry: { credentials } })
    const refused = await mirror.get('/v2/team/app/manifests/v1')
    assert.equal(refused.status, 403)
    assert.match(refused.body.toString(), /refuses the user name and password of this mirror/)
    const { degraded, registries } = await statusOf(mirror)
    assert.match(degraded.join(), /^docker\.io cannot be pulled from: .+ refuses the user name and password/)
    assert.equal(registries[0]?.state, 'refused')
    assert.match((await entrepot(mirror, 'status')).stdout, /\ndocker\.io +refused /)
    upstream.on({ path: /manifests/ }, { status: 404 })
    assert.equal((await mirror.get('/v2/team/other/manifests/v1')).status, 404)
    assert.deepEqual((await statusOf(mirror)).degraded, [])
  })

test('a registry that refuses anonymous pulls is told apart from one that refuses a password', async () => {
  await using upstream = await startUpstream({
    auth: { kind: 'basic', username: 'robot', password: 'right' },
  })
  await using mirror = await startMirror({ upstream: upstream.host })
  const { body } = await mirror.get('/v2/team/app/manifests/v1')
  assert.match(body.toString(), /refuses anonymous access with 401/)
  assert.deepEqual((await statusOf(mirror)).degraded, [])
})

test('status says that a reload was refused and why, until one succeeds', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-status-'))
  t.after(async () => await rm(directory, { recursive: true }))
  const file = join(directory, 'upstreams.yaml')
  await writeFile(file, '- namespace: ghcr.io\n  host: ghcr.io\n')
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host, config: { upstreamConfigFile: file } })
  assert.equal((await statusOf(mirror)).lastReload, undefined)
  await writeFile(file, '- namespace: ghcr.io\n  host: ghcr.io\n  tsl: true\n')
  await mirror.daemon.reload()
  const refused = await statusOf(mirror)
  assert.match(refused.degraded.join(), /the last reload of the upstream file was refused, .*tsl/)
  await writeFile(file, '- namespace: ghcr.io\n  host: ghcr.io\n')
  await mirror.daemon.reload()
  const good = await statusOf(mirror)
  assert.deepEqual(good.degraded, [])
  assert.equal(good.lastReload?.failure, undefined)
})

test('a running download shows its speed, and cancel ends it and keeps what has arrived', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [randomBytes(6_000_000)] })
  const [layer = image.config] = image.layers
  upstream.tag('team/app', 'v1', image.manifest)
  const gate = createGate()
  upstream.on({ path: `/v2/team/app/blobs/${layer}` }, { pause: { at: 3_000_000, until: gate.opened } })
  await using mirror = await startMirror({ upstream: upstream.host })
  await mirror.get('/v2/team/app/manifests/v1')
  const pulling = mirror.get(`/v2/team/app/blobs/${layer}`)
  await until(async () => {
    const { body } = await mirror.admin('GET', '/_admin/v1/flows')
    const { flows } = JSON.parse(body.toString()) as {
      readonly flows: readonly { readonly writtenBytes: number; readonly bytesPerSecond: number }[]
    }
    return flows.some(flow => flow.writtenBytes >= 2_900_000 && flow.bytesPerSecond > 0)
  }, 'half of it has arrived')
  assert.match(
    (await entrepot(mirror, 'status')).stdout,
    /\ndownloads 1\n {2}[0-9a-f]{12} {2}█+░+ {2}2\.\d+ MiB of 5\.72 MiB, \S+ \S+\/s, .* left {2}docker\.io\/team\/app, 1 waiting\n/,
  )
  const short = layer.slice(7, 19)
  const ran = await entrepot(mirror, 'cancel', short)
  assert.equal(ran.stdout, `cancelled 1 download of ${layer}\n`)
  assert.equal((await pulling).isComplete, false)
  assert.match((await entrepot(mirror, 'cancel', short)).stderr, /no download with this digest is running/)
  const leftover = layer.replace(':', '-')
  await until(async () => (await spoolFiles(mirror)).includes(leftover), 'the part that arrived is kept')
  gate.open()
  upstream.on({ path: `/v2/team/app/blobs/${layer}` }, {})
  assert.equal((await mirror.get(`/v2/team/app/blobs/${layer}`)).status, 200)
  const ranges = upstream.requests.map(request => request.headers['range']).filter(text => text !== undefined)
  assert.match(ranges.join(), /^bytes=(?:2\d{6}|3000000)-$/)
})

for (const workers of [1, 2]) {
  test(`who shows a client at once that has just pulled, with ${workers} threads`, async () => {
    await using upstream = await startUpstream()
    upstream.tag('team/app', 'v1', upstream.putImage({ layers: [] }).manifest)
    await using mirror = await startMirror({ upstream: upstream.host, config: { workers } })
    // Each agent makes a connection, and the kernel gives it to either thread.
    for (const number of Array.from({ length: 12 }, (_, index) => index)) {
      const headers = { 'user-agent': `agent-${number}`, connection: 'close' }
      await mirror.get('/v2/team/app/manifests/v1', headers)
      const { stdout } = await entrepot(mirror, 'who')
      assert.match(stdout, new RegExp(`^127\\.0\\.0\\.1 +now +1 +200 +docker\\.io +agent-${number}$`, 'm'))
    }
  })
}
