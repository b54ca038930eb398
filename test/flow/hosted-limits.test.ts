import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createConnection } from 'node:net'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { NO_SECTIONS } from '../../src/config/config.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { parseNamePattern } from '../../src/oci/name-pattern.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { type HostedMirror, sectionsOf, startHosted } from '../support/hosted.ts'

const NAME = 'registry.example.com/team/app'
const UPLOADS = `/v2/${NAME}/blobs/uploads/`
const DAY_MS = 24 * 3_600_000

async function startWithQuota(quotaBytes: number): Promise<HostedMirror> {
  const names = parseNamePattern('registry.example.com/**')
  assert.ok(names)
  const policy = { names, immutableTags: [], quotaBytes, isReadOnly: false, retention: undefined }
  const sections = sectionsOf({ 'registry.example.com/**': undefined })
  return await startHosted({ config: { sections: { ...NO_SECTIONS, ...sections, policies: [policy] } } })
}

async function begin(hosted: HostedMirror, path = UPLOADS): Promise<string> {
  const begun = await hosted.send('POST', path)
  assert.equal(begun.status, 202, begun.body.toString())
  return String(begun.headers.location)
}

async function finish(hosted: HostedMirror, location: string, digest: Digest): Promise<number> {
  return (await hosted.send('PUT', `${location}?digest=${digest}`)).status
}

async function receivedOf(hosted: HostedMirror, location: string): Promise<string> {
  const state = await hosted.send('GET', location)
  assert.equal(state.status, 204)
  return String(state.headers.range)
}

/** Sends the head of a PATCH and the beginning of its body, and collects what comes back until the end. */
async function openPatch(
  hosted: HostedMirror,
  location: string,
  { announced, body }: { readonly announced: string; readonly body: string },
): Promise<{
  readonly text: () => string
  readonly write: (more: string) => void
  readonly end: Promise<unknown>
}> {
  const { hostname, port } = new URL(`http://${hosted.address}`)
  const socket = createConnection(Number(port), hostname)
  await once(socket, 'connect')
  let text = ''
  socket.on('data', (piece: Buffer) => (text += piece.toString()))
  const end = once(socket, 'close')
  socket.on('error', () => undefined)
  socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\n${announced}\r\n\r\n${body}`)
  return { text: () => text, write: more => void socket.write(more), end }
}

test('a part that a quota has no room for is refused before its bytes come, and the upload stays', async () => {
  await using hosted = await startWithQuota(1000)
  const location = await begin(hosted)
  const body = Buffer.alloc(600, 'a')
  assert.equal((await hosted.send('PATCH', location, { body })).status, 202)
  const patch = await openPatch(hosted, location, { announced: 'Content-Length: 401', body: '' })
  await patch.end
  assert.match(patch.text(), /^HTTP\/1\.1 403 /)
  assert.match(patch.text(), /0 of 1000 bytes, and 1001 more are pushed/)
  assert.equal(await receivedOf(hosted, location), '0-599')
  assert.equal(await finish(hosted, location, digestOf(body)), 201)
})

test('a client that sends a byte a minute is disconnected after one, and what came stays', async t => {
  await using hosted = await startHosted({})
  const location = await begin(hosted)
  t.mock.timers.enable({ apis: ['setInterval'] })
  const patch = await openPatch(hosted, location, { announced: 'Content-Length: 1000', body: '0' })
  let sent = 1
  for (; patch.text() === ''; sent += 1) {
    patch.write('0')
    await setImmediate()
    t.mock.timers.tick(60_000)
  }
  await patch.end
  t.mock.timers.reset()
  assert.match(patch.text(), /^HTTP\/1\.1 400 .*BLOB_UPLOAD_INVALID.*sends too slowly: what came is kept/s)
  assert.match(patch.text(), /connection: close/i)
  const received = Number((await receivedOf(hosted, location)).slice(2)) + 1
  assert.ok(received <= sent, `${received} of ${sent}`)
  const headers = { 'content-range': `${received}-999` }
  const rest = await hosted.send('PATCH', location, { body: Buffer.alloc(1000 - received, '0'), headers })
  assert.equal(rest.status, 202)
  assert.equal(await finish(hosted, location, digestOf(Buffer.alloc(1000, '0'))), 201)
})

test('a stream of unknown length is refused when it has outgrown the quota', async () => {
  await using hosted = await startWithQuota(9 * 1024 * 1024)
  const location = await begin(hosted)
  const patch = await openPatch(hosted, location, { announced: 'Transfer-Encoding: chunked', body: '' })
  const piece = 'a'.repeat(1024 * 1024)
  for (let count = 0; count < 17; count += 1) patch.write(`100000\r\n${piece}\r\n`)
  await patch.end
  assert.match(patch.text(), /^HTTP\/1\.1 403 /)
})

test('of two pushes that each fit into a quota and do not fit together, one is refused', async () => {
  await using hosted = await startWithQuota(1000)
  const bodies = ['a', 'b', 'c', 'd'].map(letter => Buffer.alloc(600, letter))
  const statuses = await Promise.all(
    bodies.map(async body => {
      const path = `${UPLOADS}?digest=${digestOf(body)}`
      return (await hosted.send('POST', path, { body })).status
    }),
  )
  assert.ok(statuses.filter(status => status === 201).length <= 1, statuses.join(' '))
  assert.ok(statuses.every(status => status === 201 || status === 403))
  const locations = await Promise.all(bodies.map(async () => await begin(hosted)))
  const later = await Promise.all(
    locations.map(async (location, at) => {
      const body = bodies[at] ?? Buffer.alloc(0)
      const patched = await hosted.send('PATCH', location, { body })
      return patched.status === 202 ? await finish(hosted, location, digestOf(body)) : patched.status
    }),
  )
  // What was refused beside another push is taken alone; what is here already is not counted twice.
  const all = [...statuses, ...later].filter(status => status === 201)
  assert.ok(all.length >= 1 && all.length <= 2, [...statuses, ...later].join(' '))
})

test('an upload that nothing moves on for a day is gone, and one that is moved on is not', async () => {
  const clock = new FakeClock()
  await using hosted = await startHosted({ overrides: { clock } })
  const [left, moved] = [await begin(hosted), await begin(hosted)]
  for (const location of [left, moved])
    assert.equal((await hosted.send('PATCH', location, { body: Buffer.from('abc') })).status, 202)
  clock.advance(DAY_MS - 60_000)
  assert.equal((await hosted.send('PATCH', moved, { body: Buffer.from('def') })).status, 202)
  clock.advance(120_000)
  await hosted.restart()
  assert.equal((await hosted.send('GET', left)).status, 404)
  assert.equal(await receivedOf(hosted, moved), '0-5')
})
