import { type Incoming, NoRoomError } from '../content/ledger.ts'
import { Turns } from '../lib/turns.ts'
import type { Digest } from '../oci/digest.ts'
import type { UploadId } from '../oci/upload-id.ts'
import type {
  AgedRecord,
  Creation,
  CreationScope,
  Durability,
  LocalCopies,
  RecordGroup,
  RecordName,
  Room,
  SpoolFile,
  Store,
  StoredEntry,
  StoredObject,
  StoreWrite,
  UploadSpool,
  WriteStep,
} from '../storage/store.ts'
import type { RemovalNotices } from './removal-notices.ts'
import { Removals } from './removals.ts'
import { WatchedObject } from './watched-object.ts'
import { type RoomKeeper, WatchedSpool } from './watched-spool.ts'
import { type UploadRoom, WatchedUpload } from './watched-upload.ts'

/** Is notified of changes to a store, and asked before it grows. */
export interface Watcher extends RoomKeeper, UploadRoom {
  /** `namespace` is the one charged for the content, if known. */
  stored(digest: Digest, sizeBytes: number, namespace: string | undefined): void
  removed(digest: Digest, gone: Gone): void
  recordWritten(name: RecordName, bytes: Uint8Array): void
  /** A manifest was pushed, or pushed again. */
  pushed(digest: Digest, manifest: Uint8Array): void
  /** The record is gone. Of the holds of a digest, only the last one is reported. */
  recordDeleted(name: RecordName): void
}

/** Removed content, as far as known. */
export interface Gone {
  readonly sizeBytes: number
  readonly namespace: string | undefined
}

const UNKNOWN: Gone = { sizeBytes: 0, namespace: undefined }

/**
 * Tracks what is open in a store, what is being written, and what is added and removed. Changes of one digest
 * run one after another: an eviction that has begun ends before the digest is stored again.
 */
export class WatchedStore implements Store {
  readonly #store: Store
  readonly #watcher: Watcher
  readonly #notices: () => RemovalNotices | undefined
  readonly #holds = new Map<Digest, number>()
  readonly #turns = new Turns<Digest>()
  readonly #removals: Removals

  /** `notices` are for a store whose content other processes may take for hosted repositories. */
  constructor(store: Store, watcher: Watcher, notices: () => RemovalNotices | undefined = () => undefined) {
    this.#store = store
    this.#watcher = watcher
    this.#notices = notices
    this.#removals = new Removals(store)
  }

  get presigner(): Store['presigner'] {
    return this.#store.presigner
  }

  /** Number of readers and writers that hold the digest. */
  isHeld(digest: Digest): boolean {
    return this.#holds.has(digest)
  }

  /** The copies of the store; what is opened of them is held like anything else. */
  get copies(): LocalCopies | undefined {
    const { copies } = this.#store
    if (copies === undefined) return undefined
    return {
      status: copies.status,
      open: async digest => await this.#openHeld(digest, async () => await copies.open(digest)),
      openAgain: async digest => await this.#openHeld(digest, async () => await copies.openAgain(digest)),
      isCopy: version => copies.isCopy(version),
      drop: async digest => await copies.drop(digest),
      dropDamaged: async (digest, version) => await copies.dropDamaged(digest, version),
    }
  }

  async open(digest: Digest): Promise<StoredObject | undefined> {
    return await this.#openHeld(digest, async () => await this.#store.open(digest))
  }

  async #openHeld(
    digest: Digest,
    open: () => Promise<StoredObject | undefined>,
  ): Promise<StoredObject | undefined> {
    // Held before it is open: an eviction that checks from now on spares it, and one that checked earlier
    // makes it absent.
    const release = this.#hold(digest)
    try {
      await this.#removals.underWay(digest)
      const object = await open()
      if (object !== undefined) return new WatchedObject(object, release)
    } catch (error) {
      release()
      throw error
    }
    release()
    return undefined
  }

  async createSpool(digest: Digest, claimant?: string): Promise<SpoolFile> {
    const release = this.#hold(digest)
    try {
      const spool = await this.#store.createSpool(digest, claimant)
      // Only namespaces that are not configured claim leftovers.
      const payer = { namespace: undefined, isDynamic: claimant !== undefined }
      return new WatchedSpool(spool, this.#watcher, { payer, unhold: release })
    } catch (error) {
      release()
      throw error
    }
  }

  async createUpload(id: UploadId, digest?: Digest): Promise<UploadSpool> {
    return new WatchedUpload(await this.#store.createUpload(id, digest), this.#watcher)
  }

  async openUpload(id: UploadId, syncedBytes: number): Promise<UploadSpool | undefined> {
    const upload = await this.#store.openUpload(id, syncedBytes)
    return upload === undefined ? undefined : new WatchedUpload(upload, this.#watcher)
  }

  async adopt(spool: SpoolFile, digest: Digest, sizeBytes: number): Promise<void> {
    const isUpload = spool instanceof WatchedUpload
    if (!isUpload && !(spool instanceof WatchedSpool))
      throw new TypeError('a spool of another store cannot be adopted')
    await this.#turns.take(digest, async () => {
      await this.#store.adopt(spool.inner, digest, sizeBytes)
      if (!isUpload) spool.becomeObject()
      this.#watcher.stored(digest, sizeBytes, isUpload ? undefined : spool.namespace)
    })
  }

  /** True if evictions at once share requests. */
  get isBatching(): boolean {
    return this.#store.discard !== undefined
  }

  /** Deletes content unless it is hosted; `true` if it was there. Who reads it now, reads on. */
  async delete(digest: Digest): Promise<boolean> {
    return await this.#delete(digest, this.#notices())
  }

  /** The same for the collection, which has announced the removal already. */
  async deleteAnnounced(digest: Digest): Promise<boolean> {
    return await this.#delete(digest, undefined)
  }

  async #delete(digest: Digest, notices: RemovalNotices | undefined): Promise<boolean> {
    return await this.#turns.take(digest, async () => {
      const remove = async (): Promise<boolean> => await this.#store.delete(digest)
      const wasThere = await this.#removals.unlessHosted(digest, remove, notices)
      if (wasThere !== undefined) this.#watcher.removed(digest, UNKNOWN)
      return wasThere ?? false
    })
  }

  /** Deletes content unless it is hosted or in use; `true` if it is now gone. */
  async evict(digest: Digest, gone: Gone): Promise<boolean> {
    return await this.#turns.take(digest, async () => {
      if (this.isHeld(digest)) return false
      const remove = async (): Promise<boolean> => {
        if (this.isHeld(digest)) return false
        if (this.#store.discard === undefined) await this.#store.delete(digest)
        else await this.#store.discard(digest)
        return true
      }
      const isGone = await this.#removals.unlessHosted(digest, remove, this.#notices())
      if (isGone === true) this.#watcher.removed(digest, gone)
      return isGone ?? false
    })
  }

  /** True if a hosted repository holds the content. */
  async isHosted(digest: Digest): Promise<boolean> {
    return await this.#removals.isHosted(digest)
  }

  /**
   * Runs an action for content that is gone. Returns `false` and does nothing if the content has come back,
   * or if a download that may bring it back holds it. The digest is not stored again before the action ends,
   * and no download of it begins before the action first waits.
   */
  async unlessBack(digest: Digest, action: () => Promise<void>): Promise<boolean> {
    return await this.#turns.take(digest, async () => {
      if (await this.#isStored(digest)) return false
      if (this.isHeld(digest)) return false
      await action()
      return true
    })
  }

  async quarantine(digest: Digest, isStill = async () => await Promise.resolve(true)): Promise<void> {
    await this.#turns.take(digest, async () => {
      if (!(await isStill())) return
      await this.#store.quarantine(digest)
      this.#watcher.removed(digest, UNKNOWN)
    })
  }

  async readRecord(name: RecordName): Promise<Uint8Array | undefined> {
    return await this.#store.readRecord(name)
  }

  async readRecords(names: readonly RecordName[]): Promise<readonly (Uint8Array | undefined)[]> {
    return await this.#store.readRecords(names)
  }

  async hasRecords(names: readonly RecordName[]): Promise<readonly boolean[]> {
    return await this.#store.hasRecords(names)
  }

  async writeRecord(name: RecordName, bytes: Uint8Array, durability: Durability): Promise<void> {
    await this.#store.writeRecord(name, bytes, durability)
    this.#watcher.recordWritten(name, bytes)
  }

  async createRecord(name: RecordName, bytes: Uint8Array): Promise<Creation> {
    const creation = await this.#store.createRecord(name, bytes)
    if (creation.kind === 'created') this.#watcher.recordWritten(name, bytes)
    return creation
  }

  async creationScope(): Promise<CreationScope> {
    return await this.#store.creationScope()
  }

  async readAgedRecord(name: RecordName): Promise<AgedRecord | undefined> {
    return await this.#store.readAgedRecord(name)
  }

  async writeSteps(steps: readonly WriteStep[], durability: 'durable' | 'ordered'): Promise<void> {
    const writes = steps.flat()
    const content = writes.find(write => write.kind !== 'record')
    if (content === undefined) await this.#store.writeSteps(steps, durability)
    else await this.#writeContent(content, steps, durability)
    for (const write of writes)
      if (write.kind === 'record') this.#watcher.recordWritten(write.name, write.bytes)
  }

  /** What is pushed does not count as cache: cached content makes way for it. */
  async #writeContent(
    content: Exclude<StoreWrite, { readonly kind: 'record' }>,
    steps: readonly WriteStep[],
    durability: 'durable' | 'ordered',
  ): Promise<void> {
    const { digest } = content
    const sizeBytes = content.kind === 'spool' ? content.sizeBytes : content.bytes.byteLength
    if (content.kind === 'content' && !(await this.#watcher.spare(sizeBytes))) throw new NoRoomError()
    const release = this.#hold(digest)
    try {
      await this.#turns.take(digest, async () => {
        await this.#store.writeSteps(
          steps.map(step => step.map(innerWrite)),
          durability,
        )
        this.#watcher.stored(digest, sizeBytes, undefined)
        if (content.kind === 'content') this.#watcher.pushed(digest, content.bytes)
      })
    } finally {
      release()
    }
  }

  async deleteRecord(name: RecordName): Promise<boolean> {
    const wasThere = await this.#store.deleteRecord(name)
    if (name.kind !== 'hosted-hold' || !(await this.isHosted(name.digest))) this.#watcher.recordDeleted(name)
    return wasThere
  }

  list(): AsyncIterable<StoredEntry> {
    return this.#store.list()
  }

  listRecords(): AsyncIterable<RecordName> {
    return this.#store.listRecords()
  }

  listRecordsOf(group: RecordGroup): AsyncIterable<RecordName> {
    return this.#store.listRecordsOf(group)
  }

  async measureRoom(): Promise<Room | undefined> {
    return await this.#store.measureRoom()
  }

  async probe(): Promise<void> {
    await this.#store.probe()
  }

  /** Does not close the store, which belongs to another owner. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#turns.settled()
  }

  async #isStored(digest: Digest): Promise<boolean> {
    await using object = await this.#store.open(digest)
    return object !== undefined
  }

  #hold(digest: Digest): () => void {
    this.#holds.set(digest, (this.#holds.get(digest) ?? 0) + 1)
    let isReleased = false
    return () => {
      if (isReleased) return
      isReleased = true
      const rest = (this.#holds.get(digest) ?? 1) - 1
      if (rest === 0) this.#holds.delete(digest)
      else this.#holds.set(digest, rest)
    }
  }
}

function innerWrite(write: StoreWrite): StoreWrite {
  if (write.kind !== 'spool') return write
  if (write.spool instanceof WatchedUpload) return { ...write, spool: write.spool.inner }
  throw new TypeError('only an upload of this store can be adopted with records')
}

/**
 * Charges a spool to a namespace and takes its first room; `false` if the content can never fit. The spool of
 * a store that is not watched always has room.
 */
export async function chargeSpool(spool: SpoolFile, incoming: Incoming): Promise<boolean> {
  return spool instanceof WatchedSpool ? await spool.charge(incoming) : true
}
