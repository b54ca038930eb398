import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { NO_SECTIONS, type NotificationConfig } from '../../src/config/config.ts'
import { Secret } from '../../src/config/secret.ts'
import { NOTICE_TYPES } from '../../src/oci/notice-type.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { until } from '../support/waiting.ts'

interface Listener extends AsyncDisposable {
  readonly endpoint: NotificationConfig
  readonly events: Record<string, unknown>[]
  status: number
}

async function listen(overrides: Partial<NotificationConfig> = {}): Promise<Listener> {
  const events: Record<string, unknown>[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (piece: Buffer) => {
      body += piece.toString()
    })
    request.on('end', () => {
      if (listener.status < 300) events.push(JSON.parse(body) as Record<string, unknown>)
      response.writeHead(listener.status).end()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const listener: Listener = {
    endpoint: {
      name: 'ci',
      url: new Secret(`http://127.0.0.1:${port}/hook`),
      format: 'cloudevents',
      secretFile: undefined,
      types: NOTICE_TYPES,
      names: undefined,
      caFile: undefined,
      allowAddresses: [],
      timeoutMs: 10_000,
      ...overrides,
    },
    events,
    status: 204,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return listener
}

/** Pulls a tag under one manifest, then under another one. */
async function moveTag(upstream: FakeUpstream, mirror: TestMirror): Promise<{ old: string; young: string }> {
  const old = upstream.putImage({ layers: [Buffer.alloc(10, 1)] }).manifest
  upstream.tag('library/a', 'latest', old)
  await mirror.get('/v2/library/a/manifests/latest')
  const young = upstream.putImage({ layers: [Buffer.alloc(10, 2)] }).manifest
  upstream.tag('library/a', 'latest', young)
  await mirror.get('/v2/library/a/manifests/latest', { 'Cache-Control': 'no-cache' })
  return { old, young }
}

test('an endpoint is told of a tag that the upstream has moved, with both digests', async () => {
  await using listener = await listen()
  await using upstream = await startUpstream()
  await using mirror = await startMirror({
    upstream: upstream.host,
    config: { sections: { ...NO_SECTIONS, notifications: [listener.endpoint] } },
  })
  const { old, young } = await moveTag(upstream, mirror)
  await until(() => listener.events.length === 1, 'the endpoint is told')
  const [event] = listener.events
  assert.equal(event?.['type'], 'entrepot.upstream.tag.moved')
  assert.equal(event['subject'], 'docker.io/library/a')
  assert.partialDeepStrictEqual(event['data'], { tag: 'latest', digest: young, before: old, by: 'upstream' })
  const listed = await mirror.admin('GET', '/_admin/v1/events')
  assert.partialDeepStrictEqual(JSON.parse(listed.body.toString()), {
    events: [{ id: event['id'], deliveries: [{ endpoint: 'ci', state: 'delivered', attempts: 1 }] }],
    endpoints: [{ endpoint: 'ci', pending: 0, isDisabled: false }],
  })
})

test('what an endpoint missed while it was down is delivered after a restart, and again when it is replayed', async () => {
  await using listener = await listen()
  await using upstream = await startUpstream()
  const root = await mkdtemp(join(tmpdir(), 'entrepot-events-'))
  try {
    listener.status = 503
    const config = { sections: { ...NO_SECTIONS, notifications: [listener.endpoint] } }
    {
      await using mirror = await startMirror({ upstream: upstream.host, config, root })
      await moveTag(upstream, mirror)
    }
    assert.equal((await stat(join(root, 'events.sqlite'))).mode & 0o777, 0o600)
    listener.status = 200
    await using mirror = await startMirror({ upstream: upstream.host, config, root })
    await until(() => listener.events.length === 1, 'the endpoint is told')
    const replayed = await mirror.admin('POST', '/_admin/v1/events?endpoint=ci')
    assert.deepEqual(JSON.parse(replayed.body.toString()), { deliveries: 1 })
    await until(() => listener.events.length === 2, 'the endpoint is told again')
    assert.deepEqual(listener.events[1], listener.events[0])
    assert.equal((await mirror.admin('POST', '/_admin/v1/events?endpoint=other')).status, 400)
    assert.equal((await mirror.admin('POST', '/_admin/v1/events?since=yesterday')).status, 400)
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})

test('a pull does not wait for an endpoint that never answers, and a shutdown neither', async () => {
  await using silent = await listen()
  const server = createServer(() => undefined).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await using upstream = await startUpstream()
  const endpoint = { ...silent.endpoint, url: new Secret(`http://127.0.0.1:${port}/`), timeoutMs: 3_600_000 }
  {
    await using mirror = await startMirror({
      upstream: upstream.host,
      config: { sections: { ...NO_SECTIONS, notifications: [endpoint] } },
    })
    const asked = once(server, 'request')
    await moveTag(upstream, mirror)
    await asked
    assert.equal((await mirror.get('/v2/library/a/manifests/latest')).status, 200)
  }
  server.closeAllConnections()
  server.close()
})

test('a secret that is too short refuses the start', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-events-'))
  try {
    const secretFile = join(directory, 'secret')
    await writeFile(secretFile, 'short')
    await using listener = await listen({ secretFile })
    await using upstream = await startUpstream()
    const start = startMirror({
      upstream: upstream.host,
      config: { sections: { ...NO_SECTIONS, notifications: [listener.endpoint] } },
    })
    await assert.rejects(start, /the secret of the endpoint ci has fewer than 24 bytes/)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})
