import assert from 'node:assert/strict'
import { createHash, randomBytes, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { copyFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { Agent, type AgentOptions, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { connect, type TLSSocket } from 'node:tls'
import type { Config, TlsConfig } from '../../src/config/config.ts'
import { ConfigError } from '../../src/config/problem.ts'
import { type Reply, readReply, startMirror, type TestMirror } from '../support/mirror.ts'
import { certificatePath, readCertificate, startUpstream } from '../support/upstream.ts'
import { linesOf, logged, stored, until } from '../support/waiting.ts'

const CA = readCertificate('ca.pem')
const LOOPBACK = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const
/** So many connections reach each of two threads, but for once in a million runs. */
const CROWD = 20

function tlsConfig(overrides: Partial<TlsConfig> = {}): TlsConfig {
  return {
    listen: [],
    certificate: {
      kind: 'files',
      certFile: certificatePath('server.pem'),
      keyFile: certificatePath('server.key.pem'),
    },
    clients: undefined,
    ...overrides,
  }
}

/** Starts a mirror with TLS; it is stopped after the test. */
async function start(
  t: TestContext,
  tls: TlsConfig,
  config: Partial<Config> = {},
): Promise<{ readonly mirror: TestMirror; readonly upstream: Awaited<ReturnType<typeof startUpstream>> }> {
  const upstream = await startUpstream()
  t.after(async () => await upstream[Symbol.asyncDispose]())
  const mirror = await startMirror({ upstream: upstream.host, config: { tls, ...config } })
  t.after(async () => await mirror[Symbol.asyncDispose]())
  return { mirror, upstream }
}

/** Pulls over TLS on a connection of its own. */
async function pull(address: string, path: string, options: AgentOptions = {}): Promise<Reply> {
  const agent = new Agent({ ca: CA, keepAlive: false, ...options })
  try {
    const asked = request(`https://${address}${path}`, { agent }).end()
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    return await readReply(response)
  } finally {
    agent.destroy()
  }
}

async function fingerprintAt(address: string, ca: string): Promise<string | undefined> {
  const [host, port] = address.split(':')
  const socket: TLSSocket = connect({ host, port: Number(port), ca })
  await once(socket, 'secureConnect')
  const fingerprint = socket.getPeerX509Certificate()?.fingerprint256
  socket.destroy()
  return fingerprint
}

test('a blob and a manifest are pulled over TLS, cold and warm, by every thread', async t => {
  const { mirror, upstream } = await start(t, tlsConfig(), { workers: 2 })
  const layer = randomBytes(1024 * 1024)
  const image = upstream.putImage({ layers: [layer] })
  upstream.tag('team/app', 'v1', image.manifest)
  const [digest = ''] = image.layers
  const [address = ''] = mirror.daemon.addresses.tls
  assert.equal(address, mirror.daemon.addresses.client)
  for (const path of ['/v2/team/app/manifests/v1', `/v2/team/app/blobs/${digest}`, '/v2/', '/readyz']) {
    const replies = await Promise.all(Array.from({ length: CROWD }, async () => await pull(address, path)))
    for (const { status, isComplete } of replies) assert.deepEqual([status, isComplete], [200, true], path)
    const hashes = replies.map(({ body }) => createHash('sha256').update(body).digest('hex'))
    if (path.includes('blobs')) assert.deepEqual(new Set(hashes), new Set([digest.slice('sha256:'.length)]))
  }
})

test('beside a TLS listener the plain one serves too, and both have the same content', async t => {
  const { mirror, upstream } = await start(t, tlsConfig({ listen: [LOOPBACK, LOOPBACK] }), { workers: 2 })
  const digest = upstream.putBlob(randomBytes(1000))
  const { client, tls } = mirror.daemon.addresses
  assert.equal(new Set([client, ...tls]).size, 3)
  assert.equal((await mirror.get(`/v2/team/app/blobs/${digest}`)).status, 200)
  await stored(mirror, digest)
  for (const address of tls)
    assert.equal(
      (await pull(address, `/v2/team/app/blobs/${digest}`)).headers['cache-status'],
      'entrepot; hit',
    )
  assert.equal(upstream.count({ method: 'GET', path: `/v2/team/app/blobs/${digest}` }), 1)
  const [line] = linesOf(mirror, 'listening')
  assert.deepEqual([line?.['listen'], line?.['listenTls']], [client, tls])
})

test('a certificate that changes on disk is used by all threads, and a running transfer does not notice', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-reload-'))
  t.after(async () => await rm(directory, { recursive: true }))
  const [certFile, keyFile] = [join(directory, 'tls.crt'), join(directory, 'tls.key')]
  const put = async (name: string): Promise<void> => {
    for (const [from, to] of [
      [`${name}.key.pem`, keyFile],
      [`${name}.pem`, certFile],
    ] as const) {
      await copyFile(certificatePath(from), `${to}.new`)
      await rename(`${to}.new`, to)
    }
  }
  await put('server')
  const certificate = { kind: 'files', certFile, keyFile } as const
  const { mirror, upstream } = await start(t, tlsConfig({ certificate }), { workers: 2 })
  const bytes = randomBytes(8 * 1024 * 1024)
  const digest = upstream.putBlob(bytes)
  const [address = ''] = mirror.daemon.addresses.tls
  const running = await Promise.all(
    Array.from({ length: CROWD }, async () => {
      const asked = request(`https://${address}/v2/team/app/blobs/${digest}`, {
        agent: new Agent({ ca: CA }),
      }).end()
      const [response] = (await once(asked, 'response')) as [IncomingMessage]
      return response
    }),
  )
  await put('self-signed')
  const ca = readCertificate('self-signed.pem')
  const expected = new X509Certificate(ca).fingerprint256
  await until(() => linesOf(mirror, 'TLS certificate loaded').length >= 2, 'the certificate is loaded again')
  const seen = await Promise.all(
    Array.from({ length: CROWD }, async () => await fingerprintAt(address, ca).catch(() => 'old')),
  )
  // A thread may get the certificate a moment after the log line.
  if (seen.some(fingerprint => fingerprint !== expected))
    await until(async () => {
      const again = Array.from(
        { length: CROWD },
        async () => await fingerprintAt(address, ca).catch(() => 'old'),
      )
      return (await Promise.all(again)).every(fingerprint => fingerprint === expected)
    }, 'all threads use it')
  for (const response of running) {
    const { body, isComplete } = await readReply(response)
    assert.deepEqual([isComplete, body.equals(bytes)], [true, true])
  }
  const metrics = (await mirror.admin('GET', '/metrics')).body.toString()
  const expiry = /^entrepot_tls_certificate_expiry_seconds ([0-9.e+]+)$/m.exec(metrics)?.[1]
  assert.equal(Number(expiry), new X509Certificate(ca).validToDate.getTime() / 1000)
})

test('a broken certificate changes nothing, and is reported without its key', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-reload-'))
  t.after(async () => await rm(directory, { recursive: true }))
  const [certFile, keyFile] = [join(directory, 'tls.crt'), join(directory, 'tls.key')]
  await copyFile(certificatePath('server.pem'), certFile)
  await copyFile(certificatePath('server.key.pem'), keyFile)
  const certificate = { kind: 'files', certFile, keyFile } as const
  const { mirror } = await start(t, tlsConfig({ certificate }))
  const [address = ''] = mirror.daemon.addresses.tls
  const before = await fingerprintAt(address, CA)
  const key = readCertificate('client.key.pem')
  await writeFile(keyFile, key)
  await mirror.daemon.reload()
  await logged(mirror, 'TLS certificate not loaded, the one before stays')
  const [line] = linesOf(mirror, 'TLS certificate not loaded, the one before stays')
  assert.match(JSON.stringify(line), /tls\.key: \(--tls-key\) is not the key of the certificate/)
  for (const secret of key.split('\n').filter(text => text.length > 20 && !text.startsWith('-')))
    assert.ok(!JSON.stringify(mirror.log).includes(secret))
  assert.equal(await fingerprintAt(address, CA), before)
  await writeFile(keyFile, '')
  await mirror.daemon.reload()
  assert.equal(await fingerprintAt(address, CA), before)
  const metrics = (await mirror.admin('GET', '/metrics')).body.toString()
  assert.match(metrics, /^entrepot_tls_certificate_loads_total\{result="failed"\} [2-9]/m)
})

for (const [what, cert, key] of [
  ['that has expired', 'expired.pem', 'expired.key.pem'],
  ['with the key of another', 'server.pem', 'client.key.pem'],
] as const) {
  test(`a mirror does not start with a certificate ${what}`, async t => {
    const certificate = {
      kind: 'files',
      certFile: certificatePath(cert),
      keyFile: certificatePath(key),
    } as const
    await assert.rejects(start(t, tlsConfig({ certificate })), ConfigError)
  })
}

test('a self-signed certificate is trusted by its CA file, and stays the same after a restart', async t => {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-self-'))
  t.after(async () => await rm(root, { recursive: true }))
  const directory = join(root, 'state', 'tls')
  const certificate = { kind: 'self-signed', directory, names: ['mirror.example.test'] } as const
  const config = { tls: tlsConfig({ certificate }), store: { kind: 'filesystem', root } } as const
  const fingerprints = new Set<string | undefined>()
  for (let round = 0; round < 2; round += 1) {
    await using upstream = await startUpstream()
    const mirror = await startMirror({ upstream: upstream.host, root, config })
    const [address = ''] = mirror.daemon.addresses.tls
    const ca = await readFile(join(directory, 'ca.crt'), 'utf8')
    assert.equal((await pull(address, '/v2/', { ca })).status, 200)
    fingerprints.add(await fingerprintAt(address, ca))
    await mirror[Symbol.asyncDispose]()
  }
  assert.equal(fingerprints.size, 1)
})

for (const workers of [1, 2]) {
  test(`with ${workers} of threads a client certificate that is not believed is 401, except for probes`, async t => {
    const clients = { caFile: certificatePath('ca.pem'), isRequired: false }
    const { mirror, upstream } = await start(t, tlsConfig({ clients }), { workers })
    const digest = upstream.putBlob(randomBytes(1000))
    const [address = ''] = mirror.daemon.addresses.tls
    const blob = `/v2/team/app/blobs/${digest}`
    const ask = async (path: string, name: string | undefined): Promise<readonly (number | string)[]> => {
      const pem = (suffix: string): string | undefined =>
        name === undefined ? undefined : readCertificate(`${name}${suffix}`)
      const replies = await Promise.all(
        Array.from({ length: workers === 1 ? 1 : CROWD }, async () =>
          pull(address, path, { cert: pem('.pem'), key: pem('.key.pem') }),
        ),
      )
      return [...new Set(replies.map(({ status }) => status))]
    }
    for (const path of [blob, '/v2/', '/v2/team/app/tags/list']) {
      if (!path.endsWith('list')) assert.deepEqual(await ask(path, undefined), [200], path)
      if (!path.endsWith('list')) assert.deepEqual(await ask(path, 'client'), [200], path)
      assert.deepEqual(await ask(path, 'expired'), [401], path)
      assert.deepEqual(await ask(path, 'self-signed'), [401], path)
    }
    assert.deepEqual(await ask('/livez', 'expired'), [200])
    assert.deepEqual(await ask('/readyz', 'expired'), [200])
    const refused = await pull(address, blob, {
      cert: readCertificate('expired.pem'),
      key: readCertificate('expired.key.pem'),
    })
    assert.match(
      refused.body.toString(),
      /"UNAUTHORIZED".*client certificate is not accepted: cert has expired/,
    )
  })
}

test('a drain finishes a transfer over TLS and closes idle connections', async t => {
  const { mirror, upstream } = await start(t, tlsConfig(), { workers: 2 })
  const bytes = randomBytes(4 * 1024 * 1024)
  const digest = upstream.putBlob(bytes)
  const [address = ''] = mirror.daemon.addresses.tls
  const [host, port] = address.split(':')
  const idle = connect({ host, port: Number(port), ca: CA })
  await once(idle, 'secureConnect')
  const closed = once(idle.resume(), 'close')
  const asked = request(`https://${address}/v2/team/app/blobs/${digest}`, { ca: CA, agent: false }).end()
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  const stopped = mirror.daemon.stop()
  await closed
  assert.deepEqual((await readReply(response)).body.equals(bytes), true)
  await stopped
})
