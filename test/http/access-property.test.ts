import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { RuledAccess } from '../../src/access/ruled-access.ts'
import { Epoch } from '../../src/content/epoch.ts'
import { Dispatch } from '../../src/http/dispatch.ts'
import { SharedCount } from '../../src/lib/shared-count.ts'
import { Answers } from '../../src/mirror/answers.ts'
import { Mirror } from '../../src/mirror/mirror.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { ANONYMOUS } from '../../src/oci/identity.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import { TERMS } from '../mirror/rig.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { blobBody, FakeRegistry } from '../support/fake-registry.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { RawClient } from '../support/raw-client.ts'
import { sectionsOf } from '../support/sections.ts'
import { seeEvents } from '../support/seen-events.ts'
import { serve } from './rig.ts'

const blob = randomBytes(2000)
const digest = digestOf(blob)
const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: blob.length }
const manifest = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [] }),
)
const manifestDigest = digestOf(manifest)

/** The vocabulary of the tables, small enough that rows and requests often meet. */
const WHO = ['everyone', 'anonymous', 'authenticated', 'alice', 'bob'] as const
const NAMES = [
  '**',
  'ghcr.io/**',
  'ghcr.io/a',
  'ghcr.io/b',
  '**:1',
  'ghcr.io/a:2',
  `**@${manifestDigest}`,
  `ghcr.io/a@${digest}`,
] as const
const SENDERS = ['anonymous', 'alice', 'bob'] as const
const REPOSITORIES = ['a', 'b'] as const
const TARGETS = [
  ['manifests/1', '1', undefined],
  ['manifests/2', '2', undefined],
  [`manifests/${manifestDigest}`, undefined, manifestDigest],
  [`blobs/${digest}`, undefined, digest],
  ['tags/list', undefined, undefined],
  [`referrers/${manifestDigest}`, undefined, manifestDigest],
] as const

interface Row {
  readonly who: (typeof WHO)[number]
  readonly names: (typeof NAMES)[number]
  readonly isAllowed: boolean
}

interface Asked {
  readonly sender: (typeof SENDERS)[number]
  readonly repository: (typeof REPOSITORIES)[number]
  readonly target: (typeof TARGETS)[number]
  readonly method: 'GET' | 'HEAD'
}

/** The rules once more, written as plainly as possible. */
function isAllowed(rows: readonly Row[], { sender, repository, target: [, tag, named] }: Asked): boolean {
  const isAbout = ({ who, names }: Row, wanted: string | undefined): boolean => {
    const isSender =
      who === 'everyone' || who === sender || (who === 'authenticated' && sender !== 'anonymous')
    const [, pattern = '', kind, part] = /^(ghcr\.io\/(?:\*\*|a|b)|\*\*)(?:([:@])(.*))?$/.exec(names) ?? []
    const isName = pattern.endsWith('**') || pattern === `ghcr.io/${repository}`
    const isPart = kind === undefined || (kind === ':' ? part === tag : part === wanted)
    return isSender && isName && isPart
  }
  const first = rows.find(row => isAbout(row, named))
  if (first?.isAllowed === false) return false
  if (tag === undefined) return true
  // The digest that the tag leads to must not be denied either.
  const ofDigest = rows.find(row => row.names.includes('@') && isAbout(row, manifestDigest))
  return ofDigest?.isAllowed !== false
}

const row = fc.record({
  who: fc.constantFrom(...WHO),
  names: fc.constantFrom(...NAMES),
  isAllowed: fc.boolean(),
})
const request = fc.record({
  sender: fc.constantFrom(...SENDERS),
  repository: fc.constantFrom(...REPOSITORIES),
  target: fc.constantFrom(...TARGETS),
  method: fc.constantFrom('GET' as const, 'HEAD' as const),
})

test('I29 no byte of a name leaves without a yes of the rules, whatever was asked before and remembered', async t => {
  const [clock, epoch, { events }] = [FakeClock.skipDelays(), new Epoch(), seeEvents()]
  const registry = new FakeRegistry({
    headManifest: () => ({ digest: manifestDigest, mediaType: OCI_MANIFEST, sizeBytes: manifest.length }),
    getManifest: () => ({ bytes: manifest, contentType: OCI_MANIFEST, claimedDigest: manifestDigest }),
    headBlob: () => ({ sizeBytes: blob.length }),
    getBlob: () => blobBody(blob),
    listTags: () => ({ tags: ['1', '2'], next: undefined }),
  })
  const mirror = new Mirror({ store: new MemoryStore(), events, clock, checkCacheDigest: false, epoch })
  t.after(async () => await mirror[Symbol.asyncDispose]())
  const directory = {
    registries: { get: () => registry },
    defaultNamespace: DOCKER_HUB,
    terms: new Map(),
    defaultTerms: { ...TERMS, manifestInvalidationMs: 60_000, staleIfErrorMs: 60_000 },
  }
  const identifier = {
    identify: async (name: string) =>
      await Promise.resolve({ identity: { name, groups: [] }, untilMs: Infinity }),
  }
  const policyOf = (rows: readonly Row[]): ConstructorParameters<typeof RuledAccess>[1] => {
    const lines = rows.map(
      ({ who, names, isAllowed: may }) =>
        `- {who: ${who}, names: '${names}', ${may ? 'may' : 'may_not'}: pull}`,
    )
    const { rules } = sectionsOf(`rules:\n${lines.join('\n')}${lines.length === 0 ? '  []' : ''}\n`)
    return { rules, groups: new Map(), challenge: 'auto' }
  }
  const access = new RuledAccess(
    { identifier, changes: new SharedCount(), clock, events, hasRobots: () => false },
    policyOf([]),
  )
  const dispatch = new Dispatch({
    answering: new Answers({ mirror, directory: () => directory }),
    access,
    events,
    readiness: { isDraining: () => false, probeStore: async () => await Promise.resolve() },
    names: () => directory,
    instance: 'entrepot-0123456789ab',
    remembering: { epoch, clock },
  })
  const { address } = await serve(t, async (asked, response) => await dispatch.handle(asked, response))
  const yesAndNo = new Set<boolean>()
  const check = async (rows: readonly Row[], asked: Asked): Promise<void> => {
    const { sender, repository, target, method } = asked
    const credentials = sender === ANONYMOUS.name ? '' : `Authorization: ${sender}\r\n`
    const client = await RawClient.connect(address)
    client.send(
      `${method} /v2/${repository}/${target[0]}?ns=ghcr.io HTTP/1.1\r\nHost: x\r\n${credentials}Connection: close\r\n\r\n`,
    )
    await client.ended()
    const expected = isAllowed(rows, asked)
    yesAndNo.add(expected)
    const refusal = sender === ANONYMOUS.name ? 401 : 403
    assert.deepEqual(client.statuses, [expected ? 200 : refusal], JSON.stringify({ rows, asked }))
    if (expected) return
    assert.equal(client.header('docker-content-digest'), undefined)
    const body = client.body.toString('latin1')
    for (const secret of [manifest, blob]) assert.ok(!body.includes(secret.toString('latin1').slice(0, 40)))
  }
  await fc.assert(
    fc.asyncProperty(
      fc.array(row, { maxLength: 6 }),
      fc.array(request, { minLength: 5, maxLength: 20 }),
      async (rows, requests) => {
        access.replace(policyOf(rows))
        for (const asked of requests) await check(rows, asked)
      },
    ),
    { numRuns: 60 },
  )
  assert.equal(yesAndNo.size, 2)
})
