import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { Secret } from '../../src/config/secret.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { startReplicas } from '../support/replicas.ts'
import { startUpstream } from '../support/upstream.ts'
import { createGate } from '../support/upstream-behaviour.ts'
import { inFlight, linesOf, until } from '../support/waiting.ts'
import {
  accessibilityOf,
  HELD_BYTES,
  launchBrowser,
  logIn,
  openWindow,
  originOf,
  type PageRig,
  putHeldImage,
  startPageRig,
} from './rig.ts'

const TOKEN = 'a-token-of-some-length'

/** Begins a pull whose bytes stop in the middle, and waits until the registry was asked for them. */
async function beginPull({ upstream, mirror }: PageRig): Promise<{
  readonly layer: Digest
  readonly pull: ReturnType<PageRig['mirror']['get']>
  readonly open: () => void
}> {
  const { layer, gate } = putHeldImage(upstream, 'cold/app')
  await mirror.get('/v2/cold/app/manifests/v1?ns=docker.io')
  const pull = mirror.get(`/v2/cold/app/blobs/${layer}?ns=docker.io`)
  const path = `/v2/cold/app/blobs/${layer}`
  await until(() => upstream.requests.some(asked => asked.path === path), 'the registry to be asked')
  return { layer, pull, open: () => gate.open() }
}

const BUTTON = 'button[aria-label^="Cancel the download of docker.io/cold/app"]'

for (const javaScriptEnabled of [true, false]) {
  const how = javaScriptEnabled ? 'with scripts' : 'without scripts'
  test(`${how}, the button Cancel ends a running download, and only after a login`, async () => {
    await using rig = await startPageRig()
    const { layer, pull, open } = await beginPull(rig)
    const visitor = await openWindow(rig, { javaScriptEnabled })
    await visitor.page.locator('#downloads tr', { hasText: 'docker.io/cold/app' }).waitFor()
    assert.equal(await visitor.page.locator(BUTTON).count(), 0)
    visitor.check()
    const operator = await openWindow(rig, { javaScriptEnabled })
    await operator.page.goto(`${rig.origin}login`)
    await operator.page.click('main >> button:has-text("Log in")')
    await operator.page.locator(BUTTON).click()
    await operator.page.locator('text=Nothing is being downloaded').waitFor()
    assert.equal(operator.page.url(), rig.origin)
    operator.check()
    const { status, isComplete } = await pull
    assert.ok(status !== 200 || !isComplete)
    const ended = linesOf(rig.mirror, 'fill failed').map(({ digest, result }) => [digest, result])
    assert.deepEqual(ended, [[layer, 'abandoned']])
    const { body: listed } = await rig.mirror.admin('GET', '/_admin/v1/flows')
    assert.deepEqual(JSON.parse(listed.toString()), { flows: [] })
    assert.deepEqual(
      linesOf(rig.mirror, 'audit').map(({ action, what }) => [action, what]),
      [
        ['login', 'admin page'],
        ['admin', `page cancel ${layer}`],
      ],
    )
    open()
    const again = await rig.mirror.get(`/v2/cold/app/blobs/${layer}?ns=docker.io`)
    assert.deepEqual([again.isComplete, again.body.length], [true, HELD_BYTES])
  })
}

test('the button Cancel does nothing with a form token of another session', async () => {
  await using rig = await startPageRig({ config: { adminToken: new Secret(TOKEN) } })
  const { pull, open } = await beginPull(rig)
  const operator = await openWindow(rig)
  await logIn(operator, rig.origin, TOKEN)
  const { page } = operator
  await page.locator(BUTTON).waitFor()
  operator.check()
  await page.evaluate(`document.querySelector('#cancel-form [name="form"]').value = 'of-another-session'`)
  await page.click(BUTTON)
  await page.locator('text=this form is not of this session').waitFor()
  await page.goto(rig.origin)
  await page.locator(BUTTON).waitFor()
  open()
  assert.equal((await pull).isComplete, true)
  const audited = linesOf(rig.mirror, 'audit').map(({ what }) => what)
  assert.deepEqual(audited, ['admin page'])
})

/** More downloads than the page has rows for. */
const MANY = 130

test(`of ${MANY} running downloads an open page shows 50 and counts the others`, async () => {
  await using rig = await startPageRig()
  const gate = createGate()
  rig.upstream.on({ path: /many\/app\/blobs/ }, { pause: { at: 1000, until: gate.opened } })
  const { page, check } = await openWindow(rig)
  await page.locator('#live-state:has-text("live")').waitFor()
  const pulls = Array.from({ length: MANY }, async () => {
    const digest = rig.upstream.putBlob(randomBytes(2000))
    return await rig.mirror.get(`/v2/many/app/blobs/${digest}?ns=docker.io`)
  })
  await inFlight(rig.mirror, MANY)
  await page.locator(`#downloads >> text=And ${MANY - 50} more.`).waitFor()
  assert.equal(await page.locator('#downloads tbody tr').count(), 50)
  assert.deepEqual(await accessibilityOf(page), [])
  gate.open()
  for (const { status, isComplete } of await Promise.all(pulls))
    assert.deepEqual([status, isComplete], [200, true])
  await page.locator('text=Nothing is being downloaded').waitFor()
  check()
})

test('an open page shows the other replicas, what came from them, and that one has left', async () => {
  await using upstream = await startUpstream()
  await using replicas = await startReplicas(2, () => ({ upstream: upstream.host }))
  const browser = await launchBrowser()
  await using _closed = { [Symbol.asyncDispose]: async () => await browser.close() }
  const [one, other] = replicas.mirrors
  assert.ok(one !== undefined && other !== undefined)
  const { page, check } = await openWindow({ browser, origin: originOf(one) })
  const rows = page.locator('#replicas tbody tr')
  await page.locator('#replicas >> text=2 of 2 are here').waitFor()
  assert.deepEqual(await rows.count(), 2)
  await rows.filter({ hasText: 'this one' }).waitFor()
  const neighbour = rows.filter({ hasText: `127.0.0.1:${replicas.ports[1]}` })
  assert.match(await neighbour.innerText(), /alive/)
  // Some of these belong to the other replica, and come through it.
  for (let count = 0; count < 12; count += 1) {
    const digest = upstream.putBlob(randomBytes(64 * 1024))
    assert.equal((await one.get(`/v2/team/app/blobs/${digest}?ns=docker.io`)).status, 200)
  }
  await neighbour.filter({ hasText: 'KiB' }).waitFor()
  assert.deepEqual(await accessibilityOf(page), [])
  other.daemon.stopNow()
  await other.daemon.stop()
  await page.locator('#replicas >> text=1 of 2 are here').waitFor()
  assert.doesNotMatch(await neighbour.innerText(), /alive/)
  check()
})
