import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import type { Access, AccessRequest, Credentials } from '../../src/access/access.ts'
import { Epoch } from '../../src/content/epoch.ts'
import { Dispatch } from '../../src/http/dispatch.ts'
import { Answers } from '../../src/mirror/answers.ts'
import { Mirror } from '../../src/mirror/mirror.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OciError } from '../../src/oci/error.ts'
import { ANONYMOUS, type Identity } from '../../src/oci/identity.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import { referenceText } from '../../src/oci/reference.ts'
import { TERMS } from '../mirror/rig.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { blobBody, FakeRegistry } from '../support/fake-registry.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { RawClient } from '../support/raw-client.ts'
import { type SeenEvents, seeEvents } from '../support/seen-events.ts'
import { until } from '../support/waiting.ts'
import { serve } from './rig.ts'

const [blob, slowBlob] = [randomBytes(40_000), randomBytes(300_000)]
const [digest, slowDigest] = [digestOf(blob), digestOf(slowBlob)]
const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: blob.length }
const manifest = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [] }),
)
const manifestDigest = digestOf(manifest)

/** Refuses what a test says, at once or after a turn of the event loop. */
class ScriptedAccess implements Access {
  isRefusing = false
  isSlow = false
  deniedDigest: Digest | undefined
  readonly asked: string[] = []
  readonly askedDigests: string[] = []

  identify({ authorization }: Credentials): Identity | Promise<Identity> {
    if (authorization === 'wrong') throw new OciError('UNAUTHORIZED', 'a test says no')
    const identity = authorization === undefined ? ANONYMOUS : { name: authorization, groups: [] }
    return this.isSlow ? Promise.resolve(identity) : identity
  }

  authorize({ place, right, reference, identity, client }: AccessRequest): Promise<void> | undefined {
    const named = reference === undefined ? '' : ` ${referenceText(reference)}`
    this.asked.push(`${identity.name} ${right} ${place.namespace}/${place.repository}${named} ${client}`)
    if (this.isSlow) return this.#decideLater()
    this.#decide()
    return undefined
  }

  authorizeDigest({ identity }: Pick<AccessRequest, 'identity'>, digest: Digest): void {
    this.askedDigests.push(`${identity.name} ${digest}`)
    if (this.deniedDigest === digest) throw new OciError('DENIED', 'a test says no')
  }

  rowFor(): string {
    return 'default'
  }

  mayEnter(): boolean {
    return !this.isRefusing
  }

  may(): boolean {
    return !this.isRefusing
  }

  async #decideLater(): Promise<void> {
    await new Promise(resolve => setImmediate(resolve))
    this.#decide()
  }

  #decide(): void {
    if (this.isRefusing) throw new OciError('DENIED', 'a test says no')
  }
}

interface Rig {
  readonly access: ScriptedAccess
  readonly registry: FakeRegistry
  readonly dispatch: Dispatch
  readonly seen: SeenEvents
  readonly ask: (target: string, method?: string, fields?: string) => Promise<RawClient>
  /** Lets the slow blob end. */
  readonly open: () => void
  readonly gate: Promise<void>
}

async function makeRig(t: TestContext): Promise<Rig> {
  const [access, clock, epoch, seen] = [
    new ScriptedAccess(),
    FakeClock.skipDelays(),
    new Epoch(),
    seeEvents(),
  ]
  const { promise: gate, resolve: open } = Promise.withResolvers<void>()
  const registry = new FakeRegistry({
    headManifest: () => ({ digest: manifestDigest, mediaType: OCI_MANIFEST, sizeBytes: manifest.length }),
    getManifest: () => ({ bytes: manifest, contentType: OCI_MANIFEST, claimedDigest: manifestDigest }),
    headBlob: wanted => ({ sizeBytes: wanted === digest ? blob.length : slowBlob.length }),
    getBlob: () => blobBody(blob),
    listTags: () => ({ tags: ['1'], next: undefined }),
  })
  const mirror = new Mirror({
    store: new MemoryStore(),
    events: seen.events,
    clock,
    checkCacheDigest: false,
    epoch,
  })
  t.after(async () => {
    open()
    await mirror[Symbol.asyncDispose]()
  })
  const directory = {
    registries: { get: () => registry },
    defaultNamespace: DOCKER_HUB,
    terms: new Map(),
    defaultTerms: { ...TERMS, manifestInvalidationMs: 60_000, staleIfErrorMs: 60_000 },
  }
  const dispatch = new Dispatch({
    answering: new Answers({ mirror, directory: () => directory }),
    access,
    events: seen.events,
    readiness: { isDraining: () => false, probeStore: async () => await Promise.resolve() },
    names: () => directory,
    instance: 'entrepot-0123456789ab',
    remembering: { epoch, clock },
  })
  const { address } = await serve(t, async (request, response) => await dispatch.handle(request, response))
  const ask: Rig['ask'] = async (target, method = 'GET', fields = '') => {
    const client = await RawClient.connect(address)
    t.after(() => client.socket.destroy())
    client.send(`${method} ${target} HTTP/1.1\r\nHost: x\r\n${fields}Connection: close\r\n\r\n`)
    await client.ended()
    return client
  }
  return { access, registry, dispatch, seen, ask, open, gate }
}

const TAG = '/v2/a/manifests/1?ns=ghcr.io'
const BY_DIGEST = `/v2/a/manifests/${manifestDigest}?ns=ghcr.io`
const BLOB = `/v2/a/blobs/${digest}?ns=ghcr.io`
const SLOW = `/v2/a/blobs/${slowDigest}?ns=ghcr.io`
const TAGS = '/v2/a/tags/list?ns=ghcr.io'
const REFERRERS = `/v2/a/referrers/${manifestDigest}?ns=ghcr.io`

for (const isSlow of [false, true]) {
  const when = isSlow ? 'after a while' : 'at once'
  test(`I29 when access refuses ${when}, no remembered answer, running fill, HEAD or listing is answered`, async t => {
    const { access, registry, dispatch, seen, ask, open, gate } = await makeRig(t)
    for (const target of [TAG, BY_DIGEST, BLOB]) {
      await ask(target)
      await until(
        async () => (await ask(target)).header('cache-status') === 'entrepot; hit',
        `${target} is remembered`,
      )
    }
    registry.script = { ...registry.script, getBlob: () => blobBody(slowBlob, { gate }) }
    const running = ask(SLOW)
    const fills = (): number => registry.asked.filter(question => question.startsWith('get-blob')).length
    await until(() => fills() === 2, 'the slow fill runs')
    Object.assign(access, { isRefusing: true, isSlow })
    const asked = registry.asked.length
    for (const target of [TAG, BY_DIGEST, BLOB, SLOW, TAGS, REFERRERS]) {
      for (const method of ['GET', 'HEAD']) {
        const client = await ask(target, method)
        assert.deepEqual([target, method, client.statuses], [target, method, [403]])
        assert.equal(client.header('docker-content-digest'), undefined)
        assert.equal(client.header('cache-status'), undefined)
        if (method === 'GET') assert.match(client.body.toString(), /"code":"DENIED"/)
      }
    }
    assert.equal(registry.asked.length, asked)
    open()
    assert.ok((await running).body.equals(slowBlob), 'the request that was allowed continues')
    await dispatch.settled()
    assert.equal(seen.of('request').filter(({ status }) => status === 403).length, 12)
    access.isRefusing = false
    assert.equal((await ask(TAG)).header('cache-status'), 'entrepot; hit')
  })
}

test('access is checked once for each request for content, with everything that a rule may ask about', async t => {
  const { access, ask } = await makeRig(t)
  for (const target of [TAG, TAG, BLOB, TAGS, '/v2/', '/livez', '/readyz', '/v2/nothing']) await ask(target)
  assert.deepEqual(access.asked, [
    'anonymous pull ghcr.io/a 1 127.0.0.1',
    'anonymous pull ghcr.io/a 1 127.0.0.1',
    `anonymous pull ghcr.io/a ${digest} 127.0.0.1`,
    'anonymous pull ghcr.io/a 127.0.0.1',
  ])
})

for (const isSlow of [false, true]) {
  const when = isSlow ? 'after a while' : 'at once'
  test(`the sender is identified ${when}, is in the access log, and wrong credentials are 401`, async t => {
    const { access, dispatch, seen, ask } = await makeRig(t)
    access.isSlow = isSlow
    const named = await ask(TAG, 'GET', 'Authorization: alice\r\n')
    const wrong = await ask(TAG, 'GET', 'Authorization: wrong\r\n')
    assert.deepEqual([named.statuses, wrong.statuses], [[200], [401]])
    await dispatch.settled()
    assert.deepEqual(
      seen.of('request').map(({ identity, status }) => [identity, status]),
      [
        ['alice', 200],
        ['anonymous', 401],
      ],
    )
    assert.deepEqual(access.asked, ['alice pull ghcr.io/a 1 127.0.0.1'])
  })
}

test('content that is denied by its digest is refused by a tag too, at first and when it is remembered', async t => {
  const { access, ask, seen, dispatch } = await makeRig(t)
  await until(
    async () => (await ask(TAG)).header('cache-status') === 'entrepot; hit',
    'the tag is remembered',
  )
  access.deniedDigest = manifestDigest
  for (const method of ['GET', 'HEAD']) {
    const client = await ask(TAG, method)
    assert.deepEqual([client.statuses, client.header('docker-content-digest')], [[403], undefined])
    assert.ok(!client.body.includes(manifest))
  }
  await dispatch.settled()
  assert.equal(access.askedDigests.at(-1), `anonymous ${manifestDigest}`)
  assert.equal(seen.of('request').filter(({ status }) => status === 403).length, 2)
})
