import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { IndexFeed } from '../../../src/content/index/feed.ts'
import { walkStore } from '../../../src/content/index/walk.ts'
import { writeHostedTag, writeTagRecord } from '../../../src/content/tag-record.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import type { Events } from '../../../src/observe/events.ts'
import { type Digest, digestOf } from '../../../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../../../src/oci/name.ts'
import { DOCKER_HUB } from '../../../src/oci/namespace.ts'
import type { RecordName } from '../../../src/storage/store.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { seeEvents } from '../../support/seen-events.ts'

const REPOSITORY = 'team/app' as RepositoryName
const NAME = { kind: 'tag', namespace: DOCKER_HUB, repository: REPOSITORY, tag: 'v1' as Tag } as const
const BEFORE = digestOf(Buffer.from('before'))
const AFTER = digestOf(Buffer.from('after'))

/** A store in which something happens to a tag right after its record was read for the first time. */
class HastyStore extends MemoryStore {
  #happening: (() => void) | undefined

  constructor(happening: () => void) {
    super()
    this.#happening = happening
  }

  override async readRecord(name: RecordName): Promise<Uint8Array | undefined> {
    const bytes = await super.readRecord(name)
    const happening = this.#happening
    this.#happening = undefined
    happening?.()
    return bytes
  }
}

function record(digest: Digest): Uint8Array {
  return writeTagRecord({ digest, checkedAtMs: 1, lostAtMs: undefined, heldBy: undefined })
}

for (const [what, change, expected] of [
  [
    'moves',
    (store, index) => {
      void store.writeRecord(NAME, record(AFTER), 'durable')
      index.note({ kind: 'tagged', place: NAME, tag: 'v1', digest: AFTER, atMs: 2 })
    },
    [AFTER],
  ],
  [
    'is removed',
    (store, index) => {
      void store.deleteRecord(NAME)
      index.note({ kind: 'untagged', place: NAME, tag: 'v1' })
    },
    [],
  ],
] as const satisfies readonly (readonly [
  string,
  (store: MemoryStore, index: IndexFeed) => void,
  readonly Digest[],
])[]) {
  test(`a tag that ${what} while a walk reads it is in the index as it is then`, async t => {
    const { events } = seeEvents()
    await using index = await openIndex(t, events)
    const store: MemoryStore = new HastyStore(() => change(store, index))
    await store.writeRecord(NAME, record(BEFORE), 'durable')
    const parts = { store, index, clock: systemClock, events, forgetLinks: async () => {} }
    await walkStore(parts, new AbortController().signal)
    const images = await index.ask('imagesOf', { namespace: DOCKER_HUB, repository: REPOSITORY })
    assert.deepEqual(
      images.map(({ digest }) => digest),
      expected,
    )
  })
}

test('a walk finds hosted images, and forgets those that were withdrawn while the index was away', async t => {
  const { events } = seeEvents()
  await using index = await openIndex(t, events)
  const [place, store] = [{ namespace: DOCKER_HUB, repository: REPOSITORY }, new MemoryStore()]
  const { tag } = NAME
  const bytes = writeHostedTag({ digest: AFTER, movedAtMs: 1, by: undefined })
  await store.writeRecord({ kind: 'hosted-repository', ...place }, new Uint8Array(0), 'durable')
  await store.writeRecord({ kind: 'hosted-manifest', ...place, digest: AFTER }, new Uint8Array(0), 'durable')
  await store.writeRecord({ kind: 'hosted-tag', ...place, tag }, bytes, 'durable')
  index.note({ kind: 'tagged', place, tag: 'gone', digest: BEFORE, atMs: 1, isHosted: true })
  index.note({ kind: 'published', place, digest: BEFORE })
  const parts = { store, index, clock: systemClock, events, forgetLinks: async () => {} }
  await walkStore(parts, new AbortController().signal)
  const images = await index.ask('imagesOf', place)
  assert.deepEqual(
    images.map(({ tag: name, digest, isHosted }) => [name, digest, isHosted]),
    [['v1', AFTER, true]],
  )
})

async function openIndex(t: TestContext, events: Events): Promise<IndexFeed> {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-walk-'))
  t.after(async () => await rm(root, { recursive: true }))
  const index = new IndexFeed({
    path: join(root, 'index.sqlite'),
    clock: systemClock,
    events,
    namespaces: () => [],
    onStale: () => undefined,
  })
  await index.open()
  return index
}
