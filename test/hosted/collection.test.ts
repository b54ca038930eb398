import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unlimitedTurn } from '../../src/content/job-turns.ts'
import { Collection, type Verdict } from '../../src/hosted/collection.ts'
import { CollectionMarks } from '../../src/hosted/collection-marks.ts'
import { Publishing } from '../../src/hosted/publishing.ts'
import { Shelf } from '../../src/hosted/shelf.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OciError } from '../../src/oci/error.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import type { Place } from '../../src/oci/place.ts'
import { parsePushedManifest } from '../../src/oci/pushed-manifest.ts'
import type { Store } from '../../src/storage/store.ts'
import { nameOf, storeWith } from '../mirror/rig.ts'
import { put } from '../storage/contract.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { type SeenEvents, seeEvents } from '../support/seen-events.ts'

const HOUR_MS = 3_600_000
const CLAIM_MS = 25 * HOUR_MS
const PLACE: Place = { namespace: DOCKER_HUB, repository: nameOf('acme/app') }
const OTHER: Place = { namespace: DOCKER_HUB, repository: nameOf('acme/other') }

/** The subject of every manifest here. */
const SUBJECT = digestOf(Buffer.from('subject'))

interface Rig {
  readonly store: Store
  readonly shelf: Shelf
  readonly marks: CollectionMarks
  readonly publishing: Publishing
  readonly clock: FakeClock
  readonly seen: SeenEvents
  readonly collect: (isDry?: boolean) => Promise<readonly Verdict[]>
  readonly pushBlob: (text: string, place?: Place) => Promise<Digest>
  readonly pushImage: (blobs: readonly Digest[], place?: Place) => Promise<Digest>
}

interface RigOptions {
  readonly graceMs?: number
  readonly isCached?: boolean
  readonly sick?: Partial<Store>
  readonly store?: MemoryStore
  readonly clock?: FakeClock
}

function makeRig(options: RigOptions = {}): Rig {
  const { graceMs = 0, isCached = false, clock = FakeClock.skipDelays() } = options
  const store = storeWith(options.store ?? new MemoryStore(clock), options.sick ?? {})
  const seen = seeEvents()
  const shelf = new Shelf(store, seen.events)
  const marks = new CollectionMarks({ store, clock })
  const parties = { rules: [], witnesses: [] }
  const publishing = new Publishing({ store, shelf, clock, parties, marks, onChange: () => undefined })
  const collection = new Collection({
    store,
    shelf,
    publishing,
    marks,
    clock,
    events: seen.events,
    graceMs,
    subjectOf: async () => await Promise.resolve(SUBJECT),
    isCached: async () => await Promise.resolve(isCached),
    removed: async () => await Promise.resolve(),
  })
  return {
    store,
    shelf,
    marks,
    publishing,
    clock,
    seen,
    collect: async (isDry = false) =>
      await Array.fromAsync(collection.collect({ isDry }, unlimitedTurn(new AbortController().signal))),
    pushBlob: async (text, place = PLACE) => {
      const bytes = Buffer.from(text)
      const digest = digestOf(bytes)
      await publishing.link({ place, by: 'alice' }, { digest, sizeBytes: bytes.length }, async () => [
        { kind: 'content', digest, bytes },
      ])
      return digest
    },
    pushImage: async (blobs, place = PLACE) => {
      const [config, ...layers] = blobs.map(digest => ({ mediaType: 'x/y', digest, size: 1 }))
      const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers }))
      const digest = digestOf(bytes)
      const manifest = parsePushedManifest(bytes)
      await publishing.publish({ place, digest, bytes, manifest, tags: [], by: 'alice' })
      return digest
    },
  }
}

async function isStored(store: Store, digest: Digest): Promise<boolean> {
  await using object = await store.open(digest)
  return object !== undefined
}

test('a blob that no manifest names goes once nobody claims it any more, and the repository does not have it then', async () => {
  const { store, shelf, clock, collect, pushBlob, seen } = makeRig()
  const digest = await pushBlob('layer')
  clock.advance(CLAIM_MS - 1)
  await collect()
  assert.ok(await isStored(store, digest))
  clock.advance(1)
  assert.partialDeepStrictEqual(await collect(), [
    {
      digest,
      action: 'remove',
      sizeBytes: 5,
      freedBytes: 5,
      why: 'no manifest names it, and no claim holds it',
    },
  ])
  assert.equal(await isStored(store, digest), false)
  assert.equal(await shelf.content({ kind: 'hosted-blob', ...PLACE, digest }), undefined)
  assert.deepEqual(await Array.fromAsync(shelf.holds(digest)), [])
  assert.deepEqual(seen.of('collected: no hosted repository needs it'), [{ digest, bytes: 5 }])
})

test('what another process is removing is left alone, and removed two rounds after that process died', async () => {
  const { store, clock, collect, pushBlob } = makeRig()
  const digest = await pushBlob('layer')
  clock.advance(CLAIM_MS)
  await store.createRecord({ kind: 'hosted-removal', digest }, new Uint8Array(0))
  const left = { digest, action: 'keep', why: 'another process decides about it' }
  assert.partialDeepStrictEqual(await collect(), [left])
  assert.partialDeepStrictEqual(await collect(), [left])
  clock.advance(600_001)
  assert.partialDeepStrictEqual(await collect(), [left])
  assert.ok(await isStored(store, digest))
  assert.partialDeepStrictEqual(await collect(), [{ digest, action: 'remove' }])
  assert.equal(await isStored(store, digest), false)
})

test('a manifest that is pushed again while another process withdraws it keeps what it names', async () => {
  const [clock, inner] = [FakeClock.skipDelays(), new MemoryStore(FakeClock.skipDelays())]
  const one = makeRig({ store: inner, clock })
  const layer = await one.pushBlob('layer')
  const image = await one.pushImage([layer])
  const removed = Promise.withResolvers<void>()
  const sick: Partial<Store> = {
    deleteRecord: async name => {
      const wasThere = await inner.deleteRecord(name)
      if (name.kind !== 'hosted-manifest') return wasThere
      // The other process publishes the manifest between two steps of the removal.
      await one.pushImage([layer])
      removed.resolve()
      return wasThere
    },
  }
  const other = makeRig({ store: inner, clock, sick })
  assert.equal(await other.publishing.withdraw({ place: PLACE, by: 'bob' }, image), true)
  await removed.promise
  clock.advance(100 * CLAIM_MS)
  await one.collect()
  await one.collect()
  assert.ok((await isStored(inner, layer)) && (await isStored(inner, image)))
  assert.ok(await one.shelf.content({ kind: 'hosted-manifest', ...PLACE, digest: image }))
})

test('what refers to an image is noted until the collection lets its manifest go', async () => {
  const { shelf, clock, collect, pushBlob, pushImage, publishing, store } = makeRig()
  const image = await pushImage([await pushBlob('layer')])
  const note = shelf.referrerWrite(PLACE, SUBJECT, image)
  await store.writeSteps([[note]], 'durable')
  await publishing.withdraw({ place: PLACE, by: 'bob' }, image)
  await collect()
  assert.deepEqual(await Array.fromAsync(shelf.referrers(PLACE, SUBJECT)), [image])
  clock.advance(24 * HOUR_MS)
  await collect()
  assert.deepEqual(await Array.fromAsync(shelf.referrers(PLACE, SUBJECT)), [])
})

test('what a collection that died was about to remove is removed by a later round', async () => {
  const { store, clock, collect, pushBlob, marks } = makeRig({ graceMs: HOUR_MS })
  const digest = await pushBlob('layer')
  clock.advance(CLAIM_MS)
  await marks.write(digest, 'removing')
  clock.advance(HOUR_MS)
  assert.partialDeepStrictEqual(await collect(), [{ digest, action: 'remove' }])
  assert.equal(await isStored(store, digest), false)
})

test('a collection that stalls after its mark leaves the mark of the process that took over', async () => {
  const clock = FakeClock.skipDelays()
  const inner = new MemoryStore(clock)
  const other = makeRig({ store: inner, clock })
  const digest = await other.pushBlob('layer')
  clock.advance(CLAIM_MS)
  const slow: Partial<Store> = {
    writeRecord: async (name, bytes, durability) => {
      await inner.writeRecord(name, bytes, durability)
      if (name.kind !== 'hosted-unneeded') return
      clock.advance(11 * 60_000)
      assert.equal(await other.marks.beginRemoval(digest), undefined)
      assert.ok(await other.marks.beginRemoval(digest))
      await other.marks.write(digest, 'removing')
      await other.shelf.hold(PLACE, digest)
    },
  }
  const one = makeRig({ store: inner, clock, sick: slow })
  assert.deepEqual(await one.collect(), [])
  assert.equal((await other.marks.read(digest))?.state, 'removing')
  assert.ok(await inner.readRecord({ kind: 'hosted-removal', digest }))
})

test('a collection that stalls between two repositories takes nothing that was pushed meanwhile', async () => {
  const clock = FakeClock.skipDelays()
  const inner = new MemoryStore(clock)
  const other = makeRig({ store: inner, clock })
  const digest = await other.pushBlob('layer')
  await other.pushBlob('layer', OTHER)
  clock.advance(CLAIM_MS)
  let pushedTo: Place | undefined
  const slow: Partial<Store> = {
    deleteRecord: async name => {
      const wasThere = await inner.deleteRecord(name)
      if (name.kind !== 'hosted-blob' || pushedTo !== undefined) return wasThere
      clock.advance(11 * 60_000)
      pushedTo = name.repository === PLACE.repository ? OTHER : PLACE
      await other.pushBlob('layer', pushedTo)
      await other.pushImage([digest], pushedTo)
      return wasThere
    },
  }
  const verdicts = await makeRig({ store: inner, clock, sick: slow }).collect()
  assert.ok(verdicts.every(({ action }) => action === 'keep'))
  assert.ok(pushedTo !== undefined)
  assert.ok(await other.shelf.content({ kind: 'hosted-blob', ...pushedTo, digest }))
  assert.ok(await isStored(inner, digest))
  const holds = await Array.fromAsync(other.shelf.holds(digest))
  assert.ok(holds.some(({ by, repository }) => by !== undefined && repository === pushedTo?.repository))
})

test('a blob that is being pushed again in another process stays, whatever its record says', async () => {
  const { store, shelf, clock, collect, pushBlob } = makeRig()
  const digest = await pushBlob('layer')
  clock.advance(CLAIM_MS)
  await shelf.hold(PLACE, digest)
  await collect()
  assert.ok(await isStored(store, digest))
  assert.ok(await shelf.content({ kind: 'hosted-blob', ...PLACE, digest }))
})

test('a blob that a manifest names stays at any age, and goes after its manifest was deleted', async () => {
  const { store, clock, collect, pushBlob, pushImage, publishing } = makeRig()
  const layer = await pushBlob('layer')
  const image = await pushImage([layer])
  clock.advance(100 * CLAIM_MS)
  assert.deepEqual(await collect(), [])
  assert.ok((await isStored(store, layer)) && (await isStored(store, image)))
  await publishing.withdraw({ place: PLACE, by: 'bob' }, image)
  await collect()
  assert.equal(await isStored(store, layer), false)
  assert.equal(await isStored(store, image), false)
})

test('a repository in which nothing names a blob loses it, while another one keeps it and its content', async () => {
  const { store, shelf, clock, collect, pushBlob, pushImage } = makeRig()
  const layer = await pushBlob('layer')
  await pushBlob('layer', OTHER)
  await pushImage([layer], OTHER)
  clock.advance(CLAIM_MS)
  const [verdict] = await collect()
  assert.deepEqual([verdict?.action, verdict?.places, verdict?.freedBytes], ['remove', [PLACE], 0])
  assert.ok(await isStored(store, layer))
  assert.equal(await shelf.content({ kind: 'hosted-blob', ...PLACE, digest: layer }), undefined)
  assert.ok(await shelf.content({ kind: 'hosted-blob', ...OTHER, digest: layer }))
})

test('a client that asks for a blob while another process removes it is told the truth', async () => {
  const clock = FakeClock.skipDelays()
  const inner = new MemoryStore(clock)
  const one = makeRig({ store: inner, clock })
  const digest = await one.pushBlob('layer')
  clock.advance(CLAIM_MS)
  const name = { kind: 'hosted-blob', ...PLACE, digest } as const
  const record = await one.shelf.content(name)
  assert.ok(record)
  const sick: Partial<Store> = {
    readRecord: async read => {
      const bytes = await inner.readRecord(read)
      // The collection runs between the look at the record and the renewal of the claim in it.
      if (read.kind === 'hosted-blob') await one.collect()
      return bytes
    },
  }
  const other = makeRig({ store: inner, clock, sick })
  assert.equal(await other.publishing.claim(name, record), true)
  assert.ok(await isStored(inner, digest))
  assert.ok((await Array.fromAsync(one.shelf.holds(digest))).length > 0)
})

test('a client that asks for a blob before it pushes keeps it for another day', async () => {
  const { store, shelf, clock, collect, pushBlob, publishing } = makeRig()
  const digest = await pushBlob('layer')
  clock.advance(24 * HOUR_MS)
  const name = { kind: 'hosted-blob', ...PLACE, digest } as const
  const record = await shelf.content(name)
  assert.ok(record && (await publishing.claim(name, record)))
  clock.advance(24 * HOUR_MS)
  await collect()
  assert.ok(await isStored(store, digest))
})

test('with a grace, what is unneeded is marked first, and a push within the grace takes it back', async () => {
  const { store, clock, collect, pushBlob } = makeRig({ graceMs: HOUR_MS })
  const digest = await pushBlob('layer')
  clock.advance(CLAIM_MS)
  assert.equal((await collect())[0]?.action, 'mark')
  await pushBlob('layer')
  clock.advance(HOUR_MS)
  await collect()
  assert.ok(await isStored(store, digest))
  clock.advance(CLAIM_MS)
  assert.equal((await collect())[0]?.action, 'mark')
  const again = await collect()
  assert.deepEqual(
    again.map(({ action }) => action),
    ['mark'],
  )
  clock.advance(HOUR_MS)
  assert.equal((await collect())[0]?.action, 'remove')
  assert.equal(await isStored(store, digest), false)
})

test('a dry run says the same, and changes nothing', async () => {
  const { store, clock, collect, pushBlob, marks } = makeRig()
  const digest = await pushBlob('layer')
  clock.advance(CLAIM_MS)
  const said = await collect(true)
  assert.deepEqual([said[0]?.action, await isStored(store, digest)], ['remove', true])
  assert.equal(await marks.read(digest), undefined)
  assert.deepEqual(await collect(), said)
})

test('a store that fails keeps everything, and is reported', async () => {
  const clock = FakeClock.skipDelays()
  const store = new MemoryStore(clock)
  const digest = await makeRig({ store, clock }).pushBlob('layer')
  clock.advance(CLAIM_MS)
  const sick = { readRecord: async () => await Promise.reject(new Error('EIO')) }
  const { collect, seen } = makeRig({ store, clock, sick })
  assert.deepEqual(await collect(), [])
  assert.ok(await isStored(store, digest))
  assert.equal(seen.of('storage failed').length, 1)
})

test('content that mirrored repositories use too is left to eviction', async () => {
  const { store, shelf, clock, collect, pushBlob } = makeRig({ isCached: true })
  const digest = await pushBlob('layer')
  clock.advance(CLAIM_MS)
  assert.partialDeepStrictEqual(await collect(), [{ action: 'remove', sizeBytes: 5, freedBytes: 0 }])
  assert.ok(await isStored(store, digest))
  assert.deepEqual(await Array.fromAsync(shelf.holds(digest)), [])
})

test('a hold that a crash left without its record is let go after a day, and not before', async () => {
  const { store, shelf, clock, collect } = makeRig()
  const bytes = Buffer.from('half pushed')
  const digest = digestOf(bytes)
  await put(store, digest, bytes)
  await shelf.hold(PLACE, digest)
  await collect()
  clock.advance(23 * HOUR_MS)
  await collect()
  assert.ok(await isStored(store, digest))
  clock.advance(HOUR_MS)
  await collect()
  assert.equal(await isStored(store, digest), false)
})

test('a push waits while another process removes the content, and takes over from one that died', async () => {
  const { marks, clock, pushBlob, store } = makeRig()
  const digest = digestOf(Buffer.from('layer'))
  await marks.write(digest, 'removing')
  await assert.rejects(
    pushBlob('layer'),
    (error: unknown) => error instanceof OciError && error.code === 'UNAVAILABLE',
  )
  clock.advance(11 * 60_000)
  assert.equal(await pushBlob('layer'), digest)
  assert.ok(await isStored(store, digest))
  assert.equal(await marks.read(digest), undefined)
})
