import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { test } from 'node:test'
import type { DaemonReport } from '../../src/admin/contract.ts'
import { READING_LIMITS } from '../../src/http/send.ts'
import { MANIFEST_SIZE_MAX } from '../../src/oci/manifest.ts'
import { createTokenCache, type HeldToken } from '../../src/upstream/auth/auth.ts'
import { DIAL_TIMINGS } from '../../src/upstream/dial/dialer.ts'
import { PACE_LIMITS } from '../../src/upstream/paced-body.ts'
import { EXCHANGE_TIMINGS } from '../../src/upstream/transport.ts'
import { type Reply, readReply, startMirror } from '../support/mirror.ts'
import type { PoorReport } from '../support/poor-mirror.ts'
import { RawClient } from '../support/raw-client.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { errorMessage, until } from '../support/waiting.ts'

test('the times and paces are those of the table', () => {
  assert.deepEqual(READING_LIMITS, { idleMs: 60_000, floorMs: 120_000, floorBytes: 60 * 1024 })
  assert.deepEqual(DIAL_TIMINGS, {
    resolveMs: 5000,
    connectMs: 5000,
    handshakeMs: 10_000,
    nextAddressMs: 300,
  })
  // The first byte has 20 s, after what dialling took.
  assert.equal(EXCHANGE_TIMINGS.firstByteMs, 22_000)
  assert.deepEqual(PACE_LIMITS, { idleMs: 30_000, floorMs: 60_000, floorBytes: 60 * 10 * 1024 })
})

/** The status of the answer to one raw request. */
async function ask(
  address: string,
  target: string,
  ...headers: readonly string[]
): Promise<number | undefined> {
  using client = await RawClient.connect(address)
  client.send([`GET ${target} HTTP/1.1`, 'Host: x', 'Connection: close', ...headers, '', ''].join('\r\n'))
  await client.ended()
  return client.statuses[0]
}

test('request line, header count, names, tags and digests are taken up to their limits and no further', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({})
  const name = (length: number): string => 'n'.repeat(length)
  for (const length of [254, 255]) upstream.tag(`d/${name(length - 2)}`, '1', image.manifest)
  for (const length of [127, 128]) upstream.tag('team/app', name(length), image.manifest)
  await using mirror = await startMirror({ upstream: upstream.host })
  const { client } = mirror.daemon.addresses
  const hex = 'a'.repeat(63)
  for (const [target, status] of [
    [`/v2/?${'x'.repeat(8 * 1024 - 6)}`, 200],
    [`/v2/?${'x'.repeat(8 * 1024 - 5)}`, 200],
    [`/v2/?${'x'.repeat(8 * 1024 - 4)}`, 414],
    [`/v2/d/${name(252)}/manifests/1`, 200],
    [`/v2/d/${name(253)}/manifests/1`, 200],
    [`/v2/d/${name(254)}/manifests/1`, 400],
    [`/v2/team/app/manifests/${name(127)}`, 200],
    [`/v2/team/app/manifests/${name(128)}`, 200],
    [`/v2/team/app/manifests/${name(129)}`, 400],
    [`/v2/team/app/blobs/sha256:${hex}`, 400],
    [`/v2/team/app/blobs/sha256:${hex}a`, 404],
    [`/v2/team/app/blobs/sha256:${hex}aa`, 400],
    [`/v2/team/app/blobs/sha512:${hex}${hex}a`, 400],
    [`/v2/team/app/blobs/sha512:${hex}${hex}aa`, 404],
    [`/v2/team/app/blobs/sha512:${hex}${hex}aaa`, 400],
    [`/v2/team/app/blobs/sha256:${hex}A`, 400],
  ] as const)
    assert.equal(await ask(client, target), status, `${target.slice(0, 40)} of ${target.length}`)
  const fields = (count: number): string[] => Array.from({ length: count - 2 }, (_, index) => `X-${index}: 1`)
  for (const [count, status] of [
    [99, 200],
    [100, 200],
    [101, 431],
  ] as const)
    assert.equal(await ask(client, '/v2/', ...fields(count)), status, `${count} header fields`)
})

/** A manifest of so many bytes. */
function padded(upstream: FakeUpstream, sizeBytes: number): string {
  const mediaType = 'application/vnd.oci.image.index.v1+json'
  const [before, after] = [`{"schemaVersion":2,"mediaType":"${mediaType}","manifests":[]`, '}']
  const padding = ' '.repeat(sizeBytes - before.length - after.length)
  return upstream.putManifest(`${before}${padding}${after}`, mediaType)
}

test('a manifest of 4 MiB is served, and one byte more is the upstream’s trouble, whether its length is stated or not', async () => {
  await using upstream = await startUpstream()
  await using mirror = await startMirror({ upstream: upstream.host })
  for (const length of [undefined, 'chunked'] as const) {
    const rule = upstream.on({ method: 'GET' }, length === undefined ? {} : { length })
    for (const [extra, status] of [
      [-1, 200],
      [0, 200],
      [1, 502],
    ] as const) {
      const digest = padded(upstream, MANIFEST_SIZE_MAX + extra)
      const path = `/v2/team/${length ?? 'stated'}/manifests/${digest}`
      const reply = await mirror.get(path)
      assert.equal(reply.status, status, `${extra} ${length}`)
      if (status === 200) assert.equal(reply.body.byteLength, MANIFEST_SIZE_MAX + extra)
      // The next round asks the upstream again.
      await mirror.admin('DELETE', path.replace('/v2/', '/_admin/'))
    }
    rule.remove()
  }
})

test('the answer of a token endpoint is taken up to 64 KiB and no further', async () => {
  await using upstream = await startUpstream({ auth: { kind: 'bearer' } })
  const image = upstream.putImage({})
  upstream.tag('team/app', '1', image.manifest)
  for (const [extra, status] of [
    [-1, 200],
    [0, 200],
    [1, 502],
  ] as const) {
    await using mirror = await startMirror({ upstream: upstream.host })
    // A token that the upstream takes whatever it is, in an answer padded to the limit.
    const rules = [
      upstream.on({ path: '/token' }, { body: `{"token":"t"}`.padEnd(64 * 1024 + extra) }),
      upstream.on(
        { where: ({ headers }) => headers['authorization'] === 'Bearer t' },
        {
          status: 200,
          body: upstream.manifests.get(image.manifest)?.bytes ?? '',
          headers: {
            'www-authenticate': undefined,
            'content-type': 'application/vnd.oci.image.manifest.v1+json',
          },
        },
      ),
    ]
    assert.equal((await mirror.get('/v2/team/app/manifests/1')).status, status, String(extra))
    for (const rule of rules) rule.remove()
  }
})

test('10,000 tokens are held, and of 10,001 the oldest has gone', () => {
  const tokens = createTokenCache()
  const token: HeldToken = {
    text: 't',
    renewAtMs: 1,
    expiresAtMs: 2,
    challenge: { scheme: 'bearer', params: new Map() },
  }
  const sizes: number[] = []
  for (let count = 1; count <= 10_001; count += 1) {
    tokens.set(`scope ${count}`, token)
    if (count >= 9999) sizes.push(tokens.size)
  }
  assert.deepEqual(sizes, [9999, 10_000, 10_000])
  assert.deepEqual([tokens.has('scope 1'), tokens.has('scope 2')], [false, true])
})

interface PoorMirror extends PoorReport, AsyncDisposable {
  /** The lines of its log with this message. */
  linesOf(message: string): Promise<readonly Record<string, unknown>[]>
}

/** A mirror in a process that may have only so many files open. */
async function startPoor(upstream: FakeUpstream, filesMax: number): Promise<PoorMirror> {
  const program = new URL('../support/poor-mirror.ts', import.meta.url).pathname
  const command = `ulimit -n ${filesMax}; exec "$0" "$@"`
  const child = spawn('/bin/sh', ['-c', command, process.execPath, program, upstream.host], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const [report] = (await once(child, 'message')) as [PoorReport]
  return {
    ...report,
    linesOf: async message => {
      child.send('log')
      const [log] = (await once(child, 'message')) as [readonly Record<string, unknown>[]]
      return log.filter(({ msg }) => msg === message)
    },
    [Symbol.asyncDispose]: async () => {
      const exited = once(child, 'exit')
      child.disconnect()
      await exited
    },
  }
}

/** A connection that stays open, as that of a client or of monitoring would. */
class OpenConnection implements Disposable {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  readonly #address: string

  constructor(address: string) {
    this.#address = address
  }

  async get(path: string): Promise<Reply> {
    const asked = request(`http://${this.#address}${path}`, { agent: this.#agent }).end()
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    return await readReply(response)
  }

  async status(): Promise<Pick<DaemonReport, 'degraded' | 'storeTrouble'>> {
    return JSON.parse((await this.get('/_admin/v1/status')).body.toString()) as DaemonReport
  }

  [Symbol.dispose](): void {
    this.#agent.destroy()
  }
}

test('D3 a crowd takes the last file descriptor: the log and status say so, and the mirror recovers', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage({ layers: ['layer'] })
  upstream.tag('team/app', '1', image.manifest)
  await using poor = await startPoor(upstream, 96)
  using operator = new OpenConnection(poor.admin)
  using client = new OpenConnection(poor.address)
  assert.deepEqual((await operator.status()).degraded, [])
  assert.equal((await client.get('/v2/')).status, 200)
  for (let round = 1; round <= 2; round += 1) {
    const crowd = await Promise.all(
      Array.from({ length: 200 }, async () => await RawClient.connect(poor.address).catch(() => undefined)),
    )
    const silent = crowd.filter(found => found !== undefined)
    assert.ok(silent.length > 96, 'more connections than files')
    await until(async () => (await operator.status()).storeTrouble !== undefined, 'status says so')
    const { degraded } = await operator.status()
    assert.match(degraded.join(), /too many files open: raise its limit: LimitNOFILE=/)
    // What is not cached cannot be fetched now, and the error does not blame the registry's answer.
    if (round === 1) {
      const refused = await client.get('/v2/team/app/manifests/1')
      assert.ok([502, 503].includes(refused.status), String(refused.status))
      assert.match(errorMessage(refused), /too many files/)
    }
    for (const { socket } of silent) socket.destroy()
    await until(async () => (await ask(poor.address, '/v2/').catch(() => undefined)) === 200, 'recovery')
    await until(
      async () => (await operator.status()).storeTrouble === undefined,
      'the store is written again',
    )
    const lines = await poor.linesOf('store cannot be written: pulls pass through uncached until it can')
    assert.equal(lines.length, round)
    assert.match(String(lines.at(-1)?.['remedy']), /^raise its limit/)
  }
  assert.match((await operator.status()).degraded.join(), /had too many files open lately: raise/)
  assert.equal(await ask(poor.address, '/v2/team/app/manifests/1'), 200)
  assert.equal(await ask(poor.address, `/v2/team/app/blobs/${image.layers[0] ?? ''}`), 200)
})
