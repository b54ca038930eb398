import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { RegistriesOptions } from '../../src/upstream/registries.ts'
import type { BlobFrom, Registry } from '../../src/upstream/registry.ts'
import type { UpstreamOptions } from '../../src/upstream/upstream-options.ts'
import {
  must,
  namespace,
  openRegistries,
  repository,
  type TestRegistries,
  tagged,
  upstreamOptions,
} from '../support/registries.ts'
import { type FakeUpstream, startCanary, startUpstream } from '../support/upstream.ts'
import type { Behaviour, RequestFilter } from '../support/upstream-behaviour.ts'
import { createGate } from '../support/upstream-behaviour.ts'

const TOOLS = repository('library/tools')
const LAYER = Buffer.from(Array.from({ length: 300_000 }, (_, at) => (at * 7919) % 251))

interface Stage extends AsyncDisposable {
  readonly upstream: FakeUpstream
  readonly registry: Registry
  readonly opened: TestRegistries
  readonly layer: Digest
  readonly manifest: Digest
}

async function setStage(
  options: Partial<UpstreamOptions> = {},
  registriesOptions: Partial<RegistriesOptions> = {},
): Promise<Stage> {
  const upstream = await startUpstream()
  const image = upstream.putImage({ layers: [LAYER] })
  upstream.tag('library/tools', '1', image.manifest)
  const opened = openRegistries({ upstreams: [upstreamOptions(upstream, options)], ...registriesOptions })
  return {
    upstream,
    opened,
    registry: opened.registries.get(namespace('registry.example.test')),
    layer: must(image.layers[0]),
    manifest: image.manifest,
    async [Symbol.asyncDispose]() {
      await opened[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    },
  }
}

function soon(): AbortSignal {
  return AbortSignal.timeout(10_000)
}

async function readBlob(registry: Registry, digest: Digest, from: BlobFrom = { offset: 0 }): Promise<Buffer> {
  await using body = must(await registry.getBlob(TOOLS, digest, from, soon()))
  const pieces: Uint8Array[] = []
  for await (const piece of body.chunks) pieces.push(Buffer.from(piece))
  return Buffer.concat(pieces)
}

/** How a fault of a manifest request shows. */
const MANIFEST_FAULTS: readonly (readonly [string, Behaviour, string])[] = [
  ['answers 400', { status: 400 }, 'status'],
  ['answers 401 without a challenge', { status: 401 }, 'refused'],
  ['answers 403', { status: 403 }, 'refused'],
  ['answers 408', { status: 408 }, 'status'],
  ['answers 429', { status: 429 }, 'rate-limited'],
  ['answers 500', { status: 500 }, 'status'],
  ['answers 502', { status: 502 }, 'status'],
  ['answers 503', { status: 503 }, 'status'],
  ['answers 204', { status: 204 }, 'invalid'],
  ['answers 206 though no range was asked for', { status: 206 }, 'invalid'],
  ['answers 304 though no condition was asked for', { status: 304 }, 'invalid'],
  ['redirects to nowhere', { status: 302 }, 'invalid'],
  ['redirects to another scheme', { redirectTo: 'file:///etc/passwd' }, 'invalid'],
  ['redirects to itself', { redirectTo: '/v2/library/tools/manifests/1' }, 'invalid'],
  ['closes without an answer', { isSilent: true, ending: 'fin' }, 'cut'],
  ['resets without an answer', { isSilent: true, ending: 'rst' }, 'cut'],
  ['cuts the body by FIN', { cutAt: 100 }, 'cut'],
  ['cuts the body by RST', { cutAt: 100, ending: 'rst' }, 'cut'],
  ['announces more than it sends', { length: 100_000, ending: 'fin' }, 'cut'],
  ['announces more than 4 MiB', { length: 4 * 1024 * 1024 + 1, ending: 'stall' }, 'invalid'],
  [
    'sends more than 4 MiB without announcing it',
    { body: Buffer.alloc(4 * 1024 * 1024 + 1), length: 'chunked' },
    'invalid',
  ],
  ['sends brotli unasked', { headers: { 'content-encoding': 'br' } }, 'invalid'],
  [
    'sends gzip a thousand times over',
    { headers: { 'content-encoding': Array(100).fill('gzip').join(', ') } },
    'invalid',
  ],
  ['states two lengths', { headers: { 'content-length': ['479', '480'] } }, 'invalid'],
  ['states a length and chunks', { length: 'chunked', headers: { 'content-length': '479' } }, 'invalid'],
  ['states a length that is no number', { headers: { 'content-length': 'many' } }, 'invalid'],
  ['states a negative length', { headers: { 'content-length': '-1' } }, 'invalid'],
  ['sends 20 KB of headers', { headers: { 'x-padding': 'x'.repeat(20_000) } }, 'invalid'],
  ['speaks another protocol', { raw: 'SSH-2.0-OpenSSH_9.2\r\n' }, 'invalid'],
  ['sends bare line feeds', { raw: 'HTTP/1.1 200 OK\ncontent-length: 2\n\n{}' }, 'invalid'],
  ['sends a header with a space in its name', { raw: 'HTTP/1.1 200 OK\r\nconte nt: 1\r\n\r\n' }, 'invalid'],
  [
    'sends a chunk of no size',
    { raw: 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n' },
    'invalid',
  ],
  ['floods with interim answers', { preface: 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(1000) }, 'invalid'],
  ['switches protocols', { raw: 'HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n' }, 'invalid'],
]

for (const [what, behaviour, kind] of MANIFEST_FAULTS) {
  test(`an upstream that always ${what} is trouble of kind ${kind}`, async () => {
    await using stage = await setStage()
    stage.upstream.on({}, behaviour)
    await assert.rejects(stage.registry.getManifest(TOOLS, tagged('1'), soon()), {
      name: 'UpstreamError',
      kind,
    })
    assert.ok(stage.upstream.count() <= 7, `${stage.upstream.count()} requests`)
  })
}

const HIDDEN: readonly (readonly [string, Behaviour])[] = [
  ['answers 500', { status: 500 }],
  ['answers 502', { status: 502 }],
  ['answers 503', { status: 503 }],
  ['answers 504', { status: 504 }],
  ['closes without an answer', { isSilent: true, ending: 'fin' }],
  ['resets without an answer', { isSilent: true, ending: 'rst' }],
  ['cuts the body by FIN', { cutAt: 160 }],
  ['cuts the body by RST', { cutAt: 160, ending: 'rst' }],
  ['sends one interim answer', { preface: 'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n' }],
]

for (const [what, behaviour] of HIDDEN) {
  test(`an upstream that ${what} once still gives the manifest`, async () => {
    await using stage = await setStage()
    stage.upstream.on({}, behaviour, 1)
    const fetched = must(await stage.registry.getManifest(TOOLS, tagged('1'), soon()))
    assert.equal(digestOf(fetched.bytes), stage.manifest)
    assert.equal(fetched.claimedDigest, stage.manifest)
  })
}

test('an absent manifest is undefined by HEAD and GET, asked once for both, and again when it must be fresh', async () => {
  await using stage = await setStage()
  const { registry, upstream } = stage
  assert.equal(await registry.headManifest(TOOLS, tagged('2'), soon()), undefined)
  assert.equal(await registry.getManifest(TOOLS, tagged('2'), soon()), undefined)
  assert.equal(upstream.count(), 1)
  assert.equal(await registry.headManifest(TOOLS, tagged('2'), soon(), { isFresh: true }), undefined)
  assert.equal(upstream.count(), 2)
  upstream.tag('library/tools', '2', stage.manifest)
  const head = await registry.headManifest(TOOLS, tagged('2'), soon(), { isFresh: true })
  assert.equal(head?.digest, stage.manifest)
  assert.notEqual(await registry.getManifest(TOOLS, tagged('2'), soon()), undefined)
})

test('a refusal is remembered, so that the next request does not go out', async () => {
  await using stage = await setStage()
  stage.upstream.on({}, { status: 403 })
  for (let count = 0; count < 3; count += 1) {
    await assert.rejects(stage.registry.getManifest(TOOLS, tagged('1'), soon()), { kind: 'refused' })
  }
  assert.equal(stage.upstream.count(), 1)
})

test('HEAD is asked by HEAD, and what is missing or malformed in its answer is undefined', async () => {
  await using stage = await setStage()
  const { upstream, registry } = stage
  const whole = must(await registry.headManifest(TOOLS, tagged('1'), soon()))
  assert.equal(whole.digest, stage.manifest)
  assert.equal(whole.sizeBytes, stage.upstream.manifests.get(stage.manifest)?.bytes.byteLength)
  upstream.on({}, { headers: { 'docker-content-digest': 'sha256:xyz', 'content-type': undefined } }, 1)
  const partial = must(await registry.headManifest(TOOLS, tagged('1'), soon()))
  assert.deepEqual([partial.digest, partial.mediaType], [undefined, undefined])
  upstream.on({}, { headers: { 'docker-content-digest': [stage.manifest, stage.layer] } }, 1)
  assert.equal((await registry.headManifest(TOOLS, tagged('1'), soon()))?.digest, undefined)
  upstream.on({}, { status: 405 }, 1)
  assert.deepEqual(await registry.headManifest(TOOLS, tagged('1'), soon()), {
    digest: undefined,
    mediaType: undefined,
    sizeBytes: undefined,
  })
  assert.equal(upstream.count({ method: 'HEAD' }), upstream.count())
})

test('a body that is sent for HEAD is not taken for the answer to what is asked next', async () => {
  await using stage = await setStage()
  const raw =
    'HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\ndocker: x\r\n\r\n{}'
  stage.upstream.on({ method: 'HEAD' }, { raw, ending: 'keep' }, 1)
  await stage.registry.headManifest(TOOLS, tagged('1'), soon())
  const fetched = must(await stage.registry.getManifest(TOOLS, tagged('1'), soon()))
  assert.equal(digestOf(fetched.bytes), stage.manifest)
})

test('surplus bytes after a body are not taken for the next answer', async () => {
  await using stage = await setStage()
  const raw = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad'
  stage.upstream.on({}, { raw, ending: 'keep' }, 1)
  assert.equal((await stage.registry.getManifest(TOOLS, tagged('1'), soon()))?.bytes.byteLength, 2)
  const fetched = must(await stage.registry.getManifest(TOOLS, tagged('1'), soon()))
  assert.equal(digestOf(fetched.bytes), stage.manifest)
})

test('what is sent upstream is ours alone: no client header, identity encoding, one Accept, and who we are', async () => {
  await using stage = await setStage({ userAgent: 'containerd/1.6.8' })
  await stage.registry.getManifest(TOOLS, tagged('1'), soon())
  const { headers } = must(stage.upstream.requests[0])
  assert.equal(headers['user-agent'], 'containerd/1.6.8')
  assert.equal(headers['accept-encoding'], 'identity')
  assert.equal(headers['cdn-loop'], 'entrepot-test')
  assert.match(headers['accept'] ?? '', /^application\/vnd\.oci\.image\.index.*\*\/\*$/)
  assert.equal(headers['authorization'], undefined)
})

test('the first byte is waited for, and given up only after its time', async () => {
  await using stage = await setStage({}, { timings: { firstByteMs: 40 } })
  const gate = createGate()
  stage.upstream.on({}, { until: gate.opened })
  await assert.rejects(stage.registry.getManifest(TOOLS, tagged('1'), soon()), { kind: 'timeout' })
  assert.equal(stage.upstream.count(), 1)
  gate.open()
})

test('a caller who leaves gets the reason of its signal, and the connection is closed', async () => {
  await using stage = await setStage()
  stage.upstream.on({}, { isSilent: true })
  const leaving = new AbortController()
  const asking = stage.registry.getManifest(TOOLS, tagged('1'), leaving.signal)
  await stage.upstream.received()
  leaving.abort(new Error('the client left'))
  await assert.rejects(asking, /the client left/)
})

test('three failed requests stop all further ones for their repository, and one GET /v2/ that fails stops those for others', async () => {
  await using stage = await setStage()
  stage.upstream.on({}, { status: 500 })
  for (let count = 0; count < 3; count += 1) {
    assert.equal(stage.registry.trouble(TOOLS), undefined)
    await assert.rejects(stage.registry.getManifest(TOOLS, tagged('1'), soon()), { kind: 'status' })
  }
  const before = stage.upstream.count()
  assert.equal(stage.registry.trouble(TOOLS)?.kind, 'breaker')
  await assert.rejects(stage.registry.getManifest(TOOLS, tagged('1'), soon()), { kind: 'breaker' })
  assert.equal(stage.upstream.count(), before)
  const other = repository('library/other')
  const { host } = stage.upstream
  for (let count = 0; count < 3; count += 1) {
    await assert.rejects(stage.registry.getManifest(other, tagged('1'), soon()), {
      kind: 'breaker',
      message: `${host} is left alone for now, because it failed several times in a row, at last: ${host} answered 500`,
    })
  }
  // The one repeat is for a server that broke off.
  assert.deepEqual(
    stage.upstream.requests.slice(before).map(({ path }) => path),
    ['/v2/', '/v2/'],
  )
  assert.match(await stage.opened.metrics(), /entrepot_upstream_breaker_open\{[^}]*\} 1/)
})

test('after a 429 nothing goes out until its Retry-After is over, and the budget that it names is a metric', async () => {
  await using stage = await setStage()
  const headers = { 'retry-after': '7', 'ratelimit-remaining': '0;w=21600' }
  stage.upstream.on({}, { status: 429, headers })
  await assert.rejects(stage.registry.getManifest(TOOLS, tagged('1'), soon()), {
    kind: 'rate-limited',
    retryAfterMs: 7000,
  })
  const { kind, retryAfterMs = 0 } = must(stage.registry.trouble(TOOLS))
  assert.equal(kind, 'rate-limited')
  assert.ok(retryAfterMs > 0 && retryAfterMs <= 7000)
  await assert.rejects(stage.registry.headBlob(TOOLS, stage.layer, soon()), { kind: 'rate-limited' })
  assert.equal(stage.upstream.count(), 1)
  assert.match(await stage.opened.metrics(), /entrepot_upstream_ratelimit_remaining\{[^}]*\} 0/)
})

test('a 503 that asks to be left alone is not asked again at once', async () => {
  await using stage = await setStage()
  stage.upstream.on({}, { status: 503, headers: { 'retry-after': '30' } })
  await assert.rejects(stage.registry.getManifest(TOOLS, tagged('1'), soon()), {
    status: 503,
    retryAfterMs: 30_000,
  })
  assert.equal(stage.upstream.count(), 1)
})

test('a blob is given from any offset on, with its size and validator', async () => {
  await using stage = await setStage()
  for (const offset of [0, 1, 65_536, LAYER.length - 1]) {
    await using body = must(await stage.registry.getBlob(TOOLS, stage.layer, { offset }, soon()))
    assert.deepEqual(
      [body.offset, body.sizeBytes, body.validator],
      [offset, LAYER.length, `"${stage.layer}"`],
    )
    const pieces: Uint8Array[] = []
    for await (const piece of body.chunks) pieces.push(Buffer.from(piece))
    assert.deepEqual(Buffer.concat(pieces), LAYER.subarray(offset))
  }
})

const BLOBS: RequestFilter = { path: /\/blobs\// }
const RANGED: RequestFilter = { where: request => request.headers['range'] !== undefined }
const from = { offset: 1000, validator: '"an-etag"' }

const OTHER_RANGES: readonly (readonly [string, RequestFilter, Behaviour])[] = [
  ['ignores the range', BLOBS, { ignoresRange: true }],
  ['answers another range', RANGED, { shiftsRangeBy: 1 }],
  ['answers a range that starts earlier', RANGED, { shiftsRangeBy: -1 }],
  ['answers 206 without Content-Range', RANGED, { headers: { 'content-range': undefined } }],
  [
    'answers 206 with a malformed Content-Range',
    RANGED,
    { headers: { 'content-range': 'bytes 1000-/300000' } },
  ],
  [
    'answers 206 with two Content-Ranges',
    RANGED,
    { headers: { 'content-range': ['bytes 1000-299999/300000', 'bytes 0-1/2'] } },
  ],
  [
    'answers a range that ends after its total',
    RANGED,
    { headers: { 'content-range': 'bytes 1000-299999/1001' } },
  ],
  [
    'answers a range whose length is another',
    RANGED,
    { headers: { 'content-range': 'bytes 1000-1999/300000' } },
  ],
  ['answers 416', RANGED, { status: 416, body: '' }],
]

for (const [what, filter, behaviour] of OTHER_RANGES) {
  test(`an upstream that ${what} gives the whole blob from its start`, async () => {
    await using stage = await setStage()
    stage.upstream.on(filter, behaviour)
    await using body = must(await stage.registry.getBlob(TOOLS, stage.layer, { offset: 1000 }, soon()))
    assert.equal(body.offset, 0)
    const pieces: Uint8Array[] = []
    for await (const piece of body.chunks) pieces.push(Buffer.from(piece))
    assert.equal(digestOf(Buffer.concat(pieces)), stage.layer)
  })
}

test('a range of something that has changed since is not taken', async () => {
  await using stage = await setStage()
  const whole = must(await stage.registry.getBlob(TOOLS, stage.layer, from, soon()))
  assert.equal(whole.offset, 0)
  await whole[Symbol.asyncDispose]()
  stage.upstream.on(RANGED, request => ({
    status: 206,
    headers: { etag: '"another"', 'content-range': `bytes 1000-299999/300000` },
    body: LAYER.subarray(Number(/\d+/.exec(request.headers['range'] ?? '')?.[0])),
  }))
  await using again = must(await stage.registry.getBlob(TOOLS, stage.layer, from, soon()))
  assert.equal(again.offset, 0)
})

const BODY_FAULTS: readonly (readonly [string, Behaviour, string])[] = [
  ['is cut by FIN', { cutAt: 100_000 }, 'cut'],
  ['is cut by RST', { cutAt: 100_000, ending: 'rst' }, 'cut'],
  ['is cut within a chunk', { cutAt: 100_000, length: 'chunked' }, 'cut'],
  ['stalls', { cutAt: 100_000, ending: 'stall' }, 'stalled'],
  ['comes too slowly', { drip: { bytes: 10, everyMs: 5 } }, 'stalled'],
]

for (const [what, behaviour, kind] of BODY_FAULTS) {
  test(`a blob's body that ${what} ends in trouble of kind ${kind}, and gives its place back`, async () => {
    const timings = kind === 'stalled' ? { idleMs: 500, floorMs: 60, floorBytes: 10_000 } : {}
    await using stage = await setStage({}, { timings })
    stage.upstream.on(BLOBS, behaviour, 57)
    for (let count = 0; count < 57; count += 1) {
      const body = must(await stage.registry.getBlob(TOOLS, stage.layer, { offset: 0 }, soon()))
      if (count > 0) await body[Symbol.asyncDispose]()
      else
        await assert.rejects(
          body.chunks[Symbol.asyncIterator]()
            .next()
            .then(async () => await drain(body.chunks)),
          { kind },
        )
    }
    assert.equal(digestOf(await readBlob(stage.registry, stage.layer)), stage.layer)
  })
}

async function drain(chunks: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const piece of chunks) assert.ok(piece.byteLength > 0)
}

test('a blob without a stated length comes whole, its size unknown', async () => {
  await using stage = await setStage()
  for (const length of ['chunked', 'none'] as const) {
    stage.upstream.on(BLOBS, { length }, 1)
    const body = must(await stage.registry.getBlob(TOOLS, stage.layer, { offset: 0 }, soon()))
    assert.equal(body.sizeBytes, undefined)
    await body[Symbol.asyncDispose]()
    stage.upstream.on(BLOBS, { length }, 1)
    assert.equal(digestOf(await readBlob(stage.registry, stage.layer)), stage.layer)
  }
})

test('a reader that pauses longer than the idle limit is not taken for an upstream that stalls', async () => {
  await using stage = await setStage({}, { timings: { idleMs: 300 } })
  await using body = must(await stage.registry.getBlob(TOOLS, stage.layer, { offset: 0 }, soon()))
  let sizeBytes = 0
  for await (const piece of body.chunks) {
    if (sizeBytes === 0) await new Promise(resolve => setTimeout(resolve, 400))
    sizeBytes += piece.byteLength
  }
  assert.equal(sizeBytes, LAYER.length)
})

test('manifests pass while 56 bodies hold their places, and a 57th body waits until one is given back', async () => {
  await using stage = await setStage()
  const gate = createGate()
  const rule = stage.upstream.on(BLOBS, { pause: { at: 10, until: gate.opened } })
  const open = async (): Promise<AsyncDisposable> =>
    must(await stage.registry.getBlob(TOOLS, stage.layer, { offset: 0 }, soon()))
  const bodies = await Promise.all(Array.from({ length: 56 }, open))
  const waiting = open()
  assert.notEqual(await stage.registry.getManifest(TOOLS, tagged('1'), soon()), undefined)
  assert.equal(stage.upstream.count(BLOBS), 56)
  await bodies[0]?.[Symbol.asyncDispose]()
  await (await waiting)[Symbol.asyncDispose]()
  assert.equal(rule.hits, 57)
  for (const body of bodies) await body[Symbol.asyncDispose]()
  gate.open()
})

test('bytes of blobs are counted', async () => {
  await using stage = await setStage()
  await readBlob(stage.registry, stage.layer)
  assert.match(
    await stage.opened.metrics(),
    new RegExp(`entrepot_upstream_received_bytes_total\\{[^}]*\\} ${LAYER.length}`),
  )
})

test('tags come page by page: only n and last are taken from the Link, and only from the origin that sent it', async () => {
  await using stage = await setStage()
  const { upstream, registry } = stage
  for (const tag of ['2', '3']) upstream.tag('library/tools', tag, stage.manifest)
  const first = must(await registry.listTags(TOOLS, { n: 2, last: undefined }, soon()))
  assert.deepEqual(first, { tags: ['1', '2'], next: { n: 2, last: '2' } })
  assert.deepEqual(await registry.listTags(TOOLS, { n: 2, last: '2' }, soon()), {
    tags: ['3'],
    next: undefined,
  })
  await using canary = await startCanary()
  for (const link of [
    `<http://127.0.0.1:${canary.port}/v2/a/tags/list?last=2>; rel="next"`,
    '</v2/library/tools/tags/list?last=..%2F>; rel="next"',
    '</v2/library/tools/tags/list?last=2>; rel="prev"',
    `<${'x'.repeat(5000)}>; rel="next"`,
    '<<<<',
  ]) {
    upstream.on({}, { headers: { link } }, 1)
    assert.equal(
      (await registry.listTags(TOOLS, { n: undefined, last: undefined }, soon()))?.next,
      undefined,
      link,
    )
  }
  assert.equal(canary.connections, 0)
  assert.equal(
    await registry.listTags(repository('nobody/has'), { n: 1, last: undefined }, soon()),
    undefined,
  )
})

test('a tags list that is none is trouble, and what is no tag in one is left out', async () => {
  await using stage = await setStage()
  const page = { n: undefined, last: undefined }
  for (const body of ['<html>', '[]x', '{"tags":7}', `{"tags":${'['.repeat(100_000)}`, '"text"']) {
    stage.upstream.on({}, { body }, 1)
    await assert.rejects(stage.registry.listTags(TOOLS, page, soon()), { kind: 'invalid' }, body.slice(0, 20))
  }
  stage.upstream.on({}, { body: '{"tags":["ok","../no",7,"a b",""]}' }, 1)
  assert.deepEqual((await stage.registry.listTags(TOOLS, page, soon()))?.tags, ['ok'])
  stage.upstream.on({}, { body: '{"tags":null}' }, 1)
  assert.deepEqual((await stage.registry.listTags(TOOLS, page, soon()))?.tags, [])
})

test('referrers come as they are, and an upstream without the API has none', async () => {
  await using stage = await setStage()
  const { upstream, registry } = stage
  upstream.putImage({ subject: stage.manifest, artifactType: 'application/x-sbom' })
  const all = must(await registry.getReferrers(TOOLS, stage.manifest, undefined, soon()))
  assert.equal(all.isFiltered, false)
  assert.match(Buffer.from(all.bytes).toString(), /x-sbom/)
  const none = must(await registry.getReferrers(TOOLS, stage.manifest, 'application/other', soon()))
  assert.equal(none.isFiltered, true)
  for (const behaviour of [
    { status: 404 },
    { status: 405 },
    { body: '<html>', headers: { 'content-type': 'text/html' } },
  ]) {
    upstream.on({}, behaviour, 1)
    assert.equal(await registry.getReferrers(TOOLS, stage.layer, undefined, soon()), undefined)
  }
})

test('errors of a registry that is asked in plain http and speaks https name the setting', async () => {
  await using stage = await setStage()
  stage.upstream.on({ path: /manifests/ }, { status: 400 })
  await assert.rejects(stage.registry.headManifest(TOOLS, tagged('1'), soon()), {
    message: `${stage.upstream.host} answered 400 (if it speaks https, leave out "tls: false")`,
  })
  await using upstream = await startUpstream({ tls: 'server' })
  await using opened = openRegistries({ upstreams: [upstreamOptions(upstream, { tls: false })] })
  const registry = opened.registries.get(namespace('registry.example.test'))
  await assert.rejects(registry.headManifest(TOOLS, tagged('1'), soon()), {
    message: `${upstream.host} broke off the connection (if it speaks https, leave out "tls: false")`,
  })
})
