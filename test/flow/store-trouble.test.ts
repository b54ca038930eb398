import assert from 'node:assert/strict'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { digestOf } from '../../src/oci/digest.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { startUpstream } from '../support/upstream.ts'
import { logged, until } from '../support/waiting.ts'

const TROUBLE = 'store cannot be written: pulls pass through uncached until it can'

/** All places that report the state of the store. */
async function reportsOf(mirror: TestMirror): Promise<{
  readonly readiness: string
  readonly metric: string | undefined
  readonly trouble: string | undefined
}> {
  const ready = JSON.parse((await mirror.get('/readyz')).body.toString()) as { readonly status: string }
  const metrics = (await mirror.admin('GET', '/metrics')).body.toString()
  const status = JSON.parse((await mirror.admin('GET', '/_admin/v1/status')).body.toString()) as {
    readonly storeTrouble?: string
  }
  return {
    readiness: ready.status,
    metric: /^entrepot_storage_bypass (\d)$/m.exec(metrics)?.[1],
    trouble: status.storeTrouble,
  }
}

test('a store that stops taking writes is reported by status, readiness, metrics and log before any pull meets it', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host, overrides: { probeEveryMs: 20 } })
  assert.deepEqual(await reportsOf(mirror), { readiness: 'ok', metric: '0', trouble: undefined })
  const spool = join(mirror.root, 'spool')
  await rename(spool, `${spool}-aside`)
  await writeFile(spool, '')
  await logged(mirror, TROUBLE)
  const { trouble, ...reports } = await reportsOf(mirror)
  assert.deepEqual(reports, { readiness: 'degraded', metric: '1' })
  assert.match(trouble ?? '', /EEXIST|ENOTDIR/)
  await rm(spool)
  await rename(`${spool}-aside`, spool)
  await logged(mirror, 'store can be written again')
  await until(async () => (await reportsOf(mirror)).readiness === 'ok', 'the mirror is ready again')
  assert.deepEqual(await reportsOf(mirror), { readiness: 'ok', metric: '0', trouble: undefined })
})

test('a mirror that was asked to pass through starts without a directory to write, serves, and says why it caches nothing', async () => {
  await using upstream = await startUpstream()
  const layer = upstream.putBlob('layer')
  await using mirror = await startMirror({
    upstream: upstream.host,
    root: '/sys/entrepot',
    config: { passesThrough: true },
  })
  await logged(mirror, TROUBLE)
  const reply = await mirror.get(`/v2/library/tools/blobs/${layer}`)
  assert.equal(digestOf(reply.body), layer)
  const { trouble, ...reports } = await reportsOf(mirror)
  assert.deepEqual(reports, { readiness: 'degraded', metric: '1' })
  assert.match(trouble ?? '', /EPERM|EACCES|EROFS|ENOENT/)
  const [line] = mirror.log.filter(({ msg }) => msg === TROUBLE)
  assert.doesNotMatch(JSON.stringify(line), /"stack"/)
})
