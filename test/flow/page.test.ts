import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { Secret } from '../../src/config/secret.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { PageBrowser } from '../support/page-browser.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { createGate } from '../support/upstream-behaviour.ts'
import { linesOf, until } from '../support/waiting.ts'

const TOKEN = 'a-token-of-some-length'
let upstream: FakeUpstream
let local: TestMirror
let guarded: TestMirror

before(async () => {
  upstream = await startUpstream()
  upstream.tag('team/app', 'v1', upstream.putImage({ layers: [Buffer.alloc(3000, 1)] }).manifest)
  local = await startMirror({ upstream: upstream.host })
  guarded = await startMirror({
    upstream: upstream.host,
    config: { adminToken: new Secret(TOKEN), auditLog: 'log' },
  })
  for (const mirror of [local, guarded]) await mirror.get('/v2/team/app/manifests/v1?ns=docker.io')
})

after(async () => {
  await local[Symbol.asyncDispose]()
  await guarded[Symbol.asyncDispose]()
  await upstream[Symbol.asyncDispose]()
})

test('every page forbids inline scripts and everything from other hosts', async () => {
  const { status, headers, body } = await new PageBrowser(local).get('/')
  const policy = String(headers['content-security-policy'])
  assert.equal(status, 200)
  for (const rule of [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "frame-ancestors 'none'",
  ])
    assert.ok(policy.includes(rule), rule)
  assert.doesNotMatch(policy, /unsafe|\*|http/)
  assert.doesNotMatch(
    body.toString(),
    /<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?:\/\/(?!www\.w3\.org)/,
  )
  assert.deepEqual(
    [headers['x-content-type-options'], headers['cache-control'], headers['referrer-policy']],
    ['nosniff', 'no-store', 'same-origin'],
  )
})

test('all files that a page loads are at most 40 KiB, stay in the cache, and are named by their content', async () => {
  const browser = new PageBrowser(local)
  const page = (await browser.get('/')).body.toString()
  const names = new Set(
    [...page.matchAll(/(?:src|href)="([a-z]+\.[0-9a-f]{12}\.[a-z]+)"/g)].map(([, name]) => name),
  )
  assert.equal(names.size, 3)
  let bytes = gzipSync(page).byteLength
  for (const name of names) {
    const { status, headers, body } = await browser.get(`/${name}`)
    assert.equal(status, 200)
    assert.match(String(headers['cache-control']), /immutable/)
    const again = await browser.get(`/${name}`, { 'if-none-match': String(headers.etag) })
    assert.deepEqual([again.status, again.body.length], [304, 0])
    bytes += body.byteLength
  }
  assert.ok(bytes <= 40 * 1024, String(bytes))
  assert.equal((await browser.get('/page.000000000000.css')).status, 404)
})

test('no page links to an address outside of its own folder, so that pages work below any path', async () => {
  const page = (await new PageBrowser(local).get('/')).body.toString()
  const addresses = [...page.matchAll(/(?:src|href|action)="([^"]*)"/g)].map(([, address = '']) => address)
  assert.ok(addresses.length > 12)
  for (const address of addresses) assert.match(address, /^(?:\.\/|#main|[a-z][a-z0-9.-]*(?:\?[^"]*)?)$/)
})

test('without a token to show, everybody on this machine reads, and nobody acts before a login', async () => {
  const browser = new PageBrowser(local)
  const page = (await browser.get('/')).body.toString()
  assert.match(page, /docker\.io/)
  assert.doesNotMatch(page, /method="post"/)
  const refused = await browser.post('/pin', { image: 'docker.io/team/app:v1' })
  assert.equal(refused.status, 401)
  const { status, headers } = await browser.logIn()
  assert.deepEqual([status, headers.location], [303, './'])
  assert.match(String(headers['set-cookie']), /^entrepot-[0-9a-f]{8}=[\w-]{32}; HttpOnly; SameSite=Strict$/)
  assert.match((await browser.get('/')).body.toString(), /method="post"/)
})

test('with a token, a page without a login has numbers and no names', async () => {
  const browser = new PageBrowser(guarded)
  const page = (await browser.get('/')).body.toString()
  assert.match(page, /Log in to see which|download/)
  assert.doesNotMatch(page, /team\/app/)
  const { status, headers } = await browser.get('/clients')
  assert.deepEqual([status, headers.location], [303, 'login'])
})

test('a wrong token is refused and audited, and the right one begins a session', async () => {
  const browser = new PageBrowser(guarded)
  const wrong = await browser.logIn('a-wrong-token-of-some-length')
  assert.equal(wrong.status, 401)
  assert.equal(wrong.headers['set-cookie'], undefined)
  assert.doesNotMatch(wrong.body.toString(), /a-wrong-token/)
  assert.equal((await browser.logIn(TOKEN)).status, 303)
  assert.equal((await browser.get('/clients')).status, 200)
  const actions = linesOf(guarded, 'audit').map(({ action, what }) => `${String(action)} ${String(what)}`)
  assert.ok(actions.includes('login-refused admin page') && actions.includes('login admin page'))
})

test('a form needs its token, and one of another session does not do', async () => {
  const [one, other] = [new PageBrowser(guarded), new PageBrowser(guarded)]
  await one.logIn(TOKEN)
  await other.logIn(TOKEN)
  const image = 'docker.io/team/app:v1'
  for (const form of ['', 'x', await other.formToken()])
    assert.equal((await one.post('/pin', { image, form })).status, 403)
  const pinned = await one.post('/pin', { image, form: await one.formToken() })
  assert.deepEqual([pinned.status, pinned.headers.location?.split('?')[0]], [303, 'image'])
  const pins = linesOf(guarded, 'audit').filter(({ what }) => String(what).startsWith('page pin'))
  assert.deepEqual(
    pins.map(({ action, who, what }) => [action, who, what]),
    [['admin', 'administrator', 'page pin docker.io/team/app:v1']],
  )
})

const STRANGERS: readonly (readonly [what: string, headers: Record<string, string>])[] = [
  ['of another site', { 'sec-fetch-site': 'cross-site' }],
  ['of another port of this host', { 'sec-fetch-site': 'same-site' }],
  ['typed into the address bar', { 'sec-fetch-site': 'none' }],
  ['with the origin of a stranger', { origin: 'https://evil.example' }],
  [
    'with the origin of a stranger and a lie',
    { origin: 'http://evil.example', 'sec-fetch-site': 'same-origin' },
  ],
  ['with a hidden origin', { origin: 'null' }],
  ['that no browser sent', {}],
]

for (const [what, headers] of STRANGERS) {
  test(`a form ${what} is refused, login and all`, async () => {
    const browser = new PageBrowser(local)
    await browser.logIn()
    const form = await browser.formToken()
    for (const path of ['/pin', '/login', '/logout'])
      assert.equal((await browser.post(path, { image: 'docker.io/team/app:v1', form }, headers)).status, 403)
    assert.notEqual(await browser.formToken(), '')
  })
}

test('a form with the origin of this listener is taken where a browser says no more', async () => {
  const browser = new PageBrowser(local)
  const origin = `http://${local.daemon.addresses.admin}`
  assert.equal((await browser.post('/login', { secret: '' }, { origin })).status, 303)
})

test('a page of another site may link to a page here, and may load nothing', async () => {
  const browser = new PageBrowser(local)
  const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
  assert.equal((await browser.get('/', link)).status, 200)
  for (const dest of ['image', 'iframe', 'empty', 'script'])
    assert.equal(
      (await browser.get('/', { ...link, 'sec-fetch-dest': dest })).status,
      dest === 'document' ? 200 : 403,
    )
  assert.equal((await browser.get('/live', { 'sec-fetch-site': 'cross-site' })).status, 403)
  assert.equal((await browser.get('/', { host: 'evil.example' })).status, 403)
})

test('a session ends at the logout, and its cookie means nothing any more', async () => {
  const browser = new PageBrowser(guarded)
  await browser.logIn(TOKEN)
  const { cookie } = browser
  assert.equal((await browser.change('/logout', {})).status, 303)
  browser.cookie = cookie
  assert.equal((await browser.get('/clients')).status, 303)
})

test('the traffic of today outlives a restart, and the page says since when it counts', async () => {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-flow-'))
  await using _removed = {
    [Symbol.asyncDispose]: async () => await rm(root, { recursive: true, force: true }),
  }
  const today = /Today \(UTC\)<\/th><td>(\d+)<\/td>/
  const since = /Counted since (\d{4}-\d\d-\d\d \d\d:\d\d) UTC/
  const seen: (readonly (string | undefined)[])[] = []
  for (const [pulls, jumpMs] of [
    [3, 0],
    [2, 2 * 60_000],
  ] as const) {
    const clock = new FakeClock()
    clock.jumpWall(jumpMs)
    await using mirror = await startMirror({ upstream: upstream.host, root, overrides: { clock } })
    for (let count = 0; count < pulls; count += 1) await mirror.get('/v2/team/app/manifests/v1?ns=docker.io')
    const page = (await new PageBrowser(mirror).get('/')).body.toString()
    seen.push([today.exec(page)?.[1], since.exec(page)?.[1]])
  }
  const [first, second] = seen
  assert.deepEqual([first?.[0], second?.[0]], ['3', '5'])
  assert.ok(first?.[1] !== undefined)
  assert.equal(second?.[1], first[1])
})

test('a form that is too large or no form is refused', async () => {
  const browser = new PageBrowser(local)
  // With its length, and in chunks.
  for (const [count, headers] of [
    [20_000, {}],
    [900_000, { 'transfer-encoding': 'chunked' }],
  ] as const) {
    const sent = { 'sec-fetch-site': 'same-origin', ...headers }
    const reply = await browser.post('/login', { secret: 'x'.repeat(count) }, sent)
    assert.equal(reply.status, 413)
    assert.match(reply.body.toString(), /a form of more than 16384 bytes is not taken/)
  }
  const odd = { 'sec-fetch-site': 'same-origin', 'content-type': 'text/plain' }
  assert.equal((await browser.post('/login', { secret: '' }, odd)).status, 400)
})

test('the feed brings the parts of the first page', async () => {
  const asked = request(`http://${local.daemon.addresses.admin}/live`, { agent: false }).end()
  const { promise, resolve } = Promise.withResolvers<string>()
  asked.on('response', response => {
    let text = ''
    response.setEncoding('utf8').on('data', (piece: string) => {
      text += piece
      if (text.includes('event: parts')) resolve(text)
    })
  })
  asked.on('error', () => undefined)
  const text = await promise
  asked.destroy()
  assert.match(text, /^retry: 2000\nevent: hello\n/)
  assert.match(text, /"id":"downloads-live"/)
})

const PAGES = [
  '/',
  '/images',
  '/image?name=team/app:v1',
  '/clients',
  '/setup',
  '/settings',
  '/policy',
  '/events',
]

for (const path of PAGES) {
  test(`${path} is a whole page that links to addresses below itself only`, async () => {
    const { status, body } = await new PageBrowser(local).get(path)
    const page = body.toString()
    assert.equal(status, 200, page)
    assert.ok(page.endsWith('</html>\n'))
    assert.doesNotMatch(page, /undefined|\[object|NaN/)
    for (const [, address = ''] of page.matchAll(/(?:src|href|action)="([^"]*)"/g))
      assert.match(address, /^(?:\.\/|#[a-z]+[a-z0-9]*|[a-z][a-z0-9.-]*(?:\?[^"]*)?)$/)
    assert.doesNotMatch(page, /<script(?![^>]* src=)|<style| style=| on[a-z]+=/)
  })
}

test('an image is found by a part of its name, and its page says what is cached of it', async () => {
  const browser = new PageBrowser(local)
  for (const sort of ['name', 'last-use', 'size']) {
    const page = (await browser.get(`/images?q=eam%2Fap&sort=${sort}`)).body.toString()
    assert.match(page, /href="image\?name=docker\.io%2Fteam%2Fapp%3Av1"/, sort)
  }
  assert.match((await browser.get('/images?cached=whole')).body.toString(), /No image matches/)
  const page = (await browser.get('/image?name=docker.io%2Fteam%2Fapp%3Av1')).body.toString()
  assert.match(page, /known to be missing/)
  assert.match(page, /the manifest was not cached/)
  assert.match(page, /<code>127\.0\.0\.1<\/code>/)
})

test('an image is pinned, unpinned, warmed, and removed after a question', async () => {
  const browser = new PageBrowser(local)
  await browser.logIn()
  const image = 'docker.io/team/app:v1'
  const path = `/image?name=${encodeURIComponent(image)}`
  assert.equal((await browser.change('/pin', { image })).status, 303)
  assert.match((await browser.get(path)).body.toString(), /action="unpin"/)
  assert.equal((await browser.change('/unpin', { image })).status, 303)
  assert.equal((await browser.change('/warm', { image, platform: '' })).status, 303)
  await until(async () => (await browser.get(path)).body.includes('<td>done</td>'), 'the image to be warm')
  assert.match((await browser.get(path)).body.toString(), /, whole\./)
  assert.match((await browser.get(`/images?cached=whole`)).body.toString(), /team\/app:v1/)
  assert.match(
    (await browser.get(`/confirm?image=${encodeURIComponent(image)}`)).body.toString(),
    /This removes/,
  )
  const removed = await browser.change('/remove', { image })
  assert.match(String(removed.headers.location), /^images\?removed=/)
  assert.match(
    (await browser.get(`/${removed.headers.location}`)).body.toString(),
    /Removed docker\.io\/team\/app:v1/,
  )
  assert.doesNotMatch((await browser.get('/images?q=team')).body.toString(), /app:v1<\/a>/)
})

test('a running download is cancelled by its button, which only a session has', async () => {
  const digest = upstream.putBlob(randomBytes(400_000))
  const gate = createGate()
  upstream.on({ path: `/v2/team/app/blobs/${digest}` }, { pause: { at: 200_000, until: gate.opened } })
  const pulling = local.get(`/v2/team/app/blobs/${digest}?ns=docker.io`)
  const [visitor, operator] = [new PageBrowser(local), new PageBrowser(local)]
  await operator.logIn()
  const button = `form="cancel-form" name="digest" value="${digest}"`
  await until(async () => (await operator.get('/')).body.includes(button), 'the button')
  assert.ok(!(await visitor.get('/')).body.includes(button))
  const { status, headers } = await operator.change('/cancel', { digest })
  assert.deepEqual([status, headers.location], [303, './'])
  // Whoever has no bytes yet gets an error.
  const pulled = await pulling
  assert.ok(pulled.status !== 200 || !pulled.isComplete)
  assert.ok(!(await operator.get('/')).body.includes(button))
  gate.open()
})

test('names with markup are refused in words that have none, and an action on one changes nothing', async () => {
  const browser = new PageBrowser(local)
  await browser.logIn()
  const name = '"><script>alert(1)</script>\u202e'
  for (const path of [
    '/image?name=',
    '/images?q=',
    '/policy?image=',
    '/policy?image=a&as=',
    '/setup?mirror=',
  ]) {
    const page = (await browser.get(`${path}${encodeURIComponent(name)}`)).body.toString()
    assert.doesNotMatch(page, /<script>|\u202e/, path)
    assert.match(page, /U\+202E|&lt;script&gt;|\\u202e/, path)
  }
  assert.equal((await browser.change('/pin', { image: name })).status, 400)
})

test('a user agent with markup of a megabyte is shown as text, and cut', async () => {
  await local.get('/v2/team/app/manifests/v1?ns=docker.io', {
    'user-agent': `<img src=x>${'a'.repeat(12_000)}`,
  })
  const page = (await new PageBrowser(local).get('/clients')).body.toString()
  assert.match(page, /&lt;img src=x&gt;a+…/)
  assert.ok(page.length < 20_000)
})

test('the policy page says which row decides, and the settings say where they come from', async () => {
  const browser = new PageBrowser(local)
  const page = (await browser.get('/policy?image=team/app:v1&as=alice')).body.toString()
  assert.match(page, /alice and docker\.io\/team\/app:v1/)
  assert.match(page, /<th scope="row">push<\/th><td class="bad">refused/)
  const setup = (await browser.get('/setup')).body.toString()
  const port = local.daemon.addresses.client.split(':')[1]
  assert.match(setup, new RegExp(`http://127\\.0\\.0\\.1:${port}`))
})
