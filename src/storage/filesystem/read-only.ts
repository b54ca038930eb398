import { opendir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { BufferPool } from '../../lib/reader-buffers.ts'
import type { Digest } from '../../oci/digest.ts'
import { OciError } from '../../oci/error.ts'
import { contentKey } from '../layout.ts'
import type {
  AgedRecord,
  Creation,
  CreationScope,
  Durability,
  RecordGroup,
  RecordName,
  Room,
  SpoolFile,
  Store,
  StoredEntry,
  StoredObject,
  UploadSpool,
} from '../store.ts'
import { hasByReading, readOneByOne } from '../write-steps.ts'
import { openFileObject } from './object.ts'
import { readRecordFile } from './record-file.ts'
import { measureRoom } from './room.ts'
import { listContent, listRecords, listRecordsOf } from './walk.ts'

/** Opens the store below a root for reading only: it creates and changes nothing. Throws if it is missing. */
export async function openReadOnlyStore(root: string, buffers = new BufferPool()): Promise<Store> {
  const store = new ReadOnlyFilesystemStore(resolve(root), buffers)
  try {
    await store.probe()
  } catch (error) {
    throw new Error(`the storage root ${root} cannot be read`, { cause: error })
  }
  return store
}

/**
 * A store that writes nothing. Records of tags and links are dropped, so only this process remembers them.
 * All other writes are refused, and downloads pass through.
 */
class ReadOnlyFilesystemStore implements Store {
  readonly #root: string
  readonly #buffers: BufferPool

  constructor(root: string, buffers: BufferPool) {
    this.#root = root
    this.#buffers = buffers
  }

  async open(digest: Digest): Promise<StoredObject | undefined> {
    return await openFileObject(join(this.#root, contentKey(digest)), this.#buffers)
  }

  async createSpool(): Promise<SpoolFile> {
    return await refuse()
  }

  async createUpload(): Promise<UploadSpool> {
    return await refuse()
  }

  async openUpload(): Promise<UploadSpool | undefined> {
    return await Promise.resolve(undefined)
  }

  async adopt(): Promise<void> {
    await refuse()
  }

  async delete(): Promise<boolean> {
    return await refuse()
  }

  async quarantine(): Promise<void> {
    await refuse()
  }

  async readRecord(name: RecordName): Promise<Uint8Array | undefined> {
    return await readRecordFile(this.#root, name)
  }

  async readRecords(names: readonly RecordName[]): Promise<readonly (Uint8Array | undefined)[]> {
    return await readOneByOne(this, names)
  }

  async hasRecords(names: readonly RecordName[]): Promise<readonly boolean[]> {
    return await hasByReading(this, names)
  }

  async writeRecord(name: RecordName, _bytes: Uint8Array, _durability: Durability): Promise<void> {
    if (name.kind !== 'tag' && name.kind !== 'link') await refuse()
  }

  async createRecord(): Promise<Creation> {
    return await refuse()
  }

  async creationScope(): Promise<CreationScope> {
    return await Promise.resolve({ kind: 'process', why: `${this.#root} is only read` })
  }

  /** Nothing is written here, so there is no clock of the file system to ask. */
  async readAgedRecord(): Promise<AgedRecord | undefined> {
    return await refuse()
  }

  async writeSteps(): Promise<void> {
    await refuse()
  }

  async deleteRecord(): Promise<boolean> {
    return await Promise.resolve(false)
  }

  list(): AsyncIterable<StoredEntry> {
    return listContent(this.#root)
  }

  listRecords(): AsyncIterable<RecordName> {
    return listRecords(this.#root)
  }

  listRecordsOf(group: RecordGroup): AsyncIterable<RecordName> {
    return listRecordsOf(this.#root, group)
  }

  async measureRoom(): Promise<Room> {
    return await measureRoom(this.#root)
  }

  /** Only checks that the root can be read, since nothing has to be written. */
  async probe(): Promise<void> {
    const directory = await opendir(this.#root)
    await directory.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve()
  }
}

async function refuse(): Promise<never> {
  return await Promise.reject(new OciError('DENIED', 'this mirror is read-only'))
}
