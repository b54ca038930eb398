import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, truncateSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { HELD_BACK_BYTES, SharedProgress } from '../../src/content/tail.ts'
import { type FileSender, type FileSpan, openFileSender } from '../../src/http/file-sender.ts'
import type { Reply } from '../../src/http/reply.ts'
import { READING_LIMITS, type SendingLimits, SlowReaderError } from '../../src/http/send.ts'
import type { Content, ContentFile } from '../../src/oci/content.ts'
import { type CountedContent, contentOf, replyOf, sender, serve } from './rig.ts'

const KEEP = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
const MEBIBYTE = 1024 * 1024
const SIZE = 5 * MEBIBYTE + 4321
const BYTES = randomBytes(SIZE)

const kernel = await openFileSender()
if (kernel === undefined) throw new Error('this machine cannot send files inside the kernel')

/** The real sender, and what was asked of it. */
function watched(changes: Partial<FileSender> = {}): FileSender & { readonly spans: FileSpan[] } {
  const spans: FileSpan[] = []
  return {
    spans,
    socketOf: socket => kernel?.socketOf(socket),
    isInMemory: span => kernel?.isInMemory(span) ?? false,
    send: (socket, span) => {
      const sentBytes = kernel?.send(socket, span) ?? 0
      spans.push({ ...span, length: sentBytes })
      return sentBytes
    },
    ...changes,
  }
}

function limitsOf(fileSender: FileSender, limits: Partial<SendingLimits> = {}): SendingLimits {
  return { ...READING_LIMITS, ...limits, sender: fileSender }
}

function bytesBy(spans: readonly FileSpan[]): number {
  return spans.reduce((sum, { length }) => sum + length, 0)
}

/** A client that keeps what it receives in one buffer, with the head of the first answer. */
class Client implements Disposable {
  readonly socket: Socket
  readonly #received = Buffer.allocUnsafe(4 * SIZE)
  #count = 0
  #change = Promise.withResolvers<void>()
  /** Resolves when the server has ended the connection. */
  readonly ended: Promise<void>

  private constructor(socket: Socket) {
    this.socket = socket
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ended = promise
    socket.on('error', () => undefined)
    socket.on('data', (piece: Buffer) => {
      this.#count += piece.copy(this.#received, this.#count)
      this.#change.resolve()
      this.#change = Promise.withResolvers<void>()
    })
    socket.on('close', () => resolve())
  }

  static async get(address: string, request: string = KEEP): Promise<Client> {
    const socket = connect(Number(address.slice(address.lastIndexOf(':') + 1)), '127.0.0.1')
    await once(socket, 'connect')
    socket.write(request)
    return new Client(socket)
  }

  /** The received bytes after the first head, or none. */
  get body(): Buffer {
    const end = this.#received.subarray(0, Math.min(this.#count, 1000)).indexOf('\r\n\r\n')
    return end === -1 ? this.#received.subarray(0, 0) : this.#received.subarray(end + 4, this.#count)
  }

  get headBytes(): number {
    return this.#received.indexOf('\r\n\r\n') + 4
  }

  /** Resolves when the body has so many bytes. */
  async has(bytes: number): Promise<void> {
    while (this.body.length < bytes) {
      if (this.socket.destroyed) throw new Error(`the connection ended after ${this.body.length} bytes`)
      await this.#change.promise
    }
  }

  [Symbol.dispose](): void {
    this.socket.destroy()
  }
}

interface Stored {
  readonly path: string
  readonly content: CountedContent
  /** Ranges that were read in the usual way. */
  readonly reads: { readonly start: number; readonly isContinued: boolean }[]
}

/** Content with a real file. Read in the usual way it yields `rest`, or the same bytes. */
async function store(
  t: TestContext,
  file: (fd: number) => ContentFile = fd => ({ kind: 'whole', fd }),
  rest: Uint8Array = BYTES,
): Promise<Stored> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-pour-'))
  const path = join(directory, 'blob')
  await writeFile(path, BYTES)
  const fd = openSync(path, 'r')
  t.after(async () => {
    closeSync(fd)
    await rm(directory, { recursive: true })
  })
  const reads: { start: number; isContinued: boolean }[] = []
  const read: Content['read'] = async function* ({ start, end }, _signal, isContinued = false) {
    reads.push({ start, isContinued })
    yield await Promise.resolve(rest.subarray(start, end))
  }
  return { path, reads, content: { ...contentOf(SIZE, () => pieces()), read, file: file(fd) } }
}

async function* pieces(): AsyncGenerator<Uint8Array> {
  await Promise.resolve()
  yield* []
}

test('a stored file is sent by the kernel, whole, and its connection is used again', async t => {
  const { content, reads } = await store(t)
  const fileSender = watched()
  const { handler, sent } = sender(() => replyOf(content), limitsOf(fileSender))
  const { address } = await serve(t, handler)
  using client = await Client.get(address)
  await client.has(SIZE)
  assert.ok(client.body.equals(BYTES))
  assert.deepEqual(await sent, { sentBytes: SIZE, error: undefined })
  assert.equal(content.disposals(), 1)
  assert.deepEqual(reads, [])
  assert.ok(bytesBy(fileSender.spans) > SIZE / 2)
  client.socket.write(KEEP)
  await client.has(2 * SIZE + client.headBytes)
  assert.ok(client.body.subarray(-SIZE).equals(BYTES))
})

const RANGES = [
  [0, 1],
  [SIZE - 1, SIZE],
  [0, 32 * 1024],
  [1, 32 * 1024],
  [4095, 4096 + 32 * 1024],
  [SIZE - 70_001, SIZE],
  [123_457, 4 * MEBIBYTE + 1],
] as const
test('each range of a stored file arrives exactly', async t => {
  for (const [start, end] of RANGES) {
    const { content } = await store(t)
    const { handler, sent } = sender(() => replyOf(content, { start, end }), limitsOf(watched()))
    const { address } = await serve(t, handler)
    using client = await Client.get(address)
    await client.has(end - start)
    assert.ok(client.body.equals(BYTES.subarray(start, end)), `${start}-${end}`)
    assert.equal((await sent).sentBytes, end - start)
  }
})

test('a client that pauses again and again gets every byte once', async t => {
  const { content } = await store(t)
  const { handler } = sender(() => replyOf(content), limitsOf(watched()))
  const { address } = await serve(t, handler)
  using client = await Client.get(address)
  client.socket.on('data', () => {
    client.socket.pause()
    setImmediate(() => client.socket.resume())
  })
  await client.has(SIZE)
  assert.ok(client.body.equals(BYTES))
})

test('pipelined requests for a file are answered one after the other', async t => {
  const { content } = await store(t)
  const { address } = await serve(t, sender(() => replyOf(content), limitsOf(watched())).handler)
  using client = await Client.get(address, KEEP + KEEP + KEEP)
  await client.has(SIZE)
  const [body, size] = [client.body, SIZE + client.headBytes]
  await client.has(SIZE + 2 * size)
  for (const turn of [0, 1, 2])
    assert.ok(client.body.subarray(turn * size, turn * size + SIZE).equals(BYTES), `answer ${turn}`)
  assert.ok(body.subarray(0, SIZE).equals(BYTES))
})

test('what is not in memory is read in the usual way, and the kernel sends the rest', async t => {
  const { content, reads } = await store(t)
  const isInMemory = ({ offset }: FileSpan): boolean => offset >= MEBIBYTE
  const fileSender = watched({ isInMemory })
  const { address } = await serve(t, sender(() => replyOf(content), limitsOf(fileSender)).handler)
  using client = await Client.get(address)
  await client.has(SIZE)
  assert.ok(client.body.equals(BYTES))
  assert.deepEqual(reads, [{ start: 0, isContinued: false }])
  assert.ok(fileSender.spans.length > 0 && fileSender.spans.every(({ offset }) => offset >= MEBIBYTE))
})

test('a kernel that refuses to send is not asked for long: the rest is read', async t => {
  const { content, reads } = await store(t)
  let calls = 0
  const send = (): number => {
    calls += 1
    return 0
  }
  const { handler, sent } = sender(() => replyOf(content), limitsOf(watched({ send })))
  const { address } = await serve(t, handler)
  using client = await Client.get(address)
  await client.has(SIZE)
  assert.ok(client.body.equals(BYTES))
  assert.equal((await sent).sentBytes, SIZE)
  assert.ok(calls <= 3)
  assert.deepEqual(
    reads.map(({ isContinued }) => isContinued),
    [true],
  )
})

test('a file that cannot be read is left to its owner, which supplies every byte', async t => {
  const unreadable = openSync(tmpdir(), 'r')
  t.after(() => closeSync(unreadable))
  const { content, reads } = await store(t, () => ({ kind: 'whole', fd: unreadable }))
  const { handler, sent } = sender(() => replyOf(content), limitsOf(watched({ isInMemory: () => true })))
  const { address } = await serve(t, handler)
  using client = await Client.get(address)
  await client.has(SIZE)
  assert.ok(client.body.equals(BYTES))
  assert.equal((await sent).error, undefined)
  assert.deepEqual(reads, [{ start: 0, isContinued: false }])
})

test('a truncated file is read to the end by its owner, and if that fails the response is never completed', async t => {
  const { content, path, reads } = await store(t, undefined, BYTES.subarray(0, 1000))
  truncateSync(path, 3 * MEBIBYTE)
  const { handler, sent } = sender(() => replyOf(content), limitsOf(watched()))
  const { address } = await serve(t, handler)
  using client = await Client.get(address)
  await client.ended
  assert.ok(client.body.length < SIZE && client.body.equals(BYTES.subarray(0, client.body.length)))
  assert.match(String((await sent).error), /shorter than its range/)
  assert.ok(reads.length > 0 && content.disposals() === 1)
})

test('a growing file is sent as it grows, and its last 64 KiB only once it is proved', async t => {
  const progress = new SharedProgress()
  const { content, reads } = await store(t, fd => ({ kind: 'growing', fd, progress }))
  const { address } = await serve(t, sender(() => replyOf(content), limitsOf(watched())).handler)
  using client = await Client.get(address)
  for (const writtenBytes of [100, MEBIBYTE, MEBIBYTE + 1, 4 * MEBIBYTE]) {
    progress.publish({ state: 'growing', writtenBytes, sizeBytes: SIZE })
    await client.has(writtenBytes)
    assert.ok(client.body.equals(BYTES.subarray(0, writtenBytes)))
  }
  progress.publish({ state: 'growing', writtenBytes: SIZE, sizeBytes: SIZE })
  await client.has(SIZE - HELD_BACK_BYTES)
  for (let turn = 0; turn < 20; turn += 1) await new Promise(resolve => setImmediate(resolve))
  assert.equal(client.body.length, SIZE - HELD_BACK_BYTES)
  progress.publish({ state: 'proved', writtenBytes: SIZE, sizeBytes: SIZE })
  await client.has(SIZE)
  assert.ok(client.body.equals(BYTES))
  assert.deepEqual(reads, [])
})

test('a growing file that is lost is continued by its owner, which learns that the client has bytes of it', async t => {
  const progress = new SharedProgress()
  const { content, reads } = await store(t, fd => ({ kind: 'growing', fd, progress }))
  const { address } = await serve(t, sender(() => replyOf(content), limitsOf(watched())).handler)
  using client = await Client.get(address)
  progress.publish({ state: 'growing', writtenBytes: MEBIBYTE, sizeBytes: SIZE })
  await client.has(MEBIBYTE)
  progress.publish({ state: 'lost', writtenBytes: MEBIBYTE, sizeBytes: SIZE })
  await client.has(SIZE)
  assert.ok(client.body.equals(BYTES))
  assert.deepEqual(reads, [{ start: MEBIBYTE, isContinued: true }])
})

test('the kernel is asked only for connections that are open, however many clients leave in the middle', async t => {
  const { content } = await store(t)
  const used: (string | undefined)[] = []
  const sockets = new Map<number, boolean>()
  const fileSender = watched({
    socketOf: socket => {
      const descriptor = kernel.socketOf(socket)
      if (descriptor !== undefined) sockets.set(descriptor, socket?.destroyed !== true)
      return descriptor
    },
    send: (descriptor, span) => {
      used.push(sockets.get(descriptor) === true ? 'open' : 'closed')
      sockets.delete(descriptor)
      return kernel.send(descriptor, { ...span, length: Math.min(span.length, 64 * 1024) })
    },
  })
  const handled: Promise<void>[] = []
  const handler: Parameters<typeof serve>[1] = async (request, response) => {
    const answer = sender(() => replyOf(content), limitsOf(fileSender)).handler(request, response)
    handled.push(answer)
    await answer
  }
  const { address } = await serve(t, handler)
  for (let round = 0; round < 40; round += 1) {
    using client = await Client.get(address)
    await client.has(round * 10_000)
    if (round % 2 === 0) client.socket.resetAndDestroy()
  }
  await Promise.all(handled)
  assert.equal(handled.length, 40)
  assert.ok(used.length > 40)
  assert.ok(used.every(state => state === 'open'))
  using client = await Client.get(address)
  await client.has(SIZE)
  assert.ok(client.body.equals(BYTES))
})

test('a client that never reads a file is closed after the idle time, and its content disposed of', async t => {
  const { content } = await store(t)
  const limits = limitsOf(watched(), { idleMs: 100 })
  const { handler, sent } = sender(() => replyOf(content), limits)
  const { address } = await serve(t, handler)
  using client = await Client.get(address)
  client.socket.pause()
  const { error } = await sent
  // A socket buffer that grew to the whole file leaves nothing to wait for.
  assert.ok(error === undefined || error instanceof SlowReaderError, String(error))
  await content.disposed
})

const UNFIT: readonly (readonly [string, (reply: Reply) => Reply])[] = [
  ['without a length', reply => ({ ...reply, headers: {} })],
  ['of less than 32 KiB', reply => ({ ...reply, ...replyOf(part(reply), { start: 0, end: 32_767 }) })],
]

function part({ body }: Reply): Content {
  if (body.kind !== 'content') throw new Error('a reply without content')
  return body.content as Content
}

for (const [what, change] of UNFIT) {
  test(`a body ${what} is read and written, not sent by the kernel`, async t => {
    const { content, reads } = await store(t)
    const fileSender = watched()
    const { handler, sent } = sender(() => change(replyOf(content)), limitsOf(fileSender))
    const { address } = await serve(t, handler)
    using _client = await Client.get(address)
    assert.equal((await sent).error, undefined)
    assert.equal(reads.length, 1)
    assert.deepEqual(fileSender.spans, [])
  })
}

function certificate(name: string): Buffer {
  return readFileSync(new URL(`../support/certificates/${name}`, import.meta.url))
}

test('a connection with TLS is not given plain bytes by the kernel', async t => {
  const { content, reads } = await store(t)
  const fileSender = watched()
  const { handler } = sender(() => replyOf(content), limitsOf(fileSender))
  const server = createServer({ key: certificate('server.key.pem'), cert: certificate('server.pem') })
  server.on('request', (request, response) => void handler(request, response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const client = connectTls({ port: address.port, host: '127.0.0.1', rejectUnauthorized: false })
  client.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  const received: Buffer[] = []
  for await (const piece of client) received.push(piece as Buffer)
  assert.ok(Buffer.concat(received).subarray(-SIZE).equals(BYTES))
  assert.equal(reads.length, 1)
  assert.deepEqual(fileSender.spans, [])
})
