import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { Duplex } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import type { Handler } from '../../../src/http/server.ts'
import { Peers } from '../../../src/http/tls/peer.ts'
import { pem, tlsTerms } from '../../support/certificates/listener-tls.ts'
import { RawClient } from '../../support/raw-client.ts'
import { serve } from '../rig.ts'

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
const CA = pem('ca')

const answerOk: Handler = async (_, response) => {
  response.writeHead(200, { 'Content-Length': '2' })
  response.end('ok')
  await Promise.resolve()
}

/** Completes a handshake; rejects if the server refuses it. */
async function handshake(
  t: TestContext,
  address: string,
  options: ConnectionOptions = {},
): Promise<TLSSocket> {
  const [host, port] = address.split(':')
  const socket = connect({ host, port: Number(port), ca: CA, ...options })
  t.after(() => socket.destroy())
  await once(socket, 'secureConnect')
  socket.on('error', () => undefined)
  return socket
}

/** Sends one request and resolves to what comes back, up to the text `ok` or the end. */
async function ask(socket: TLSSocket, text = GET): Promise<string> {
  socket.write(text)
  let received = ''
  for await (const piece of socket.iterator({ destroyOnReturn: false })) {
    received += String(piece)
    if (received.endsWith('ok')) break
  }
  return received
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`a client of ${version} is served, by http/1.1 although it prefers h2`, async t => {
    const { address } = await serve(t, answerOk, {}, tlsTerms())
    const socket = await handshake(t, address, {
      minVersion: version,
      maxVersion: version,
      ALPNProtocols: ['h2', 'http/1.1'],
    })
    assert.deepEqual([socket.getProtocol(), socket.alpnProtocol], [version, 'http/1.1'])
    assert.match(await ask(socket), /^HTTP\/1\.1 200 .*ok$/s)
  })
}

for (const [what, options] of [
  ['speaks only TLS 1.1', { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' }],
  ['has no suite with forward secrecy', { maxVersion: 'TLSv1.2', ciphers: 'AES128-GCM-SHA256' }],
  ['has no suite with authenticated encryption', { maxVersion: 'TLSv1.2', ciphers: 'ECDHE+AES128+SHA256' }],
  ['speaks only HTTP/2', { ALPNProtocols: ['h2'] }],
] as const satisfies readonly (readonly [string, ConnectionOptions])[]) {
  test(`a client that ${what} is refused, and the next one is served`, async t => {
    const { address } = await serve(t, answerOk, {}, tlsTerms())
    await assert.rejects(async () => await handshake(t, address, { ...options }))
    assert.match(await ask(await handshake(t, address)), /ok$/)
  })
}

test('plain HTTP on a TLS listener is answered by a plain sentence, and the connection closed', async t => {
  const { address } = await serve(t, answerOk, {}, tlsTerms())
  using client = await RawClient.connect(address)
  client.send(`GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(200_000)}\r\n\r\n`)
  assert.equal(await client.ended(), 'fin')
  assert.match(client.received, /^HTTP\/1\.0 400 .*Client sent an HTTP request to an HTTPS server\.\n$/s)
})

test('a client hello that comes in two pieces is understood', async t => {
  const { address } = await serve(t, answerOk, {}, tlsTerms())
  const [host, port] = address.split(':')
  const raw = connectTcp({ host, port: Number(port), noDelay: true })
  await once(raw, 'connect')
  t.after(() => raw.destroy())
  // The first byte goes alone: the server reads it, and decides by it.
  const split = new Duplex({
    read: () => undefined,
    write: (bytes: Buffer, _, done) => {
      raw.write(bytes.subarray(0, 1), () => setImmediate(() => raw.write(bytes.subarray(1), done)))
    },
  })
  raw.on('data', bytes => split.push(bytes))
  const socket = connect({ socket: split, host, ca: CA })
  t.after(() => socket.destroy())
  await once(socket, 'secureConnect')
  assert.match(await ask(socket), /ok$/)
})

for (const [what, bytes] of [
  ['says nothing', undefined],
  ['stops after its first byte', Buffer.from([0x16])],
  ['stops within its hello', Buffer.from('1603010200010001fc0303', 'hex')],
] as const) {
  test(`a client that ${what} is closed when the time for handshakes is over`, async t => {
    const { address } = await serve(t, answerOk, { headersMs: 100 }, tlsTerms())
    using client = await RawClient.connect(address)
    if (bytes !== undefined) client.send(bytes)
    await client.ended()
    assert.equal(client.statuses.length, 0)
  })
}

test('a new certificate is used for new connections, and the open ones stay', async t => {
  const { address, server } = await serve(t, answerOk, {}, tlsTerms())
  const before = await handshake(t, address)
  assert.match(await ask(before), /ok$/)
  server.secure(tlsTerms('self-signed'))
  const after = await handshake(t, address, { ca: pem('self-signed') })
  assert.notEqual(
    after.getPeerX509Certificate()?.fingerprint256,
    before.getPeerX509Certificate()?.fingerprint256,
  )
  assert.match(await ask(before), /ok$/)
  assert.match(await ask(after), /ok$/)
})

test('a client that renegotiates is refused, and only its own connection is lost', async t => {
  const { address } = await serve(t, answerOk, {}, tlsTerms())
  const socket = await handshake(t, address, { maxVersion: 'TLSv1.2' })
  const other = await handshake(t, address)
  const renegotiated = new Promise<Error | null>(resolve => {
    socket.once('error', resolve)
    socket.renegotiate({}, resolve)
  })
  assert.match(String(await renegotiated), /no renegotiation/i)
  assert.match(await ask(other), /ok$/)
})

test('beyond the limit connections get 503 over TLS, except for liveness', async t => {
  const { address } = await serve(t, answerOk, { connectionsMax: 1, surplusMax: 2 }, tlsTerms())
  const first = await handshake(t, address)
  assert.match(await ask(first), /ok$/)
  assert.match(await ask(await handshake(t, address)), /^HTTP\/1\.1 503 /)
  assert.match(await ask(await handshake(t, address), GET.replace('/', '/livez')), /ok$/)
  assert.match(await ask(first), /ok$/)
})

test('a server that closes ends idle connections and handshakes, and finishes a response', async t => {
  const answer = Promise.withResolvers<void>()
  const asked = Promise.withResolvers<void>()
  const { address, server } = await serve(
    t,
    async (request, response) => {
      asked.resolve()
      await answer.promise
      await answerOk(request, response)
    },
    {},
    tlsTerms(),
  )
  using silent = await RawClient.connect(address)
  const idle = await handshake(t, address)
  const idleClosed = once(idle.resume(), 'close')
  const busy = await handshake(t, address)
  const answered = ask(busy)
  await asked.promise
  const closed = server.close()
  await Promise.all([silent.ended(), idleClosed])
  answer.resolve()
  assert.match(await answered, /ok$/)
  busy.resume()
  await closed
})

test('a client without a certificate is anonymous where certificates are optional', async t => {
  const peers = new Peers()
  const seen: unknown[] = []
  const { address } = await serve(
    t,
    async (request, response) => {
      seen.push(peers.of(request.socket))
      await answerOk(request, response)
    },
    {},
    tlsTerms('server', { isRequired: false }),
  )
  await ask(await handshake(t, address))
  assert.deepEqual(seen, [{ address: '127.0.0.1', isEncrypted: true, certificate: undefined }])
})

for (const [what, name, problem] of [
  ['of the client CA', 'client', undefined],
  ['that has expired', 'expired', 'cert has expired'],
  ['of a strange CA', 'self-signed', 'depth zero self signed cert'],
] as const) {
  test(`the request of a client with a certificate ${what} says ${problem ?? 'who it is'}, resumed too`, async t => {
    const peers = new Peers()
    const { address } = await serve(
      t,
      async (request, response) => {
        const { certificate } = peers.of(request.socket)
        const body = JSON.stringify([certificate?.commonName, certificate?.problem ?? 'none'])
        response.end(`${body}ok`)
        await Promise.resolve()
      },
      {},
      tlsTerms('server', { isRequired: false }),
    )
    const credentials = { cert: pem(name), key: pem(`${name}.key`) }
    const first = await handshake(t, address, credentials)
    const session = once(first, 'session') as Promise<[Buffer]>
    const expected = JSON.stringify([name === 'client' ? 'client' : 'localhost', problem ?? 'none'])
    assert.ok((await ask(first)).includes(expected))
    const [ticket] = await session
    const second = await handshake(t, address, { ...credentials, session: ticket })
    assert.equal(second.isSessionReused(), true)
    assert.ok((await ask(second)).includes(expected))
  })
}

test('without a certificate of the client CA nobody is served where it is required', async t => {
  const { address } = await serve(t, answerOk, {}, tlsTerms('server', { isRequired: true }))
  for (const name of [undefined, 'expired', 'self-signed']) {
    const credentials = name === undefined ? {} : { cert: pem(name), key: pem(`${name}.key`) }
    await assert.rejects(async () => {
      const socket = await handshake(t, address, credentials)
      if (!(await ask(socket)).endsWith('ok')) throw new Error('closed')
    })
  }
  const credentials = { cert: pem('client'), key: pem('client.key') }
  assert.match(await ask(await handshake(t, address, credentials)), /ok$/)
})

test('a session is resumed by another listener with the same keys, as in another thread', async t => {
  const one = await serve(t, answerOk, {}, tlsTerms())
  const other = await serve(t, answerOk, {}, tlsTerms())
  const stranger = await serve(t, answerOk, {}, tlsTerms('server', undefined, new Uint8Array(48).fill(1)))
  const first = await handshake(t, one.address)
  const session = once(first, 'session') as Promise<[Buffer]>
  await ask(first)
  const [ticket] = await session
  assert.equal((await handshake(t, other.address, { session: ticket })).isSessionReused(), true)
  assert.equal((await handshake(t, stranger.address, { session: ticket })).isSessionReused(), false)
})

test('a keep-alive agent sends many requests over one encrypted connection', async t => {
  const ports = new Set<number | undefined>()
  const { address } = await serve(
    t,
    async (request, response) => {
      ports.add(request.socket.remotePort)
      await answerOk(request, response)
    },
    {},
    tlsTerms(),
  )
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: CA })
  t.after(() => agent.destroy())
  for (let round = 0; round < 5; round += 1) {
    const request = httpsRequest(`https://${address}/`, { agent }).end()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    assert.equal(response.statusCode, 200)
    await once(response.resume(), 'end')
  }
  assert.equal(ports.size, 1)
})
