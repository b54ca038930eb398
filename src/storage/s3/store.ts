import { randomInt } from 'node:crypto'
import { DeleteObjectCommand } from '@aws-sdk/client-s3'
import { type Clock, systemClock } from '../../lib/clock.ts'
import { RememberedSuccess } from '../../lib/remembered-success.ts'
import { Turns } from '../../lib/turns.ts'
import type { Events } from '../../observe/events.ts'
import type { Digest } from '../../oci/digest.ts'
import type { UploadId } from '../../oci/upload-id.ts'
import { SpoolDirectory } from '../filesystem/spool-directory.ts'
import type { DiskSpool } from '../filesystem/spool-file.ts'
import { requireWritable } from '../filesystem/writable.ts'
import {
  contentKey,
  groupPrefix,
  parseContentKey,
  parseRecordKey,
  recordKey,
  requireRecordSize,
} from '../layout.ts'
import type {
  AgedRecord,
  Creation,
  CreationScope,
  Durability,
  Presigner,
  RecordGroup,
  RecordName,
  RemoteStore,
  SpoolFile,
  Store,
  StoredEntry,
  StoredObject,
  UploadSpool,
  WriteStep,
} from '../store.ts'
import { mapSome, readOneByOne } from '../write-steps.ts'
import { BatchDelete } from './batch-delete.ts'
import { WrongAnswerError } from './body.ts'
import { S3Buffers } from './buffers.ts'
import { describeBucket, putProbe } from './capabilities.ts'
import { type S3Address, S3Connection } from './connection.ts'
import type { S3Limits } from './limits.ts'
import { listKeys } from './list.ts'
import { headObject, openS3Object } from './object.ts'
import { createPresigner } from './presign.ts'
import { inSteps, putContent } from './put.ts'
import { type ConditionalPut, raceForKeys, scopeOf } from './race.ts'
import {
  createObject,
  createObjectAlone,
  hasSmallObject,
  readSmallObject,
  writeSmallObject,
} from './records.ts'
import { S3Spool } from './spool.ts'
import { sweepUploads } from './sweep.ts'

const SWEEP_EVERY_MS = 24 * 3_600_000
/** Spreads the sweeps of replicas that started together. */
const SWEEP_SPREAD_MS = 3_600_000

/** How long a successful probe counts for the next ones. Each is a PUT that costs money. */
const PROBE_FRESH_MS = 10_000

export interface S3StoreOptions {
  readonly address: S3Address
  /** Directory of blobs that are being fetched. Several processes may share it. */
  readonly spoolDirectory: string
  /** Redirect clients to the bucket, by this endpoint if they cannot use ours. */
  readonly redirect?: { readonly endpoint: string | undefined } | undefined
  readonly events: Pick<Events, 'storageFailed' | 'swept' | 'warned' | 'storeOpened'> &
    Partial<Pick<Events, 's3Answered'>>
  readonly clock?: Clock
  readonly limits?: Partial<S3Limits>
  /** Accept a spool directory that this user may not write to. Nothing is cached then. */
  readonly mayBeUnwritable?: boolean
}

/**
 * Opens the store in a bucket. Rejects with a `StoreUnusableError` if the bucket is missing, or cannot be
 * read and written. An S3 that does not answer is not an error: pulls pass through until it does.
 */
export async function openS3Store(options: S3StoreOptions): Promise<S3Store> {
  const { address, spoolDirectory, events, clock = systemClock, limits = {} } = options
  await using undo = new AsyncDisposableStack()
  const connection = undo.use(new S3Connection({ address, events, clock, limits }))
  await describeBucket(connection, events)
  const spools = undo.use(await SpoolDirectory.open({ path: spoolDirectory, events, clock }))
  if (options.mayBeUnwritable !== true)
    await requireWritable({ path: spoolDirectory, flag: '--spool-dir' }, async () => await spools.probe())
  const presigner =
    options.redirect === undefined ? undefined : createPresigner(connection, options.redirect.endpoint)
  return new S3Store({ connection, spools, events, presigner, owned: undo.move() })
}

interface S3StoreParts {
  readonly connection: S3Connection
  readonly spools: SpoolDirectory
  readonly events: Pick<Events, 'storageFailed' | 'swept'>
  readonly presigner: Presigner | undefined
  /** Disposed of with the store, in this order. */
  readonly owned: AsyncDisposable
}

/** A store in a bucket, which several processes may share. Made by {@link openS3Store}. */
export class S3Store implements Store {
  readonly presigner: Presigner | undefined
  readonly remote: RemoteStore
  readonly #parts: S3StoreParts
  readonly #buffers: S3Buffers
  readonly #batch: BatchDelete
  readonly #live = new Set<string>()
  readonly #background = new Set<Promise<void>>()
  readonly #closing = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #probe: RememberedSuccess
  readonly #creating = new Turns<string>()
  /** Result of the races, which are run when somebody first asks: most caches never do. */
  #conditionalPut: Promise<ConditionalPut> | undefined

  constructor(parts: S3StoreParts) {
    this.#parts = parts
    this.#batch = new BatchDelete(parts.connection)
    this.presigner = parts.presigner
    this.remote = parts.connection
    this.#buffers = new S3Buffers(parts.connection.limits)
    this.#probe = new RememberedSuccess({
      clock: parts.connection.clock,
      freshMs: PROBE_FRESH_MS,
      check: async () => await this.#probeNow(),
    })
    this.#inBackground('sweep', this.sweep())
    const everyMs = SWEEP_EVERY_MS + randomInt(SWEEP_SPREAD_MS)
    this.#timer = setInterval(() => this.#inBackground('sweep', this.sweep()), everyMs).unref()
  }

  async open(digest: Digest): Promise<StoredObject | undefined> {
    return openS3Object(this.#parts.connection, this.#contentKey(digest))
  }

  async createSpool(digest: Digest, claimant?: string): Promise<SpoolFile> {
    return this.#spool(await this.#parts.spools.create(digest, claimant), this.#contentKey(digest))
  }

  async createUpload(id: UploadId, digest?: Digest): Promise<UploadSpool> {
    const key = digest === undefined ? undefined : this.#contentKey(digest)
    return this.#spool(await this.#parts.spools.createUpload(id), key)
  }

  async openUpload(id: UploadId, syncedBytes: number): Promise<UploadSpool | undefined> {
    const disk = await this.#parts.spools.openUpload(id, syncedBytes)
    return disk === undefined ? undefined : this.#spool(disk, undefined)
  }

  #spool(disk: DiskSpool, key: string | undefined): S3Spool {
    const { connection, events } = this.#parts
    return new S3Spool({
      connection,
      events,
      disk,
      key,
      buffers: this.#buffers,
      live: this.#live,
      background: work => this.#inBackground('abort-upload', work),
    })
  }

  async adopt(spool: SpoolFile, digest: Digest, sizeBytes: number): Promise<void> {
    if (!(spool instanceof S3Spool)) throw new TypeError('a spool of another store cannot be adopted')
    await spool.adopt(sizeBytes, this.#contentKey(digest))
  }

  async delete(digest: Digest): Promise<boolean> {
    return this.#remove(this.#contentKey(digest))
  }

  async discard(digest: Digest): Promise<void> {
    await this.#batch.delete(this.#contentKey(digest))
  }

  /** Deletes the object. A bucket with versions keeps the old one. */
  async quarantine(digest: Digest): Promise<void> {
    await this.#delete(this.#contentKey(digest))
  }

  async readRecord(name: RecordName): Promise<Uint8Array | undefined> {
    return (await readSmallObject(this.#parts.connection, this.#recordKey(name)))?.bytes
  }

  async readAgedRecord(name: RecordName): Promise<AgedRecord | undefined> {
    const found = await readSmallObject(this.#parts.connection, this.#recordKey(name))
    if (Number.isNaN(found?.ageMs)) throw new WrongAnswerError('S3 does not say how old an object is')
    return found
  }

  async writeRecord(name: RecordName, bytes: Uint8Array, _durability: Durability): Promise<void> {
    requireRecordSize(bytes)
    await writeSmallObject(this.#parts.connection, this.#recordKey(name), bytes)
  }

  async createRecord(name: RecordName, bytes: Uint8Array): Promise<Creation> {
    requireRecordSize(bytes)
    const { connection } = this.#parts
    const key = this.#recordKey(name)
    if ((await this.creationScope()).kind === 'store') return await createObject(connection, key, bytes)
    return await this.#creating.take(key, async () => await createObjectAlone(connection, key, bytes))
  }

  async creationScope(): Promise<CreationScope> {
    const { connection } = this.#parts
    this.#conditionalPut ??= raceForKeys(connection)
    const asked = this.#conditionalPut
    try {
      return scopeOf(await asked, connection)
    } catch (error) {
      if (this.#conditionalPut === asked) this.#conditionalPut = undefined
      throw error
    }
  }

  async readRecords(names: readonly RecordName[]): Promise<readonly (Uint8Array | undefined)[]> {
    return await readOneByOne(this, names)
  }

  async hasRecords(names: readonly RecordName[]): Promise<readonly boolean[]> {
    const { connection } = this.#parts
    const has = async (name: RecordName): Promise<boolean> =>
      await hasSmallObject(connection, this.#recordKey(name))
    return await mapSome(names, has)
  }

  /** Each object is durable once the bucket has answered, so one step waits for the one before. */
  async writeSteps(steps: readonly WriteStep[]): Promise<void> {
    await inSteps(steps, async write => {
      if (write.kind === 'record') await this.writeRecord(write.name, write.bytes, 'durable')
      else if (write.kind === 'spool') await this.adopt(write.spool, write.digest, write.sizeBytes)
      else await putContent(this.#parts.connection, this.#contentKey(write.digest), write.bytes)
    })
  }

  async deleteRecord(name: RecordName): Promise<boolean> {
    return this.#remove(this.#recordKey(name))
  }

  async *list(): AsyncGenerator<StoredEntry> {
    for await (const { name, sizeBytes, modifiedAtMs } of listKeys(this.#parts.connection, 'blobs/')) {
      const digest = parseContentKey(name)
      if (digest !== undefined) yield { digest, sizeBytes, storedAtMs: modifiedAtMs }
    }
  }

  listRecords(): AsyncIterable<RecordName> {
    return this.#recordsBelow('repositories/')
  }

  listRecordsOf(group: RecordGroup): AsyncIterable<RecordName> {
    return this.#recordsBelow(groupPrefix(group))
  }

  async *#recordsBelow(prefix: string): AsyncGenerator<RecordName> {
    for await (const { name } of listKeys(this.#parts.connection, prefix)) {
      const record = parseRecordKey(name)
      if (record !== undefined) yield record
    }
  }

  /** A bucket has no size limit. */
  async measureRoom(): Promise<undefined> {
    await Promise.resolve()
  }

  async probe(): Promise<void> {
    await this.#probe.run()
  }

  /** Aborts uploads that dead processes have left. Reports failures as events. */
  async sweep(): Promise<void> {
    const { connection, events } = this.#parts
    const { signal } = this.#closing
    const onError = (error: unknown): void => events.storageFailed('sweep', error)
    try {
      events.swept(await sweepUploads({ connection, live: this.#live, onError, signal }))
    } catch (error) {
      if (!signal.aborted) onError(error)
    }
  }

  async #probeNow(): Promise<void> {
    await Promise.all([this.#parts.spools.probe(), putProbe(this.#parts.connection)])
  }

  /**
   * S3 does not report whether a deleted object existed, and a HEAD does not tell a missing key from a
   * missing bucket.
   */
  async #remove(key: string): Promise<boolean> {
    const { connection } = this.#parts
    const head = await headObject(connection, key)
    if (head === undefined && (await openS3Object(connection, key)) === undefined) return false
    await this.#delete(key)
    return true
  }

  async #delete(key: string): Promise<void> {
    const { connection } = this.#parts
    await connection.send('DeleteObject', connection.limits.quick, (client, options) =>
      client.send(new DeleteObjectCommand({ Bucket: connection.bucket, Key: key }), options),
    )
  }

  /** Owns work until it is done. Reports its failure as an event. */
  #inBackground(operation: string, work: Promise<void>): void {
    const owned = work
      .catch((error: unknown) => this.#parts.events.storageFailed(operation, error))
      .finally(() => this.#background.delete(owned))
    this.#background.add(owned)
  }

  #contentKey(digest: Digest): string {
    return this.#parts.connection.key(contentKey(digest))
  }

  #recordKey(name: RecordName): string {
    return this.#parts.connection.key(recordKey(name))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    this.#closing.abort(new Error('the store is closed'))
    while (this.#background.size > 0) await Promise.all(this.#background)
    await this.#parts.owned[Symbol.asyncDispose]()
  }
}
