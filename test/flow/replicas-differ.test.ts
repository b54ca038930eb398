import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UpstreamConfig } from '../../src/config/config.ts'
import { Secret } from '../../src/config/secret.ts'
import { digestOf } from '../../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../../src/oci/name.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import { PeerKey } from '../../src/peers/peer-key.ts'
import type { PeerAnswer, PeerQuestion } from '../../src/peers/protocol.ts'
import { PeerWire } from '../../src/peers/wire.ts'
import { identityOf } from '../../src/upstream/identity.ts'
import { startFakePeer } from '../support/fake-peer.ts'
import { FaultyStore } from '../support/faulty-store.ts'
import { sectionsOf } from '../support/hosted.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { startMirror } from '../support/mirror.ts'
import { freePorts, PEER_SECRET, peersConfig } from '../support/replicas.ts'
import { startUpstream } from '../support/upstream.ts'

const PLACE = { namespace: DOCKER_HUB, repository: 'team/app' as RepositoryName }
const { signal } = new AbortController()

/** The answer of the replica at a port to a question of a replica with the same registries. */
async function answerOf(
  port: number,
  host: string,
  question: Exclude<PeerQuestion, { readonly kind: 'hello' | 'changed' }>,
): Promise<PeerAnswer> {
  const key = new PeerKey(PEER_SECRET, 'test')
  using wire = new PeerWire({ key, instance: 'entrepot-000000000000' })
  const { text: registry } = identityOf('configured', { host, tls: false }, undefined)
  const { answer, body } = await wire.ask({ host: '127.0.0.1', port }, { ...question, registry }, { signal })
  body.destroy()
  return answer
}

test('a replica that hosts a name gives nothing of it to one that still mirrors it, and asks no registry', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage()
  upstream.tag('team/app', 'v1', image.manifest)
  upstream.tag('other/app', 'v1', image.manifest)
  const [port = 0] = await freePorts(1)
  await using _ = await startMirror({
    upstream: upstream.host,
    config: { ...peersConfig(port, [port]), sections: sectionsOf({ 'docker.io/team/**': undefined }) },
  })
  const [tag, digest] = ['v1' as Tag, image.manifest]
  const questions = [
    { kind: 'tag', ...PLACE, tag, isFresh: false },
    { kind: 'manifest', ...PLACE, digest },
    { kind: 'manifest-head', ...PLACE, digest },
    { kind: 'blob', ...PLACE, digest: image.config, from: 0, isLinked: true },
    { kind: 'blob-head', ...PLACE, digest: image.config },
  ] as const
  for (const question of questions)
    assert.equal((await answerOf(port, upstream.host, question)).kind, 'refused', question.kind)
  assert.equal(upstream.requests.length, 0)
  const mirrored = {
    kind: 'tag',
    ...PLACE,
    repository: 'other/app' as RepositoryName,
    tag,
    isFresh: false,
  } as const
  assert.equal((await answerOf(port, upstream.host, mirrored)).kind, 'head')
})

test('a replica that asks another registry for a name is not believed', async () => {
  await using old = await startUpstream()
  await using upstream = await startUpstream()
  const image = upstream.putImage()
  upstream.tag('team/app', 'v1', image.manifest)
  const [one = 0, other = 0] = await freePorts(2)
  await using _ = await startMirror({ upstream: old.host, config: peersConfig(one, [one]) })
  await using mirror = await startMirror({ upstream: upstream.host, config: peersConfig(other, [one]) })
  const manifest = await mirror.get('/v2/team/app/manifests/v1')
  assert.equal(digestOf(manifest.body), image.manifest)
  const blob = await mirror.get(`/v2/team/app/blobs/${image.config}`)
  assert.equal(digestOf(blob.body), image.config)
  assert.equal(old.requests.length, 0)
})

test('a type that is too long for an answer does not make other replicas ignore the one that met it', async () => {
  await using upstream = await startUpstream()
  const image = upstream.putImage()
  upstream.tag('team/app', 'v1', image.manifest)
  const type = `application/vnd.oci.image.manifest.v1+json; x=${'a'.repeat(300)}`
  upstream.on({ method: 'HEAD', path: /manifests/ }, { headers: { 'content-type': type } })
  const [port = 0] = await freePorts(1)
  await using _ = await startMirror({ upstream: upstream.host, config: peersConfig(port, [port]) })
  const answer = await answerOf(port, upstream.host, {
    kind: 'tag',
    ...PLACE,
    tag: 'v1' as Tag,
    isFresh: false,
  })
  assert.ok(answer.kind === 'head')
  assert.deepEqual([answer.digest, answer.mediaType], [image.manifest, undefined])
})

test('a pause that the registry wants from another replica counts only for those that ask as the same user', async () => {
  await using upstream = await startUpstream()
  const digest = upstream.putBlob('content')
  await using owner = await startFakePeer()
  const failed = { kind: 'failed', error: 'rate-limited', message: 'too many requests', retryAfterMs: 60_000 }
  owner.react = () => ({ answer: failed as PeerAnswer })
  const pull = async (entry: Partial<UpstreamConfig>): Promise<number> => {
    const [port = 0] = await freePorts(1)
    await using mirror = await startMirror({
      upstream: upstream.host,
      entry,
      config: peersConfig(port, [owner.port]),
    })
    return (await mirror.get(`/v2/team/app/blobs/${digest}`)).status
  }
  assert.equal(await pull({}), 200)
  const asked = upstream.requests.length
  const credentials = { kind: 'password', username: 'robot', password: new Secret('pw') } as const
  assert.equal(await pull({ credentials }), 503)
  assert.equal(upstream.requests.length, asked)
})

test('a replica that cannot store a blob passes it on to no other one, each of which fetches it itself', async () => {
  await using upstream = await startUpstream()
  const digest = upstream.putBlob('content')
  const store = new FaultyStore(new MemoryStore())
  store.faults.add('createSpool')
  const [port = 0, other = 0] = await freePorts(2)
  await using _ = await startMirror({
    upstream: upstream.host,
    config: peersConfig(port, [port]),
    overrides: { store },
  })
  const question = { kind: 'blob', ...PLACE, digest, from: 0, isLinked: true } as const
  assert.deepEqual(await answerOf(port, upstream.host, question), { kind: 'refused', why: 'busy' })
  await using mirror = await startMirror({ upstream: upstream.host, config: peersConfig(other, [port]) })
  assert.equal((await mirror.get(`/v2/team/app/blobs/${digest}`)).body.toString(), 'content')
})
