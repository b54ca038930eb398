import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, get, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Peer } from '../../../src/access/peer.ts'
import { HttpServer } from '../../../src/http/server.ts'
import { Forwarding, forwardedHandler } from '../../../src/http/threads/forward.ts'
import { describeCertificate } from '../../../src/http/tls/peer.ts'
import { pem } from '../../support/certificates/listener-tls.ts'

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
