import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TrafficRecord } from '../../../src/admin/page/traffic-record.ts'
import { sealRecord } from '../../../src/content/sealed-record.ts'
import { RECORD_BYTES_MAX } from '../../../src/storage/layout.ts'
import { seeEvents } from '../../support/seen-events.ts'

const SPAN = { startMs: 60_000, requests: 3, hits: 2, sentBytes: 900, receivedBytes: 300 } as const
const KEPT = { sinceMs: 0, minutes: [SPAN, { ...SPAN, startMs: 120_000 }], days: [{ ...SPAN, startMs: 0 }] }

/** A record in memory. */
function recordOf(bytes?: Uint8Array): {
  readonly record: TrafficRecord
  readonly seen: ReturnType<typeof seeEvents>
} {
  const seen = seeEvents()
  let kept = bytes
  const stored = {
    read: async () => await Promise.resolve(kept),
    write: async (written: Uint8Array) => {
      kept = written
      await Promise.resolve()
    },
  }
  return { record: new TrafficRecord({ stored, events: seen.events }), seen }
}

test('traffic is read as it was written, and the largest record fits', async () => {
  const { record } = recordOf()
  assert.equal(await record.read(), undefined)
  await record.write(KEPT)
  assert.deepEqual(await record.read(), KEPT)
  const [most, startMs] = [Number.MAX_SAFE_INTEGER, Date.UTC(2026, 0, 5)]
  const spans = Array.from({ length: 67 }, (_, index) => ({
    startMs: startMs + index,
    requests: most,
    hits: most,
    sentBytes: most,
    receivedBytes: most,
  }))
  assert.ok(sealRecord({ sinceMs: startMs, minutes: spans, days: spans }).length < RECORD_BYTES_MAX)
})

const DAMAGED: readonly (readonly [what: string, bytes: Uint8Array])[] = [
  ['that was cut off', sealRecord(KEPT).subarray(0, -5)],
  ['with a flipped bit', Buffer.from(sealRecord(KEPT)).fill('9', 12, 13)],
  ['that is a list', sealRecord([SPAN])],
  ['that is null', Buffer.from('null')],
  ['without days', sealRecord({ ...KEPT, days: undefined })],
  ['with a span that is null', sealRecord({ ...KEPT, days: [null] })],
  ['with a negative sum', sealRecord({ ...KEPT, days: [{ ...SPAN, sentBytes: -1 }] })],
  ['with a sum that is a text', sealRecord({ ...KEPT, days: [{ ...SPAN, sentBytes: '1' }] })],
  ['with minutes out of order', sealRecord({ ...KEPT, minutes: KEPT.minutes.toReversed() })],
]

for (const [what, bytes] of DAMAGED) {
  test(`I32 a record of traffic ${what} is forgotten and reported`, async () => {
    const { record, seen } = recordOf(bytes)
    assert.equal(await record.read(), undefined)
    assert.deepEqual(seen.events.damagedRecords, [{ record: 'traffic', outcome: 'forgotten', count: 1 }])
    await record.write(KEPT)
    assert.deepEqual(await record.read(), KEPT)
  })
}

test('a store that neither reads nor writes costs only the figures', async () => {
  const seen = seeEvents()
  const refuse = async (): Promise<never> => await Promise.reject(new Error('EIO'))
  const record = new TrafficRecord({ stored: { read: refuse, write: refuse }, events: seen.events })
  assert.equal(await record.read(), undefined)
  await record.write(KEPT)
  assert.equal(seen.of('storage failed').length, 2)
})
