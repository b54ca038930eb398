import { DamagedRecordError } from '../content/sealed-record.ts'
import { type HostedTag, readHostedTag, writeHostedTag } from '../content/tag-record.ts'
import { lruCache } from '../lib/lru.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'
import type { Place } from '../oci/place.ts'
import type { HostedRecordName, RecordName, Store, StoreWrite } from '../storage/store.ts'
import { type HostedContent, readHostedContent, writeHostedContent } from './records.ts'

/** Content of a repository by its kind. */
export type HostedKind = 'hosted-manifest' | 'hosted-blob'

/** A record of content, by its name. */
export type ContentName = Place & { readonly kind: HostedKind; readonly digest: Digest }

/** What a manifest that is to be published has to do with. */
export interface Surroundings {
  readonly digest: Digest
  readonly tags: readonly Tag[]
  readonly blobs: readonly Digest[]
  readonly manifests: readonly Digest[]
}

/** Content that a manifest names and the repository does not have. */
export type MissingContent = Pick<Surroundings, 'blobs' | 'manifests'>

const NOTHING = new Uint8Array(0)
const KNOWN_MAX = 10_000
const UNREADABLE: HostedContent = {
  sizeBytes: 0,
  mediaType: undefined,
  pushedAtMs: 0,
  claimedAtMs: 0,
  by: undefined,
}

/**
 * Records of hosted repositories in the store: which tags, manifests and blobs each of them has, and what
 * holds each digest. The records of tags, manifests, blobs and referrers are the truth, and durable. A hold
 * is written before the record that it stands for and removed after it, so that content without holds is not
 * needed by anybody. Holds are written in order with them, so that a power cut which spares the record spares
 * its hold.
 */
export class Shelf {
  readonly #store: Store
  readonly #events: Pick<Events, 'recordDamaged'>
  /** Repositories whose record is there: it is never removed. */
  readonly #known = lruCache<string, true>(KNOWN_MAX)

  constructor(store: Store, events: Pick<Events, 'recordDamaged'>) {
    this.#store = store
    this.#events = events
  }

  /** True if anything was ever pushed to the repository. */
  async knows(place: Place): Promise<boolean> {
    return (await this.#store.readRecord(repositoryName(place))) !== undefined
  }

  /** Notes that something is pushed to the repository. */
  async know(place: Place): Promise<void> {
    const key = `${place.namespace}/${place.repository}`
    if (this.#known.get(key) === true) return
    if (!(await this.knows(place))) await this.#store.writeRecord(repositoryName(place), NOTHING, 'durable')
    this.#known.set(key, true)
  }

  /** All repositories to which something was ever pushed. */
  async *repositories(): AsyncGenerator<Place> {
    for await (const name of this.#store.listRecordsOf({ kind: 'hosted-repository' }))
      if (name.kind === 'hosted-repository') yield placeOf(name)
  }

  /** The record of a tag; a damaged one counts as absent, and is reported. */
  async tag(place: Place, tag: Tag): Promise<HostedTag | undefined> {
    const bytes = await this.#store.readRecord(tagName(place, tag))
    return bytes === undefined ? undefined : this.#opened(bytes, readHostedTag, undefined)
  }

  /**
   * The writes that set a tag: the note that it may name the manifest, and then the tag itself. The manifest
   * must be durable before the second.
   */
  tagWrites(place: Place, tag: Tag, record: HostedTag): readonly [StoreWrite, StoreWrite] {
    return [
      { kind: 'record', name: taggedName(place, record.digest, tag), bytes: NOTHING },
      { kind: 'record', name: tagName(place, tag), bytes: writeHostedTag(record) },
    ]
  }

  /**
   * Sets a tag that does not exist, durably; otherwise changes nothing and returns the digest that it names.
   * Holds over all processes as {@link Store.createRecord} does. A damaged record is replaced.
   */
  async createTag(place: Place, tag: Tag, record: HostedTag): Promise<Digest | undefined> {
    const [note, write] = this.tagWrites(place, tag, record)
    await this.#store.writeSteps([[note]], 'ordered')
    const creation = await this.#store.createRecord(tagName(place, tag), writeHostedTag(record))
    if (creation.kind === 'created') return undefined
    const found = this.#opened(creation.bytes, readHostedTag, undefined)
    if (found === undefined) await this.#store.writeSteps([[write]], 'durable')
    return found?.digest
  }

  /**
   * Removes a tag; `false` if it was absent. The note of it stays, as when a tag moves: another process may
   * set the tag to the same manifest now.
   */
  async removeTag(place: Place, tag: Tag): Promise<boolean> {
    return await this.#store.deleteRecord(tagName(place, tag))
  }

  /** Tags of a repository, in no particular order. */
  async *tags(place: Place): AsyncGenerator<Tag> {
    for await (const name of this.#store.listRecordsOf({ kind: 'hosted-tag', ...placeOf(place) }))
      if (name.kind === 'hosted-tag') yield name.tag
  }

  /** Tags that name a manifest now. */
  async tagsOf(place: Place, digest: Digest): Promise<readonly Tag[]> {
    const tags: Tag[] = []
    const group = { kind: 'hosted-tagged', ...placeOf(place), digest } as const
    for await (const name of this.#store.listRecordsOf(group)) {
      if (name.kind !== 'hosted-tagged') continue
      if ((await this.tag(place, name.tag))?.digest === digest) tags.push(name.tag)
    }
    return tags
  }

  /**
   * Looks for the records that the publication of a manifest depends on. Most tags are new, so one wait tells
   * all; only a tag that exists is read.
   */
  async lookAround(
    place: Place,
    { digest, tags, blobs, manifests }: Surroundings,
  ): Promise<{
    readonly isKnown: boolean
    readonly froms: readonly (Digest | undefined)[]
    readonly missing: MissingContent
  }> {
    const known = contentName({ kind: 'hosted-manifest', ...place, digest })
    const tagNames = tags.map(tag => tagName(place, tag))
    const children = [
      ...blobs.map((blob): ContentName => ({ kind: 'hosted-blob', ...place, digest: blob })),
      ...manifests.map((child): ContentName => ({ kind: 'hosted-manifest', ...place, digest: child })),
    ]
    const are = await this.#store.hasRecords([known, ...tagNames, ...children.map(contentName)])
    const isThere = { tags: are.slice(1), children: are.slice(1 + tags.length) }
    const [froms, missing] = await Promise.all([
      this.#named(tagNames, isThere.tags),
      this.#missing(children.filter((_, index) => isThere.children[index] !== true)),
    ])
    return { isKnown: are[0] === true, froms, missing }
  }

  /** The digests that tags name, of which some are known to exist. */
  async #named(
    names: readonly RecordName[],
    areThere: readonly boolean[],
  ): Promise<readonly (Digest | undefined)[]> {
    if (!areThere.slice(0, names.length).includes(true)) return names.map(() => undefined)
    const records = await this.#store.readRecords(names)
    return records.map(bytes =>
      bytes === undefined ? undefined : this.#opened(bytes, readHostedTag, undefined)?.digest,
    )
  }

  /** The content that is missing indeed, of what seems to be: a client is told, and nothing is written. */
  async #missing(names: readonly ContentName[]): Promise<MissingContent> {
    const records = names.length === 0 ? [] : await this.#store.readRecords(names.map(contentName))
    const missing = names.filter((_, index) => records[index] === undefined)
    const of = (kind: HostedKind): readonly Digest[] =>
      missing.filter(name => name.kind === kind).map(name => name.digest)
    return { blobs: of('hosted-blob'), manifests: of('hosted-manifest') }
  }

  /**
   * The record of a manifest or blob; `undefined` if the repository does not have it. A damaged one still
   * says that the content is here.
   */
  async content(name: ContentName): Promise<HostedContent | undefined> {
    const bytes = await this.#store.readRecord(contentName(name))
    return bytes === undefined ? undefined : this.#opened(bytes, readHostedContent, UNREADABLE)
  }

  /** The write of the record of a manifest or blob. Its content must be held, and durable before it. */
  contentWrite(name: ContentName, record: HostedContent): StoreWrite {
    return { kind: 'record', name: contentName(name), bytes: writeHostedContent(record) }
  }

  /** Renews the claim in the record of a manifest or blob. */
  async renew(name: ContentName, record: HostedContent): Promise<void> {
    await this.#store.writeRecord(contentName(name), writeHostedContent(record), 'relaxed')
  }

  /** Removes the record of a manifest or blob; `false` if it was absent. */
  async removeContent(name: ContentName): Promise<boolean> {
    return await this.#store.deleteRecord(contentName(name))
  }

  /** Digests of the manifests or blobs of a repository. */
  async *contents(place: Place, kind: HostedKind): AsyncGenerator<Digest> {
    for await (const name of this.#store.listRecordsOf({ kind, ...placeOf(place) }))
      if (name.kind === kind) yield name.digest
  }

  /** The write of the note that a manifest names a subject. */
  referrerWrite(place: Place, subject: Digest, referrer: Digest): StoreWrite {
    const name = { kind: 'hosted-referrer', ...placeOf(place), digest: subject, referrer } as const
    return { kind: 'record', name, bytes: NOTHING }
  }

  /** Removes the notes of a manifest that the repository does not have any more. */
  async forgetNotes(place: Place, digest: Digest, subject: Digest | undefined): Promise<void> {
    const own = placeOf(place)
    if (subject !== undefined)
      await this.#store.deleteRecord({ kind: 'hosted-referrer', ...own, digest: subject, referrer: digest })
    for await (const name of this.#store.listRecordsOf({ kind: 'hosted-tagged', ...own, digest }))
      await this.#store.deleteRecord(name)
  }

  /** Manifests that name a subject, in no particular order. */
  async *referrers(place: Place, subject: Digest): AsyncGenerator<Digest> {
    const group = { kind: 'hosted-referrer', ...placeOf(place), digest: subject } as const
    for await (const name of this.#store.listRecordsOf(group))
      if (name.kind === 'hosted-referrer') yield name.referrer
  }

  /**
   * Holds the content of digests: `itself` for the repository, `named` for the manifest `itself` of it. They
   * are not evicted or collected from now on.
   */
  async hold(place: Place, itself: Digest, named: readonly Digest[] = []): Promise<void> {
    const names = [
      holdName(place, itself, undefined),
      ...named.map(digest => holdName(place, digest, itself)),
    ]
    const writes = names.map((name): StoreWrite => ({ kind: 'record', name, bytes: NOTHING }))
    await this.#store.writeSteps([writes], 'ordered')
  }

  async letGo(place: Place, digest: Digest, by?: Digest): Promise<void> {
    await this.#store.deleteRecord(holdName(place, digest, by))
  }

  /** Time since a hold was last written, by the clock of the store; `undefined` if there is none. */
  async holdAgeMs(place: Place, digest: Digest, by: Digest | undefined): Promise<number | undefined> {
    return (await this.#store.readAgedRecord(holdName(place, digest, by)))?.ageMs
  }

  /** Everything that holds a digest. */
  async *holds(digest: Digest): AsyncGenerator<Place & { readonly by: Digest | undefined }> {
    for await (const name of this.#store.listRecordsOf({ kind: 'hosted-hold', digest }))
      if (name.kind === 'hosted-hold') yield { ...placeOf(name), by: name.by }
  }

  /** Every digest that is held by anything; one that has several holds may come several times. */
  async *heldDigests(): AsyncGenerator<Digest> {
    for await (const name of this.#store.listRecordsOf({ kind: 'hosted-hold' }))
      if (name.kind === 'hosted-hold') yield name.digest
  }

  #opened<T, Instead>(bytes: Uint8Array, read: (bytes: Uint8Array) => T, instead: Instead): T | Instead {
    try {
      return read(bytes)
    } catch (error) {
      if (!(error instanceof DamagedRecordError)) throw error
      this.#events.recordDamaged('hosted', instead === undefined ? 'lost' : 'rebuilt', error)
      return instead
    }
  }
}

function placeOf({ namespace, repository }: Place): Place {
  return { namespace, repository }
}

function repositoryName(place: Place): RecordName {
  return { kind: 'hosted-repository', ...placeOf(place) }
}

function tagName(place: Place, tag: Tag): HostedRecordName {
  return { kind: 'hosted-tag', ...placeOf(place), tag }
}

function taggedName(place: Place, digest: Digest, tag: Tag): HostedRecordName {
  return { kind: 'hosted-tagged', ...placeOf(place), digest, tag }
}

function contentName({ kind, digest, ...place }: ContentName): HostedRecordName {
  return { kind, ...placeOf(place), digest }
}

function holdName(place: Place, digest: Digest, by: Digest | undefined): HostedRecordName {
  return { kind: 'hosted-hold', ...placeOf(place), digest, by }
}
