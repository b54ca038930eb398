import type { Events } from '../../observe/events.ts'
import type { Digest } from '../../oci/digest.ts'
import { StoreUnavailableError } from '../../oci/error.ts'
import type { UploadId } from '../../oci/upload-id.ts'
import type {
  AgedRecord,
  CopiesStatus,
  Creation,
  CreationScope,
  Durability,
  LocalCopies,
  Presigner,
  RecordGroup,
  RecordName,
  RemoteStore,
  Room,
  SpoolFile,
  Store,
  StoredEntry,
  StoredObject,
  StoreWrite,
  UploadSpool,
  WriteStep,
} from '../store.ts'
import { type CopyDirectory, type CopyTicket, isCopyVersion } from './copy-directory.ts'

/** Bytes that are read from a spool at a time. */
const PIECE_BYTES = 256 * 1024

/** A store whose removals can share requests, as those of a bucket do. */
type InnerStore = Store & Required<Pick<Store, 'discard'>>

type Count = (result: 'hit' | 'miss') => void

interface CopyingStoreParts {
  readonly store: InnerStore
  readonly directory: CopyDirectory
  readonly events: Pick<Events, 'storageFailed'>
}

/**
 * A remote store with copies of its small content on this machine. {@link open} and everything about records
 * goes to the store itself; only {@link LocalCopies.open} uses the copies, and it is for serving. Disposes of
 * both.
 */
export class CopyingStore implements Store {
  readonly copies: LocalCopies
  readonly presigner: Presigner | undefined
  readonly remote: RemoteStore | undefined
  readonly #store: InnerStore
  readonly #directory: CopyDirectory
  readonly #events: Pick<Events, 'storageFailed'>
  readonly #copying = new Map<Digest, Promise<void>>()
  readonly #reads = { hit: 0, miss: 0 }

  constructor({ store, directory, events }: CopyingStoreParts) {
    this.#store = store
    this.#directory = directory
    this.#events = events
    this.presigner = store.presigner
    this.remote = store.remote
    const status = (): CopiesStatus => ({
      ...directory.status,
      hits: this.#reads.hit,
      misses: this.#reads.miss,
    })
    this.copies = {
      get status() {
        return status()
      },
      open: async digest => await this.#openCopy(digest, result => (this.#reads[result] += 1)),
      openAgain: async digest => await this.#openCopy(digest, () => undefined),
      isCopy: isCopyVersion,
      drop: async digest => await directory.drop(digest),
      dropDamaged: async (digest, version) => await directory.dropDamaged(digest, version),
    }
  }

  async open(digest: Digest): Promise<StoredObject | undefined> {
    return await this.#store.open(digest)
  }

  /** Readers that come while a copy is made wait for it. */
  async #openCopy(digest: Digest, count: Count): Promise<StoredObject | undefined> {
    const copy = await this.#directory.open(digest)
    if (copy !== undefined) {
      count('hit')
      return copy
    }
    const copying = this.#copying.get(digest)
    if (copying === undefined) return await this.#copyFirst(digest, count)
    await copying
    const made = await this.#directory.open(digest)
    if (made !== undefined) count('hit')
    return made ?? (await this.#store.open(digest))
  }

  async #copyFirst(digest: Digest, count: Count): Promise<StoredObject | undefined> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#copying.set(digest, promise)
    try {
      using ticket = this.#directory.begin(digest)
      const object = await this.#store.open(digest)
      if (object === undefined || !this.#directory.takes(digest, object.sizeBytes)) return object
      const copy = await this.#copyOf(ticket, object)
      if (copy !== undefined) count('miss')
      return copy ?? object
    } finally {
      this.#copying.delete(digest)
      resolve()
    }
  }

  /** The new copy of an open object, which is closed then; `undefined` if the object has to serve. */
  async #copyOf(ticket: CopyTicket, object: StoredObject): Promise<StoredObject | undefined> {
    let copy: StoredObject | undefined
    try {
      if (await this.#directory.put(ticket, object.sizeBytes, object.read(0, object.sizeBytes)))
        copy = await this.#directory.open(ticket.digest)
    } catch (error) {
      // Damage is for the reader of the object to find.
      if (error instanceof StoreUnavailableError) {
        await object[Symbol.asyncDispose]()
        throw error
      }
    }
    if (copy !== undefined) await object[Symbol.asyncDispose]()
    return copy
  }

  async createSpool(digest: Digest, claimant?: string): Promise<SpoolFile> {
    return await this.#store.createSpool(digest, claimant)
  }

  async createUpload(id: UploadId, digest?: Digest): Promise<UploadSpool> {
    return await this.#store.createUpload(id, digest)
  }

  async openUpload(id: UploadId, syncedBytes: number): Promise<UploadSpool | undefined> {
    return await this.#store.openUpload(id, syncedBytes)
  }

  async adopt(spool: SpoolFile, digest: Digest, sizeBytes: number): Promise<void> {
    using ticket = this.#directory.begin(digest)
    await this.#store.adopt(spool, digest, sizeBytes)
    await this.#keep(ticket, sizeBytes, piecesOf(spool, sizeBytes))
  }

  async writeSteps(steps: readonly WriteStep[], durability: 'durable' | 'ordered'): Promise<void> {
    const content = steps.flat().find(write => write.kind !== 'record')
    if (content === undefined) {
      await this.#store.writeSteps(steps, durability)
      return
    }
    using ticket = this.#directory.begin(content.digest)
    await this.#store.writeSteps(steps, durability)
    await this.#keep(ticket, sizeOf(content), writtenPieces(content))
  }

  /** Copies content that was stored just now. */
  async #keep(ticket: CopyTicket, sizeBytes: number, pieces: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      await this.#directory.put(ticket, sizeBytes, pieces)
    } catch (error) {
      this.#events.storageFailed('copy', error)
    }
  }

  async delete(digest: Digest): Promise<boolean> {
    return await this.#removing(digest, async () => await this.#store.delete(digest))
  }

  async discard(digest: Digest): Promise<void> {
    await this.#removing(digest, async () => await this.#store.discard(digest))
  }

  async quarantine(digest: Digest, isStill?: () => Promise<boolean>): Promise<void> {
    await this.#removing(digest, async () => await this.#store.quarantine(digest, isStill))
  }

  /**
   * Drops the copy before the content is removed, so that a crash leaves no copy of removed content, and
   * afterwards, because a reader may have made another one meanwhile.
   */
  async #removing<T>(digest: Digest, remove: () => Promise<T>): Promise<T> {
    await this.#directory.drop(digest)
    try {
      return await remove()
    } finally {
      await this.#directory.drop(digest)
    }
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
  }

  async createRecord(name: RecordName, bytes: Uint8Array): Promise<Creation> {
    return await this.#store.createRecord(name, bytes)
  }

  async creationScope(): Promise<CreationScope> {
    return await this.#store.creationScope()
  }

  async readAgedRecord(name: RecordName): Promise<AgedRecord | undefined> {
    return await this.#store.readAgedRecord(name)
  }

  async deleteRecord(name: RecordName): Promise<boolean> {
    return await this.#store.deleteRecord(name)
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

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#directory[Symbol.asyncDispose]()
    await this.#store[Symbol.asyncDispose]()
  }
}

type ContentWrite = Exclude<StoreWrite, { readonly kind: 'record' }>

function sizeOf(write: ContentWrite): number {
  return write.kind === 'spool' ? write.sizeBytes : write.bytes.byteLength
}

async function* writtenPieces(write: ContentWrite): AsyncGenerator<Uint8Array> {
  if (write.kind === 'spool') yield* piecesOf(write.spool, write.sizeBytes)
  else yield write.bytes
}

/** The bytes of a spool that was just adopted. Each piece is valid until the next is requested. */
async function* piecesOf(spool: SpoolFile, sizeBytes: number): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, sizeBytes))
  for (let position = 0; position < sizeBytes; ) {
    const wanted = buffer.subarray(0, Math.min(buffer.length, sizeBytes - position))
    const count = await spool.read(wanted, position)
    if (count === 0) throw new Error(`the spool ends at byte ${position} of ${sizeBytes}`)
    yield wanted.subarray(0, count)
    position += count
  }
}
