import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { jsonReply } from '../../src/http/reply.ts'
import { READING_LIMITS, SlowReaderError } from '../../src/http/send.ts'
import { SendQueues } from '../../src/http/send-queue.ts'
import { RawClient } from '../support/raw-client.ts'
import { contentOf, replyOf, sender, serve } from './rig.ts'

const KEEP = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
const CLOSE = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
const MEBIBYTE = 1024 * 1024

async function* pieces(...bytes: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const piece of bytes) yield await Promise.resolve(piece)
}

test('a content goes out whole, is disposed of once, and the connection is used again', async t => {
  const bytes = randomBytes(300_000)
  const content = contentOf(bytes.length, () => pieces(bytes.subarray(0, 1), bytes.subarray(1)))
  const { handler, sent } = sender(() => replyOf(content))
  const { address } = await serve(t, handler)
  using client = await RawClient.connect(address)
  client.send(KEEP)
  await client.until(({ body }) => body.length === bytes.length)
  assert.ok(client.body.equals(bytes))
  assert.deepEqual(await sent, { sentBytes: bytes.length, error: undefined })
  assert.equal(content.disposals(), 1)
  client.send(KEEP)
  await client.until(({ statuses }) => statuses.length === 2)
})

test('a content without a length goes out in chunks and ends with the last one', async t => {
  const content = contentOf(undefined, () => pieces(Buffer.from('ab'), Buffer.from('cd')))
  const { address } = await serve(t, sender(() => replyOf(content)).handler)
  using client = await RawClient.connect(address)
  client.send(CLOSE)
  await client.ended()
  assert.equal(client.body.toString(), '2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n')
})

test('a HEAD has the length of the body and no body', async t => {
  const { address } = await serve(t, sender(() => jsonReply(200, '{"a":1}')).handler)
  using client = await RawClient.connect(address)
  client.send('HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  await client.ended()
  assert.equal(client.header('content-length'), '7')
  assert.equal(client.body.length, 0)
})

test('bytes in memory that exceed a socket buffer arrive whole', async t => {
  const text = JSON.stringify('x'.repeat(4 * MEBIBYTE))
  const { address } = await serve(t, sender(() => jsonReply(200, text)).handler)
  using client = await RawClient.connect(address)
  client.send(CLOSE)
  await client.ended()
  assert.equal(client.body.length, text.length)
})

test('a content that yields one buffer again and again arrives uncorrupted at a slow client', async t => {
  const count = 40
  const content = contentOf(count * 256 * 1024, async function* () {
    const buffer = Buffer.alloc(256 * 1024)
    for (let round = 0; round < count; round += 1) yield await Promise.resolve(buffer.fill(round))
  })
  const expected = createHash('sha256')
  for (let round = 0; round < count; round += 1) expected.update(Buffer.alloc(256 * 1024, round))
  const { address } = await serve(t, sender(() => replyOf(content)).handler)
  using client = await RawClient.connect(address)
  client.socket.pause()
  client.send(CLOSE)
  await new Promise(resolve => setImmediate(resolve))
  client.socket.resume()
  await client.ended()
  assert.equal(createHash('sha256').update(client.body).digest('hex'), expected.digest('hex'))
})

for (const sizeBytes of [1000, undefined]) {
  const kind = sizeBytes === undefined ? 'chunked' : 'sized'
  test(`a ${kind} content that fails midway is flushed, broken off by FIN, never completed, and its connection not used again`, async t => {
    const content = contentOf(sizeBytes, async function* () {
      yield await Promise.resolve(Buffer.alloc(500, 'a'))
      throw new Error('the disk is gone')
    })
    let replies = 0
    const { handler, sent } = sender(() => {
      replies += 1
      return replyOf(content)
    })
    const { address } = await serve(t, handler)
    using client = await RawClient.connect(address)
    client.send(KEEP + KEEP)
    assert.equal(await client.ended(), 'fin')
    assert.equal(client.body.toString().replaceAll(/[^a]/g, '').length, 500)
    assert.ok(!client.received.includes('0\r\n\r\n'))
    assert.deepEqual(client.statuses, [200])
    assert.match(String((await sent).error), /the disk is gone/)
    assert.equal(content.disposals(), 1)
    assert.equal(replies, 1)
  })
}

test('a content that ends before its stated length never completes a response', async t => {
  const content = contentOf(1000, () => pieces(Buffer.alloc(999)))
  const { address } = await serve(t, sender(() => replyOf(content)).handler)
  using client = await RawClient.connect(address)
  client.send(KEEP)
  assert.equal(await client.ended(), 'fin')
  assert.equal(client.header('content-length'), '1000')
  assert.equal(client.body.length, 999)
})

test('a content that yields more than its stated length puts none of the surplus onto the connection', async t => {
  const content = contentOf(10, () => pieces(Buffer.alloc(10, 'a'), Buffer.from('HTTP/1.1 200 OK\r\n\r\n')))
  const { address } = await serve(t, sender(() => replyOf(content)).handler)
  using client = await RawClient.connect(address)
  client.send(KEEP)
  await client.ended()
  assert.equal(client.body.toString(), 'a'.repeat(10))
})

test('an HTTP/1.0 client that gets a body without a length sees a failure as a reset', async t => {
  const content = contentOf(undefined, async function* () {
    yield await Promise.resolve(Buffer.alloc(500, 'a'))
    throw new Error('the upstream is gone')
  })
  const { address } = await serve(t, sender(() => replyOf(content)).handler)
  using client = await RawClient.connect(address)
  client.send('GET / HTTP/1.0\r\n\r\n')
  assert.equal(await client.ended(), 'reset')
})

test('the content of a client that leaves is disposed of, even while the content yields nothing', async t => {
  const content = contentOf(1000, async function* (_, signal) {
    yield Buffer.from('first')
    await new Promise<void>(resolve => {
      signal.addEventListener('abort', () => resolve())
    })
  })
  const { handler, sent } = sender(() => replyOf(content))
  const { address } = await serve(t, handler)
  using client = await RawClient.connect(address)
  client.send(KEEP)
  await client.until(({ body }) => body.length > 0)
  client.socket.destroy()
  await content.disposed
  assert.equal((await sent).error, undefined)
  assert.equal(content.disposals(), 1)
})

async function* endless(): AsyncGenerator<Uint8Array> {
  const piece = Buffer.alloc(256 * 1024)
  for (;;) yield await Promise.resolve(piece)
}

test('a client that never reads is closed after the idle time, and its content disposed of', async t => {
  const content = contentOf(undefined, endless)
  const limits = { ...READING_LIMITS, idleMs: 100 }
  const { handler, sent } = sender(() => replyOf(content), limits)
  const { address } = await serve(t, handler)
  using client = await RawClient.connect(address)
  client.socket.pause()
  client.send(KEEP)
  assert.ok((await sent).error instanceof SlowReaderError)
  await content.disposed
})

test('a client that reads more slowly than the floor is closed although it makes progress', async t => {
  const content = contentOf(undefined, endless)
  const limits = { idleMs: 60_000, floorMs: 200, floorBytes: 1024 * MEBIBYTE }
  const { handler, sent } = sender(() => replyOf(content), limits)
  const { address } = await serve(t, handler)
  using client = await RawClient.connect(address)
  client.socket.pause()
  client.send(KEEP)
  assert.ok((await sent).error instanceof SlowReaderError)
  assert.equal(content.disposals(), 1)
})

test('a content that is slow itself does not count against its reader', async t => {
  const content = contentOf(2, async function* () {
    yield Buffer.from('a')
    await new Promise(resolve => {
      setTimeout(resolve, 250)
    })
    yield Buffer.from('b')
  })
  const limits = { idleMs: 50, floorMs: 50, floorBytes: MEBIBYTE }
  const { address } = await serve(t, sender(() => replyOf(content), limits).handler)
  using client = await RawClient.connect(address)
  client.send(KEEP)
  await client.until(({ body }) => body.toString() === 'ab')
})

test('the headers of a miss are sent before the content has its first byte', async t => {
  const { promise: go, resolve: letGo } = Promise.withResolvers<void>()
  const content = contentOf(1, async function* () {
    await go
    yield Buffer.from('a')
  })
  const { address } = await serve(t, sender(() => replyOf(content)).handler)
  using client = await RawClient.connect(address)
  client.send(KEEP)
  await client.until(({ statuses }) => statuses.length === 1)
  assert.equal(client.body.length, 0)
  letGo()
  await client.until(({ body }) => body.toString() === 'a')
})

test('a header that cannot be sent fails the reply and still disposes of the content', async t => {
  const content = contentOf(1, () => pieces(Buffer.from('a')))
  const { handler, sent } = sender(() => ({ ...replyOf(content), headers: { 'X-Bad': 'a\r\nb' } }))
  const { address } = await serve(t, handler)
  using client = await RawClient.connect(address)
  client.send(KEEP)
  await client.ended()
  assert.equal((await sent).sentBytes, undefined)
  assert.equal(content.disposals(), 1)
})

test('a client that takes bytes from the kernel is not closed while the kernel takes none from us', async t => {
  const content = contentOf(undefined, endless)
  const limits = { ...READING_LIMITS, idleMs: 600, queues: new SendQueues() }
  const { handler, sent } = sender(() => replyOf(content), limits)
  const { address } = await serve(t, handler)
  using client = await RawClient.connect(address)
  client.socket.pause()
  client.send(KEEP)
  // In each idle time the client reads something, but less than must be free before the kernel takes more. Of
  // what it reads the kernel tells the other side once a sixteenth of its buffer is free: 384 KiB of 6 MiB.
  for (let round = 0; round < 40; round += 1) {
    await Promise.race([sent, new Promise(resolve => setTimeout(resolve, 50))])
    client.socket.read(64 * 1024)
  }
  assert.equal(content.disposals(), 0)
  client.socket.destroy()
  await content.disposed
})
