import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { connect, createServer } from 'node:tls'
import { ensureSelfSigned, selfSignedFiles } from '../../../src/config/tls/self-signed.ts'

const NOW_MS = Date.now()
const DAY_MS = 24 * 3_600_000

async function directoryOf(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-tls-'))
  t.after(async () => await rm(directory, { recursive: true }))
  return directory
}

async function read(directory: string): Promise<{ readonly server: string; readonly ca: string }> {
  const { serverFile, caFile } = selfSignedFiles(directory)
  return { server: await readFile(serverFile, 'utf8'), ca: await readFile(caFile, 'utf8') }
}

test('a client that trusts the CA connects by each name of the certificate, and by no other', async t => {
  const directory = await directoryOf(t)
  await ensureSelfSigned(directory, ['mirror.example.test', '192.0.2.7', '2001:db8::7'], NOW_MS)
  const { server: pem, ca } = await read(directory)
  const server = createServer({ cert: pem, key: pem })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  for (const name of ['localhost', 'mirror.example.test']) {
    const socket = connect({ port, host: '127.0.0.1', servername: name, ca })
    await once(socket, 'secureConnect')
    socket.destroy()
  }
  const stranger = connect({ port, host: '127.0.0.1', servername: 'other.example.test', ca })
  const [error] = (await once(stranger, 'error')) as [NodeJS.ErrnoException]
  assert.equal(error.code, 'ERR_TLS_CERT_ALTNAME_INVALID')
  const certificate = new X509Certificate(pem)
  for (const address of ['127.0.0.1', '::1', '192.0.2.7', '2001:db8::7'])
    assert.notEqual(certificate.checkIP(address), undefined, address)
})

test('the CA may sign certificates and the certificate of the mirror may not', async t => {
  const directory = await directoryOf(t)
  await ensureSelfSigned(directory, [], NOW_MS)
  const { server, ca } = await read(directory)
  const [authority, certificate] = [new X509Certificate(ca), new X509Certificate(server)]
  assert.deepEqual([authority.ca, certificate.ca], [true, false])
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1'])
  assert.ok(certificate.checkIssued(authority) && certificate.verify(authority.publicKey))
})

test('keys can be read by their owner only, and nothing temporary is left behind', async t => {
  const directory = await directoryOf(t)
  await ensureSelfSigned(directory, [], NOW_MS)
  assert.deepEqual((await readdir(directory)).toSorted(), ['authority.pem', 'ca.crt', 'server.pem'])
  for (const name of ['authority.pem', 'server.pem'])
    assert.equal((await stat(join(directory, name))).mode & 0o077, 0, name)
  assert.doesNotMatch((await read(directory)).ca, /PRIVATE KEY/)
})

test('a second start changes nothing, and another name makes a new certificate of the same CA', async t => {
  const directory = await directoryOf(t)
  await ensureSelfSigned(directory, [], NOW_MS)
  const first = await read(directory)
  await ensureSelfSigned(directory, [], NOW_MS + DAY_MS)
  assert.deepEqual(await read(directory), first)
  await ensureSelfSigned(directory, ['new.example.test', '*.apps.example.test'], NOW_MS + DAY_MS)
  const second = await read(directory)
  assert.equal(second.ca, first.ca)
  assert.match(new X509Certificate(second.server).subjectAltName ?? '', /DNS:new\.example\.test/)
  await ensureSelfSigned(directory, ['*.apps.example.test'], NOW_MS + DAY_MS)
  assert.deepEqual(await read(directory), second)
})

test('a certificate that expires within 30 days is made anew, and so is a damaged one', async t => {
  const directory = await directoryOf(t)
  await ensureSelfSigned(directory, [], NOW_MS)
  const first = await read(directory)
  await ensureSelfSigned(directory, [], NOW_MS + 370 * DAY_MS)
  const second = await read(directory)
  assert.notEqual(second.server, first.server)
  assert.ok(new X509Certificate(second.server).validToDate.getTime() > NOW_MS + 700 * DAY_MS)
  await writeFile(selfSignedFiles(directory).serverFile, 'damaged')
  await ensureSelfSigned(directory, [], NOW_MS + 370 * DAY_MS)
  assert.match((await read(directory)).server, /BEGIN CERTIFICATE/)
})

test('a damaged CA is an error that names the file, and is never replaced', async t => {
  const directory = await directoryOf(t)
  await ensureSelfSigned(directory, [], NOW_MS)
  const authority = join(directory, 'authority.pem')
  await writeFile(authority, 'damaged')
  await assert.rejects(
    async () => await ensureSelfSigned(directory, [], NOW_MS),
    /authority\.pem: \(--tls-self-signed\) is damaged/,
  )
  assert.equal(await readFile(authority, 'utf8'), 'damaged')
})

test('eight processes that start at once on one directory agree on one CA', async t => {
  const directory = await directoryOf(t)
  await Promise.all(
    Array.from({ length: 8 }, async () => await ensureSelfSigned(directory, ['a.example.test'], NOW_MS)),
  )
  const { server, ca } = await read(directory)
  assert.ok(new X509Certificate(server).verify(new X509Certificate(ca).publicKey))
  assert.deepEqual((await readdir(directory)).toSorted(), ['authority.pem', 'ca.crt', 'server.pem'])
})
