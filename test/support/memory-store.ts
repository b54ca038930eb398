import { type Clock, systemClock } from '../../src/lib/clock.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { UploadId } from '../../src/oci/upload-id.ts'
import {
  contentKey,
  groupPrefix,
  parseContentKey,
  parseRecordKey,
  RECORD_BYTES_MAX,
  recordKey,
} from '../../src/storage/layout.ts'
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
  WriteStep,
} from '../../src/storage/store.ts'
import { hasByReading, readOneByOne, writeOneByOne } from '../../src/storage/write-steps.ts'

const PIECE_BYTES = 256 * 1024

/** A store in memory, for tests of code that uses one. */
export class MemoryStore implements Store {
  readonly #contents = new Map<string, StoredBytes>()
  readonly #records = new Map<string, Uint8Array>()
  readonly #writtenAtMs = new Map<string, number>()
  readonly #leftovers = new Map<string, Buffer>()
  readonly #clock: Pick<Clock, 'wallMs'>
  /** Answer of {@link creationScope}. */
  scope: CreationScope = { kind: 'store' }
  #adoptions = 0

  constructor(clock: Pick<Clock, 'wallMs'> = systemClock) {
    this.#clock = clock
  }

  async open(digest: Digest): Promise<StoredObject | undefined> {
    const stored = this.#contents.get(contentKey(digest))
    return stored === undefined ? undefined : new MemoryObject(stored)
  }

  async createSpool(digest: Digest, claimant = ''): Promise<SpoolFile> {
    const key = `${digest} ${claimant}`
    const leftover = this.#leftovers.get(key)
    this.#leftovers.delete(key)
    return new MemorySpool(leftover ?? Buffer.alloc(0), bytes => this.#leftovers.set(key, bytes))
  }

  async createUpload(id: UploadId): Promise<UploadSpool> {
    return this.#upload(id, Buffer.alloc(0))
  }

  async openUpload(id: UploadId): Promise<UploadSpool | undefined> {
    const left = this.#leftovers.get(id)
    return left === undefined ? undefined : this.#upload(id, left)
  }

  #upload(id: UploadId, bytes: Buffer): MemorySpool {
    this.#leftovers.delete(id)
    const spool = new MemorySpool(bytes, left => this.#leftovers.set(id, left))
    spool.keep()
    return spool
  }

  async adopt(spool: SpoolFile, digest: Digest, sizeBytes: number): Promise<void> {
    if (!(spool instanceof MemorySpool)) throw new TypeError('a spool of another store cannot be adopted')
    const bytes = spool.surrender(sizeBytes)
    this.#adoptions += 1
    this.#contents.set(contentKey(digest), {
      bytes,
      version: `${this.#adoptions}`,
      storedAtMs: Date.now(),
    })
  }

  async delete(digest: Digest): Promise<boolean> {
    return this.#contents.delete(contentKey(digest))
  }

  async quarantine(digest: Digest): Promise<void> {
    this.#contents.delete(contentKey(digest))
  }

  async readRecord(name: RecordName): Promise<Uint8Array | undefined> {
    return this.#records.get(recordKey(name))?.slice()
  }

  async readRecords(names: readonly RecordName[]): Promise<readonly (Uint8Array | undefined)[]> {
    return await readOneByOne(this, names)
  }

  async hasRecords(names: readonly RecordName[]): Promise<readonly boolean[]> {
    return await hasByReading(this, names)
  }

  async writeRecord(name: RecordName, bytes: Uint8Array, _durability: Durability): Promise<void> {
    if (bytes.length > RECORD_BYTES_MAX)
      throw new RangeError(`a record of ${bytes.length} bytes is too large`)
    this.#records.set(recordKey(name), Uint8Array.from(bytes))
    this.#writtenAtMs.set(recordKey(name), this.#clock.wallMs())
  }

  async createRecord(name: RecordName, bytes: Uint8Array): Promise<Creation> {
    const found = this.#records.get(recordKey(name))
    if (found !== undefined) return { kind: 'exists', bytes: found.slice() }
    await this.writeRecord(name, bytes, 'durable')
    return { kind: 'created' }
  }

  async creationScope(): Promise<CreationScope> {
    return this.scope
  }

  async readAgedRecord(name: RecordName): Promise<AgedRecord | undefined> {
    const bytes = await this.readRecord(name)
    const writtenAtMs = this.#writtenAtMs.get(recordKey(name)) ?? 0
    return bytes === undefined ? undefined : { bytes, ageMs: Math.max(0, this.#clock.wallMs() - writtenAtMs) }
  }

  async writeSteps(steps: readonly WriteStep[], durability: 'durable' | 'ordered'): Promise<void> {
    await writeOneByOne(this, steps, durability)
  }

  async deleteRecord(name: RecordName): Promise<boolean> {
    return this.#records.delete(recordKey(name))
  }

  async *list(): AsyncGenerator<StoredEntry> {
    for (const [key, { bytes, storedAtMs }] of this.#contents) {
      const digest = parseContentKey(key)
      if (digest !== undefined) yield { digest, sizeBytes: bytes.length, storedAtMs }
    }
  }

  listRecords(): AsyncIterable<RecordName> {
    return this.#recordsBelow('repositories/')
  }

  listRecordsOf(group: RecordGroup): AsyncIterable<RecordName> {
    return this.#recordsBelow(groupPrefix(group))
  }

  async *#recordsBelow(prefix: string): AsyncGenerator<RecordName> {
    for (const key of this.#records.keys()) {
      const name = key.startsWith(prefix) ? parseRecordKey(key) : undefined
      if (name !== undefined) yield name
    }
  }

  async measureRoom(): Promise<Room | undefined> {
    return undefined
  }

  async probe(): Promise<void> {
    // Memory can always be read and written.
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Spools in memory need no owner.
  }
}

interface StoredBytes {
  readonly bytes: Buffer
  readonly version: string
  readonly storedAtMs: number
}

class MemoryObject implements StoredObject {
  readonly version: string
  readonly #bytes: Buffer

  constructor({ bytes, version }: StoredBytes) {
    this.#bytes = bytes
    this.version = version
  }

  get sizeBytes(): number {
    return this.#bytes.length
  }

  async *read(start: number, end: number): AsyncGenerator<Uint8Array> {
    if (!(start >= 0 && start <= end && end <= this.sizeBytes)) {
      throw new RangeError(`bytes ${start} to ${end} are not within an object of ${this.sizeBytes} bytes`)
    }
    for (let position = start; position < end; position += PIECE_BYTES) {
      yield Uint8Array.from(this.#bytes.subarray(position, Math.min(position + PIECE_BYTES, end)))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is held.
  }
}

class MemorySpool implements UploadSpool {
  readonly #leave: (bytes: Buffer) => void
  #buffer: Buffer
  #sizeBytes: number
  #state: 'open' | 'adopted' | 'closed' = 'open'
  #isKept = false

  constructor(bytes: Buffer, leave: (bytes: Buffer) => void) {
    this.#buffer = bytes
    this.#sizeBytes = bytes.length
    this.#leave = leave
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  async append(...pieces: readonly Uint8Array[]): Promise<void> {
    this.#assertOpen()
    const bytes = Buffer.concat(pieces)
    const sizeBytes = this.#sizeBytes + bytes.length
    if (sizeBytes > this.#buffer.length) {
      const grown = Buffer.alloc(Math.max(sizeBytes, 2 * this.#buffer.length))
      this.#buffer.copy(grown, 0, 0, this.#sizeBytes)
      this.#buffer = grown
    }
    this.#buffer.set(bytes, this.#sizeBytes)
    this.#sizeBytes = sizeBytes
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    if (this.#state === 'closed') throw new Error('the spool is closed')
    return this.#buffer.copy(buffer, 0, Math.min(position, this.#sizeBytes), this.#sizeBytes)
  }

  async clear(): Promise<void> {
    this.#assertOpen()
    this.#sizeBytes = 0
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#assertOpen()
    this.#sizeBytes = Math.min(sizeBytes, this.#sizeBytes)
  }

  async sync(): Promise<void> {
    // Memory is as durable as it gets.
  }

  keep(): void {
    this.#isKept = true
  }

  async remove(): Promise<void> {
    this.#isKept = false
    await this[Symbol.asyncDispose]()
  }

  /** Takes the bytes out; nothing can be appended afterwards. */
  surrender(sizeBytes: number): Buffer {
    this.#assertOpen()
    if (this.#sizeBytes !== sizeBytes) {
      throw new Error(`a spool of ${this.#sizeBytes} bytes cannot be adopted as ${sizeBytes} bytes`)
    }
    this.#state = 'adopted'
    return this.#buffer.subarray(0, sizeBytes)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'open' && this.#isKept && this.#sizeBytes > 0) {
      this.#leave(this.#buffer.subarray(0, this.#sizeBytes))
    }
    this.#state = 'closed'
  }

  #assertOpen(): void {
    if (this.#state !== 'open') throw new Error(`the spool is ${this.#state}`)
  }
}
