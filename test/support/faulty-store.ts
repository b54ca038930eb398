import { bytesIn } from '../../src/lib/read-ahead.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { UploadId } from '../../src/oci/upload-id.ts'
import type {
  AgedRecord,
  Creation,
  CreationScope,
  Durability,
  LocalFile,
  RecordGroup,
  RecordName,
  Room,
  SpoolFile,
  Store,
  StoredEntry,
  StoredObject,
  UploadSpool,
  WriteStep,
} from '../../src/storage/store.ts'

/** Operations of a store that a test can make fail. */
export type FaultyOperation =
  | 'open'
  | 'createSpool'
  | 'append'
  | 'adopt'
  | 'quarantine'
  | 'readRecord'
  | 'writeRecord'
  | 'probe'

/** A real store with injected faults: an operation in {@link faults} throws like a full or broken disk. */
export class FaultyStore implements Store {
  readonly faults = new Set<FaultyOperation>()
  /** `append` fails only after this many bytes of a spool. */
  appendFailsAfter = 0
  readonly #inner: Store

  constructor(inner: Store) {
    this.#inner = inner
  }

  /** Throws a disk's error if the operation is to fail. */
  refuse(operation: FaultyOperation): void {
    if (!this.faults.has(operation)) return
    throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC', syscall: operation })
  }

  async open(digest: Digest): Promise<StoredObject | undefined> {
    this.refuse('open')
    return await this.#inner.open(digest)
  }

  async createSpool(digest: Digest, claimant?: string): Promise<SpoolFile> {
    this.refuse('createSpool')
    return new FaultySpool(await this.#inner.createSpool(digest, claimant), this)
  }

  async createUpload(id: UploadId, digest?: Digest): Promise<UploadSpool> {
    this.refuse('createSpool')
    return new FaultyUpload(await this.#inner.createUpload(id, digest), this)
  }

  async openUpload(id: UploadId, syncedBytes: number): Promise<UploadSpool | undefined> {
    this.refuse('open')
    const inner = await this.#inner.openUpload(id, syncedBytes)
    return inner === undefined ? undefined : new FaultyUpload(inner, this)
  }

  async adopt(spool: SpoolFile, digest: Digest, sizeBytes: number): Promise<void> {
    this.refuse('adopt')
    await this.#inner.adopt(spool instanceof FaultySpool ? spool.inner : spool, digest, sizeBytes)
  }

  async delete(digest: Digest): Promise<boolean> {
    return await this.#inner.delete(digest)
  }

  async quarantine(digest: Digest): Promise<void> {
    this.refuse('quarantine')
    await this.#inner.quarantine(digest)
  }

  async readRecord(name: RecordName): Promise<Uint8Array | undefined> {
    this.refuse('readRecord')
    return await this.#inner.readRecord(name)
  }

  async readRecords(names: readonly RecordName[]): Promise<readonly (Uint8Array | undefined)[]> {
    this.refuse('readRecord')
    return await this.#inner.readRecords(names)
  }

  async hasRecords(names: readonly RecordName[]): Promise<readonly boolean[]> {
    this.refuse('readRecord')
    return await this.#inner.hasRecords(names)
  }

  async writeRecord(name: RecordName, bytes: Uint8Array, durability: Durability): Promise<void> {
    this.refuse('writeRecord')
    await this.#inner.writeRecord(name, bytes, durability)
  }

  async createRecord(name: RecordName, bytes: Uint8Array): Promise<Creation> {
    this.refuse('writeRecord')
    return await this.#inner.createRecord(name, bytes)
  }

  async creationScope(): Promise<CreationScope> {
    return await this.#inner.creationScope()
  }

  async readAgedRecord(name: RecordName): Promise<AgedRecord | undefined> {
    this.refuse('readRecord')
    return await this.#inner.readAgedRecord(name)
  }

  async writeSteps(steps: readonly WriteStep[], durability: 'durable' | 'ordered'): Promise<void> {
    const writes = steps.flat()
    if (writes.some(({ kind }) => kind === 'record')) this.refuse('writeRecord')
    if (writes.some(({ kind }) => kind === 'content')) this.refuse('append')
    if (writes.some(({ kind }) => kind !== 'record')) this.refuse('adopt')
    const inner = steps.map(step =>
      step.map(write =>
        write.kind === 'spool' && write.spool instanceof FaultySpool
          ? { ...write, spool: write.spool.inner }
          : write,
      ),
    )
    await this.#inner.writeSteps(inner, durability)
  }

  async deleteRecord(name: RecordName): Promise<boolean> {
    return await this.#inner.deleteRecord(name)
  }

  list(): AsyncIterable<StoredEntry> {
    return this.#inner.list()
  }

  listRecords(): AsyncIterable<RecordName> {
    return this.#inner.listRecords()
  }

  listRecordsOf(group: RecordGroup): AsyncIterable<RecordName> {
    return this.#inner.listRecordsOf(group)
  }

  async measureRoom(): Promise<Room | undefined> {
    return await this.#inner.measureRoom()
  }

  async probe(): Promise<void> {
    this.refuse('probe')
    await this.#inner.probe()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]()
  }
}

class FaultySpool<Inner extends SpoolFile = SpoolFile> implements SpoolFile {
  readonly inner: Inner
  readonly #store: FaultyStore

  constructor(inner: Inner, store: FaultyStore) {
    this.inner = inner
    this.#store = store
  }

  get sizeBytes(): number {
    return this.inner.sizeBytes
  }

  get file(): LocalFile | undefined {
    return this.inner.file
  }

  async append(...pieces: readonly Uint8Array[]): Promise<void> {
    if (this.sizeBytes + bytesIn(pieces) > this.#store.appendFailsAfter) this.#store.refuse('append')
    await this.inner.append(...pieces)
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    return await this.inner.read(buffer, position)
  }

  async clear(): Promise<void> {
    await this.inner.clear()
  }

  keep(): void {
    this.inner.keep()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.inner[Symbol.asyncDispose]()
  }
}

class FaultyUpload extends FaultySpool<UploadSpool> implements UploadSpool {
  async sync(): Promise<void> {
    await this.inner.sync()
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.inner.truncate(sizeBytes)
  }

  async remove(): Promise<void> {
    await this.inner.remove()
  }
}
