import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { type MirrorOptions, startMirror, type TestMirror } from '../support/mirror.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { stored } from '../support/waiting.ts'

const MIB = 1024 * 1024
const ENDPOINT = 'OTEL_EXPORTER_OTLP_ENDPOINT'

/** A span as OTLP has it in JSON. */
interface SentSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly attributes: readonly { readonly key: string; readonly value: Readonly<Record<string, unknown>> }[]
  readonly links?: readonly { readonly traceId: string; readonly spanId: string }[]
  readonly events?: readonly { readonly name: string }[]
}

interface Sent {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: SentSpan['attributes'] }
    readonly scopeSpans: readonly { readonly spans: readonly SentSpan[] }[]
  }[]
}

/** A collector of traces: keeps what is sent to it by OTLP over HTTP. */
class Collector implements AsyncDisposable {
  readonly #server = createServer((request, response) => {
    let text = ''
    request.on('data', (piece: Buffer) => (text += piece.toString()))
    request.on('end', () => {
      this.posts.push({ path: request.url ?? '', headers: request.headers, sent: JSON.parse(text) as Sent })
      response.setHeader('Content-Type', 'application/json').end('{}')
    })
  })
  readonly posts: { readonly path: string; readonly headers: IncomingHttpHeaders; readonly sent: Sent }[] = []

  static async start(): Promise<Collector> {
    const collector = new Collector()
    await new Promise<void>(resolve => collector.#server.listen(0, '127.0.0.1', resolve))
    process.env[ENDPOINT] = `http://127.0.0.1:${(collector.#server.address() as AddressInfo).port}`
    return collector
  }

  get spans(): readonly SentSpan[] {
    return this.posts.flatMap(({ sent }) =>
      sent.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)),
    )
  }

  named(name: string): SentSpan {
    const found = this.spans.find(span => span.name === name)
    assert.ok(found, `no span ${name} among ${this.spans.map(span => span.name).join(', ')}`)
    return found
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
  }
}

function attribute({ attributes }: Pick<SentSpan, 'attributes'>, key: string): unknown {
  const value = attributes.find(one => one.key === key)?.value
  return value === undefined ? undefined : Object.values(value)[0]
}

after(() => {
  delete process.env[ENDPOINT]
})

async function startTraced(
  upstream: FakeUpstream,
  options: Omit<MirrorOptions, 'upstream'> = {},
): Promise<TestMirror> {
  const environment = options.overrides?.upstream?.environment ?? {}
  return await startMirror({
    upstream: upstream.host,
    ...options,
    config: { traces: true, ...options.config },
    overrides: { ...options.overrides, upstream: { environment } },
  })
}

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const CALLER = '00f067aa0ba902b7'
const traceparent = (flags: string): string => `00-${TRACE}-${CALLER}-${flags}`

for (const workers of [1, 2]) {
  test(`a pull through ${workers} threads is traced: its request, its fill apart from it, and what the registry was asked`, async () => {
    await using collector = await Collector.start()
    await using upstream = await startUpstream()
    const digest = upstream.putBlob(randomBytes(MIB))
    const path = `/v2/team/app/blobs/${digest}`
    {
      await using mirror = await startTraced(upstream, { config: { workers } })
      const reply = await mirror.get(`${path}?ns=docker.io`, { traceparent: traceparent('01') })
      assert.equal(reply.status, 200)
      await stored(mirror, digest)
      await mirror.daemon.stop()
    }
    const request = collector.spans.find(({ traceId, name }) => traceId === TRACE && name === 'GET blob')
    assert.ok(request)
    assert.equal(request.parentSpanId, CALLER)
    assert.equal(request.kind, 2)
    assert.deepEqual(
      [
        'http.request.method',
        'url.path',
        'http.response.status_code',
        'http.response.body.size',
        'entrepot.outcome',
        'entrepot.namespace',
        'entrepot.repository',
      ].map(key => attribute(request, key)),
      ['GET', path, 200, MIB, 'miss', 'docker.io', 'team/app'],
    )
    const fill = collector.named('fill')
    assert.equal(fill.parentSpanId, undefined)
    assert.notEqual(fill.traceId, TRACE)
    assert.deepEqual(
      fill.links?.map(({ spanId }) => spanId),
      [request.spanId],
    )
    assert.deepEqual([attribute(fill, 'entrepot.result'), attribute(fill, 'entrepot.bytes')], ['stored', MIB])
    const parts = collector.spans.filter(({ parentSpanId }) => parentSpanId === fill.spanId)
    assert.deepEqual(parts.map(({ name }) => name).toSorted(), ['GET', 'store'])
    const exchange = parts.find(({ name }) => name === 'GET')
    assert.deepEqual(
      exchange?.events?.map(({ name }) => name),
      ['first byte'],
    )
    // The first question to the registry opens the connection, whichever that is.
    const asking = collector.spans.filter(({ kind, name }) => kind === 3 && name !== 'dial')
    const { parentSpanId: dialling } = collector.named('dial')
    assert.ok(asking.some(({ spanId }) => spanId === dialling))
    const post = collector.posts[0]
    assert.equal(post?.path, '/v1/traces')
    assert.equal(
      attribute(post.sent.resourceSpans[0]?.resource ?? { attributes: [] }, 'service.name'),
      'entrepot',
    )
    // A registry learns nothing of the traces of its clients.
    for (const { headers } of upstream.requests) assert.equal(headers['traceparent'], undefined)
  })
}

test('a client that does not trace its request is not traced, and neither is anything without --traces', async () => {
  await using collector = await Collector.start()
  await using upstream = await startUpstream()
  const digest = upstream.putBlob(randomBytes(1000))
  {
    await using off = await startMirror({ upstream: upstream.host })
    await off.get(`/v2/team/app/blobs/${digest}`, { traceparent: traceparent('01') })
    await off.daemon.stop()
  }
  {
    await using disabled = await startTraced(upstream, {
      overrides: { upstream: { environment: { OTEL_SDK_DISABLED: 'true' } } },
    })
    await disabled.get(`/v2/team/app/blobs/${digest}`, { traceparent: traceparent('01') })
    await disabled.daemon.stop()
  }
  {
    await using mirror = await startTraced(upstream)
    await mirror.get(`/v2/team/app/blobs/${digest}`, { traceparent: traceparent('00') })
    await mirror.get('/livez')
    await mirror.daemon.stop()
  }
  assert.deepEqual(collector.spans, [])
})

test('a request that joins a fill links to it, and a second hit has no fill', async () => {
  await using collector = await Collector.start()
  await using upstream = await startUpstream()
  const digest = upstream.putBlob(randomBytes(4 * MIB))
  const path = `/v2/team/app/blobs/${digest}`
  {
    await using mirror = await startTraced(upstream)
    const replies = await Promise.all([mirror.get(path), mirror.get(path)])
    assert.deepEqual(
      replies.map(({ status }) => status),
      [200, 200],
    )
    await mirror.daemon.stop()
  }
  const fill = collector.named('fill')
  assert.equal(collector.spans.filter(({ name }) => name === 'fill').length, 1)
  const requests = collector.spans.filter(({ name }) => name === 'GET blob')
  assert.deepEqual(
    requests.map(({ links }) => links?.map(({ spanId }) => spanId)),
    [[fill.spanId], [fill.spanId]],
  )
})
