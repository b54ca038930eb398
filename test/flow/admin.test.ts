import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { Secret } from '../../src/config/secret.ts'
import { startMirror, upstreamEntry } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'
import { errorCodes, linesOf, logged, stored } from '../support/waiting.ts'

test('the admin listener has the metrics, and the client listener does not', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host })
  await mirror.get('/v2/')
  await logged(mirror, 'request')
  const metrics = await mirror.admin('GET', '/metrics')
  assert.equal(metrics.status, 200)
  assert.match(
    metrics.body.toString(),
    /entrepot_requests_total\{[^}]*resource="base"[^}]*status="200"[^}]*\} 1/,
  )
  assert.equal((await mirror.get('/metrics')).status, 404)
  assert.equal((await mirror.admin('GET', '/v2/')).status, 405)
})

test('DELETE of a tag, a manifest and a blob on the admin listener makes the next pull ask the upstream again', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: [randomBytes(400_000)] })
  const [layer = image.config] = image.layers
  upstream.tag('team/app', 'v1', image.manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  const paths = ['manifests/v1', `manifests/${image.manifest}`, `blobs/${layer}`, `blobs/${image.config}`]
  for (const path of paths) await mirror.get(`/v2/team/app/${path}`)
  await stored(mirror, layer)
  await stored(mirror, image.config)
  for (const path of paths) {
    assert.equal((await mirror.get(`/v2/team/app/${path}`)).status, 200)
    assert.equal((await mirror.admin('DELETE', `/_admin/team/app/${path}`)).status, 202, path)
    assert.equal((await mirror.admin('DELETE', `/_admin/team/app/${path}`)).status, 404, path)
    const before = upstream.requests.length
    assert.equal((await mirror.get(`/v2/team/app/${path}`)).status, 200, path)
    assert.ok(upstream.requests.length > before, `${path} is asked of the upstream again`)
  }
  assert.equal(upstream.count({ method: 'GET', path: `/v2/team/app/blobs/${layer}` }), 2)
})

test('DELETE on the admin listener names its namespace as clients do, and forgets nothing of another', async () => {
  await using upstream = await startUpstream()
  const { manifest } = upstream.putImage()
  upstream.tag('team/app', 'v1', manifest)
  const others = [upstreamEntry('other.example.com', upstream.host)]
  await using mirror = await startMirror({ upstream: upstream.host, others })
  await mirror.get('/v2/team/app/manifests/v1')
  await mirror.get('/v2/team/app/manifests/v1?ns=other.example.com')
  const gone = await mirror.admin('DELETE', '/_admin/team/app/manifests/v1?ns=other.example.com')
  assert.equal(gone.status, 202)
  const before = upstream.requests.length
  assert.equal((await mirror.get('/v2/team/app/manifests/v1')).headers['cache-status'], 'entrepot; hit')
  assert.equal(upstream.requests.length, before)
  const odd = await mirror.admin('DELETE', '/_admin/team/app/tags/list')
  assert.equal(odd.status, 400)
  assert.deepEqual(errorCodes(odd), ['REQUEST_INVALID'])
})

test('a cursor that no page gave is refused, and every page leads to the next', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: ['one', 'two'] })
  for (const tag of ['v1', 'v2']) upstream.tag('team/app', tag, image.manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  for (const path of ['manifests/v1', 'manifests/v2', `blobs/${image.config}`])
    await mirror.get(`/v2/team/app/${path}`)
  await stored(mirror, image.config)
  for (const list of ['blobs', 'images']) {
    const odd = await mirror.admin('GET', `/_admin/v1/${list}?after=x`)
    assert.equal(odd.status, 400, list)
    assert.match(odd.body.toString(), /after \\"x\\" is not/)
    let pages = 0
    for (let query: string | undefined = 'limit=1'; query !== undefined; pages += 1) {
      const page = await mirror.admin('GET', `/_admin/v1/${list}?${query}`)
      assert.equal(page.status, 200, query)
      const { next } = JSON.parse(page.body.toString()) as { readonly next?: string }
      query = next === undefined ? undefined : `limit=1&after=${encodeURIComponent(next)}`
    }
    assert.ok(pages >= 2, `${list} has ${pages} pages`)
  }
})

test('each request is one access log line that says who asked for what and what came of it', async () => {
  await using upstream = await startUpstream()
  const { manifest, config } = upstream.putImage({ config: { os: 'linux', text: 'x'.repeat(5000) } })
  upstream.tag('team/app', 'v1', manifest)
  const size = upstream.blobs.get(config)?.byteLength ?? 0
  await using mirror = await startMirror({ upstream: upstream.host })
  await mirror.head('/v2/team/app/manifests/v1', { 'user-agent': 'docker/27.0' })
  await mirror.get(`/v2/team/app/blobs/${config}?ns=docker.io`, { range: 'bytes=10-' })
  await mirror.get('/v2/team/app/manifests/none')
  await mirror.get('/v2/')
  await logged(mirror, 'request', 4)
  const common = {
    level: 'info',
    client: '127.0.0.1',
    identity: 'anonymous',
    namespace: 'docker.io',
    repository: 'team/app',
  }
  const expected = [
    {
      ...common,
      method: 'HEAD',
      resource: 'manifest',
      status: 200,
      outcome: 'miss',
      reference: 'v1',
      sentBytes: 0,
      userAgent: 'docker/27.0',
    },
    {
      ...common,
      method: 'GET',
      resource: 'blob',
      status: 206,
      outcome: 'miss',
      reference: config,
      sentBytes: size - 10,
    },
    { ...common, method: 'GET', resource: 'manifest', status: 404, reference: 'none', sentBytes: 0 },
    {
      level: 'info',
      client: '127.0.0.1',
      identity: 'anonymous',
      method: 'GET',
      resource: 'base',
      status: 200,
      sentBytes: 2,
    },
  ]
  const lines = linesOf(mirror, 'request')
  assert.equal(lines.length, 4)
  for (const [index, fields] of expected.entries()) {
    const { time, msg: _, durationMs, err: _refusal, id, ...line } = lines[index] ?? {}
    assert.deepEqual(line, fields)
    assert.match(String(time), /^\d{4}-\d\d-\d\dT/)
    assert.equal(typeof durationMs, 'number')
    assert.match(String(id), /^[0-9a-z]{10}$/)
  }
})

test('I13 the password of an upstream, its tokens and what a client sends as Authorization are in no log line, metric or answer', async () => {
  const password = 'canary-password-4711'
  const fromClient = 'canary-of-the-client'
  await using upstream = await startUpstream({ auth: { kind: 'bearer', username: 'robot', password } })
  const image = upstream.putImage({ layers: ['layer'] })
  upstream.tag('team/app', 'v1', image.manifest)
  const credentials = { kind: 'password', username: 'robot', password: new Secret(password) } as const
  await using mirror = await startMirror({ upstream: upstream.host, entry: { credentials } })
  const authorization = `Basic ${Buffer.from(fromClient).toString('base64')}`
  const answers = [
    await mirror.get('/v2/team/app/manifests/v1', { authorization, cookie: fromClient }),
    await mirror.get(`/v2/team/app/blobs/${image.config}`, { authorization }),
    await mirror.get('/v2/team/app/manifests/none', { authorization }),
    await mirror.admin('GET', '/metrics'),
  ]
  assert.equal(answers[0]?.status, 200)
  const tokens = upstream.requests.map(request => request.headers['authorization'] ?? '')
  assert.ok(tokens.some(token => token.startsWith('Bearer ')))
  const sent = upstream.requests.flatMap(request => request.rawHeaders.map(([, value]) => value))
  assert.ok(!sent.some(value => value === authorization || value.includes(fromClient)))
  const secrets = [password, fromClient, authorization.slice(6), ...tokens.map(token => token.split(' ')[1])]
  const sinks = [
    JSON.stringify(mirror.log),
    ...answers.map(reply => `${JSON.stringify(reply.headers)}${reply.body.toString()}`),
  ]
  for (const secret of secrets.filter(text => text !== undefined && text !== '')) {
    for (const sink of sinks) assert.ok(!sink.includes(secret ?? ''), `a secret leaked: ${secret}`)
  }
})
