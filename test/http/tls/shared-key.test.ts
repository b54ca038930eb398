import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { connect, createServer, type TlsOptions } from 'node:tls'
import { sharedKeyConnecting, sharedKeyListening } from '../../../src/http/tls/shared-key.ts'
import { pem } from '../../support/certificates/listener-tls.ts'

const SHARED = { name: 'a cluster', key: Buffer.alloc(32, 7) }
const CERTIFIED = { cert: pem('server'), key: pem('server.key') }

/** True if a side with the key, which trusts the CA of the certificates, connects to such a server. */
async function connects(terms: TlsOptions): Promise<boolean> {
  await using server = createServer({ minVersion: 'TLSv1.3', ...terms })
  server.on('tlsClientError', (_, socket) => socket.destroy())
  server.on('secureConnection', socket => socket.on('error', () => undefined).end())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const socket = connect({ ...sharedKeyConnecting(SHARED), host: '127.0.0.1', port, ca: pem('ca') })
  try {
    await once(socket, 'secureConnect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

test('a side with the key connects to one that has it', async () => {
  assert.equal(await connects(sharedKeyListening(SHARED)), true)
  assert.equal(await connects({ ...sharedKeyListening(SHARED), ...CERTIFIED }), true)
})

test('a side with the key connects to none that has a trusted certificate instead', async () => {
  assert.equal(await connects(CERTIFIED), false)
  const other = { ...SHARED, key: Buffer.alloc(32, 8) }
  assert.equal(await connects({ ...sharedKeyListening({ ...SHARED, name: 'another' }), ...CERTIFIED }), false)
  assert.equal(await connects({ ...sharedKeyListening(other), ...CERTIFIED }), false)
})
