import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unlimitedTurn } from '../../src/content/job-turns.ts'
import { Hosted } from '../../src/hosted/hosted.ts'
import { judgeTags, type RetainedTag, Retention, type RetentionParts } from '../../src/hosted/retention.ts'
import type { RetentionTerms } from '../../src/hosted/terms.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OCI_INDEX } from '../../src/oci/media-type.ts'
import { parseRepositoryName } from '../../src/oci/name.ts'
import { parseNamePattern } from '../../src/oci/name-pattern.ts'
import { parseNamespace } from '../../src/oci/namespace.ts'
import type { Reference } from '../../src/oci/reference.ts'
import { makeBlob, storeWith, tagOf } from '../mirror/rig.ts'
import { defined } from '../storage/contract.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'

const NOW_MS = Date.UTC(2026, 0, 31)
const DAY_MS = 24 * 3_600_000
const TERMS: RetentionTerms = {
  tags: ['*'],
  keepPushed: 0,
  pushedWithinMs: 0,
  keepPulled: 0,
  pulledWithinMs: 0,
  keepsVersions: false,
}

/** Tags by their age in days. */
function tagsOf(ages: Readonly<Record<string, number>>): readonly RetainedTag[] {
  return Object.entries(ages).map(([name, days], seed) => ({
    tag: tagOf(name),
    digest: makeBlob(seed).digest,
    movedAtMs: NOW_MS - days * DAY_MS,
    pulledAtMs: NOW_MS - days * DAY_MS,
  }))
}

const TAGS = tagsOf({ main: 40, 'pr-1': 30, 'pr-2': 20, 'v1.2.3': 50, '1.2.3-rc.1': 60, v1: 70, 'pr-3': -5 })

const RULES: readonly (readonly [string, Partial<RetentionTerms>, readonly string[]])[] = [
  ['a rule that keeps nothing', {}, []],
  ['the two that were pushed last', { keepPushed: 2 }, ['pr-2', 'pr-3']],
  ['those of 25 days, and what is from the future', { pushedWithinMs: 25 * DAY_MS }, ['pr-2', 'pr-3']],
  ['a tag is kept up to its age and not beyond', { pushedWithinMs: 20 * DAY_MS }, ['pr-3']],
  ['versions of three numbers', { keepsVersions: true }, ['v1.2.3', '1.2.3-rc.1']],
  ['tags of which no pattern speaks, at any age', { tags: ['pr-*'] }, ['main', 'v1.2.3', '1.2.3-rc.1', 'v1']],
  [
    'the last one of those that a pattern names, beside all others',
    { tags: ['pr-*'], keepPushed: 1 },
    ['main', 'v1.2.3', '1.2.3-rc.1', 'v1', 'pr-3'],
  ],
  ['the two that were pulled last', { keepPulled: 2 }, ['pr-2', 'pr-3']],
  ['those pulled within 35 days', { pulledWithinMs: 35 * DAY_MS }, ['pr-1', 'pr-2', 'pr-3']],
  [
    'what any of several rules keeps',
    { keepPushed: 1, keepsVersions: true },
    ['v1.2.3', '1.2.3-rc.1', 'pr-3'],
  ],
]

for (const [what, terms, kept] of RULES) {
  test(`retention keeps: ${what}`, () => {
    const verdicts = judgeTags({ ...TERMS, ...terms }, TAGS, NOW_MS)
    assert.equal(verdicts.length, TAGS.length)
    assert.deepEqual(
      new Set(verdicts.filter(({ isKept }) => isKept).map(({ tag }) => String(tag))),
      new Set(kept),
    )
    for (const { why } of verdicts) assert.notEqual(why, '')
  })
}

test('a tag that was pushed counts as pulled then, and tags of unknown pulls stay until others are known to be later', () => {
  const kept = (pulledAt: Readonly<Record<string, number>>): readonly string[] => {
    const tags = TAGS.map(entry => ({ ...entry, pulledAtMs: NOW_MS - (pulledAt[entry.tag] ?? 3) * DAY_MS }))
    const verdicts = judgeTags({ ...TERMS, keepPulled: 2 }, tags, NOW_MS)
    return verdicts.filter(({ isKept }) => isKept).map(({ tag }) => String(tag))
  }
  // The push of pr-3 is the only one that is later than three days ago.
  assert.equal(kept({}).length, TAGS.length)
  assert.deepEqual(kept({ v1: 2 }), ['v1', 'pr-3'])
  assert.deepEqual(kept({ v1: 2, main: 1 }), ['main', 'pr-3'])
})

const PLACE = {
  namespace: defined(parseNamespace('registry.example.com')),
  repository: defined(parseRepositoryName('team/app')),
}
const ASKED = { ...PLACE, actor: 'alice', mayPush: true, trail: [] }
const EMPTY = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] }))

function retentionOf(
  parts: Pick<RetentionParts, 'hosted' | 'clock' | 'events'>,
  retention: RetentionTerms,
): Retention {
  const names = defined(parseNamePattern('registry.example.com/**'))
  const policy = { names, immutableTags: [], quotaBytes: undefined, isReadOnly: false, retention }
  return new Retention({
    ...parts,
    pulls: { last: () => Promise.resolve(new Map()) },
    terms: () => [policy],
  })
}

test('a tag that is set while retention is about to remove its manifest keeps the manifest', async () => {
  const [clock, { events }] = [new FakeClock(), seeEvents()]
  const parties = { rules: [], witnesses: [] }
  const memory = new MemoryStore(clock)
  const store = storeWith(memory, {
    deleteRecord: async name => {
      if (name.kind === 'hosted-tag')
        await hosted.publishing.tag({ place: PLACE, by: 'alice' }, tagOf('v1'), digest)
      return await memory.deleteRecord(name)
    },
  })
  await using hosted = new Hosted({ store, clock, events, parties })
  const pushed = { bytes: EMPTY, contentType: undefined, tags: [] }
  const { digest } = await hosted.pushManifest(ASKED, {
    ...pushed,
    reference: { kind: 'tag', tag: tagOf('pr-1') },
  })
  clock.advance(DAY_MS)
  const retention = retentionOf({ hosted, clock, events }, { ...TERMS, tags: ['pr-*'] })
  await Array.fromAsync(retention.apply({ isDry: false }, unlimitedTurn(new AbortController().signal)))
  assert.deepEqual(await Array.fromAsync(hosted.shelf.tags(PLACE)), ['v1'])
  assert.equal((await hosted.headManifest(ASKED, { kind: 'tag', tag: tagOf('v1') })).digest, digest)
})

test('a tag whose manifest was pushed just now goes in a later round, and the manifest with it', async () => {
  const [clock, { events }] = [new FakeClock(), seeEvents()]
  const store = new MemoryStore(clock)
  await using hosted = new Hosted({ store, clock, events, parties: { rules: [], witnesses: [] } })
  const retention = retentionOf({ hosted, clock, events }, { ...TERMS, keepPushed: 1 })
  const keptNow = async (): Promise<readonly boolean[]> => {
    const turn = unlimitedTurn(new AbortController().signal)
    const verdicts = await Array.fromAsync(retention.apply({ isDry: false }, turn))
    return verdicts.map(({ isKept }) => isKept)
  }
  for (const name of ['pr-1', 'pr-2']) {
    const bytes = Buffer.from(JSON.stringify({ ...JSON.parse(EMPTY.toString()), annotations: { name } }))
    const reference = { kind: 'tag', tag: tagOf(name) } as const
    await hosted.pushManifest(ASKED, { bytes, contentType: undefined, tags: [], reference })
    clock.advance(1000)
  }
  const manifestsNow = async (): Promise<number> =>
    (await Array.fromAsync(hosted.shelf.contents(PLACE, 'hosted-manifest'))).length
  assert.deepEqual(await keptNow(), [true, true])
  assert.equal(await manifestsNow(), 2)
  clock.advance(600_000)
  assert.deepEqual(await keptNow(), [false, true])
  assert.deepEqual(await Array.fromAsync(hosted.shelf.tags(PLACE)), ['pr-2'])
  assert.equal(await manifestsNow(), 1)
})

test('with an index go the images that it names, unless a tag or another index names them too', async () => {
  const [clock, { events }] = [new FakeClock(), seeEvents()]
  const store = new MemoryStore(clock)
  await using hosted = new Hosted({ store, clock, events, parties: { rules: [], witnesses: [] } })
  const push = async (names: readonly Digest[], mark: string, tag?: string): Promise<Digest> => {
    const manifests = names.map(digest => ({ mediaType: OCI_INDEX, digest, size: 1 }))
    const text = { schemaVersion: 2, mediaType: OCI_INDEX, manifests, annotations: { mark } }
    const bytes = Buffer.from(JSON.stringify(text))
    const reference: Reference =
      tag === undefined ? { kind: 'digest', digest: digestOf(bytes) } : { kind: 'tag', tag: tagOf(tag) }
    await hosted.pushManifest(ASKED, { bytes, contentType: undefined, tags: [], reference })
    return digestOf(bytes)
  }
  const [alone, shared] = [await push([], 'alone'), await push([], 'shared')]
  const tagged = await push([], 'tagged', 'v1')
  await push([alone, shared, tagged], 'old', 'pr-1')
  const other = await push([shared], 'other', 'v2')
  clock.advance(DAY_MS)
  const retention = retentionOf({ hosted, clock, events }, { ...TERMS, tags: ['pr-*'] })
  await Array.fromAsync(retention.apply({ isDry: false }, unlimitedTurn(new AbortController().signal)))
  const left = await Array.fromAsync(hosted.shelf.contents(PLACE, 'hosted-manifest'))
  assert.deepEqual(new Set(left), new Set([shared, tagged, other]))
})
