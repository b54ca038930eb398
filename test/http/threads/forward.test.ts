import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, get, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect, createServer as createSocketServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Peer } from '../../../src/access/peer.ts'
import { bodyOf } from '../../../src/http/request-body.ts'
import { HttpServer } from '../../../src/http/server.ts'
import { Forwarding, forwardedHandler } from '../../../src/http/threads/forward.ts'
import { describeCertificate } from '../../../src/http/tls/peer.ts'
import { pem } from '../../support/certificates/listener-tls.ts'
import { RawClient } from '../../support/raw-client.ts'

const SECRET = 'a'.repeat(64)

for (const [title, secret] of [
  ['is missing', undefined],
  ['is another one', 'b'.repeat(64)],
  ['is as long and not ASCII', '\u00e9'.repeat(64)],
] as const) {
  test(`a request whose secret ${title} is closed without an answer`, async t => {
    let answered = 0
    const failures: unknown[] = []
    const handler = forwardedHandler(SECRET, async () => {
      await Promise.resolve()
      answered += 1
    })
    const server = createServer((request, response) => {
      Promise.resolve(handler(request, response)).catch((error: unknown) => {
        failures.push(error)
        request.socket.destroy()
      })
    })
    t.after(() => server.close())
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
    const field = secret === undefined ? '' : `Entrepot-Client: ${secret} 10.0.0.1\r\n`
    socket.on('error', () => undefined)
    socket.write(Buffer.from(`GET /v2/ HTTP/1.1\r\nHost: x\r\n${field}\r\n`, 'latin1'))
    await new Promise(resolve => socket.resume().once('close', resolve))
    assert.deepEqual([answered, failures], [0, []])
  })
}

test('the first thread sees the certificate that a client presented to a further thread', async t => {
  const certificate = describeCertificate(new X509Certificate(pem('client')), undefined)
  const peer: Peer = { address: '10.0.0.1', isEncrypted: true, certificate }
  const seen: Peer[] = []
  const first = new HttpServer(
    forwardedHandler(SECRET, async (_, response, given) => {
      seen.push(given)
      response.end('{}')
      await Promise.resolve()
    }),
  )
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-forward-'))
  const path = join(directory, 'socket')
  await first.listen({ kind: 'unix', path })
  const forwarding = new Forwarding({ path, secret: SECRET }, { of: () => peer })
  const further = new HttpServer(async (request, response) => await forwarding.handle(request, response))
  const address = await further.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })
  t.after(async () => {
    first.destroy()
    further.destroy()
    await rm(directory, { recursive: true })
  })
  const [response] = (await once(get(`http://${address}/v2/`), 'response')) as [IncomingMessage]
  assert.equal(response.resume().statusCode, 200)
  assert.deepEqual(seen, [JSON.parse(JSON.stringify(peer))])
  assert.equal(seen[0]?.certificate?.commonName, 'client')
})

/** A further thread that forwards to the private socket at this path. */
async function startFurther(t: TestContext, path: string): Promise<string> {
  const peer: Peer = { address: '10.0.0.1', isEncrypted: false, certificate: undefined }
  const forwarding = new Forwarding({ path, secret: SECRET }, { of: () => peer })
  const further = new HttpServer(async (request, response) => await forwarding.handle(request, response))
  t.after(() => further.destroy())
  return await further.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })
}

test('no byte of a body goes to the first thread before its go-ahead, and a refusal reaches the client', async t => {
  const received: Buffer[] = []
  const first = createSocketServer(socket => {
    socket.on('error', () => undefined)
    socket.on('data', bytes => {
      received.push(Buffer.from(bytes))
      if (!Buffer.concat(received).includes('\r\n\r\n')) return
      socket.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndeny')
    })
  })
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-forward-'))
  const path = join(directory, 'socket')
  first.listen(path)
  await once(first, 'listening')
  const address = await startFurther(t, path)
  t.after(async () => {
    first.close()
    await rm(directory, { recursive: true })
  })
  const client = await RawClient.connect(address)
  client.send('PUT /v2/a/blobs/uploads/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody')
  await client.ended()
  assert.deepEqual([client.statuses, client.body.toString()], [[401], 'deny'])
  assert.match(Buffer.concat(received).toString(), /\r\nExpect: 100-continue\r\n[^]*\r\n\r\n$/)
})

test('the first thread gets a body that it reads, with and without Expect, whole and in chunks', async t => {
  const first = new HttpServer(
    forwardedHandler(SECRET, async (request, response) => {
      const pieces: Uint8Array[] = []
      for await (const piece of bodyOf(request, response).pieces) pieces.push(piece)
      response.end(Buffer.concat(pieces).toString())
    }),
  )
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-forward-'))
  const path = join(directory, 'socket')
  await first.listen({ kind: 'unix', path })
  t.after(async () => {
    first.destroy()
    await rm(directory, { recursive: true })
  })
  const address = await startFurther(t, path)
  const fields = ['Content-Length: 3\r\n\r\nabc', 'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n']
  for (const rest of fields) {
    for (const expect of ['', 'Expect: 100-continue\r\n']) {
      const client = await RawClient.connect(address)
      client.send(`PUT /v2/a/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${expect}${rest}`)
      await client.ended()
      assert.deepEqual(client.statuses, expect === '' ? [200] : [100, 200])
      assert.match(client.received, /abc/)
    }
  }
})
