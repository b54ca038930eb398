import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FinishedRequest } from '../../src/observe/event.ts'
import { batchesOf } from '../../src/observe/tracing/batches.ts'
import { OtlpTracing } from '../../src/observe/tracing/otlp.ts'
import { samplerOf } from '../../src/observe/tracing/sampler.ts'
import { currentSpan, traced } from '../../src/observe/tracing/span.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'

const WAITING_MAX = 20
const SETTINGS = {
  sampler: undefined,
  samplerArgument: undefined,
  batches: { OTEL_BSP_MAX_QUEUE_SIZE: String(WAITING_MAX) },
  version: '1.2.3',
  instance: 'entrepot-1',
}

const FINISHED: FinishedRequest = {
  method: 'GET',
  resource: 'blob',
  status: 200,
  outcome: 'hit',
  namespace: DOCKER_HUB,
  repository: 'team/app',
  reference: undefined,
  client: '127.0.0.1',
  identity: 'anonymous',
  userAgent: undefined,
  sentBytes: 10,
  durationMs: 1,
  error: undefined,
  isAborted: false,
}

test('spans beyond those that may wait for a collector are dropped at once, and counted', async () => {
  // Nothing listens there.
  process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = 'http://127.0.0.1:1'
  let dropped = 0
  const tracing = new OtlpTracing(SETTINGS, { dropped: count => (dropped += count), warned: () => undefined })
  for (let number = 0; number < WAITING_MAX + 100; number += 1)
    await tracing.follow({ headers: {} }, async () => {
      tracing.requestFinished(FINISHED)
      await Promise.resolve()
    })
  assert.equal(dropped, 100)
  delete process.env['OTEL_EXPORTER_OTLP_ENDPOINT']
})

for (const [sampler, samplerArgument, expected, warnings] of [
  [undefined, undefined, 'ParentBased{root=AlwaysOnSampler, ', 0],
  ['always_off', undefined, 'AlwaysOffSampler', 0],
  ['always_on', undefined, 'AlwaysOnSampler', 0],
  ['traceidratio', '0.25', 'TraceIdRatioBased{0.25}', 0],
  ['parentbased_traceidratio', '0.5', 'ParentBased{root=TraceIdRatioBased{0.5}, ', 0],
  ['parentbased_always_off', undefined, 'ParentBased{root=AlwaysOffSampler, ', 0],
  ['traceidratio', 'half', 'TraceIdRatioBased{1}', 1],
  ['sometimes', undefined, 'ParentBased{root=AlwaysOnSampler, ', 1],
] as const) {
  test(`OTEL_TRACES_SAMPLER=${sampler ?? ''} with ${samplerArgument ?? 'no argument'} samples by ${expected}`, () => {
    const warned: string[] = []
    const chosen = samplerOf({ sampler, samplerArgument }, message => warned.push(message))
    assert.ok(chosen.toString().startsWith(expected), chosen.toString())
    assert.equal(warned.length, warnings)
  })
}

test('OTEL_BSP_* say how spans wait for the collector, and what cannot be read is told', () => {
  const warned: string[] = []
  const texts = {
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10',
    OTEL_BSP_SCHEDULE_DELAY: ' 200 ',
    OTEL_BSP_EXPORT_TIMEOUT: '1s',
    OTEL_BSP_MAX_QUEUE_SIZE: '',
  }
  assert.deepEqual(
    batchesOf(texts, message => warned.push(message)),
    { maxQueueSize: 2048, maxExportBatchSize: 10, scheduledDelayMillis: 200, exportTimeoutMillis: 30_000 },
  )
  assert.deepEqual(warned, [
    'OTEL_BSP_EXPORT_TIMEOUT is not a whole number from 1 to 3600000: 1s; 30000 is used',
  ])
})

test('work that belongs to no traced request has no span, and is done all the same', async () => {
  assert.equal(await traced('work', async () => await Promise.resolve(currentSpan() ?? 'none')), 'none')
})
