import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Endpoint } from '../../../src/observe/notifications/courier.ts'
import { Notifications } from '../../../src/observe/notifications/notifications.ts'
import { parseSigningKey } from '../../../src/observe/notifications/signature.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { DOCKER_HUB } from '../../../src/oci/namespace.ts'
import { nameOf, tagOf } from '../../mirror/rig.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { type SeenEvents, seeEvents } from '../../support/seen-events.ts'
import { until } from '../../support/waiting.ts'
import { makeRoom, playEndpoint } from './rig.ts'

const HOUR_MS = 3_600_000
const digest = digestOf(Buffer.from('x'))
const before = digestOf(Buffer.from('y'))

interface Rig extends AsyncDisposable {
  readonly notifications: Notifications
  readonly clock: FakeClock
  readonly seen: SeenEvents
  /** Reports that a tag of this repository has moved. */
  readonly move: (repository: string, tag?: string) => void
}

async function startRig(
  directory: string,
  endpoints: readonly Endpoint[],
  clock = new FakeClock(),
): Promise<Rig> {
  const seen = seeEvents()
  const notifications = new Notifications()
  const sender = { source: '/entrepot/test', instance: 'test' }
  await notifications.start({ directory, sender, clock, events: seen.events }, endpoints)
  return {
    notifications,
    clock,
    seen,
    move: (repository, tag = '1.0') =>
      notifications.take({
        kind: 'tag-moved',
        details: {
          namespace: DOCKER_HUB,
          repository: nameOf(repository),
          tag: tagOf(tag),
          digest,
          before,
          by: 'upstream',
        },
      }),
    [Symbol.asyncDispose]: async () => await notifications[Symbol.asyncDispose](),
  }
}

test('an event reaches its endpoint as a signed CloudEvent', async () => {
  await using room = await makeRoom()
  const key = parseSigningKey(`whsec_${Buffer.alloc(32, 7).toString('base64')}`)
  const played = playEndpoint({ key })
  await using rig = await startRig(room.directory, [played.endpoint])
  rig.move('acme/app')
  await until(() => played.received.length === 1, 'the endpoint is asked')
  const [first] = played.received
  assert.ok(first)
  const { headers, body } = first
  const { id, time, ...event } = JSON.parse(body) as Record<string, unknown>
  assert.deepEqual(event, {
    specversion: '1.0',
    source: '/entrepot/test',
    type: 'entrepot.upstream.tag.moved',
    subject: 'docker.io/acme/app',
    datacontenttype: 'application/json',
    data: { namespace: 'docker.io', repository: 'acme/app', tag: '1.0', digest, before, by: 'upstream' },
  })
  assert.equal(time, new Date(rig.clock.wallMs()).toISOString())
  assert.equal(headers['content-type'], 'application/cloudevents+json; charset=UTF-8')
  assert.equal(headers['webhook-id'], id)
  const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`
  const sum = createHmac('sha256', Buffer.alloc(32, 7)).update(signed).digest('base64')
  assert.equal(headers['webhook-signature'], `v1,${sum}`)
})

test('an endpoint that is down for an hour gets everything afterwards, each once, in order per repository', async () => {
  await using room = await makeRoom()
  const played = playEndpoint()
  await using rig = await startRig(room.directory, [played.endpoint])
  played.answer = () => 503
  for (let round = 0; round < 5; round += 1) for (const name of ['a/a', 'b/b']) rig.move(name, `v${round}`)
  await rig.notifications.settled()
  const endMs = rig.clock.monotonicMs() + HOUR_MS
  while (rig.clock.monotonicMs() < endMs) {
    await until(() => rig.clock.sleepers > 0, 'the clock is waited for')
    rig.clock.advance(60_000)
    await until(() => rig.clock.sleepers > 0, 'the clock is waited for')
  }
  const tries = played.received.length
  assert.ok(tries >= 10 && tries < 200, `${tries} attempts in an hour`)
  played.received.length = 0
  played.answer = () => 200
  rig.clock.advance(5 * 60_000)
  await until(() => played.received.length === 10, 'the endpoint is asked')
  for (const name of ['a/a', 'b/b']) {
    const tags = played.received
      .filter(({ subject }) => subject === `docker.io/${name}`)
      .map(({ body }) => (JSON.parse(body) as { data: { tag: string } }).data.tag)
    assert.deepEqual(tags, ['v0', 'v1', 'v2', 'v3', 'v4'])
  }
  await until(async () => (await rig.notifications.status())[0]?.pending === 0, 'nothing is pending')
})

test('a notice that its endpoint cannot read holds up only its repository, and is dropped and counted in the end', async () => {
  await using room = await makeRoom()
  const played = playEndpoint()
  await using rig = await startRig(room.directory, [played.endpoint])
  played.answer = ({ body }) => (body.includes('poison') ? 400 : 200)
  rig.move('a/a', 'poison')
  rig.move('a/a', 'after')
  rig.move('b/b', 'other')
  await until(() => played.received.some(({ body }) => body.includes('other')), 'the endpoint is asked')
  assert.ok(!played.received.some(({ body }) => body.includes('after')))
  while (!played.received.some(({ body }) => body.includes('after'))) {
    await until(() => rig.clock.sleepers > 0, 'the clock is waited for')
    rig.clock.advance(60_000)
    await rig.notifications.status()
  }
  assert.equal(played.received.filter(({ body }) => body.includes('poison')).length, 10)
  assert.deepEqual(rig.seen.of('notifications were dropped'), [{ count: 1, why: 'ci answered 400' }])
})

test('what was not delivered when the process ended is delivered by the next one, under the same id', async () => {
  await using room = await makeRoom()
  const played = playEndpoint()
  played.answer = () => new Error('no route to host')
  {
    await using rig = await startRig(room.directory, [played.endpoint])
    rig.move('a/a')
    await until(() => played.received.length === 1, 'the endpoint is asked')
  }
  played.answer = () => 204
  await using next = await startRig(room.directory, [played.endpoint])
  await until(() => played.received.length === 2, 'the endpoint is asked')
  assert.equal(played.received[1]?.id, played.received[0]?.id)
  await until(async () => (await next.notifications.status())[0]?.pending === 0, 'nothing is pending')
})

test('an endpoint that answers 410 gets nothing more, after a restart neither, until a replay', async () => {
  await using room = await makeRoom()
  const played = playEndpoint()
  played.answer = () => 410
  {
    await using rig = await startRig(room.directory, [played.endpoint])
    rig.move('a/a', 'v1')
    await until(
      () => rig.seen.of('endpoint answered 410 and gets no more notifications').length === 1,
      'the endpoint is disabled',
    )
    rig.move('a/a', 'v2')
    await rig.notifications.settled()
    rig.clock.advance(HOUR_MS)
  }
  played.answer = () => 200
  await using next = await startRig(room.directory, [played.endpoint])
  assert.deepEqual(await next.notifications.status(), [{ endpoint: 'ci', pending: 2, isDisabled: true }])
  assert.equal(played.received.length, 1)
  await next.notifications.replay({ endpoint: 'ci', id: undefined, sinceMs: 0 })
  await until(() => played.received.length === 3, 'the endpoint is asked')
  assert.equal((await next.notifications.status())[0]?.isDisabled, false)
})

test('an endpoint that asks for a pause is left alone so long', async () => {
  await using room = await makeRoom()
  const played = playEndpoint()
  await using rig = await startRig(room.directory, [played.endpoint])
  played.answer = () => ({ status: 429, retryAfterMs: 600_000 })
  rig.move('a/a')
  await until(() => played.received.length === 1 && rig.clock.sleepers > 0, 'the endpoint is asked')
  rig.clock.advance(599_000)
  rig.move('b/b')
  await rig.notifications.settled()
  assert.equal(played.received.length, 1)
  played.answer = () => 200
  rig.clock.advance(1000)
  await until(() => played.received.length === 3, 'the endpoint is asked')
})

test('endpoints get only the types and repositories that they want', async () => {
  await using room = await makeRoom()
  const all = playEndpoint({ name: 'all' })
  const some = playEndpoint({ name: 'some', wants: place => place?.repository === 'a/a' })
  const pushes = playEndpoint({ name: 'pushes', types: new Set(['manifest.pushed'] as const) })
  const old = playEndpoint({ name: 'old', format: 'distribution' })
  const played = [all, some, pushes, old]
  await using rig = await startRig(
    room.directory,
    played.map(({ endpoint }) => endpoint),
  )
  rig.move('a/a')
  rig.move('b/b')
  await until(() => all.received.length === 2 && some.received.length === 1, 'the endpoint is asked')
  assert.deepEqual(await rig.notifications.status(), [
    { endpoint: 'all', pending: 0, isDisabled: false },
    { endpoint: 'some', pending: 0, isDisabled: false },
    { endpoint: 'pushes', pending: 0, isDisabled: false },
    { endpoint: 'old', pending: 0, isDisabled: false },
  ])
  assert.equal(pushes.received.length + old.received.length, 0)
})

test('a damaged outbox is put aside and reported, and a new one begins', async () => {
  await using room = await makeRoom()
  await writeFile(join(room.directory, 'events.sqlite'), 'this is not a database, and it is not empty either')
  const played = playEndpoint()
  await using rig = await startRig(room.directory, [played.endpoint])
  assert.equal(rig.seen.of('a record of this mirror is damaged')[0]?.['record'], 'outbox')
  rig.move('a/a')
  await until(() => played.received.length === 1, 'the endpoint is asked')
})

test('two processes on one directory have an outbox each', async () => {
  await using room = await makeRoom()
  const [one, other] = [playEndpoint(), playEndpoint()]
  await using first = await startRig(room.directory, [one.endpoint])
  await using second = await startRig(room.directory, [other.endpoint])
  first.move('a/a')
  second.move('b/b')
  await until(() => one.received.length === 1 && other.received.length === 1, 'the endpoint is asked')
  assert.equal(one.received[0]?.subject, 'docker.io/a/a')
  assert.equal(other.received[0]?.subject, 'docker.io/b/b')
})

test('without a place for the outbox events are counted as dropped, and nothing else fails', async () => {
  await using room = await makeRoom()
  const played = playEndpoint()
  await using rig = await startRig(join(room.directory, 'missing'), [played.endpoint])
  rig.move('a/a')
  await rig.notifications.settled()
  assert.equal(rig.seen.of('notifications were dropped').length, 1)
  assert.equal(rig.seen.of('storage failed').length, 1)
})

test('what is kept by now can be waited for while more events come', async () => {
  await using room = await makeRoom()
  const played = playEndpoint()
  played.answer = () => 500
  await using rig = await startRig(room.directory, [played.endpoint])
  rig.move('a/a', 'v1')
  rig.move('a/a', 'v2')
  const state = { isOver: false }
  const goingOn = (async () => {
    for (let count = 0; !state.isOver; count += 1) {
      rig.move('b/b', `v${count}`)
      await new Promise(resolve => setImmediate(resolve))
    }
    return state.isOver
  })()
  await rig.notifications.settled()
  const listed = await rig.notifications.list(Number.MAX_SAFE_INTEGER, 100_000)
  state.isOver = true
  assert.equal(listed.filter(({ notice }) => String(notice.subject).includes('a/a')).length, 2)
  assert.equal(await goingOn, true)
})
