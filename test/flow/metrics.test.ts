import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { RawClient } from '../support/raw-client.ts'
import { startUpstream } from '../support/upstream.ts'
import { logged } from '../support/waiting.ts'

/** Values of the series whose name and labels match. */
async function valuesOf(mirror: TestMirror, pattern: RegExp): Promise<readonly number[]> {
  const text = (await mirror.admin('GET', '/metrics')).body.toString()
  return text
    .split('\n')
    .filter(line => pattern.test(line) && !line.startsWith('#'))
    .map(line => Number(line.slice(line.lastIndexOf(' '))))
}

test('a refused reload sets the gauge of the last reload to 0, and the next good one to 1', async () => {
  await using upstream = await startUpstream()
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-metrics-'))
  const file = join(directory, 'upstreams.yaml')
  await writeFile(file, '- namespace: example.com\n  host: registry.example.com\n')
  await using mirror = await startMirror({ upstream: upstream.host, config: { upstreamConfigFile: file } })
  const last = /^entrepot_config_last_reload_successful /
  assert.deepEqual(await valuesOf(mirror, last), [1])
  assert.deepEqual(await valuesOf(mirror, /^entrepot_config_reloads_total/), [0, 0])
  const [startedAt = 0] = await valuesOf(mirror, /^entrepot_config_last_reload_success_timestamp_seconds /)
  assert.ok(Math.abs(startedAt - Date.now() / 1000) < 300)
  await writeFile(file, '- namespace: example.com\n  hots: registry.example.com\n')
  await mirror.daemon.reload()
  assert.deepEqual(await valuesOf(mirror, last), [0])
  await writeFile(file, '- namespace: example.com\n  host: registry.example.com\n')
  await mirror.daemon.reload()
  await logged(mirror, 'upstream file reloaded')
  assert.deepEqual(await valuesOf(mirror, last), [1])
  await rm(directory, { recursive: true })
})

test('a pull, a refusal and an open connection show in the metrics, and errors begin at 0', async () => {
  await using upstream = await startUpstream()
  const layer = upstream.putBlob('layer')
  await using mirror = await startMirror({ upstream: upstream.host })
  const errors = await valuesOf(mirror, /^entrepot_requests_total\{.*status="50/)
  assert.ok(errors.length >= 16 && errors.every(value => value === 0))
  const refusals = /^entrepot_refusals_total\{code="DIGEST_INVALID"\}/
  assert.deepEqual(await valuesOf(mirror, refusals), [])
  assert.equal((await mirror.get(`/v2/library/tools/blobs/${layer}`)).status, 200)
  assert.equal((await mirror.get('/v2/library/tools/blobs/sha256:short')).status, 400)
  assert.deepEqual(await valuesOf(mirror, refusals), [1])
  assert.deepEqual(
    await valuesOf(mirror, /^entrepot_first_byte_seconds_count\{resource="blob",outcome="miss"\}/),
    [1],
  )
  const [asked = 0] = await valuesOf(
    mirror,
    /^entrepot_upstream_request_seconds_count\{namespace="docker.io",verb="get-blob"\}/,
  )
  assert.equal(asked, 1)
  const client = await RawClient.connect(mirror.daemon.addresses.client)
  using _ = { [Symbol.dispose]: () => client.socket.destroy() }
  client.send('GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n')
  await client.until(({ received }) => received.includes('{}'))
  const [connections = 0] = await valuesOf(mirror, /^entrepot_connections /)
  assert.ok(connections >= 1)
  assert.deepEqual(await valuesOf(mirror, /^entrepot_build_info\{version="[^"]+"\}/), [1])
})
