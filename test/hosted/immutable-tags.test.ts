import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NO_SECTIONS } from '../../src/config/config.ts'
import { requireCreationFor, requireImmutableTags } from '../../src/daemon/immutable-tags.ts'
import type { ActRule } from '../../src/hosted/acts.ts'
import { Publishing } from '../../src/hosted/publishing.ts'
import { Shelf } from '../../src/hosted/shelf.ts'
import type { HostedTerms } from '../../src/hosted/terms.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OciError, StoreUnavailableError, StoreUnusableError } from '../../src/oci/error.ts'
import { parseRepositoryName, parseTag } from '../../src/oci/name.ts'
import { parseNamePattern } from '../../src/oci/name-pattern.ts'
import { parseNamespace } from '../../src/oci/namespace.ts'
import type { Place } from '../../src/oci/place.ts'
import { defined } from '../storage/contract.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { sectionsOf } from '../support/hosted.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { startMirror } from '../support/mirror.ts'
import { seeEvents } from '../support/seen-events.ts'

const PLACE: Place = {
  namespace: defined(parseNamespace('registry.example.com')),
  repository: defined(parseRepositoryName('team/app')),
}
const POLICY: HostedTerms = {
  names: defined(parseNamePattern('registry.example.com/**')),
  immutableTags: ['v*'],
  quotaBytes: undefined,
  isReadOnly: false,
  retention: undefined,
}
const LACKING = { kind: 'process', why: 'http://store, with the bucket b, ignores If-None-Match' } as const

/** One process on a store, whose tags keep their first digest. */
function processOn(store: MemoryStore): Publishing {
  const shelf = new Shelf(store, seeEvents().events)
  const rule: ActRule = { judge: async () => [], keepsFirst: () => true }
  const parties = { rules: [rule], witnesses: [] }
  return new Publishing({ store, shelf, clock: new FakeClock(), parties, onChange: () => undefined })
}

test('of two processes that set one immutable tag at the same time one does, and the other is told its digest', async () => {
  const store = new MemoryStore()
  const shelf = new Shelf(store, seeEvents().events)
  const processes = [processOn(store), processOn(store)] as const
  const digests: readonly Digest[] = ['one', 'two'].map(text => digestOf(Buffer.from(text)))
  for (const digest of digests)
    await shelf.renew(
      { kind: 'hosted-manifest', ...PLACE, digest },
      { sizeBytes: 1, mediaType: undefined, pushedAtMs: 0, claimedAtMs: 0, by: undefined },
    )
  for (let version = 0; version < 20; version += 1) {
    const tag = defined(parseTag(`v${version}`))
    const outcomes = await Promise.allSettled(
      processes.map(async (process, number) =>
        process.tag({ place: PLACE, by: undefined }, tag, defined(digests[number])),
      ),
    )
    const losers = outcomes.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason] : []))
    const named = defined(await shelf.tag(PLACE, tag)).digest
    assert.equal(losers.length, 1)
    const [loser] = losers as readonly unknown[]
    assert.ok(loser instanceof OciError && loser.code === 'TAG_IMMUTABLE' && loser.message.includes(named))
    assert.ok((await shelf.tagsOf(PLACE, named)).includes(tag))
  }
})

test('a start with immutable tags is refused on a store that cannot keep them, unless one process writes', async () => {
  const store = new MemoryStore()
  store.scope = LACKING
  const sections = { ...sectionsOf({ 'registry.example.com/**': undefined }), policies: [POLICY] }
  const start = async (isSingleWriter: boolean): Promise<void> => {
    await using _ = await startMirror({
      upstream: '127.0.0.1:9',
      config: { sections, isSingleWriter },
      overrides: { store },
    })
  }
  await assert.rejects(
    start(false),
    error =>
      error instanceof StoreUnusableError &&
      error.message ===
        `immutable_tags of registry.example.com/** cannot hold over several processes: ${LACKING.why}; use another store, remove immutable_tags, or start with --single-writer if no other process ever writes to this store`,
  )
  await start(true)
})

test('a store that does not answer is no reason not to start, and a push of an immutable tag is refused until it does', async () => {
  const store = new MemoryStore()
  store.creationScope = async () => await Promise.reject(new StoreUnavailableError('away'))
  const parts = { config: {}, store }
  await requireImmutableTags(parts, [POLICY])
  await assert.rejects(requireCreationFor(parts, POLICY), StoreUnavailableError)
  store.creationScope = async () => await Promise.resolve(LACKING)
  await assert.rejects(requireCreationFor(parts, POLICY), { code: 'DENIED' })
  await requireImmutableTags(parts, NO_SECTIONS.policies)
})
