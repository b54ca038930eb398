import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { certificatePath, readCertificate } from '../support/upstream.ts'
import { runCommandLine } from './rig.ts'

let server: Server
let status = 200
let scratch: string

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'entrepot-health-'))
  server = createServer((request, response) =>
    response.writeHead(request.url === '/livez' ? status : 404).end(),
  )
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
})

after(async () => {
  server.closeAllConnections()
  await new Promise(resolve => server.close(resolve))
  await rm(scratch, { recursive: true })
})

test('healthcheck exits with 0 if the mirror with these options is alive, also if it listens on all addresses', async () => {
  const { port } = server.address() as AddressInfo
  status = 200
  for (const listen of [`127.0.0.1:${port}`, `0.0.0.0:${port}`, `localhost:${port}`]) {
    assert.deepEqual((await runCommandLine(['healthcheck', '--listen', listen])).stderr, '')
  }
  assert.equal((await runCommandLine(['healthcheck'], { env: { LISTEN: `127.0.0.1:${port}` } })).code, 0)
})

test('healthcheck exits with 1 and a reason if another server or no server answers', async () => {
  const { port } = server.address() as AddressInfo
  status = 500
  const sick = await runCommandLine(['healthcheck', '--listen', `127.0.0.1:${port}`])
  assert.deepEqual([sick.code, sick.stderr], [1, `entrepot: 127.0.0.1:${port} answers 500\n`])
  const gone = await runCommandLine(['healthcheck', '--listen', `unix:${scratch}/none.sock`])
  assert.equal(gone.code, 1)
  assert.match(gone.stderr, /none\.sock does not answer: .*ENOENT/)
})

test('healthcheck asks a mirror on a unix socket', async () => {
  const path = join(scratch, 'mirror.sock')
  const socket = createServer((_, response) => response.end())
  await new Promise<void>(resolve => socket.listen(path, resolve))
  const ran = await runCommandLine(['healthcheck', '--listen', `unix:${path}`])
  socket.closeAllConnections()
  await new Promise(resolve => socket.close(resolve))
  assert.equal(ran.code, 0, ran.stderr)
})

for (const isRequired of [false, true]) {
  test(`healthcheck asks a mirror that uses TLS${isRequired ? ' and requires client certificates' : ''}`, async () => {
    const tls = createTlsServer(
      {
        cert: readCertificate('server.pem'),
        key: readCertificate('server.key.pem'),
        ca: readCertificate('ca.pem'),
        requestCert: isRequired,
      },
      (_, response) => response.end(),
    )
    await new Promise<void>(resolve => tls.listen(0, '127.0.0.1', resolve))
    const { port } = tls.address() as AddressInfo
    const files = { cert: 'server.pem', key: 'server.key.pem' }
    const ran = await runCommandLine([
      'healthcheck',
      '--listen',
      `0.0.0.0:${port}`,
      ...Object.entries(files).flatMap(([name, file]) => [`--tls-${name}`, certificatePath(file)]),
      ...(isRequired ? ['--tls-client-ca', certificatePath('ca.pem'), '--tls-client-auth', 'required'] : []),
    ])
    tls.closeAllConnections()
    await new Promise(resolve => tls.close(resolve))
    assert.deepEqual([ran.code, ran.stderr], [0, ''])
  })
}
