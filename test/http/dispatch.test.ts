import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { OPEN_ACCESS } from '../../src/access/access.ts'
import { Dispatch, type DispatchParts } from '../../src/http/dispatch.ts'
import { Answers } from '../../src/mirror/answers.ts'
import { Mirror } from '../../src/mirror/mirror.ts'
import type { Directory } from '../../src/mirror/sources.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { OciError, UpstreamError } from '../../src/oci/error.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import type { Store } from '../../src/storage/store.ts'
import type { BlobBody } from '../../src/upstream/registry.ts'
import { TERMS } from '../mirror/rig.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { blobBody, FakeRegistry, type RegistryScript } from '../support/fake-registry.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { RawClient } from '../support/raw-client.ts'
import { type SeenEvents, seeEvents } from '../support/seen-events.ts'
import { serve } from './rig.ts'

const bytes = Buffer.alloc(200_000, 'entrepot')
const digest = digestOf(bytes)
const config = { mediaType: 'application/json', digest, size: bytes.length }
const manifest = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [] }),
)
const manifestDigest = digestOf(manifest)
const serving: RegistryScript = {
  getBlob: ({ offset }) => blobBody(bytes, { offset }),
  headBlob: () => ({ sizeBytes: bytes.length }),
  headManifest: () => ({ digest: manifestDigest, mediaType: OCI_MANIFEST, sizeBytes: manifest.length }),
  getManifest: () => ({ bytes: manifest, contentType: OCI_MANIFEST, claimedDigest: manifestDigest }),
  listTags: () => ({ tags: ['1', '2'], next: { n: 2, last: '2' } }),
}

interface Rig {
  readonly address: string
  readonly seen: SeenEvents
  readonly registry: FakeRegistry
  readonly dispatch: Dispatch
  /** Sends the bytes and resolves when the server has closed the connection. */
  readonly ask: (request: string) => Promise<RawClient>
}

interface RigOptions extends Partial<DispatchParts> {
  readonly script?: RegistryScript
  readonly store?: Store
  readonly isDraining?: () => boolean
}

async function makeDispatch(t: TestContext, options: RigOptions = {}): Promise<Rig> {
  const { script = serving, store = new MemoryStore(), isDraining = () => false, ...parts } = options
  const seen = seeEvents()
  // The mirror asks by HEAD before it fetches.
  const registry = new FakeRegistry({ headBlob: () => ({ sizeBytes: bytes.length }), ...script })
  const mirror = new Mirror({
    store,
    events: seen.events,
    clock: FakeClock.skipDelays(2000),
    checkCacheDigest: false,
  })
  const terms = { ...TERMS, manifestInvalidationMs: 60_000, staleIfErrorMs: 1000 }
  const directory: Directory = {
    registries: { get: () => registry },
    defaultNamespace: DOCKER_HUB,
    terms: new Map(),
    defaultTerms: terms,
  }
  const dispatch = new Dispatch({
    answering: new Answers({ mirror, directory: () => directory }),
    events: seen.events,
    readiness: { isDraining, probeStore: async () => await store.probe() },
    names: () => directory,
    instance: 'entrepot-7f3a',
    access: OPEN_ACCESS,
    ...parts,
  })
  const { address } = await serve(t, async (request, response) => await dispatch.handle(request, response))
  t.after(async () => await mirror[Symbol.asyncDispose]())
  const ask = async (request: string): Promise<RawClient> => {
    const client = await RawClient.connect(address)
    t.after(() => client.socket.destroy())
    client.send(request)
    await client.ended()
    return client
  }
  return { address, seen, registry, dispatch, ask }
}

const get = (target: string, ...headers: readonly string[]): string =>
  [`GET ${target} HTTP/1.1`, 'Host: x', 'Connection: close', ...headers, '', ''].join('\r\n')

function codeOf(client: RawClient): unknown {
  return (JSON.parse(client.body.toString()) as { errors: { code: unknown }[] }).errors[0]?.code
}

test('a blob is a miss and then a hit, whole both times, with the headers of the specification', async t => {
  const { ask } = await makeDispatch(t)
  for (const status of ['entrepot; fwd=miss', 'entrepot; hit']) {
    const client = await ask(get(`/v2/a/blobs/${digest}?ns=ghcr.io`))
    assert.deepEqual(client.statuses, [200])
    assert.ok(client.body.equals(bytes))
    const headers = [
      'cache-status',
      'docker-content-digest',
      'content-length',
      'oci-namespace',
      'etag',
      'accept-ranges',
    ]
    assert.deepEqual(
      headers.map(name => client.header(name)),
      [status, digest, String(bytes.length), 'ghcr.io', `"${digest}"`, 'bytes'],
    )
    assert.equal(client.header('docker-distribution-api-version'), 'registry/2.0')
  }
})

for (const [range, status, start, end] of [
  ['bytes=150000-', 206, 150_000, 200_000],
  ['bytes=10-19', 206, 10, 20],
  ['bytes=-7', 206, 199_993, 200_000],
  ['bytes=5-6,0-1', 200, 0, 200_000],
  ['bytes=200000-', 416, 0, 0],
] as const) {
  test(`the range ${range} is answered ${status} by a blob that is cold and by one that is cached`, async t => {
    const { ask } = await makeDispatch(t)
    for (let round = 0; round < 2; round += 1) {
      const client = await ask(get(`/v2/a/blobs/${digest}`, `Range: ${range}`))
      assert.deepEqual(client.statuses, [status])
      if (status === 416) assert.equal(client.header('content-range'), 'bytes */200000')
      else assert.ok(client.body.equals(bytes.subarray(start, end)))
      if (status === 206) assert.equal(client.header('content-range'), `bytes ${start}-${end - 1}/200000`)
    }
  })
}

test('a range is honoured only if its condition matches our content', async t => {
  const { ask } = await makeDispatch(t)
  const same = await ask(get(`/v2/a/blobs/${digest}`, 'Range: bytes=1-', `If-Range: "${digest}"`))
  assert.deepEqual(same.statuses, [206])
  const other = await ask(get(`/v2/a/blobs/${digest}`, 'Range: bytes=1-', 'If-Range: "other"'))
  assert.deepEqual(other.statuses, [200])
})

test('a manifest has its exact type, and is 304 to a client that has it', async t => {
  const { ask } = await makeDispatch(t)
  for (const reference of ['latest', manifestDigest]) {
    const client = await ask(get(`/v2/a/manifests/${reference}`))
    assert.ok(client.body.equals(manifest))
    assert.deepEqual(
      [client.header('content-type'), client.header('docker-content-digest')],
      [OCI_MANIFEST, manifestDigest],
    )
    const head = await ask(get(`/v2/a/manifests/${reference}`).replace('GET', 'HEAD'))
    assert.deepEqual([head.header('content-length'), head.body.length], [String(manifest.length), 0])
    const known = await ask(get(`/v2/a/manifests/${reference}`, `If-None-Match: W/"x", "${manifestDigest}"`))
    assert.deepEqual([known.statuses, known.body.length], [[304], 0])
  }
})

test('the link to the next page of tags points to this mirror, by the path the client used', async t => {
  const { ask } = await makeDispatch(t)
  const byNs = await ask(get('/v2/a/tags/list?n=2&ns=ghcr.io'))
  assert.equal(byNs.header('link'), '</v2/a/tags/list?n=2&last=2&ns=ghcr.io>; rel="next"')
  assert.deepEqual(JSON.parse(byNs.body.toString()), { name: 'a', tags: ['1', '2'] })
  const byPrefix = await ask(get('/ghcr.io/v2/b/tags/list?n=2'))
  assert.equal(byPrefix.header('link'), '</ghcr.io/v2/b/tags/list?n=2&last=2>; rel="next"')
})

const PLAIN: readonly (readonly [string, number])[] = [
  ['/v2/', 200],
  ['/', 200],
  ['/livez', 200],
  ['/readyz', 200],
  ['/v1/_ping', 404],
  ['/v2/a/manifests/%2e', 400],
  [`/v2/?x=${'a'.repeat(8192)}`, 414],
]
for (const [target, status] of PLAIN) {
  test(`GET ${target.slice(0, 30)} is ${status} and asks no upstream`, async t => {
    const { ask, registry } = await makeDispatch(t)
    assert.deepEqual((await ask(get(target))).statuses, [status])
    assert.deepEqual(registry.asked, [])
  })
}

test('a push is 405 and lists the allowed methods', async t => {
  const { ask } = await makeDispatch(t)
  const client = await ask('POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n')
  assert.deepEqual(
    [client.statuses, client.header('allow'), codeOf(client)],
    [[405], 'GET, HEAD', 'UNSUPPORTED'],
  )
})

/** Header lines besides the Host, and the status of the answer. No request asks to close the connection. */
const ADMISSION: readonly (readonly [string, readonly string[], number])[] = [
  ['two Hosts', ['Host: y'], 400],
  ['two Authorizations', ['Authorization: a', 'Authorization: b'], 400],
  ['two Ranges', ['Range: bytes=0-', 'Range: bytes=1-'], 400],
  ['a transfer coding that is not chunked', ['Transfer-Encoding: gzip, chunked'], 400],
  ['a body on a GET', ['Content-Length: 1'], 400],
  ['a chunked body on a GET', ['Transfer-Encoding: chunked'], 400],
  ['101 header fields', Array.from({ length: 100 }, (_, index) => `X-${index}: 1`), 431],
  ['our own name in CDN-Loop', ['CDN-Loop: other, entrepot-7f3a; v=1'], 508],
  ['our own name in Via', ['Via: 1.1 other, 1.1 entrepot-7f3a'], 508],
]
for (const [what, headers, status] of ADMISSION) {
  test(`a request with ${what} is ${status}, and its connection closed`, async t => {
    const { ask } = await makeDispatch(t)
    const client = await ask(['GET /v2/ HTTP/1.1', 'Host: x', ...headers, '', ''].join('\r\n'))
    assert.equal(client.statuses[0], status)
    assert.equal(client.statuses.length, 1)
  })
}

for (const [what, headers] of [
  ['100 header fields', Array.from({ length: 98 }, (_, index) => `X-${index}: 1`)],
  ['a length of zero on a GET', ['Content-Length: 0']],
  ["another mirror's name in CDN-Loop", ['CDN-Loop: entrepot-0000']],
] as const) {
  test(`a request with ${what} is admitted`, async t => {
    const { ask } = await makeDispatch(t)
    assert.deepEqual((await ask(get('/v2/', ...headers))).statuses, [200])
  })
}

test('16 KiB of header fields are admitted, and one byte more is 431', async t => {
  const { ask } = await makeDispatch(t)
  const others = 'Host'.length + 'x'.length + 'Connection'.length + 'close'.length + 'X'.length
  for (const [count, status] of [
    [-1, 200],
    [0, 200],
    [1, 431],
  ] as const) {
    const client = await ask(get('/v2/', `X: ${'a'.repeat(16 * 1024 - others + count)}`))
    assert.deepEqual(client.statuses, [status])
  }
})

test('an upstream that does not answer in time is 504, and a late answer is disposed of', async t => {
  const { promise: late, resolve: answerLate } = Promise.withResolvers<BlobBody>()
  const { promise: disposed, resolve: dispose } = Promise.withResolvers<void>()
  const store = new MemoryStore()
  store.createSpool = async () => await Promise.reject(new Error('no space left on device'))
  const { ask } = await makeDispatch(t, {
    script: { getBlob: async () => await late },
    store,
    firstHeaderMs: 50,
  })
  const client = await ask(get(`/v2/a/blobs/${digest}`))
  assert.deepEqual(
    [client.statuses, client.header('retry-after'), codeOf(client)],
    [[504], '5', 'UNAVAILABLE'],
  )
  answerLate(blobBody(bytes, { onDispose: dispose }))
  await disposed
})

const FAILURES: readonly (readonly [unknown, number, string, string | undefined])[] = [
  [new UpstreamError('connect', 'down'), 502, 'UNAVAILABLE', '5'],
  [new UpstreamError('rate-limited', 'slow', { retryAfterMs: 61_500 }), 503, 'TOOMANYREQUESTS', '62'],
  [new UpstreamError('refused', 'no', { status: 401 }), 403, 'DENIED', undefined],
  [new OciError('DENIED', 'allow it in the upstream file'), 403, 'DENIED', undefined],
  [undefined, 404, 'BLOB_UNKNOWN', undefined],
  [new TypeError('inner /secret/path'), 500, 'UNKNOWN', undefined],
]
for (const [error, status, code, retryAfter] of FAILURES) {
  test(`${String(error)} of the upstream is ${status} ${code} to the client, without a challenge`, async t => {
    const script: RegistryScript = {
      getBlob: () => {
        if (error !== undefined) throw error
        return undefined
      },
    }
    const { ask, seen } = await makeDispatch(t, { script })
    const client = await ask(get(`/v2/a/blobs/${digest}`))
    assert.deepEqual(
      [client.statuses, codeOf(client), client.header('retry-after')],
      [[status], code, retryAfter],
    )
    assert.equal(client.header('www-authenticate'), undefined)
    assert.ok(!client.received.includes('/secret/path'))
    assert.equal(seen.of('request')[0]?.['status'], status)
  })
}

test('while draining a request is 503 with Connection: close, readiness is off and liveness on', async t => {
  const { address } = await makeDispatch(t, { isDraining: () => true })
  for (const [target, status] of [
    ['/v2/', 503],
    ['/readyz', 503],
    ['/livez', 200],
  ] as const) {
    using client = await RawClient.connect(address)
    client.send(`GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await client.ended()
    assert.deepEqual([client.statuses, client.header('connection')?.toLowerCase()], [[status], 'close'])
  }
})

test('with a store that cannot be written, readiness stays on and reports it', async t => {
  const store = new MemoryStore()
  store.probe = async () => await Promise.reject(new Error('EROFS'))
  const client = await (await makeDispatch(t, { store })).ask(get('/readyz'))
  assert.deepEqual(client.statuses, [200])
  assert.match(client.body.toString(), /degraded/)
})

test('the access log has one line per request, with the target, the client, and the bytes sent', async t => {
  const { ask, seen } = await makeDispatch(t)
  await ask(get(`/v2/a/blobs/${digest}?ns=ghcr.io`, 'User-Agent: containerd/1.6.20'))
  const [line] = seen.of('request')
  assert.ok(line !== undefined)
  const { durationMs, id, ...rest } = line
  assert.equal(typeof durationMs, 'number')
  assert.match(String(id), /^[0-9a-z]{10}$/)
  assert.deepEqual(JSON.parse(JSON.stringify(rest)), {
    method: 'GET',
    resource: 'blob',
    status: 200,
    outcome: 'miss',
    namespace: 'ghcr.io',
    repository: 'a',
    reference: digest,
    client: '127.0.0.1',
    identity: 'anonymous',
    userAgent: 'containerd/1.6.20',
    sentBytes: bytes.length,
  })
})

test('a blob that fails midway is broken off, logged with its error, and no longer counted as running', async t => {
  const other = Buffer.alloc(bytes.length, 'x')
  const { ask, seen, dispatch } = await makeDispatch(t, { script: { getBlob: () => blobBody(other) } })
  const client = await ask(get(`/v2/a/blobs/${digest}`))
  assert.deepEqual(client.statuses, [200])
  assert.ok(client.body.length <= bytes.length - 64 * 1024)
  const [line] = seen.of('request')
  assert.ok(line?.['err'] instanceof UpstreamError)
  assert.equal(line['isAborted'], true)
  assert.equal(dispatch.running, 0)
})

test('a client that leaves is not logged as an error', async t => {
  const { promise: gone, resolve: go } = Promise.withResolvers<void>()
  const { address, seen, dispatch } = await makeDispatch(t, {
    script: { getBlob: () => blobBody(bytes, { gate: gone }) },
  })
  using client = await RawClient.connect(address)
  client.send(get(`/v2/a/blobs/${digest}`))
  await client.until(({ statuses }) => statuses.length === 1)
  client.socket.destroy()
  while (dispatch.running > 0) await new Promise(resolve => setImmediate(resolve))
  go()
  const [line] = seen.of('request')
  assert.deepEqual([line?.['isAborted'], line?.['err']], [true, undefined])
})

test('the log has an unknown method as other, and cuts a long user agent', async t => {
  const { ask, seen } = await makeDispatch(t)
  await ask(get('/v2/', `User-Agent: ${'u'.repeat(1000)}`).replace('GET', 'PROPFIND'))
  const [line] = seen.of('request')
  assert.equal(line?.['method'], 'other')
  assert.ok(String(line['userAgent']).length < 300)
})
