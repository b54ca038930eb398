import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { UpstreamError } from '../../src/oci/error.ts'
import { PeerBody, type PeerBodyParts } from '../../src/peers/peer-body.ts'
import { provedAhead, readUpTo } from '../../src/peers/proved.ts'

const PACE = { silenceMs: 40, patienceMs: 400, floorMs: 100, floorBytes: 1024 * 1024, manifestMs: 100 }
const SIZE = 64 * 1024 * 1024

interface Opened extends AsyncDisposable {
  readonly body: IncomingMessage
}

async function open(answer: (response: ServerResponse) => void): Promise<Opened> {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'Content-Length': String(SIZE) })
    answer(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { promise, resolve } = Promise.withResolvers<IncomingMessage>()
  get({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false }, resolve).on(
    'error',
    () => undefined,
  )
  const body = await promise
  body.on('error', () => undefined)
  return {
    body,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

interface Read {
  readonly bytes: number
  readonly message: string
  readonly silent: number
  readonly probes: number
  readonly ended: number
}

async function read({ body }: Opened, probe: PeerBodyParts['probe']): Promise<Read> {
  const seen = { bytes: 0, silent: 0, probes: 0, ended: 0 }
  let isOver = false
  const peerBody = new PeerBody(
    body,
    { offset: 0, sizeBytes: SIZE },
    {
      clock: systemClock,
      pace: PACE,
      name: 'other',
      probe: async () => {
        seen.probes += 1
        return await probe()
      },
      onBytes: bytes => {
        seen.bytes += bytes
      },
      onSilent: () => {
        seen.silent += 1
      },
      onEnd: () => {
        if (!isOver) seen.ended += 1
        isOver = true
      },
      disown: () => undefined,
    },
  )
  try {
    for await (const _ of peerBody.chunks);
  } catch (error) {
    assert.ok(error instanceof UpstreamError)
    assert.equal(error.kind, 'cut')
    return { ...seen, message: error.message }
  }
  return { ...seen, message: '' }
}

test('a replica that stops in the middle of a body and does not answer is left', async () => {
  await using opened = await open(response => response.write(Buffer.alloc(1000)))
  const { message, silent, ended, bytes } = await read(opened, async () => await Promise.resolve(undefined))
  assert.match(message, /does not answer any more/)
  assert.deepEqual([silent, ended, bytes], [1, 1, 1000])
})

test('a replica that has more bytes and sends too few is left', async () => {
  await using opened = await open(response => {
    const timer = setInterval(() => response.write(Buffer.alloc(10)), 5)
    response.once('close', () => clearInterval(timer))
  })
  const { message, silent } = await read(opened, async () => await Promise.resolve(SIZE))
  assert.match(message, /sends too slowly/)
  assert.equal(silent, 0)
})

test('a replica whose registry is slow is waited for while it answers, up to a limit', async () => {
  await using opened = await open(response => response.write(Buffer.alloc(1000)))
  const { message, probes, silent } = await read(opened, async () => await Promise.resolve(1000))
  assert.match(message, /stopped sending/)
  assert.ok(probes > 2)
  assert.equal(silent, 0)
})

test('a manifest whose bytes do not come is not waited for', async () => {
  await using opened = await open(response => response.write('{'))
  assert.equal(await readUpTo(opened.body, SIZE, PACE.manifestMs), undefined)
})

test('a short blob that does not end is left, and its sender is distrusted', async () => {
  const seen = { pieces: 0, disowned: 0 }
  const endless = async function* (): AsyncGenerator<Uint8Array> {
    for (; seen.pieces < 1000; seen.pieces += 1) yield await Promise.resolve(new Uint8Array(1024))
  }
  const body = {
    offset: 0,
    sizeBytes: 1024,
    validator: undefined,
    chunks: endless(),
    disown: () => {
      seen.disowned += 1
    },
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  }
  assert.equal(await provedAhead(body, digestOf(new Uint8Array(1024))), undefined)
  assert.equal(seen.disowned, 1)
  assert.ok(seen.pieces < 100)
})
