import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FinishedRequest } from '../../src/observe/event.ts'
import { Events } from '../../src/observe/events.ts'
import type { Log } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { DOCKER_HUB, parseNamespace } from '../../src/oci/namespace.ts'

const other = parseNamespace('evil.example')
const digest = digestOf(Buffer.from('x'))

function makeEvents(): {
  readonly events: Events
  readonly lines: string[]
  readonly render: () => Promise<string>
} {
  const lines: string[] = []
  const write = (_: object, message: string): void => void lines.push(message)
  const log: Log = { debug: () => undefined, info: write, warn: write, error: write }
  const metrics = createMetrics()
  const events = new Events(log, metrics)
  events.nameNamespaces([DOCKER_HUB])
  return { events, lines, render: async () => (await metrics.render()).text }
}

const request: FinishedRequest = {
  method: 'GET',
  resource: 'blob',
  status: 200,
  outcome: 'hit',
  namespace: DOCKER_HUB,
  repository: 'library/a',
  reference: digest,
  client: '127.0.0.1',
  identity: 'anonymous',
  userAgent: 'test',
  sentBytes: 7,
  durationMs: 12.3456,
  error: undefined,
  isAborted: false,
}

test('a request counts once, with its bytes, and is running in between', async () => {
  const { events, render } = makeEvents()
  events.requestStarted()
  assert.match(await render(), /entrepot_requests_in_flight 1/)
  events.requestFinished(request)
  const text = await render()
  assert.match(text, /entrepot_requests_in_flight 0/)
  assert.match(text, /entrepot_requests_total\{[^}]*namespace="docker.io"[^}]*\} 1/)
  assert.match(text, /entrepot_response_bytes_total\{[^}]*\} 7/)
})

test('labels are closed sets: a thousand namespaces, repositories and user agents make two series', async () => {
  const { events, render } = makeEvents()
  events.requestFinished(request)
  for (let index = 0; index < 1000; index += 1) {
    const namespace = parseNamespace(`evil-${index}.example`)
    events.requestFinished({
      ...request,
      namespace,
      repository: `r${index}`,
      userAgent: `u${index}`,
      reference: `t${index}`,
    })
  }
  const series = (await render())
    .split('\n')
    .filter(line => /^entrepot_requests_total\{.* [1-9]\d*$/.test(line))
  assert.equal(series.length, 2)
  assert.ok(series.some(line => line.includes('namespace="other"') && line.endsWith(' 1000')))
})

test('a change between storing and passing through is told once per change', async () => {
  const { events, lines, render } = makeEvents()
  for (const isBypassing of [false, true, true, false, false]) events.bypassChanged(isBypassing)
  assert.deepEqual(lines, [
    'store cannot be written: pulls pass through uncached until it can',
    'store can be written again',
  ])
  events.bypassChanged(true)
  assert.match(await render(), /entrepot_storage_bypass 1/)
})

test('fills are counted by how they end, and are running in between', async () => {
  const { events, lines, render } = makeEvents()
  const fill = { digest, sizeBytes: 1, durationMs: 1, resumes: 0 }
  for (const _ of [1, 2]) events.fillStarted()
  assert.match(await render(), /entrepot_fills_in_flight 2/)
  events.fillFinished({ ...fill, namespace: DOCKER_HUB, result: 'stored', error: undefined })
  assert.ok(other !== undefined)
  events.fillFinished({ ...fill, namespace: other, result: 'mismatch', error: new Error('x') })
  const text = await render()
  assert.match(text, /entrepot_fills_in_flight 0/)
  assert.match(text, /entrepot_fills_total\{namespace="docker.io",result="stored"\} 1/)
  assert.match(text, /entrepot_fills_total\{namespace="other",result="mismatch"\} 1/)
  assert.deepEqual(lines, ['fill finished', 'fill failed'])
})

test('answers of upstreams are counted by class and trouble by kind', async () => {
  const { events, render } = makeEvents()
  events.upstreamAnswered({ namespace: DOCKER_HUB, verb: 'get-blob', status: 206, durationMs: 1 })
  events.upstreamFailed({ namespace: DOCKER_HUB, verb: 'get-blob', kind: 'dns', error: new Error('x') })
  const text = await render()
  assert.match(text, /upstream_requests_total\{namespace="docker.io",verb="get-blob",result="2xx"\} 1/)
  assert.match(text, /upstream_requests_total\{namespace="docker.io",verb="get-blob",result="dns"\} 1/)
})

test('two daemons in one process do not share their metrics', async () => {
  const [first, second] = [makeEvents(), makeEvents()]
  first.events.storageFailed('adopt', new Error('x'))
  assert.match(await first.render(), /entrepot_storage_errors_total\{operation="adopt"\} 1/)
  assert.doesNotMatch(await second.render(), /operation="adopt"/)
})

test('a store that takes manifests and no blobs stays one that cannot be written', () => {
  const { events, lines } = makeEvents()
  events.bypassChanged(true)
  events.bypassChanged(true, 'manifests')
  events.bypassChanged(false, 'manifests')
  assert.equal(lines.length, 1)
  events.bypassChanged(false)
  assert.equal(lines.length, 2)
})

test('a store that fails every request in one way is told of once, and counted every time', async () => {
  const { events, lines, render } = makeEvents()
  const full = Object.assign(new Error('no space left'), { code: 'ENOSPC' })
  for (let failure = 0; failure < 100; failure += 1) events.storageFailed('adopt', full)
  events.storageFailed('adopt', Object.assign(new Error('broken'), { code: 'EIO' }))
  assert.equal(lines.filter(line => line === 'storage failed').length, 2)
  assert.match(await render(), /entrepot_storage_errors_total\{operation="adopt"\} 101/)
})
