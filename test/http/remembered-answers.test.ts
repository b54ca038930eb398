import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { OPEN_ACCESS } from '../../src/access/access.ts'
import { type Affected, Epoch } from '../../src/content/epoch.ts'
import { Dispatch } from '../../src/http/dispatch.ts'
import { Answers } from '../../src/mirror/answers.ts'
import { Mirror } from '../../src/mirror/mirror.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { UpstreamError } from '../../src/oci/error.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import type { RepositoryName } from '../../src/oci/name.ts'
import { DOCKER_HUB, type Namespace } from '../../src/oci/namespace.ts'
import { TERMS } from '../mirror/rig.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { blobBody, FakeRegistry } from '../support/fake-registry.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { RawClient } from '../support/raw-client.ts'
import { type SeenEvents, seeEvents } from '../support/seen-events.ts'
import { until } from '../support/waiting.ts'
import { serve } from './rig.ts'

const blob = randomBytes(40_000)
const blobDigest = digestOf(blob)
const manifest = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: blobDigest, size: blob.length },
    layers: [],
  }),
)
const manifestDigest = digestOf(manifest)
const FRESH_MS = 60_000

interface Rig {
  readonly clock: FakeClock
  readonly epoch: Epoch
  readonly mirror: Mirror
  readonly registry: FakeRegistry
  readonly seen: SeenEvents
  readonly used: readonly Digest[]
  /** Number of answers requested from the mirror. */
  readonly asked: () => number
  readonly ask: (target: string, ...headers: readonly string[]) => Promise<RawClient>
  readonly head: (target: string) => Promise<RawClient>
  isDraining: boolean
}

async function makeRig(t: TestContext): Promise<Rig> {
  const [clock, epoch, seen] = [FakeClock.skipDelays(2000), new Epoch(), seeEvents()]
  const used: Digest[] = []
  const registry = new FakeRegistry({
    headManifest: () => ({ digest: manifestDigest, mediaType: OCI_MANIFEST, sizeBytes: manifest.length }),
    getManifest: () => ({ bytes: manifest, contentType: OCI_MANIFEST, claimedDigest: manifestDigest }),
    headBlob: () => ({ sizeBytes: blob.length }),
    getBlob: () => blobBody(blob),
  })
  const mirror = new Mirror({
    store: new MemoryStore(),
    events: seen.events,
    clock,
    checkCacheDigest: false,
    epoch,
  })
  t.after(async () => await mirror[Symbol.asyncDispose]())
  let asked = 0
  const rig = { isDraining: false }
  const directory = {
    registries: {
      get: () => {
        asked += 1
        return registry
      },
    },
    defaultNamespace: DOCKER_HUB,
    terms: new Map(),
    defaultTerms: { ...TERMS, manifestInvalidationMs: FRESH_MS, staleIfErrorMs: FRESH_MS },
  }
  const dispatch = new Dispatch({
    answering: new Answers({ mirror, directory: () => directory }),
    events: seen.events,
    readiness: { isDraining: () => rig.isDraining, probeStore: async () => await Promise.resolve() },
    names: () => directory,
    instance: 'entrepot-0123456789ab',
    ledger: { used: digest => void used.push(digest) },
    access: OPEN_ACCESS,
    remembering: { epoch, clock },
  })
  const { address } = await serve(t, async (request, response) => await dispatch.handle(request, response))
  const send = async (method: string, target: string, headers: readonly string[]): Promise<RawClient> => {
    const client = await RawClient.connect(address)
    t.after(() => client.socket.destroy())
    client.send(
      [`${method} ${target} HTTP/1.1`, 'Host: x', 'Connection: close', ...headers, '', ''].join('\r\n'),
    )
    await client.ended()
    return client
  }
  const ask: Rig['ask'] = async (target, ...headers) => await send('GET', target, headers)
  const head: Rig['head'] = async target => await send('HEAD', target, [])
  return Object.assign(rig, { clock, epoch, mirror, registry, seen, used, asked: () => asked, ask, head })
}

const TAG = '/v2/a/manifests/1?ns=ghcr.io'
const BY_DIGEST = `/v2/a/manifests/${manifestDigest}?ns=ghcr.io`
const BLOB = `/v2/a/blobs/${blobDigest}?ns=ghcr.io`

function headsOf({ registry }: Rig): number {
  return registry.asked.filter(question => question.startsWith('head-manifest ')).length
}

/** Asks until the answer is remembered: a miss, and a hit. */
async function warm(rig: Rig, ...targets: readonly string[]): Promise<void> {
  for (const target of targets) {
    await rig.ask(target)
    await until(
      async () => (await rig.ask(target)).header('cache-status') === 'entrepot; hit',
      `${target} is a hit`,
    )
  }
}

for (const [what, target, body] of [
  ['manifest by tag', TAG, manifest],
  ['manifest by digest', BY_DIGEST, manifest],
  ['small blob', BLOB, blob],
] as const) {
  test(`a ${what} that was a hit is answered again with the same bytes, without asking the mirror, and counted`, async t => {
    const rig = await makeRig(t)
    await rig.ask(TAG)
    await warm(rig, target)
    rig.epoch.bump()
    const first = await rig.ask(target)
    const [asked, used] = [rig.asked(), rig.used.length]
    const again = await rig.ask(target)
    assert.equal(rig.asked(), asked)
    assert.equal(rig.used.length, used + 1)
    assert.ok(again.body.equals(body))
    const fields = (client: RawClient): readonly string[] => {
      const [head = ''] = client.received.split('\r\n\r\n', 1)
      const lines = head.toLowerCase().split('\r\n')
      return lines.filter(line => !line.startsWith('date: ')).toSorted()
    }
    assert.deepEqual(fields(again), fields(first))
  })
}

test('a HEAD is remembered separately from a GET, with the header and without the body', async t => {
  const rig = await makeRig(t)
  await warm(rig, TAG)
  const first = await rig.head(TAG)
  const asked = rig.asked()
  const again = await rig.head(TAG)
  assert.equal(rig.asked(), asked)
  assert.equal(again.body.length, 0)
  assert.equal(again.header('content-length'), String(manifest.length))
  assert.equal(again.header('docker-content-digest'), first.header('docker-content-digest'))
})

test('a tag is remembered no longer than it is fresh', async t => {
  const rig = await makeRig(t)
  await warm(rig, TAG)
  const [asked, heads] = [rig.asked(), headsOf(rig)]
  rig.clock.advance(FRESH_MS)
  const late = await rig.ask(TAG)
  assert.equal(rig.asked(), asked + 1)
  assert.equal(headsOf(rig), heads + 1)
  assert.equal(late.header('cache-status'), 'entrepot; fwd=stale; detail=revalidated')
})

test('after an eviction the answers with that digest are requested from the mirror again, and no others', async t => {
  const rig = await makeRig(t)
  await warm(rig, TAG, BY_DIGEST, BLOB)
  const source = { namespace: DOCKER_HUB, repository: 'a' }
  await rig.mirror.forgetEvicted(manifestDigest, [source as never])
  for (const [target, more] of [
    [TAG, 1],
    [BY_DIGEST, 1],
    [BLOB, 0],
  ] as const) {
    const asked = rig.asked()
    await rig.ask(target)
    assert.equal(rig.asked(), asked + more, target)
  }
})

const PLACE = { namespace: 'ghcr.io' as Namespace, repository: 'a' as RepositoryName }
for (const [what, affected, isForgotten] of [
  ['its namespace is in trouble', { kind: 'namespace', namespace: PLACE.namespace }, true],
  ['another namespace is in trouble', { kind: 'namespace', namespace: 'quay.io' as Namespace }, false],
  ['a tag of its repository moves', { kind: 'place', place: PLACE }, true],
  [
    'a tag of another repository moves',
    { kind: 'place', place: { ...PLACE, repository: 'b' as RepositoryName } },
    false,
  ],
  ['its digest is evicted', { kind: 'digest', digest: manifestDigest }, true],
  ['another digest is evicted', { kind: 'digest', digest: blobDigest }, false],
  ['everything is in doubt', { kind: 'everything' }, true],
] as const satisfies readonly (readonly [string, Affected, boolean])[]) {
  test(`a remembered answer is ${isForgotten ? 'forgotten' : 'given again'} when ${what}`, async t => {
    const rig = await makeRig(t)
    await warm(rig, TAG)
    rig.epoch.bump(affected)
    const asked = rig.asked()
    assert.deepEqual((await rig.ask(TAG)).statuses, [200])
    assert.equal(rig.asked() > asked, isForgotten)
  })
}

test('a range or a condition is honoured although the whole answer is remembered', async t => {
  const rig = await makeRig(t)
  await warm(rig, TAG, BLOB)
  const part = await rig.ask(BLOB, 'Range: bytes=1-3')
  assert.deepEqual(part.statuses, [206])
  assert.ok(part.body.equals(blob.subarray(1, 4)))
  assert.deepEqual((await rig.ask(BLOB, `If-None-Match: "${blobDigest}"`)).statuses, [304])
  assert.deepEqual((await rig.ask(TAG, `if-none-match: "${manifestDigest}"`)).statuses, [304])
  assert.deepEqual((await rig.ask(BLOB)).statuses, [200])
})

test('a request is refused although its answer is remembered', async t => {
  const rig = await makeRig(t)
  await warm(rig, TAG)
  assert.deepEqual((await rig.ask(TAG, 'Host: y')).statuses, [400])
  assert.deepEqual((await rig.ask(TAG, 'CDN-Loop: entrepot-0123456789ab')).statuses, [508])
  rig.isDraining = true
  assert.deepEqual((await rig.ask(TAG)).statuses, [503])
})

test('while the upstream is in trouble nothing new is remembered, since an image must be complete each time', async t => {
  const rig = await makeRig(t)
  await warm(rig, TAG, BLOB)
  rig.registry.currentTrouble = new UpstreamError('timeout', 'gone')
  rig.epoch.bump()
  await rig.ask(TAG)
  const asked = rig.asked()
  await rig.ask(TAG)
  assert.equal(rig.asked(), asked + 1)
})
