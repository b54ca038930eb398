import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RunningDownload } from '../../../src/admin/contract.ts'
import type { Snapshot } from '../../../src/admin/page/snapshot.ts'
import { liveNow } from '../../../src/admin/page/views/now.ts'
import { digestOf } from '../../../src/oci/digest.ts'

const NOTHING = { requests: 0, hits: 0, sentBytes: 0, receivedBytes: 0 } as const

function snapshotWith(flows: Snapshot['flows']): Snapshot {
  const startMs = Date.UTC(2026, 0, 5)
  return {
    atMs: startMs,
    status: {
      version: '0.1.0',
      startedAt: new Date(startMs).toISOString(),
      degraded: [],
      traffic: { ...NOTHING, savedBytes: 0 },
      registries: [],
      warming: [],
      store: 'filesystem /nowhere',
      flows: flows.length,
      lostTags: [],
      jobs: [],
      damagedRecords: [],
      space: null,
    },
    registries: new Map(),
    today: NOTHING,
    week: NOTHING,
    minutes: [{ ...NOTHING, startMs }],
    sinceMs: startMs,
    flows,
  }
}

function flowOf(number: number): RunningDownload {
  return {
    namespace: 'docker.io',
    repository: 'library/large',
    digest: digestOf(Buffer.from(String(number))),
    writtenBytes: 1000,
    sizeBytes: 2000,
    readers: 1,
    forMs: 1000,
    bytesPerSecond: 1000,
    leftMs: 1000,
  }
}

/** A download that must not be shown: reading anything of it fails the test. */
const UNSEEN = new Proxy({} as RunningDownload, {
  get: (_, name) => assert.fail(`${String(name)} of a download without a row was read`),
})

test('of 10,000 running downloads 50 are rendered, and the others are neither read nor sent', () => {
  const shown = Array.from({ length: 50 }, (_, number) => flowOf(number))
  const rest = Array.from({ length: 9950 }, () => UNSEEN)
  const partOf = (flows: Snapshot['flows']): string =>
    liveNow({ snapshot: snapshotWith(flows), jobs: [], sees: 'admin' }).find(
      ({ id }) => id === 'downloads-live',
    )?.html ?? ''
  const [few, many] = [partOf(shown), partOf([...shown, ...rest])]
  assert.equal(many.match(/<progress /g)?.length, 50)
  assert.equal(many.replace('<p>And 9950 more.</p>', '').trim(), few.trim())
  assert.match(many, /<p>And 9950 more\.<\/p>/)
})

test('a viewer without a login is told the number of running downloads and reads none of them', () => {
  const flows = Array.from({ length: 10_000 }, () => UNSEEN)
  const parts = liveNow({ snapshot: snapshotWith(flows), jobs: [], sees: 'numbers' })
  assert.match(parts.find(({ id }) => id === 'downloads-live')?.html ?? '', /10,?000 downloads/)
})
