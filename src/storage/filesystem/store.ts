import { rename, unlink } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { type Clock, systemClock } from '../../lib/clock.ts'
import { BufferPool } from '../../lib/reader-buffers.ts'
import { RememberedSuccess } from '../../lib/remembered-success.ts'
import { hasCode } from '../../lib/system-error.ts'
import type { Events } from '../../observe/events.ts'
import type { Digest } from '../../oci/digest.ts'
import type { UploadId } from '../../oci/upload-id.ts'
import { contentKey, digestFileName, recordKey, requireRecordSize } from '../layout.ts'
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
} from '../store.ts'
import { hasByReading, readOneByOne, writeOneByOne } from '../write-steps.ts'
import { RecordCreation } from './create-file.ts'
import { DirectorySyncs, DurableDirectories, makeDirectory, removeEmpty } from './directories.ts'
import { openFileObject } from './object.ts'
import { passingDirectory } from './passing-directory.ts'
import { Quarantine } from './quarantine.ts'
import { readRecordFile } from './record-file.ts'
import { createEmptyFile, isRegular } from './regular-file.ts'
import { keepsOrder, measureRoom } from './room.ts'
import { SpoolDirectory } from './spool-directory.ts'
import { DiskSpool } from './spool-file.ts'
import { ObstacleError, StepWriter } from './step-writer.ts'
import { listContent, listRecords, listRecordsOf } from './walk.ts'
import { prepareRoot, requireWritable } from './writable.ts'

/** Time for which a successful probe is reused. */
const PROBE_FRESH_MS = 1_000

export interface FilesystemStoreOptions {
  /** The root directory; created if it is missing. */
  readonly root: string
  readonly events: Pick<Events, 'storageFailed' | 'swept'>
  readonly clock?: Pick<Clock, 'monotonicMs'>
  /** Buffers for reads; the daemon shares one pool among all readers. */
  readonly buffers?: BufferPool
  /** Accept a root that this user may not write to. Nothing is cached then. */
  readonly mayBeUnwritable?: boolean
}

/**
 * Opens the store below a root and sweeps the files that dead processes left there. Rejects with a
 * `StoreUnusableError` if this user may not write there, unless that is allowed: hits are then served, and
 * every write tries again.
 */
export async function openFilesystemStore(options: FilesystemStoreOptions): Promise<FilesystemStore> {
  const { events, clock = systemClock, buffers = new BufferPool(), mayBeUnwritable = false } = options
  const root = resolve(options.root)
  await prepareRoot(root, mayBeUnwritable)
  await using undo = new AsyncDisposableStack()
  const spools = undo.use(await SpoolDirectory.open({ path: join(root, 'spool'), events, clock }))
  const isOrdered = await keepsOrder(root)
  const store = new FilesystemStore({ root, events, clock, buffers, spools, isOrdered })
  if (!mayBeUnwritable)
    await requireWritable({ path: root, flag: '--root' }, async () => await spools.probe())
  undo.move()
  return store
}

interface FilesystemStoreParts extends Required<Omit<FilesystemStoreOptions, 'mayBeUnwritable'>> {
  readonly spools: SpoolDirectory
  /** True if a synced change carries all changes before it. */
  readonly isOrdered: boolean
}

/** A store in a directory, which several processes may share. Created by {@link openFilesystemStore}. */
export class FilesystemStore implements Store {
  readonly #root: string
  readonly #events: Pick<Events, 'storageFailed'>
  readonly #buffers: BufferPool
  readonly #spools: SpoolDirectory
  readonly #directories: DurableDirectories
  readonly #syncs = new DirectorySyncs()
  readonly #writer: StepWriter
  readonly #quarantine: Quarantine
  readonly #probe: RememberedSuccess
  readonly #isOrdered: boolean
  readonly #creation: RecordCreation

  constructor({ root, events, clock, buffers, spools, isOrdered }: FilesystemStoreParts) {
    this.#root = root
    this.#isOrdered = isOrdered
    this.#events = events
    this.#buffers = buffers
    this.#spools = spools
    this.#directories = new DurableDirectories(root)
    this.#writer = new StepWriter({ root, isOrdered, scratch: async () => await spools.scratch() })
    this.#creation = new RecordCreation({
      root,
      spools,
      directories: this.#directories,
      syncs: this.#syncs,
      replace: async (path, target) => await this.#replace(path, target, 'durable'),
    })
    this.#quarantine = new Quarantine(join(root, 'quarantine'), events)
    this.#probe = new RememberedSuccess({
      clock,
      freshMs: PROBE_FRESH_MS,
      check: async () => await spools.probe(),
    })
  }

  async open(digest: Digest): Promise<StoredObject | undefined> {
    return await openFileObject(this.#contentPath(digest), this.#buffers)
  }

  async createSpool(digest: Digest, claimant?: string): Promise<SpoolFile> {
    return this.#spools.create(digest, claimant)
  }

  async createUpload(id: UploadId): Promise<UploadSpool> {
    return await this.#spools.createUpload(id)
  }

  async openUpload(id: UploadId, syncedBytes: number): Promise<UploadSpool | undefined> {
    return await this.#spools.openUpload(id, syncedBytes)
  }

  async adopt(spool: SpoolFile, digest: Digest, sizeBytes: number): Promise<void> {
    const target = this.#contentPath(digest)
    if (!(spool instanceof DiskSpool)) throw new TypeError('a spool of another store cannot be adopted')
    let failure: { readonly error: unknown } | undefined
    await spool.surrender(sizeBytes, 'durable', async path => {
      const isReplacing = await isRegular(target)
      await this.#replace(path, target, 'durable')
      try {
        await this.#syncs.sync(dirname(target))
      } catch (error) {
        // What was there before is other clients' too: the same bytes stay, and the spool is spent.
        failure = { error }
        if (isReplacing) return
        await this.#takeBack(target, path)
        throw error
      }
    })
    if (failure !== undefined) throw failure.error
  }

  async delete(digest: Digest): Promise<boolean> {
    return this.#remove(this.#contentPath(digest), digestFileName(digest))
  }

  async isAlone(): Promise<boolean> {
    return await this.#spools.isAlone()
  }

  async quarantine(digest: Digest): Promise<void> {
    await this.#quarantine.take(this.#contentPath(digest), digestFileName(digest))
  }

  async readRecord(name: RecordName): Promise<Uint8Array | undefined> {
    return await readRecordFile(this.#root, name)
  }

  async readRecords(names: readonly RecordName[]): Promise<readonly (Uint8Array | undefined)[]> {
    try {
      return await this.#writer.read(names)
    } catch {
      // Read one by one, the record that cannot be read says why.
      return await readOneByOne(this, names)
    }
  }

  async hasRecords(names: readonly RecordName[]): Promise<readonly boolean[]> {
    return await hasByReading(this, names)
  }

  async writeRecord(name: RecordName, bytes: Uint8Array, wanted: Durability): Promise<void> {
    const durability = wanted === 'ordered' ? (this.#isOrdered ? 'relaxed' : 'durable') : wanted
    requireRecordSize(bytes)
    const target = this.#recordPath(name)
    const isDurable = durability === 'durable'
    if (bytes.length === 0 && !isDurable && (await this.#createEmpty(target))) return
    await this.#spools.withTemporary(bytes, { isDurable }, async path => {
      await this.#replace(path, target, durability)
      if (isDurable) await this.#syncs.sync(dirname(target))
    })
  }

  async writeSteps(steps: readonly WriteStep[], durability: 'durable' | 'ordered'): Promise<void> {
    try {
      await this.#writer.write(steps, durability)
    } catch (error) {
      if (!(error instanceof ObstacleError)) throw error
      await writeOneByOne(this, steps, durability)
    }
  }

  /**
   * Makes an empty file where a record is to be: it has nothing that could be half written. Returns false if
   * the file cannot be made in this way.
   */
  async #createEmpty(path: string): Promise<boolean> {
    try {
      await createEmptyFile(path)
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) return false
      await makeDirectory(dirname(path))
      return await createEmptyFile(path).then(
        () => true,
        () => false,
      )
    }
    return true
  }

  async createRecord(name: RecordName, bytes: Uint8Array): Promise<Creation> {
    return await this.#creation.create(name, bytes)
  }

  async creationScope(): Promise<CreationScope> {
    return await this.#creation.scope()
  }

  async readAgedRecord(name: RecordName): Promise<AgedRecord | undefined> {
    return await this.#creation.readAged(name)
  }

  async deleteRecord(name: RecordName): Promise<boolean> {
    const path = this.#recordPath(name)
    const wasThere = await this.#remove(path, 'record')
    const passing = passingDirectory(name)
    if (passing !== undefined) await removeEmpty(dirname(path), dirname(join(this.#root, passing)))
    return wasThere
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

  async probe(): Promise<void> {
    await this.#probe.run()
  }

  /** Renames over whatever is there, and creates missing directories. */
  async #replace(from: string, to: string, durability: Durability): Promise<void> {
    const directory = dirname(to)
    if (durability === 'durable') await this.#directories.ensure(directory)
    try {
      await rename(from, to)
    } catch (error) {
      if (hasCode(error, 'ENOENT')) await this.#makeAgain(directory, durability)
      else if (hasCode(error, 'EISDIR', 'ENOTEMPTY', 'EEXIST')) await this.#quarantine.take(to, 'obstacle')
      else throw error
      await rename(from, to)
    }
  }

  /** A known directory is gone if an operator has emptied the root by hand. */
  async #makeAgain(directory: string, durability: Durability): Promise<void> {
    if (durability === 'relaxed') {
      await makeDirectory(directory)
      return
    }
    this.#directories.forget()
    await this.#directories.ensure(directory)
  }

  /** Undoes a rename that could not be made durable, so that nothing is visible after a failure. */
  async #takeBack(from: string, to: string): Promise<void> {
    try {
      await rename(from, to).catch(() => unlink(from))
    } catch (error) {
      this.#events.storageFailed('adopt', error)
    }
  }

  async #remove(path: string, label: string): Promise<boolean> {
    try {
      await unlink(path)
      return true
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false
      // For a directory, unlink(2) fails with EISDIR on Linux and with EPERM elsewhere. What is not a file
      // can be removed too.
      if (!hasCode(error, 'EISDIR', 'EPERM')) throw error
      return this.#quarantine.take(path, label)
    }
  }

  #contentPath(digest: Digest): string {
    return join(this.#root, contentKey(digest))
  }

  #recordPath(name: RecordName): string {
    return join(this.#root, recordKey(name))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer[Symbol.asyncDispose]()
    await this.#spools[Symbol.asyncDispose]()
  }
}
