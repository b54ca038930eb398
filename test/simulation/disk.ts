import type { Digest } from '../../src/oci/digest.ts'
import { contentKey, groupPrefix, parseRecordKey, recordKey } from '../../src/storage/layout.ts'
import type {
  AgedRecord,
  Creation,
  CreationScope,
  RecordGroup,
  RecordName,
  SpoolFile,
  Store,
  StoredObject,
  WriteStep,
} from '../../src/storage/store.ts'
import { hasByReading, readOneByOne, writeOneByOne } from '../../src/storage/write-steps.ts'
import type { Scheduler } from './scheduler.ts'

const PIECE_BYTES = 50_000
/** Longest time that a deletion of content takes. */
const DELETION_MS_MAX = 4 * 60_000
/** Longest time that a deletion takes where it may stall: other processes would take this one for dead. */
const STALL_MS_MAX = 15 * 60_000

/** Each kind of fault happens once in this many times on average; 0 is never. */
export interface DiskFaults {
  readonly createSpool: number
  readonly append: number
  readonly readSpool: number
  readonly clear: number
  readonly adopt: number
  readonly open: number
  readonly readObject: number
  readonly quarantine: number
  readonly record: number
  /** The bounds of the cache leave no room for a blob. */
  readonly room: number
  /** A stored object turns out to have rotted when it is opened. */
  readonly rot: number
}

export const HEALTHY: DiskFaults = {
  createSpool: 0,
  append: 0,
  readSpool: 0,
  clear: 0,
  adopt: 0,
  open: 0,
  readObject: 0,
  quarantine: 0,
  record: 0,
  room: 0,
  rot: 0,
}

interface Content {
  readonly bytes: Buffer
  readonly version: string
}

/** A disk that several processes use one after the other. Its contents outlive them. */
export class SimulatedDisk {
  readonly contents = new Map<string, Content>()
  readonly records = new Map<string, Uint8Array>()
  /** When each record was last written, by the clock of the disk. */
  readonly writtenAtMs = new Map<string, number>()
  /** By {@link leftoverKey}. */
  readonly leftovers = new Map<string, Buffer>()
  readonly scheduler: Scheduler
  faults: DiskFaults = HEALTHY
  /** Key of a record that cannot be read. */
  unreadable: string | undefined
  /** True if a write of a record may be long under way. */
  writesAreLate = false
  /** True if a deletion may take longer than other processes wait for it. */
  deletionsStall = false
  /** Violated invariants, in words. */
  readonly violations: string[] = []
  /** Number of objects that rotted. If there are any, bytes at rest may be wrong. */
  rotted = 0
  versions = 0
  readonly openSpools = new Set<SimulatedSpool>()
  readonly openObjects = new Set<object>()

  constructor(scheduler: Scheduler) {
    this.scheduler = scheduler
  }

  /** A process dies: its spools are left for the next process, and its open objects are closed. */
  kill(process: number): void {
    for (const spool of this.openSpools) {
      if (spool.process !== process) continue
      if (spool.sizeBytes > 0 && !spool.isAdopted) this.leftovers.set(spool.leftoverKey, spool.bytes)
      this.openSpools.delete(spool)
    }
    this.openObjects.clear()
  }

  nowMs(): number {
    return this.scheduler.clockOf(0).monotonicMs()
  }

  setRecord(key: string, bytes: Uint8Array): void {
    this.records.set(key, bytes)
    this.writtenAtMs.set(key, this.nowMs())
  }

  fails(what: keyof DiskFaults): boolean {
    return this.scheduler.dice.onceIn(this.faults[what])
  }
}

/** Key of a leftover: each claimant has its own. */
export function leftoverKey(digest: Digest, claimant = ''): string {
  return `${digest} ${claimant}`
}

function failure(code: string): Error {
  return Object.assign(new Error(`${code}: simulated`), { code })
}

/** The disk as seen by one process. */
export class SimulatedStore implements Store {
  readonly #disk: SimulatedDisk
  readonly #process: number

  constructor(disk: SimulatedDisk, process: number) {
    this.#disk = disk
    this.#process = process
  }

  async #turn(): Promise<void> {
    await this.#disk.scheduler.step(this.#process)
  }

  async open(digest: Digest): Promise<StoredObject | undefined> {
    await this.#turn()
    const disk = this.#disk
    if (disk.fails('open')) throw failure(disk.scheduler.dice.pick(['EIO', 'EMFILE']))
    const key = contentKey(digest)
    const stored = disk.contents.get(key)
    // An answer may be out of date when it arrives.
    const { dice } = disk.scheduler
    for (let wait = dice.onceIn(4) ? dice.below(40) : 1; wait > 0; wait -= 1) await this.#turn()
    if (stored === undefined) return undefined
    // An object that has just been written does not rot before its fill has ended.
    const isBeingStored = [...disk.openSpools].some(spool => spool.digest === digest)
    if (stored.bytes.length > 0 && !isBeingStored && disk.fails('rot')) this.#rot(key, stored)
    const content =
      stored.bytes === disk.contents.get(key)?.bytes ? stored : (disk.contents.get(key) ?? stored)
    const handle: StoredObject = {
      sizeBytes: content.bytes.length,
      version: content.version,
      read: (start, end) => this.#read(handle, content.bytes, { start, end }),
      [Symbol.asyncDispose]: async () => {
        await this.#turn()
        disk.openObjects.delete(handle)
      },
    }
    disk.openObjects.add(handle)
    return handle
  }

  #rot(key: string, { bytes }: Content): void {
    const disk = this.#disk
    disk.rotted += 1
    disk.versions += 1
    const rotten = Buffer.from(bytes)
    const { dice } = disk.scheduler
    const at = dice.below(dice.onceIn(2) ? Math.min(1000, rotten.length) : rotten.length)
    rotten[at] = (rotten[at] ?? 0) ^ 1
    const shorter = dice.onceIn(4) ? rotten.subarray(0, at) : rotten
    disk.contents.set(key, { bytes: shorter, version: `rot-${disk.versions}` })
  }

  async *#read(
    handle: object,
    bytes: Buffer,
    { start, end }: { readonly start: number; readonly end: number },
  ): AsyncGenerator<Uint8Array> {
    const disk = this.#disk
    if (!(start >= 0 && start <= end && end <= bytes.length)) throw new RangeError(`${start} to ${end}`)
    for (let position = start; position < end; position += PIECE_BYTES) {
      await this.#turn()
      if (!disk.openObjects.has(handle)) disk.violations.push('a closed object was read')
      if (disk.fails('readObject')) throw failure('EIO')
      yield Uint8Array.from(bytes.subarray(position, Math.min(position + PIECE_BYTES, end)))
    }
  }

  async createSpool(digest: Digest, claimant?: string): Promise<SpoolFile> {
    await this.#turn()
    const disk = this.#disk
    if (disk.fails('createSpool')) throw failure(disk.scheduler.dice.pick(['ENOSPC', 'EMFILE', 'EROFS']))
    const key = leftoverKey(digest, claimant)
    const bytes = disk.leftovers.get(key) ?? Buffer.alloc(0)
    disk.leftovers.delete(key)
    const spool = new SimulatedSpool(disk, this.#process, { digest, leftoverKey: key, bytes })
    disk.openSpools.add(spool)
    return spool
  }

  async adopt(spool: SpoolFile, digest: Digest, sizeBytes: number): Promise<void> {
    await this.#turn()
    const disk = this.#disk
    if (!(spool instanceof SimulatedSpool)) throw new TypeError('no spool of this store')
    if (spool.sizeBytes !== sizeBytes) throw new Error('the spool has another size')
    if (disk.fails('adopt')) throw failure(disk.scheduler.dice.pick(['EIO', 'ENOSPC', 'EROFS']))
    disk.versions += 1
    disk.contents.set(contentKey(digest), { bytes: spool.bytes, version: `v-${disk.versions}` })
    spool.isAdopted = true
    // The object is visible, but the caller does not know yet: the most dangerous moment for a crash.
    await this.#turn()
  }

  async delete(digest: Digest): Promise<boolean> {
    // A request may be under way for minutes, but not for as long as a removal may take.
    const { dice } = this.#disk.scheduler
    const mostMs = this.#disk.deletionsStall ? STALL_MS_MAX : DELETION_MS_MAX
    const lateMs = dice.onceIn(4) ? dice.below(mostMs) : 0
    await this.#disk.scheduler.clockOf(this.#process).delay(lateMs)
    return this.#disk.contents.delete(contentKey(digest))
  }

  async quarantine(digest: Digest): Promise<void> {
    await this.#turn()
    if (this.#disk.fails('quarantine')) throw failure('EROFS')
    this.#disk.contents.delete(contentKey(digest))
  }

  async readRecord(name: RecordName): Promise<Uint8Array | undefined> {
    await this.#turn()
    if (this.#disk.fails('record') || recordKey(name) === this.#disk.unreadable) throw failure('EIO')
    const record = this.#disk.records.get(recordKey(name))
    // An answer may be out of date when it arrives.
    const { dice } = this.#disk.scheduler
    for (let wait = dice.onceIn(4) ? dice.below(40) : 0; wait > 0; wait -= 1) await this.#turn()
    return record
  }

  async readRecords(names: readonly RecordName[]): Promise<readonly (Uint8Array | undefined)[]> {
    return await readOneByOne(this, names)
  }

  async hasRecords(names: readonly RecordName[]): Promise<readonly boolean[]> {
    return await hasByReading(this, names)
  }

  async writeRecord(name: RecordName, bytes: Uint8Array): Promise<void> {
    const { dice } = this.#disk.scheduler
    const isLate = this.#disk.writesAreLate && dice.onceIn(4)
    for (let wait = isLate ? dice.below(40) : 1; wait > 0; wait -= 1) await this.#turn()
    if (this.#disk.fails('record')) throw failure('ENOSPC')
    this.#disk.setRecord(recordKey(name), bytes)
  }

  async createRecord(name: RecordName, bytes: Uint8Array): Promise<Creation> {
    await this.#turn()
    if (this.#disk.fails('record')) throw failure('ENOSPC')
    const found = this.#disk.records.get(recordKey(name))
    if (found === undefined) this.#disk.setRecord(recordKey(name), bytes)
    // The record is there, but the caller does not know yet.
    await this.#turn()
    return found === undefined ? { kind: 'created' } : { kind: 'exists', bytes: found }
  }

  async creationScope(): Promise<CreationScope> {
    return await Promise.resolve({ kind: 'store' })
  }

  async readAgedRecord(name: RecordName): Promise<AgedRecord | undefined> {
    await this.#turn()
    const disk = this.#disk
    if (disk.fails('record')) throw failure('EIO')
    const bytes = disk.records.get(recordKey(name))
    const ageMs = disk.nowMs() - (disk.writtenAtMs.get(recordKey(name)) ?? 0)
    // An answer may be out of date when it arrives.
    for (let wait = disk.scheduler.dice.onceIn(4) ? disk.scheduler.dice.below(40) : 0; wait > 0; wait -= 1)
      await this.#turn()
    return bytes === undefined ? undefined : { bytes, ageMs }
  }

  async writeSteps(steps: readonly WriteStep[]): Promise<void> {
    await writeOneByOne(this, steps, 'durable')
  }

  async deleteRecord(name: RecordName): Promise<boolean> {
    const { scheduler, deletionsStall, records } = this.#disk
    if (deletionsStall && scheduler.dice.onceIn(8))
      await scheduler.clockOf(this.#process).delay(scheduler.dice.below(STALL_MS_MAX))
    else await this.#turn()
    return records.delete(recordKey(name))
  }

  async createUpload(): Promise<never> {
    await this.#turn()
    throw new Error('nobody uploads to the simulated disk')
  }

  async openUpload(): Promise<undefined> {
    await this.#turn()
  }

  async *listRecordsOf(group: RecordGroup): AsyncGenerator<RecordName> {
    await this.#turn()
    if (this.#disk.fails('record')) throw failure('EIO')
    const prefix = groupPrefix(group)
    const keys = [...this.#disk.records.keys()].filter(key => key.startsWith(prefix)).toSorted()
    // An answer may be out of date when it arrives.
    const { dice } = this.#disk.scheduler
    for (let wait = dice.onceIn(4) ? dice.below(40) : 0; wait > 0; wait -= 1) await this.#turn()
    for (const key of keys) {
      const name = parseRecordKey(key)
      if (name !== undefined) yield name
    }
  }

  list(): never {
    throw new Error('nobody lists the simulated disk')
  }

  listRecords(): never {
    throw new Error('nobody lists the simulated disk')
  }

  /** Whether the bounds of the cache leave room for another blob. */
  async makeRoom(): Promise<boolean> {
    await this.#turn()
    return !this.#disk.fails('room')
  }

  async measureRoom(): Promise<undefined> {
    await this.#turn()
  }

  async probe(): Promise<void> {
    await this.#turn()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve()
  }
}

/** A spool on the simulated disk. */
export class SimulatedSpool implements SpoolFile {
  readonly digest: Digest
  readonly leftoverKey: string
  readonly process: number
  bytes: Buffer
  isAdopted = false
  readonly #disk: SimulatedDisk
  #isKept = false

  constructor(
    disk: SimulatedDisk,
    process: number,
    parts: { readonly digest: Digest; readonly leftoverKey: string; readonly bytes: Buffer },
  ) {
    this.#disk = disk
    this.process = process
    this.digest = parts.digest
    this.leftoverKey = parts.leftoverKey
    this.bytes = parts.bytes
  }

  get sizeBytes(): number {
    return this.bytes.length
  }

  async append(...pieces: readonly Uint8Array[]): Promise<void> {
    await this.#turn('append')
    if (this.isAdopted) this.#disk.violations.push('an adopted spool was appended to')
    if (this.#disk.fails('append')) throw failure(this.#disk.scheduler.dice.pick(['ENOSPC', 'EIO']))
    this.bytes = Buffer.concat([this.bytes, ...pieces])
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    await this.#turn('read')
    if (this.#disk.fails('readSpool')) throw failure('EIO')
    return this.bytes.copy(buffer, 0, position)
  }

  async clear(): Promise<void> {
    await this.#turn('cleared')
    if (this.#disk.fails('clear')) throw failure('EIO')
    this.bytes = Buffer.alloc(0)
  }

  keep(): void {
    this.#isKept = true
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#turn('closed')
    this.#disk.openSpools.delete(this)
    if (this.#isKept && !this.isAdopted && this.bytes.length > 0)
      this.#disk.leftovers.set(this.leftoverKey, this.bytes)
  }

  async #turn(what: string): Promise<void> {
    if (!this.#disk.openSpools.has(this)) this.#disk.violations.push(`a closed spool was ${what}`)
    await this.#disk.scheduler.step(this.process)
  }
}
