import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { LiveFeed, type LivePart } from '../../../src/admin/page/live-feed.ts'
import { until } from '../../support/waiting.ts'

interface Rig {
  readonly feed: LiveFeed
  readonly open: (sees?: 'names' | 'admin') => Promise<Socket>
  /** How often the parts were rendered. */
  readonly rendered: () => number
  readonly refused: () => number
}

async function makeRig(
  t: TestContext,
  parts: () => readonly LivePart[],
  mayStay = async (): Promise<boolean> => await Promise.resolve(true),
): Promise<Rig> {
  t.mock.timers.enable({ apis: ['setInterval'] })
  let [rendered, refused] = [0, 0]
  const feed = new LiveFeed({
    render: async () => {
      rendered += 1
      return await Promise.resolve(parts())
    },
    failed: error => assert.fail(String(error)),
    instance: 'one',
  })
  const take = (response: ServerResponse, sees: 'names' | 'admin'): void => {
    if (feed.add(response, sees, mayStay)) return
    refused += 1
    response.destroy()
  }
  const server = createServer(({ url }, response) =>
    take(response, url === '/admin' ? 'admin' : 'names'),
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const sockets: Socket[] = []
  t.after(() => {
    feed[Symbol.dispose]()
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const open = async (sees: 'names' | 'admin' = 'names'): Promise<Socket> => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
    sockets.push(socket)
    socket.on('error', () => undefined)
    socket.write(`GET /${sees} HTTP/1.1\r\nHost: a\r\n\r\n`)
    const before = feed.listeners + refused
    await until(() => feed.listeners + refused > before, 'a listener')
    return socket
  }
  return { feed, open, rendered: () => rendered, refused: () => refused }
}

test('all pages together cost one rendering a second, and none costs none', async t => {
  const rig = await makeRig(t, () => [{ id: 'a', html: '1' }])
  await rig.open()
  await rig.open()
  await until(() => rig.rendered() > 0, 'the first rendering')
  const before = rig.rendered()
  t.mock.timers.tick(1000)
  await until(() => rig.rendered() === before + 1, 'one rendering')
  rig.feed[Symbol.dispose]()
  await until(() => rig.feed.listeners === 0, 'no listeners')
  t.mock.timers.tick(10_000)
  assert.equal(rig.rendered(), before + 1)
})

test('a page gets everything first and then only the parts that changed', async t => {
  let value = 1
  const rig = await makeRig(t, () => [
    { id: 'same', html: 'x' },
    { id: 'other', html: String(value) },
  ])
  const socket = await rig.open()
  let text = ''
  socket.setEncoding('utf8').on('data', (piece: string) => {
    text += piece
  })
  await until(() => text.includes('"same"'), 'the first event')
  assert.match(text, /Content-Security-Policy: default-src 'none'/)
  assert.match(text, /event: hello\ndata: "one"/)
  const length = text.length
  value = 2
  t.mock.timers.tick(1000)
  await until(() => text.length > length, 'the second event')
  assert.match(text.slice(length), /data: \[\{"id":"other","html":"2"\}\]/)
})

test('a page that never reads is dropped, and what waits for it stays bounded', async t => {
  let count = 0
  const rig = await makeRig(t, () => {
    count += 1
    return [{ id: 'large', html: `${count}${'x'.repeat(200_000)}` }]
  })
  const socket = await rig.open()
  socket.pause()
  await until(() => {
    t.mock.timers.tick(1000)
    return rig.feed.listeners === 0
  }, 'the page to be dropped')
})

test('visitors get at most 24 of the 32 streams, so that an operator finds one', async t => {
  const rig = await makeRig(t, () => [])
  for (let index = 0; index < 25; index += 1) await rig.open()
  assert.deepEqual([rig.feed.listeners, rig.refused()], [24, 1])
  for (let index = 0; index < 9; index += 1) await rig.open('admin')
  assert.deepEqual([rig.feed.listeners, rig.refused()], [32, 2])
})

test('a page whose session has ended is told so and gets nothing more', async t => {
  let isIn = true
  const rig = await makeRig(
    t,
    () => [{ id: 'a', html: String(rig.rendered()) }],
    async () => await Promise.resolve(isIn),
  )
  const socket = await rig.open()
  let text = ''
  socket.setEncoding('utf8').on('data', (piece: string) => {
    text += piece
  })
  await until(() => text.includes('event: parts'), 'the first event')
  isIn = false
  t.mock.timers.tick(1000)
  await until(() => text.includes('event: over'), 'the end')
  await until(() => rig.feed.listeners === 0, 'the stream to end')
})
