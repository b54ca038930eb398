import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startMirror } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'
import { linesOf, until } from '../support/waiting.ts'

test('an error response names the id of its line in the log, which may be the id that a proxy gave', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host })
  const path = '/v2/library/none/manifests/1'
  const own = await mirror.get(path)
  const given = await mirror.get(path, { 'X-Request-Id': 'from-the-proxy' })
  const bad = await mirror.get(path, { 'X-Request-Id': '"><script>' })
  await until(() => linesOf(mirror, 'request').length >= 3, 'three requests are logged')
  const ids = [own, given, bad].map(({ headers }) => headers['x-request-id'])
  assert.deepEqual(
    linesOf(mirror, 'request').map(line => line['id']),
    ids,
  )
  assert.match(String(ids[0]), /^[0-9a-z]{10}$/)
  assert.equal(ids[1], 'from-the-proxy')
  assert.match(String(ids[2]), /^[0-9a-z]{10}$/)
})

test('an answered probe is logged at debug, and other requests at info', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host })
  for (const path of ['/livez', '/readyz', '/v2/']) assert.equal((await mirror.get(path)).status, 200)
  await until(() => linesOf(mirror, 'request').length >= 3, 'three requests are logged')
  assert.deepEqual(
    linesOf(mirror, 'request').map(line => [line['resource'], line['level']]),
    [
      ['live', 'debug'],
      ['ready', 'debug'],
      ['base', 'info'],
    ],
  )
})
