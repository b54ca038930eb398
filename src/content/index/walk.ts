import type { Clock } from '../../lib/clock.ts'
import type { Events } from '../../observe/events.ts'
import type { Digest } from '../../oci/digest.ts'
import { MANIFEST_SIZE_MAX, type Manifest, parseManifest } from '../../oci/manifest.ts'
import { parseTag } from '../../oci/name.ts'
import type { Place } from '../../oci/place.ts'
import type { RecordName, Store, StoredObject } from '../../storage/store.ts'
import type { Change } from './change.ts'
import type { IndexFeed } from './feed.ts'
import { changeDeleted, readChange, tagChange } from './record-changes.ts'

/** Number of finds between two pauses. */
const SLICE = 500
/** Length of a pause, which leaves most of the disk's time to clients. */
const PAUSE_MS = 5

export interface WalkParts {
  readonly store: Store
  readonly index: IndexFeed
  readonly clock: Clock
  readonly events: Events
  /** Removes the links of content that is not stored. */
  readonly forgetLinks: (digests: readonly Digest[]) => Promise<void>
}

/** First bytes of a JSON object: a brace, or white space before it. */
const JSON_STARTS: ReadonlySet<number | undefined> = new Set([0x7b, 0x20, 0x09, 0x0a, 0x0d])

/** Counts of a walk. */
export interface Walked {
  readonly objects: number
  readonly records: number
  /** Objects in the index that the store did not have. */
  readonly gone: number
  /** Digests with links, but with neither content nor a stored manifest that names them. */
  readonly deadLinks: number
}

/**
 * Brings the index up to date with the store, in slices, while both are in use. Records the content found,
 * then the records of tags and links. Finally checks each object that is in the index but that the walk has
 * not seen.
 */
export async function walkStore(parts: WalkParts, signal: AbortSignal): Promise<Walked> {
  await parts.index.ask('beginWalk')
  const objects = await walkObjects(parts, signal)
  const records = await walkRecords(parts, signal)
  await readFound(parts, signal)
  const gone = await forgetGone(parts, signal)
  await parts.index.ask('settleImages')
  return { objects, records, gone, deadLinks: await forgetDeadLinks(parts, signal) }
}

async function walkObjects({ store, index, clock }: WalkParts, signal: AbortSignal): Promise<number> {
  let count = 0
  for await (const { digest, sizeBytes, storedAtMs } of store.list()) {
    signal.throwIfAborted()
    index.note({ kind: 'found', digest, sizeBytes, atMs: Math.round(storedAtMs) })
    count += 1
    if (count % SLICE === 0) await rest({ index, clock }, signal)
  }
  await index.flush()
  return count
}

async function walkRecords(parts: WalkParts, signal: AbortSignal): Promise<number> {
  let count = 0
  for await (const name of parts.store.listRecords()) {
    signal.throwIfAborted()
    await noteRecord(parts, name)
    count += 1
    if (count % SLICE === 0) await rest(parts, signal)
  }
  for await (const name of parts.store.listRecordsOf({ kind: 'hosted-hold' })) {
    signal.throwIfAborted()
    if (name.kind === 'hosted-hold') parts.index.note({ kind: 'held', digest: name.digest })
    count += 1
    if (count % SLICE === 0) await rest(parts, signal)
  }
  for await (const name of parts.store.listRecordsOf({ kind: 'hosted-repository' })) {
    if (name.kind === 'hosted-repository') count += await walkHosted(parts, name, signal)
    await rest(parts, signal)
  }
  await parts.index.flush()
  return count
}

/** Notes the manifests and tags of a hosted repository, and what it has no longer. */
async function walkHosted(
  parts: WalkParts,
  { namespace, repository }: Place,
  signal: AbortSignal,
): Promise<number> {
  const { store, index, events } = parts
  const place = { namespace, repository }
  const found = new Set<string>()
  for await (const name of store.listRecordsOf({ kind: 'hosted-manifest', ...place })) {
    if (name.kind !== 'hosted-manifest') continue
    index.note({ kind: 'published', place, digest: name.digest })
    found.add(name.digest)
    if (found.size % SLICE === 0) await rest(parts, signal)
  }
  for await (const name of store.listRecordsOf({ kind: 'hosted-tag', ...place })) {
    if (name.kind !== 'hosted-tag') continue
    await noteTag(parts, name).catch((error: unknown) => events.storageFailed('index', error))
    found.add(name.tag)
    if (found.size % SLICE === 0) await rest(parts, signal)
  }
  for (const { isHosted, tag, digest } of await index.ask('imagesOf', place)) {
    if (!isHosted || found.has(tag ?? digest)) continue
    // It may have been pushed since the records were listed.
    const name = recordOf(place, tag, digest)
    if (name === undefined || (await store.readRecord(name)) !== undefined) continue
    const change = changeDeleted(name)
    if (change !== undefined) index.note(change)
  }
  return found.size
}

function recordOf(place: Place, text: string | undefined, digest: Digest): RecordName | undefined {
  if (text === undefined) return { kind: 'hosted-manifest', ...place, digest }
  const tag = parseTag(text)
  return tag === undefined ? undefined : { kind: 'hosted-tag', ...place, tag }
}

async function noteRecord({ store, index, events }: WalkParts, name: RecordName): Promise<void> {
  if (name.kind === 'link') index.note({ kind: 'linked', place: name, digest: name.digest })
  if (name.kind !== 'tag') return
  try {
    const tagged = await noteTag({ store, index }, name)
    if (tagged === undefined) return
    for (const digest of await childrenOf(store, tagged.digest)) {
      index.noteUse(digest, { atMs: 0, hits: 0, servedBytes: 0, isManifest: true })
    }
  } catch (error) {
    events.storageFailed('index', error)
  }
}

/**
 * Notes a tag as its record says. The tag may have moved or gone while the record was read, and that may have
 * been noted first, so the record is read once more.
 */
async function noteTag(
  { store, index }: Pick<WalkParts, 'store' | 'index'>,
  name: RecordName & { readonly kind: 'tag' | 'hosted-tag' },
): Promise<(Change & { readonly kind: 'tagged' }) | undefined> {
  let noted: (Change & { readonly kind: 'tagged' }) | undefined
  for (let bytes = await store.readRecord(name); bytes !== undefined; ) {
    const tagged = tagChange(name, bytes)
    if (tagged === undefined || tagged.digest === noted?.digest) return noted
    index.note(tagged)
    noted = tagged
    bytes = await store.readRecord(name)
  }
  const gone = noted === undefined ? undefined : changeDeleted(name)
  if (gone !== undefined) index.note(gone)
  return undefined
}

/** The manifests that a stored index names. */
async function childrenOf(store: Store, digest: Digest): Promise<readonly Digest[]> {
  const manifest = await readManifest(store, digest)
  return manifest?.manifests.map(child => child.digest) ?? []
}

/** Everything that a stored manifest names. */
async function namedBy(store: Store, digest: Digest): Promise<readonly Digest[]> {
  const manifest = await readManifest(store, digest)
  return manifest === undefined ? [] : [...manifest.manifests, ...manifest.blobs].map(named => named.digest)
}

/** `undefined` if the content is missing or is not a manifest. */
async function readManifest(store: Store, digest: Digest): Promise<Manifest | undefined> {
  await using object = await store.open(digest)
  if (object === undefined || object.sizeBytes > MANIFEST_SIZE_MAX) return undefined
  // Most small objects are layers, which show by their first byte.
  const [first] = await readBytes(object, 0, Math.min(1, object.sizeBytes))
  if (!JSON_STARTS.has(first)) return undefined
  try {
    return parseManifest(await readBytes(object, 0, object.sizeBytes))
  } catch {
    return undefined
  }
}

async function readBytes(object: StoredObject, start: number, end: number): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  for await (const piece of object.read(start, end)) pieces.push(Uint8Array.from(piece))
  return Buffer.concat(pieces)
}

/**
 * Reads what this walk has found new to the index, as far as it is small enough for a manifest. Without it an
 * image that is known by its digest only would be missing in every list after a rebuild.
 */
async function readFound(parts: WalkParts, signal: AbortSignal): Promise<void> {
  const { index, store, events } = parts
  for (let after = 0; after >= 0; ) {
    const { digests, next } = await index.ask('unread', after, SLICE)
    for (const digest of digests) {
      signal.throwIfAborted()
      try {
        index.note(readChange(digest, await readManifest(store, digest)))
      } catch (error) {
        events.storageFailed('index', error)
      }
    }
    if (digests.length > 0) await rest(parts, signal)
    after = next
  }
  await index.flush()
}

async function forgetGone({ store, index, clock }: WalkParts, signal: AbortSignal): Promise<number> {
  let gone = 0
  for (let after = 0; after >= 0; ) {
    const { digests, next } = await index.ask('unseen', after, SLICE)
    for (const digest of digests) {
      signal.throwIfAborted()
      await using object = await store.open(digest)
      if (object !== undefined) continue
      index.note({ kind: 'removed', digest })
      gone += 1
    }
    if (digests.length > 0) await rest({ index, clock }, signal)
    after = next
  }
  await index.flush()
  return gone
}

/**
 * Removes links whose content is gone. A lost link costs one request to the registry, so a manifest that
 * arrives meanwhile loses nothing else.
 */
async function forgetDeadLinks(parts: WalkParts, signal: AbortSignal): Promise<number> {
  const { index, store } = parts
  await index.ask('clearNamed')
  for (let after = 0; after >= 0; ) {
    const { digests, next } = await index.ask('manifests', after, SLICE)
    for (const digest of digests) {
      signal.throwIfAborted()
      await index.ask('markNamed', await namedBy(store, digest))
    }
    after = next
  }
  let count = 0
  for (let after: Digest | undefined, isOver = false; !isOver; ) {
    signal.throwIfAborted()
    const digests = await index.ask('deadLinks', after, SLICE)
    await parts.forgetLinks(digests)
    count += digests.length
    after = digests.at(-1)
    isOver = digests.length < SLICE
  }
  await index.ask('clearNamed')
  return count
}

async function rest(
  { index, clock }: Pick<WalkParts, 'index' | 'clock'>,
  signal: AbortSignal,
): Promise<void> {
  await index.flush()
  await clock.delay(PAUSE_MS, signal)
}
