import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type IncomingMessage, request as openPlain } from 'node:http'
import { request as openRequest } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import type { DaemonReport } from '../../src/admin/contract.ts'
import { sharedKeyConnecting } from '../../src/http/tls/shared-key.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { RepositoryName } from '../../src/oci/name.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import { PEER_FIELD, PeerKey } from '../../src/peers/peer-key.ts'
import { targetOf } from '../../src/peers/protocol.ts'
import { openS3Store } from '../../src/storage/s3/store.ts'
import { addressOf, SHORT, seenS3Events } from '../storage/s3/rooms.ts'
import { startFakePeer } from '../support/fake-peer.ts'
import { startMirror, type TestMirror } from '../support/mirror.ts'
import { PageBrowser } from '../support/page-browser.ts'
import {
  freePorts,
  met,
  metricOf,
  PEER_SECRET,
  peersConfig,
  type Replicas,
  startReplicas,
} from '../support/replicas.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { type FakeUpstream, startUpstream } from '../support/upstream.ts'
import { createGate } from '../support/upstream-behaviour.ts'
import { inFlight, linesOf, stored, until } from '../support/waiting.ts'

const SIZE = 1_000_000
const BLOB = { method: 'GET', path: /blobs/ }
const UPLOADED: ReadonlySet<string> = new Set(['PutObject', 'CompleteMultipartUpload'])

function pathOf(digest: Digest, repository = 'team/app'): string {
  return `/v2/${repository}/blobs/${digest}`
}

/** A mirror whose only other replica is at this port, so that it asks there for everything. */
async function startFollower(
  upstream: FakeUpstream,
  port: number,
  others: readonly number[] = [],
): Promise<TestMirror> {
  const [own = 0] = await freePorts(1)
  return await startMirror({ upstream: upstream.host, config: peersConfig(own, [port, ...others]) })
}

suite('three replicas with stores of their own', () => {
  let started: { readonly upstream: FakeUpstream; readonly replicas: Replicas } | undefined
  const world = (): NonNullable<typeof started> => {
    assert.ok(started !== undefined)
    return started
  }
  before(async () => {
    const upstream = await startUpstream()
    started = { upstream, replicas: await startReplicas(3, () => ({ upstream: upstream.host })) }
  })
  after(async () => {
    await started?.replicas[Symbol.asyncDispose]()
    await started?.upstream[Symbol.asyncDispose]()
  })

  test('fetch a cold blob once, for twelve clients at once', async () => {
    const bytes = randomBytes(SIZE)
    const digest = world().upstream.putBlob(bytes)
    const gate = createGate()
    world().upstream.on(
      { method: 'GET', path: pathOf(digest) },
      { pause: { at: 400_000, until: gate.opened } },
    )
    const asked = world().replicas.mirrors.flatMap(mirror =>
      Array.from({ length: 4 }, async () => await mirror.get(pathOf(digest))),
    )
    for (const mirror of world().replicas.mirrors) await inFlight(mirror, 4)
    gate.open()
    for (const reply of await Promise.all(asked)) assert.deepEqual(reply.body, bytes)
    assert.equal(world().upstream.count({ method: 'GET', path: pathOf(digest) }), 1)
    for (const mirror of world().replicas.mirrors) await stored(mirror, digest)
  })

  test('ask for a tag by one HEAD, and for each manifest and blob by one GET and no HEAD', async () => {
    const image = world().upstream.putImage({ layers: [randomBytes(300_000), 'small'] })
    world().upstream.tag('team/app', 'v1', image.manifest)
    const pull = async (mirror: TestMirror): Promise<void> => {
      assert.equal((await mirror.head('/v2/team/app/manifests/v1')).status, 200)
      const manifest = await mirror.get(`/v2/team/app/manifests/${image.manifest}`)
      assert.equal(digestOf(manifest.body), image.manifest)
      for (const digest of [image.config, ...image.layers])
        assert.equal(digestOf((await mirror.get(pathOf(digest))).body), digest)
      assert.equal(digestOf((await mirror.get('/v2/team/app/manifests/v1')).body), image.manifest)
    }
    await Promise.all(world().replicas.mirrors.flatMap(mirror => [pull(mirror), pull(mirror)]))
    assert.equal(world().upstream.count({ method: 'HEAD', path: '/v2/team/app/manifests/v1' }), 1)
    assert.equal(
      world().upstream.count({ method: 'GET', path: `/v2/team/app/manifests/${image.manifest}` }),
      1,
    )
    assert.equal(world().upstream.count({ method: 'GET', path: '/v2/team/app/manifests/v1' }), 0)
    for (const digest of [image.config, ...image.layers])
      assert.equal(world().upstream.count({ method: 'GET', path: pathOf(digest) }), 1)
    for (const digest of [image.config, ...image.layers])
      assert.equal(world().upstream.count({ method: 'HEAD', path: pathOf(digest) }), 0)
  })

  test('the status shows each replica, what it owns, and what came from it', async () => {
    const statuses = await Promise.all(
      world().replicas.mirrors.map(async mirror => {
        const { body } = await mirror.admin('GET', '/_admin/v1/status')
        return (JSON.parse(body.toString()) as DaemonReport).replicas
      }),
    )
    for (const replicas of statuses) {
      assert.ok(replicas !== undefined)
      const { members } = replicas
      assert.deepEqual(members.map(({ state }) => state).toSorted(), ['alive', 'alive', 'self'])
      const owned = members.reduce((sum, { owns = 0 }) => sum + owns, 0)
      assert.ok(Math.abs(owned - 1) < 0.01)
      assert.ok(members.every(({ version, failures }) => version !== undefined && failures === 0))
    }
    const received = statuses.flatMap(
      replicas => replicas?.members.map(({ receivedBytes }) => receivedBytes) ?? [],
    )
    assert.ok(received.reduce((sum, bytes) => sum + bytes, 0) >= 2 * SIZE)
    for (const mirror of world().replicas.mirrors) {
      const page = (await new PageBrowser(mirror).get('/')).body.toString()
      assert.match(page, /3 of 3 are here/)
      assert.match(page, /<caption>Replicas of test<\/caption>[^]*<td>this one<\/td>/)
    }
  })
})

test('replicas with one bucket upload each blob and manifest once', async () => {
  await using upstream = await startUpstream()
  await using stub = await startS3Stub()
  const image = upstream.putImage({ layers: [randomBytes(300_000)] })
  upstream.tag('team/app', 'v1', image.manifest)
  const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-replicas-'))
  await using _ = { [Symbol.asyncDispose]: async () => await rm(spoolDirectory, { recursive: true }) }
  const stores = await Promise.all(
    [0, 1, 2].map(
      async index =>
        await openS3Store({
          address: addressOf(stub),
          spoolDirectory: join(spoolDirectory, String(index)),
          events: seenS3Events(),
          limits: SHORT,
        }),
    ),
  )
  const s3 = {
    kind: 's3',
    bucket: 'cache',
    region: 'r',
    endpoint: 'http://bucket',
    accessKey: undefined,
    secretKey: undefined,
    prefix: '',
    isPathStyle: true,
    spoolDirectory,
    isRedirecting: false,
    redirectEndpoint: undefined,
  } as const
  await using replicas = await startReplicas(3, index => {
    const store = stores[index]
    return { upstream: upstream.host, config: { store: s3 }, overrides: store === undefined ? {} : { store } }
  })
  await Promise.all(
    replicas.mirrors.map(async mirror => {
      assert.equal((await mirror.get('/v2/team/app/manifests/v1')).status, 200)
      for (const digest of [image.config, ...image.layers])
        assert.equal(digestOf((await mirror.get(pathOf(digest))).body), digest)
      for (const digest of image.layers) await stored(mirror, digest)
    }),
  )
  const hexes = [image.manifest, ...image.layers].map(digest => digest.slice(9))
  for (const hex of hexes) {
    const puts = stub.requests.filter(
      ({ operation, key }) => UPLOADED.has(operation) && key.includes('blobs/sha256/') && key.endsWith(hex),
    )
    assert.equal(puts.length, 1, hex)
  }
  assert.equal(upstream.count(BLOB), 2)
})

test('an owner that dies in the middle of a blob costs the rest of it, from the offset on', async () => {
  await using upstream = await startUpstream()
  await using owner = await startFakePeer()
  const bytes = randomBytes(SIZE)
  const digest = upstream.putBlob(bytes)
  const answer = { kind: 'content', from: 0, sizeBytes: SIZE, isStored: false } as const
  owner.react = ({ kind }) =>
    kind === 'blob'
      ? { answer, body: bytes, cut: { at: 600_000, ending: 'destroy' } }
      : { answer: { kind: 'refused', why: 'busy' } }
  await using mirror = await startFollower(upstream, owner.port)
  assert.deepEqual((await mirror.get(pathOf(digest))).body, bytes)
  const [asked] = upstream.requests.filter(({ method, path }) => method === 'GET' && path.includes('/blobs/'))
  const [, from = ''] = /^bytes=([0-9]+)-$/.exec(asked?.headers['range'] ?? '') ?? []
  assert.ok(Number(from) > 0 && Number(from) <= 600_000)
  assert.equal(asked?.headers['if-range'], undefined)
  assert.equal(upstream.count(BLOB), 1)
})

test('a small blob that a replica sends with wrong bytes comes from the registry, and the client notices nothing', async () => {
  await using upstream = await startUpstream()
  await using owner = await startFakePeer()
  const digest = upstream.putBlob('the right bytes')
  const answer = { kind: 'content', from: 0, sizeBytes: 15, isStored: true } as const
  owner.react = ({ kind }) =>
    kind === 'blob'
      ? { answer, body: Buffer.from('the wrong bytes') }
      : { answer: { kind: 'refused', why: 'busy' } }
  await using mirror = await startFollower(upstream, owner.port)
  assert.equal((await mirror.get(pathOf(digest))).body.toString(), 'the right bytes')
  assert.equal(await metricOf(mirror, 'entrepot_peer_wrong_content_total'), 1)
})

test('a large blob that a replica sends with wrong bytes is never completed, and the next pull asks the registry', async () => {
  await using upstream = await startUpstream()
  await using owner = await startFakePeer()
  const bytes = randomBytes(SIZE)
  const digest = upstream.putBlob(bytes)
  const answer = { kind: 'content', from: 0, sizeBytes: SIZE, isStored: true } as const
  owner.react = ({ kind }) =>
    kind === 'blob' ? { answer, body: randomBytes(SIZE) } : { answer: { kind: 'refused', why: 'busy' } }
  await using mirror = await startFollower(upstream, owner.port)
  assert.equal((await mirror.get(pathOf(digest))).isComplete, false)
  assert.deepEqual((await mirror.get(pathOf(digest))).body, bytes)
  assert.equal(owner.questions.filter(({ kind }) => kind === 'blob').length, 1)
  assert.equal(await metricOf(mirror, 'entrepot_peer_wrong_content_total'), 1)
  await stored(mirror, digest)
})

test('a manifest that a replica sends with wrong bytes comes from the registry', async () => {
  await using upstream = await startUpstream()
  await using owner = await startFakePeer()
  const { manifest } = upstream.putImage()
  upstream.tag('team/app', 'v1', manifest)
  owner.react = ({ kind }) =>
    kind === 'manifest'
      ? {
          answer: { kind: 'content', from: 0, sizeBytes: 2, mediaType: 'x/y', isStored: true },
          body: Buffer.from('{}'),
        }
      : { answer: { kind: 'refused', why: 'busy' } }
  await using mirror = await startFollower(upstream, owner.port)
  assert.equal(digestOf((await mirror.get('/v2/team/app/manifests/v1')).body), manifest)
  assert.equal(await metricOf(mirror, 'entrepot_peer_wrong_content_total'), 1)
})

for (const [what, options] of [
  ['another version of the protocol', { protocol: '2' }],
  ['another secret', { secret: 'a secret of other replicas' }],
  ['another cluster', { cluster: 'other' }],
] as const) {
  test(`a replica with ${what} is ignored, and costs no pull`, async () => {
    await using upstream = await startUpstream()
    await using stranger = await startFakePeer(options)
    const digest = upstream.putBlob('content')
    await using mirror = await startFollower(upstream, stranger.port)
    assert.equal((await mirror.get(pathOf(digest))).body.toString(), 'content')
    assert.deepEqual(stranger.questions, [])
    assert.equal(await metricOf(mirror, 'entrepot_peer_members{state="ignored"}'), 1)
  })
}

test('two replicas that each take the other for the owner both serve, by at most two fetches', async () => {
  await using upstream = await startUpstream()
  const bytes = randomBytes(SIZE)
  const digest = upstream.putBlob(bytes)
  const image = upstream.putImage()
  upstream.tag('team/app', 'v1', image.manifest)
  const [one = 0, other = 0] = await freePorts(2)
  await using first = await startMirror({ upstream: upstream.host, config: peersConfig(one, [other]) })
  await using second = await startMirror({ upstream: upstream.host, config: peersConfig(other, [one]) })
  await until(
    async () => (await metricOf(first, 'entrepot_peer_members{state="alive"}')) === 1,
    'each knows the other',
  )
  const replies = await Promise.all(
    [first, second, first, second].map(async mirror => await mirror.get(pathOf(digest))),
  )
  for (const reply of replies) assert.deepEqual(reply.body, bytes)
  assert.ok(upstream.count(BLOB) <= 2)
  const manifests = await Promise.all(
    [first, second].map(async mirror => await mirror.get('/v2/team/app/manifests/v1')),
  )
  for (const reply of manifests) assert.equal(digestOf(reply.body), image.manifest)
  assert.ok(upstream.count({ path: /manifests/ }) <= 4)
})

test('members that do not exist, and this replica given twice, cost no pull', async () => {
  await using upstream = await startUpstream()
  const digest = upstream.putBlob('content')
  const [own = 0, ...dead] = await freePorts(4)
  await using mirror = await startMirror({
    upstream: upstream.host,
    config: peersConfig(own, [own, ...dead], {
      members: {
        kind: 'list',
        addresses: [
          ...dead.map(port => ({ host: '127.0.0.1', port })),
          ...['127.0.0.1', 'localhost'].map(host => ({ host, port: own })),
        ],
      },
    }),
  })
  assert.equal((await mirror.get(pathOf(digest))).body.toString(), 'content')
  assert.equal(upstream.count(BLOB), 1)
})

interface RawAnswer {
  readonly status: number | undefined
  readonly headers: Readonly<Record<string, unknown>>
}

async function askRaw(
  port: number,
  target: string,
  headers: Record<string, string>,
  key: PeerKey = new PeerKey(PEER_SECRET, 'test'),
): Promise<RawAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<RawAnswer>()
  const options = { ...sharedKeyConnecting(key.tls), agent: false, headers }
  const request = openRequest({ ...options, host: '127.0.0.1', port, path: target }, response => {
    response.resume()
    resolve({ status: response.statusCode, headers: response.headers })
  })
  request.once('error', reject)
  request.end()
  return await promise
}

/** The status of an answer to a request without TLS. */
async function fetchPlain(port: number, target: string): Promise<number | undefined> {
  const request = openPlain({ host: '127.0.0.1', port, path: target, agent: false })
  request.end()
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  response.resume()
  return response.statusCode
}

test('a stranger at the listener for replicas is refused and counted, and learns nothing', async () => {
  await using upstream = await startUpstream()
  const digest = upstream.putBlob('content')
  await using replicas = await startReplicas(1, () => ({ upstream: upstream.host }))
  const [mirror] = replicas.mirrors
  const [port = 0] = replicas.ports
  assert.ok(mirror !== undefined)
  const target = targetOf({
    kind: 'blob',
    namespace: DOCKER_HUB,
    repository: 'team/app' as RepositoryName,
    digest,
    from: 0,
    isLinked: true,
  })
  const sign = (key: PeerKey, atMs: number): string =>
    key.signRequest({ method: 'GET', target, instance: 'entrepot-000000000000', atMs }).field
  const now = Date.now()
  const metric = (why: string): string => `entrepot_peer_strangers_total{why="${why}"}`
  for (const key of [new PeerKey('another secret', 'test'), new PeerKey(PEER_SECRET, 'other')])
    await assert.rejects(askRaw(port, target, {}, key))
  await until(async () => (await metricOf(mirror, metric('secret'))) === 2, 'both strangers are counted')
  const plain = await fetchPlain(port, target)
  assert.deepEqual([plain, await metricOf(mirror, metric('unsigned'))], [400, 1])
  const refused = [
    ['unsigned', 2, {}],
    ['secret', 3, { [PEER_FIELD]: sign(new PeerKey('another secret', 'test'), now) }],
    ['cluster', 1, { [PEER_FIELD]: sign(new PeerKey(PEER_SECRET, 'other'), now) }],
    ['clock', 1, { [PEER_FIELD]: sign(new PeerKey(PEER_SECRET, 'test'), now - 3_600_000) }],
    ['version', 1, { [PEER_FIELD]: sign(new PeerKey(PEER_SECRET, 'test'), now).replace('1 ', '2 ') }],
  ] as const
  for (const [why, count, headers] of refused) {
    const { status, headers: answered } = await askRaw(port, target, headers)
    assert.equal(status, 401, why)
    assert.equal(answered['content-length'], '0')
    assert.equal(await metricOf(mirror, metric(why)), count)
  }
  assert.equal(upstream.requests.length, 0)
  for (const line of linesOf(mirror, 'refused a request at the listener for replicas'))
    assert.ok(!JSON.stringify(line).includes(PEER_SECRET))
})

test('a question that has passed this replica before is answered 508', async () => {
  await using upstream = await startUpstream()
  await using replicas = await startReplicas(1, () => ({ upstream: upstream.host }))
  const [port = 0] = replicas.ports
  const digest = digestOf(Buffer.from('content'))
  const place = { namespace: DOCKER_HUB, repository: 'team/app' as RepositoryName }
  const target = targetOf({ kind: 'manifest', ...place, digest })
  const key = new PeerKey(PEER_SECRET, 'test')
  const signed = key.signRequest({
    method: 'GET',
    target,
    instance: 'entrepot-000000000000',
    atMs: Date.now(),
  })
  const first = await askRaw(port, target, { [PEER_FIELD]: signed.field })
  const own = String(first.headers[PEER_FIELD]).split(' ')[1] ?? ''
  const headers = { [PEER_FIELD]: signed.field, 'cdn-loop': `${own}, entrepot-000000000000` }
  assert.equal((await askRaw(port, target, headers)).status, 508)
})

test('replicas find each other by a name, and one whose name has no addresses works alone and says so once', async () => {
  await using upstream = await startUpstream()
  const digest = upstream.putBlob('content')
  const [port = 0] = await freePorts(1)
  let addresses: readonly string[] = ['127.0.0.2', '127.0.0.3']
  const resolve = async (name: string): Promise<readonly string[]> => {
    await Promise.resolve()
    return name === 'all' ? addresses : ['127.0.0.1']
  }
  const start = async (host: string): Promise<TestMirror> =>
    await startMirror({
      upstream: upstream.host,
      config: peersConfig(port, [], {
        listen: { kind: 'tcp', host, port },
        members: { kind: 'dns', name: { host: 'all', port } },
      }),
      overrides: { upstream: { resolve } },
    })
  await using first = await start('127.0.0.2')
  await using second = await start('127.0.0.3')
  await met(first, 1)
  await met(second, 1)
  for (const mirror of [first, second])
    assert.equal((await mirror.get(pathOf(digest))).body.toString(), 'content')
  assert.equal(upstream.count(BLOB), 1)
  addresses = []
  await using third = await start('127.0.0.4')
  assert.equal((await third.get(pathOf(upstream.putBlob('more')))).body.toString(), 'more')
  assert.equal(linesOf(third, 'no replica is listed: this one works alone until there is one').length, 1)
})

test('a tag that one replica sees move is asked for by the others at their next pull', async () => {
  await using upstream = await startUpstream()
  const [before, later] = [upstream.putImage({ config: { n: 1 } }), upstream.putImage({ config: { n: 2 } })]
  upstream.tag('team/app', 'v1', before.manifest)
  await using replicas = await startReplicas(2, () => ({ upstream: upstream.host }))
  const [first, second] = replicas.mirrors
  assert.ok(first !== undefined && second !== undefined)
  const path = '/v2/team/app/manifests/v1'
  for (const mirror of [first, second]) assert.equal(digestOf((await mirror.get(path)).body), before.manifest)
  upstream.tag('team/app', 'v1', later.manifest)
  const fresh = await first.get(path, { 'cache-control': 'no-cache' })
  assert.equal(digestOf(fresh.body), later.manifest)
  await until(
    async () => digestOf((await second.get(path)).body) === later.manifest,
    'the other replica has been told',
  )
})
