import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Secret } from '../../src/config/secret.ts'
import { linesOf } from '../support/waiting.ts'
import {
  logIn,
  openWindow,
  type PageRig,
  pullImages,
  putHeldImage,
  startPageRig,
  type Watched,
} from './rig.ts'

const TOKEN = 'a-token-of-some-length'
const IMAGE = 'docker.io/library/alpine:3.20'

for (const javaScriptEnabled of [true, false]) {
  const how = javaScriptEnabled ? 'with scripts' : 'without scripts'
  test(`${how}, an administrator logs in, pins, unpins, warms, rolls back, removes and logs out`, async () => {
    await using rig = await startPageRig({
      config: { adminToken: new Secret(TOKEN) },
      entry: { manifestInvalidationMs: 0 },
    })
    await pullImages(rig)
    const watched = await openWindow(rig, { javaScriptEnabled })
    const { page } = watched
    await page.goto(`${rig.origin}images`)
    assert.match(page.url(), /login$/)
    await logIn(watched, rig.origin, TOKEN)
    await page.goto(`${rig.origin}images?q=alpine:3`)
    await page.click(`button[aria-label="Pin ${IMAGE}"]`)
    await page.locator('text=Pinned: it is not evicted.').waitFor()
    await page.click('text=Unpin')
    await page.locator('text=Unpinned').waitFor()
    await page.click('button:has-text("Warm")')
    await page.locator('text=It is being pulled into the cache.').waitFor()
    await moveAndRollBack(watched, rig)
    await page.goto(`${rig.origin}image?name=${IMAGE}`)
    await page.click('text=Remove…')
    await page.locator('text=This removes').waitFor()
    await page.click('button:has-text("Remove it")')
    await page.locator(`text=Removed ${IMAGE}`).waitFor()
    await page.click('button:has-text("Log out")')
    await page.locator('header >> text=Log in').waitFor()
    watched.check()
    const audited = linesOf(rig.mirror, 'audit').map(({ what }) =>
      String(what).split(' ').slice(0, 2).join(' '),
    )
    assert.deepEqual(audited, [
      'admin page',
      'page pin',
      'page unpin',
      'page warm',
      'page roll-back',
      'page follow',
      'page remove',
    ])
  })
}

/** The tag moves at the upstream; it is rolled back here and let go again. */
async function moveAndRollBack({ page }: Watched, { upstream, mirror, origin }: PageRig): Promise<void> {
  const name = 'docker.io/moving/app:v1'
  for (const content of ['one', 'two']) {
    upstream.tag('moving/app', 'v1', upstream.putImage({ layers: [Buffer.from(content)] }).manifest)
    await mirror.get('/v2/moving/app/manifests/v1?ns=docker.io', { 'cache-control': 'no-cache' })
  }
  await page.goto(`${origin}image?name=${name}`)
  await page.locator('button:has-text("Roll back to this")').first().click()
  await page.locator('text=The tag has another digest now.').waitFor()
  await page.click('text=Follow the upstream again')
  await page.locator('text=The tag follows its upstream again.').waitFor()
}

test('a cold download is watched from 0 to 100 % on an open page', async () => {
  await using rig = await startPageRig()
  const { page, check } = await openWindow(rig)
  await page.locator('text=Nothing is being downloaded').waitFor()
  const { layer, gate } = putHeldImage(rig.upstream, 'cold/app')
  await rig.mirror.get('/v2/cold/app/manifests/v1?ns=docker.io')
  const pull = rig.mirror.get(`/v2/cold/app/blobs/${layer}?ns=docker.io`)
  const row = page.locator('#downloads tr', { hasText: 'docker.io/cold/app' })
  await row.locator('progress[value="50"]').waitFor()
  assert.match(await row.innerText(), /50 % of 4\.00 MiB/)
  gate.open()
  assert.equal((await pull).status, 200)
  await page.locator('text=Nothing is being downloaded').waitFor()
  await page.locator('#traffic tbody tr', { hasText: 'Today' }).locator('text=4.00 MiB').first().waitFor()
  check()
})

test('a page that is open while the mirror restarts goes on by itself', async () => {
  const port = 18_000 + Math.floor(Math.random() * 2000)
  const config = { adminListen: { kind: 'tcp', host: '127.0.0.1', port } as const }
  await using rig = await startPageRig({ config })
  const { page } = await openWindow(rig)
  await page.locator('#live-state:has-text("live")').waitFor()
  rig.mirror.daemon.stopNow()
  await rig.mirror.daemon.stop()
  await page.locator('#live-state:has-text("trying again")').waitFor()
  const { startMirror } = await import('../support/mirror.ts')
  await using _again = await startMirror({ upstream: rig.upstream.host, config, root: rig.mirror.root })
  await page.locator('#live-state:has-text("live")').waitFor()
})

test('behind a proxy below a path, pages, forms and the feed work', async () => {
  await using rig = await startPageRig()
  const { createServer, request } = await import('node:http')
  const [host = '', port = ''] = new URL(rig.origin).host.split(':')
  const proxy = createServer((asked, answer) => {
    const path = (asked.url ?? '').replace(/^\/deep\/entrepot/, '')
    const headers = {
      ...asked.headers,
      host: `${host}:${port}`,
      'x-forwarded-host': String(asked.headers.host),
    }
    const sent = request({ host, port, path, method: asked.method, headers }, response => {
      answer.writeHead(response.statusCode ?? 502, response.headers)
      response.pipe(answer)
    })
    sent.on('error', () => answer.destroy())
    asked.pipe(sent)
  }).listen(0, '127.0.0.1')
  const { promise, resolve } = Promise.withResolvers<void>()
  proxy.once('listening', resolve)
  await promise
  const address = proxy.address()
  assert.ok(address !== null && typeof address === 'object')
  const origin = `http://127.0.0.1:${address.port}/deep/entrepot/`
  const { page, check, context } = await openWindow({ browser: rig.browser, origin })
  await page.locator('#live-state:has-text("live")').waitFor()
  await page.click('text=Log in')
  await page.click('main >> button:has-text("Log in")')
  await page.locator('button:has-text("Log out")').waitFor()
  await page.click('nav >> text=Images')
  await page.locator('text=No image matches').waitFor()
  check()
  await context.close()
  proxy.closeAllConnections()
  proxy.close()
})
