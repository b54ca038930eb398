import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Act, ActRule, ActWitness } from '../../src/hosted/acts.ts'
import { CollectionMarks } from '../../src/hosted/collection-marks.ts'
import type { Publication } from '../../src/hosted/publication.ts'
import { Publishing } from '../../src/hosted/publishing.ts'
import { Shelf } from '../../src/hosted/shelf.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OciError } from '../../src/oci/error.ts'
import { OCI_INDEX, OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { parseRepositoryName, parseTag, type Tag } from '../../src/oci/name.ts'
import { parseNamespace } from '../../src/oci/namespace.ts'
import type { Place } from '../../src/oci/place.ts'
import { parsePushedManifest } from '../../src/oci/pushed-manifest.ts'
import { defined, get } from '../storage/contract.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'

const PLACE: Place = {
  namespace: defined(parseNamespace('registry.example.com')),
  repository: defined(parseRepositoryName('team/app')),
}
const LATEST = defined(parseTag('latest'))
const ACTOR = { place: PLACE, by: 'alice' }

interface Bench {
  readonly store: MemoryStore
  readonly shelf: Shelf
  readonly publishing: Publishing
  readonly clock: FakeClock
  /** Everything that was done, in words. */
  readonly acts: string[]
  /** Names of the records, in the order in which they were written. */
  readonly written: string[]
}

function bench(rules: readonly ActRule[] = [], settled?: () => Promise<void>): Bench {
  const clock = new FakeClock()
  const store = new MemoryStore(clock)
  const written: string[] = []
  const write = store.writeRecord.bind(store)
  store.writeRecord = async (name, bytes, durability) => {
    written.push(name.kind)
    await write(name, bytes, durability)
  }
  const shelf = new Shelf(store, seeEvents().events)
  const acts: string[] = []
  const witness: ActWitness = { saw: async act => void acts.push(inWords(act)) }
  const parties = { rules, witnesses: [witness], ...(settled === undefined ? {} : { settled }) }
  const publishing = new Publishing({ store, shelf, clock, parties, onChange: () => undefined })
  return { store, shelf, publishing, clock, acts, written }
}

function inWords(act: Act): string {
  if (act.kind === 'tag') return `tag ${act.tag} ${act.digest} from ${act.from} by ${act.by}`
  return 'digest' in act ? `${act.kind} ${act.digest} by ${act.by}` : act.kind
}

async function push(publishing: Publishing, text: string): Promise<Digest> {
  const bytes = Buffer.from(text)
  const digest = digestOf(bytes)
  const isLinked = await publishing.link(ACTOR, { digest, sizeBytes: bytes.length }, async () => [
    { kind: 'content', digest, bytes },
  ])
  assert.ok(isLinked)
  return digest
}

function publicationOf(document: object, tags: readonly Tag[] = []): Publication {
  const bytes = Buffer.from(JSON.stringify(document))
  return {
    place: PLACE,
    digest: digestOf(bytes),
    bytes,
    manifest: parsePushedManifest(bytes),
    tags,
    by: 'alice',
  }
}

function imageOf(...layers: readonly Digest[]): object {
  const described = layers.map(digest => ({ mediaType: 'application/octet-stream', digest, size: 1 }))
  return { schemaVersion: 2, mediaType: OCI_MANIFEST, config: described[0], layers: described.slice(1) }
}

function indexOf(...digests: readonly Digest[]): object {
  const manifests = digests.map(digest => ({ mediaType: OCI_MANIFEST, digest, size: 1 }))
  return { schemaVersion: 2, mediaType: OCI_INDEX, manifests }
}

async function holdsOf(shelf: Shelf, digest: Digest): Promise<string[]> {
  const holds: string[] = []
  for await (const { by } of shelf.holds(digest)) holds.push(by ?? 'itself')
  return holds.sort()
}

test('a published manifest is stored, holds what it names, and its tag comes last', async () => {
  const { store, shelf, publishing, acts, written } = bench()
  const config = await push(publishing, 'config')
  const layer = await push(publishing, 'layer')
  written.length = 0
  const publication = publicationOf(imageOf(config, layer), [LATEST])
  await publishing.publish(publication)
  assert.deepEqual(await get(store, publication.digest), publication.bytes)
  assert.deepEqual(await holdsOf(shelf, layer), ['itself', publication.digest].sort())
  assert.deepEqual(await holdsOf(shelf, publication.digest), ['itself'])
  assert.equal((await shelf.tag(PLACE, LATEST))?.digest, publication.digest)
  assert.equal(
    (await shelf.content({ kind: 'hosted-manifest', ...PLACE, digest: publication.digest }))?.by,
    'alice',
  )
  assert.deepEqual(written, [
    'hosted-hold',
    'hosted-hold',
    'hosted-hold',
    'hosted-tagged',
    'hosted-manifest',
    'hosted-tag',
  ])
  assert.equal(acts.at(-1), `tag latest ${publication.digest} from undefined by alice`)
})

test('a manifest that names what the repository lacks is refused by name, and nothing of it is left', async () => {
  const { shelf, publishing } = bench()
  const config = await push(publishing, 'config')
  const missing = digestOf(Buffer.from('never pushed'))
  const publication = publicationOf(imageOf(config, missing), [LATEST])
  await assert.rejects(
    publishing.publish(publication),
    (error: unknown) =>
      error instanceof OciError && error.code === 'MANIFEST_BLOB_UNKNOWN' && error.message.includes(missing),
  )
  assert.equal(await shelf.tag(PLACE, LATEST), undefined)
  assert.deepEqual(await holdsOf(shelf, config), ['itself'])
  const index = publicationOf(indexOf(publication.digest))
  await assert.rejects(publishing.publish(index), /names the manifest/)
})

test('a rule that refuses an act leaves everything as it was', async () => {
  const rule: ActRule = {
    judge: async act => {
      if (act.kind === 'tag' && act.from !== undefined) throw new OciError('DENIED', 'this tag does not move')
      return act.kind === 'publish' ? ['nearly full'] : []
    },
  }
  const { shelf, publishing, acts } = bench([rule])
  const config = await push(publishing, 'config')
  const first = publicationOf(imageOf(config), [LATEST])
  assert.deepEqual(await publishing.publish(first), ['nearly full'])
  const second = publicationOf({ ...imageOf(config), annotations: { a: 'b' } }, [LATEST])
  await assert.rejects(publishing.publish(second), /does not move/)
  assert.equal((await shelf.tag(PLACE, LATEST))?.digest, first.digest)
  assert.equal(acts.filter(act => act.startsWith('tag')).length, 1)
})

test('a manifest that is withdrawn takes its tags with it, and leaves its holds to the collection', async () => {
  const { shelf, publishing } = bench()
  const config = await push(publishing, 'config')
  const subject = digestOf(Buffer.from('subject'))
  const refers = { ...imageOf(config), subject: { mediaType: OCI_MANIFEST, digest: subject, size: 7 } }
  const publication = publicationOf(refers, [LATEST])
  const other = defined(parseTag('other'))
  await publishing.publish(publication)
  await publishing.tag(ACTOR, other, publication.digest)
  assert.deepEqual(await Array.fromAsync(shelf.referrers(PLACE, subject)), [publication.digest])
  assert.equal(await publishing.withdraw(ACTOR, publication.digest), true)
  assert.equal(await shelf.tag(PLACE, LATEST), undefined)
  assert.equal(await shelf.tag(PLACE, other), undefined)
  assert.deepEqual(await holdsOf(shelf, config), ['itself', publication.digest].sort())
  assert.deepEqual(await holdsOf(shelf, publication.digest), ['itself'])
  assert.equal(await publishing.withdraw(ACTOR, publication.digest), false)
})

test('a tag that moves away from a manifest survives the removal of that manifest', async () => {
  const { shelf, publishing } = bench()
  const config = await push(publishing, 'config')
  const one = publicationOf(imageOf(config), [LATEST])
  const two = publicationOf({ ...imageOf(config), annotations: { a: 'b' } })
  await publishing.publish(one)
  await publishing.publish(two)
  await Promise.all([publishing.tag(ACTOR, LATEST, two.digest), publishing.withdraw(ACTOR, one.digest)])
  assert.equal((await shelf.tag(PLACE, LATEST))?.digest, two.digest)
})

test('a tag that was set again is not removed in place of the one that was meant', async () => {
  const { shelf, publishing, clock } = bench()
  const publication = publicationOf(imageOf(await push(publishing, '{}')), [LATEST])
  await publishing.publish(publication)
  const meantAtMs = (await shelf.tag(PLACE, LATEST))?.movedAtMs
  clock.advance(1000)
  await publishing.publish(publication)
  assert.equal(await publishing.untag(ACTOR, LATEST, meantAtMs), false)
  assert.equal((await shelf.tag(PLACE, LATEST))?.digest, publication.digest)
  assert.equal(await publishing.untag(ACTOR, LATEST, (meantAtMs ?? 0) + 1000), true)
})

test('a manifest that an index of its repository names is not withdrawn as unnamed', async () => {
  const { shelf, publishing, clock } = bench()
  const child = publicationOf(imageOf(await push(publishing, '{}')))
  await publishing.publish(child)
  const index = publicationOf(indexOf(child.digest))
  const [, wasThere] = await Promise.all([
    publishing.publish(index),
    publishing.withdrawUnnamed(ACTOR, child.digest),
  ])
  assert.equal(wasThere, false)
  assert.ok(await shelf.content({ kind: 'hosted-manifest', ...PLACE, digest: child.digest }))
  assert.equal(await publishing.withdrawUnnamed(ACTOR, index.digest), false, 'it was pushed just now')
  clock.advance(600_000)
  assert.equal(await publishing.withdrawUnnamed(ACTOR, index.digest), true)
  assert.equal(await publishing.withdrawUnnamed(ACTOR, child.digest), true)
})

test('a withdrawal that hangs until others take its process for dead removes nothing', async () => {
  const { store, shelf, clock } = bench()
  const marks = new CollectionMarks({ store, clock })
  const parties = { rules: [], witnesses: [] }
  const publishing = new Publishing({ store, shelf, clock, marks, parties, onChange: () => undefined })
  const manifest = publicationOf(imageOf(await push(publishing, '{}')))
  await publishing.publish(manifest)
  clock.advance(600_000)
  const list = store.listRecordsOf.bind(store)
  store.listRecordsOf = group => {
    if (group.kind === 'hosted-tagged') clock.advance(360_000)
    return list(group)
  }
  await assert.rejects(publishing.withdrawUnnamed(ACTOR, manifest.digest), /took too long/)
  assert.ok(await shelf.content({ kind: 'hosted-manifest', ...PLACE, digest: manifest.digest }))
})

test('a blob whose content cannot be brought is not linked', async () => {
  const { shelf, publishing } = bench()
  const digest = digestOf(Buffer.from('elsewhere'))
  assert.equal(await publishing.link(ACTOR, { digest, sizeBytes: 9 }, async () => undefined), false)
  assert.equal(await shelf.content({ kind: 'hosted-blob', ...PLACE, digest }), undefined)
  assert.equal(await shelf.knows(PLACE), false)
})

test('a claim is renewed once an hour, and not for a blob that was removed', async () => {
  const { shelf, publishing, clock } = bench()
  const digest = await push(publishing, 'layer')
  const name = { kind: 'hosted-blob', ...PLACE, digest } as const
  const claimedAtMs = clock.wallMs()
  const record = defined(await shelf.content(name))
  clock.advance(3_000_000)
  assert.equal(await publishing.claim(name, record), true)
  assert.equal((await shelf.content(name))?.claimedAtMs, claimedAtMs)
  clock.advance(1_000_000)
  assert.equal(await publishing.claim(name, record), true)
  assert.equal((await shelf.content(name))?.claimedAtMs, claimedAtMs + 4_000_000)
  assert.equal(await publishing.unlink(ACTOR, digest), true)
  assert.equal(await publishing.claim(name, record), false)
})

test('nothing is published while a digest that it names is taken alone', async () => {
  const { shelf, publishing } = bench()
  const config = await push(publishing, 'config')
  const publication = publicationOf(imageOf(config))
  const order: string[] = []
  const { promise, resolve } = Promise.withResolvers<void>()
  const alone = publishing.alone(config, async () => {
    await promise
    order.push(`alone: ${(await holdsOf(shelf, config)).length}`)
  })
  const published = publishing.publish(publication).then(() => order.push('published'))
  resolve()
  await Promise.all([alone, published])
  assert.deepEqual(order, ['alone: 1', 'published'])
})

test('a push is answered after its events are kept, and the next one need not wait for them', async () => {
  const kept = Promise.withResolvers<void>()
  const asked: PromiseWithResolvers<void>[] = []
  const { publishing, acts } = bench([], async () => {
    asked.at(-1)?.resolve()
    await kept.promise
  })
  const begun = Promise.withResolvers<void>()
  asked.push(begun)
  let answered = 0
  const publication = publicationOf({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] }, [LATEST])
  const first = publishing.publish(publication).then(() => (answered += 1))
  await begun.promise
  assert.equal(acts.length, 2)
  const again = Promise.withResolvers<void>()
  asked.push(again)
  const second = publishing.publish(publication).then(() => (answered += 1))
  await again.promise
  assert.equal(answered, 0)
  kept.resolve()
  await Promise.all([first, second])
  assert.equal(answered, 2)
})
