import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { startMirror } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'
import { stored, until } from '../support/waiting.ts'
import { pull } from '../torture/client.ts'

for (const workers of [1, 2]) {
  test(`with ${workers} of threads a client over its limit of requests gets 429 with Retry-After, and probes 200`, async () => {
    await using upstream = await startUpstream()
    const digest = upstream.putBlob(randomBytes(1000))
    const clientLimits = { requestsPerSecond: 1, downloads: undefined }
    await using mirror = await startMirror({ upstream: upstream.host, config: { workers, clientLimits } })
    const path = `/v2/team/app/blobs/${digest}`
    const { client } = mirror.daemon.addresses
    const replies = await Promise.all(
      Array.from({ length: 40 }, async () => await pull(client, path, { keeps: true })),
    )
    const refused = replies.filter(({ status }) => status === 429)
    const served = replies.filter(({ status }) => status === 200)
    assert.equal(refused.length + served.length, 40)
    // Seconds may pass meanwhile, each of which earns one request.
    assert.ok(served.length >= 10 && served.length <= 30, `${served.length} were served`)
    for (const { headers, body } of refused) {
      assert.match(String(headers['retry-after']), /^[1-9][0-9]*$/)
      assert.match(String(body), /"code":"TOOMANYREQUESTS".*over its limit of requests/)
    }
    assert.equal((await mirror.get('/livez')).status, 200)
    assert.equal((await mirror.get('/readyz')).status, 200)
    const metrics = (await mirror.admin('GET', '/metrics')).body.toString()
    assert.match(metrics, new RegExp(`^entrepot_client_limited_total ${refused.length}$`, 'm'))
  })
}

for (const path of ['/token', '/v2/_catalog']) {
  test(`a client over its limit of requests gets 429 at ${path} too`, async () => {
    await using upstream = await startUpstream()
    const clientLimits = { requestsPerSecond: 1, downloads: undefined }
    await using mirror = await startMirror({ upstream: upstream.host, config: { clientLimits } })
    const { client } = mirror.daemon.addresses
    const replies = await Promise.all(
      Array.from({ length: 40 }, async () => await pull(client, path, { keeps: true })),
    )
    const statuses = new Set(replies.map(({ status }) => status))
    assert.deepEqual(statuses, new Set([200, 429]))
  })
}

test('a client over its limit of downloads gets 429 until one of them has ended', async () => {
  await using upstream = await startUpstream()
  const digest = upstream.putBlob(randomBytes(16 * 1024 * 1024))
  const clientLimits = { requestsPerSecond: undefined, downloads: 1 }
  await using mirror = await startMirror({ upstream: upstream.host, config: { clientLimits } })
  const path = `/v2/team/app/blobs/${digest}`
  assert.equal((await mirror.get(path)).status, 200)
  await stored(mirror, digest)
  const running = await mirror.open(path)
  assert.equal((await mirror.get(path)).status, 429)
  assert.equal((await mirror.head(path)).status, 200)
  running.destroy()
  await until(async () => (await mirror.get(path)).status === 200, 'another download is let in')
})

test('what an administrator changes, and what is refused there, is in the audit log with its address', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-audit-'))
  t.after(async () => await rm(directory, { recursive: true }))
  const file = join(directory, 'audit.log')
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host, config: { auditLog: { file } } })
  await mirror.admin('GET', '/_admin/v1/status')
  await mirror.admin('PUT', '/_admin/v1/pins?image=docker.io/library/a:1')
  await until(async () => (await readFile(file, 'utf8').catch(() => '')).includes('\n'), 'a line is written')
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n')
  const { action, who, what, from } = JSON.parse(lines[0] ?? '') as Record<string, unknown>
  assert.equal(lines.length, 1)
  assert.deepEqual(
    { action, who, what, from },
    {
      action: 'admin',
      who: 'administrator',
      what: 'PUT /_admin/v1/pins?image=docker.io/library/a:1',
      from: '127.0.0.1',
    },
  )
  assert.ok(!mirror.log.some(({ msg }) => msg === 'audit'))
})
