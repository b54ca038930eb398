import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import type { Event, EventSink } from '../../src/observe/event.ts'
import { Events } from '../../src/observe/events.ts'
import type { Log } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import { nameOf, tagOf } from '../mirror/rig.ts'

const digest = digestOf(Buffer.from('x'))
const BROKEN: EventSink = {
  take: () => {
    throw new Error('this sink is broken')
  },
}

interface Line {
  readonly message: string
  readonly fields: object
}

interface Rig {
  readonly events: Events
  readonly lines: readonly Line[]
  readonly seen: readonly Event[]
  readonly render: () => Promise<string>
}

/** Events with the given sinks and a last one that keeps what it takes; `write` gets every log line first. */
function makeRig({
  before = [],
  write = () => undefined,
}: {
  before?: EventSink[]
  write?: () => void
}): Rig {
  const lines: Line[] = []
  const at = (fields: object, message: string): void => {
    write()
    lines.push({ message, fields })
  }
  const log: Log = { debug: () => undefined, info: at, warn: at, error: at }
  const seen: Event[] = []
  const metrics = createMetrics()
  const last: EventSink = { take: event => void seen.push(event) }
  const events = new Events(log, metrics, systemClock, [...before, last])
  events.nameNamespaces([DOCKER_HUB])
  return { events, lines, seen, render: async () => (await metrics.render()).text }
}

test('a further sink takes every event in order, with its kind and details', () => {
  const { events, seen } = makeRig({})
  const error = new Error('x')
  const fill = { namespace: DOCKER_HUB, digest, sizeBytes: 1, durationMs: 2, resumes: 0 }
  events.fillStarted()
  events.fillFinished({ ...fill, result: 'failed', error })
  events.storageFailed('adopt', error)
  events.warned('careful', { count: 2 })
  events.recordDamaged('pins', 'restored', error)
  events.stopped({ cutRequests: 3 })
  assert.deepEqual(seen, [
    { kind: 'fill-started', details: undefined },
    { kind: 'fill-finished', details: { ...fill, result: 'failed', error } },
    { kind: 'storage-failed', details: { operation: 'adopt', error } },
    { kind: 'warned', details: { message: 'careful', fields: { count: 2 } } },
    { kind: 'record-damaged', details: { record: 'pins', outcome: 'restored', error } },
    { kind: 'stopped', details: { cutRequests: 3 } },
  ])
})

test('a further sink takes repeated events that the log only counts', () => {
  const { events, seen } = makeRig({})
  for (let failure = 0; failure < 5; failure += 1) events.storageFailed('adopt', new Error('x'))
  assert.equal(seen.length, 5)
})

test('an empty eviction, an empty sweep and an unchanged state of the store are not events', () => {
  const { events, seen } = makeRig({})
  events.evicted({ reason: 'room', objects: 0, bytes: 0 })
  events.swept(0)
  for (const isBypassing of [false, true, true, false, false]) events.bypassChanged(isBypassing)
  assert.deepEqual(seen, [
    { kind: 'bypass-changed', details: { isBypassing: true } },
    { kind: 'bypass-changed', details: { isBypassing: false } },
  ])
})

test('a sink that throws stops neither the caller nor the other sinks, and the log says so', async () => {
  const { events, lines, seen, render } = makeRig({ before: [BROKEN] })
  events.quarantined(digest, new Error('x'))
  assert.equal(seen.length, 1)
  assert.match(await render(), /entrepot_quarantined_objects_total 1/)
  assert.deepEqual(
    lines.map(({ message }) => message),
    ['stored object is damaged and was quarantined', 'an event was not fully recorded'],
  )
  assert.partialDeepStrictEqual(lines[1]?.fields, { event: 'quarantined' })
})

test('a sink that throws at every event makes one log line, and the rest are counted', () => {
  const { events, lines } = makeRig({ before: [BROKEN] })
  for (let round = 0; round < 100; round += 1) events.fillStarted()
  assert.deepEqual(
    lines.map(({ message }) => message),
    ['an event was not fully recorded'],
  )
})

test('a log that throws stops neither the caller nor the other sinks', async () => {
  const broken = (): void => {
    throw new Error('the log is broken')
  }
  const { events, seen, render } = makeRig({ write: broken })
  events.quarantined(digest, new Error('x'))
  assert.equal(seen.length, 1)
  assert.match(await render(), /entrepot_quarantined_objects_total 1/)
})

test('requests and received bytes reach the metrics but are not events', async () => {
  const { events, seen, render } = makeRig({})
  events.requestStarted()
  events.upstreamReceived(DOCKER_HUB, 'blob', 10)
  assert.equal(seen.length, 0)
  const text = await render()
  assert.match(text, /entrepot_requests_in_flight 1/)
  assert.match(text, /entrepot_upstream_received_bytes_total\{namespace="docker.io",resource="blob"\} 10/)
})

test('changes of repositories reach the log, and the metrics count them without their names', async () => {
  const { events, lines, seen, render } = makeRig({})
  const place = { namespace: DOCKER_HUB, repository: nameOf('acme/app') }
  const tag = tagOf('1.0')
  events.pushed({ ...place, digest, tags: [tag], mediaType: 'x/y', sizeBytes: 3, by: 'alice' })
  events.tagMoved({ ...place, tag, digest, before: undefined, by: 'alice' })
  events.tagMoved({ ...place, tag, digest, before: digest, by: 'upstream' })
  events.deleted({ ...place, what: 'tag', tag, digest: undefined, by: 'bob' })
  events.retentionRemoved({ ...place, tag, digest, why: 'no rule keeps it' })
  const quota = { ...place, quota: 'docker.io/acme/**', usedBytes: 9, limitBytes: 10, by: 'alice' }
  events.quotaReached({ ...quota, isRefused: false })
  events.quotaReached({ ...quota, isRefused: true })
  assert.equal(seen.length, 7)
  assert.deepEqual(
    lines.map(({ message }) => message),
    [
      'pushed',
      'tag moved',
      'tag moved',
      'deleted',
      'tag removed by a retention rule',
      'quota is nearly used up',
      'push refused: the quota is used up',
    ],
  )
  const text = await render()
  assert.match(text, /entrepot_pushed_manifests_total 1/)
  assert.match(text, /entrepot_tag_moves_total\{by="client"\} 1/)
  assert.match(text, /entrepot_tag_moves_total\{by="upstream"\} 1/)
  assert.match(text, /entrepot_deletions_total\{what="tag"\} 1/)
  assert.match(text, /entrepot_retention_removed_tags_total 1/)
  assert.match(text, /entrepot_quota_refusals_total 1/)
  assert.doesNotMatch(text, /alice|acme/)
})

test('notifications count by result, and only those that were not delivered make log lines', async () => {
  const { events, lines, render } = makeRig({})
  events.notificationSent({ endpoint: 'ci', result: 'delivered', error: undefined })
  events.notificationSent({ endpoint: 'ci', result: 'failed', error: new Error('x') })
  events.endpointDisabled('ci')
  events.notificationsDropped({ count: 0, why: 'too old' })
  events.notificationsDropped({ count: 4, why: 'too old' })
  assert.deepEqual(
    lines.map(({ message }) => message),
    [
      'notification not delivered',
      'endpoint answered 410 and gets no more notifications',
      'notifications were dropped',
    ],
  )
  const text = await render()
  assert.match(text, /entrepot_notifications_total\{result="delivered"\} 1/)
  assert.match(text, /entrepot_notifications_total\{result="failed"\} 1/)
  assert.match(text, /entrepot_notifications_total\{result="dropped"\} 4/)
})
