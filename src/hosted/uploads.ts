import type { Asked } from '../content/answering.ts'
import type { PartOutcome, UploadPart, UploadState } from '../content/hosting.ts'
import { DamagedRecordError } from '../content/sealed-record.ts'
import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import type { Digest, DigestAlgorithm } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Place } from '../oci/place.ts'
import { newUploadId, type UploadId } from '../oci/upload-id.ts'
import type { Store } from '../storage/store.ts'
import { readUploadRecord, type UploadRecord, writeUploadRecord } from './records.ts'
import { UploadBytes } from './upload-bytes.ts'

/** An upload that nothing has moved on for this long is ended. */
const IDLE_MS = 24 * 3_600_000
const SWEEP_EVERY_MS = 15 * 60_000
/** Most uploads that this process remembers; others are read from the store again. */
const REMEMBERED_MAX = 4096
/** Most uploads that one client may have begun and not ended. */
const PER_ACTOR_MAX = 1000

export interface UploadsParts {
  readonly store: Store
  readonly clock: Pick<Clock, 'wallMs'>
  readonly events: Pick<Events, 'storageFailed' | 'recordDamaged'>
}

/** An upload that this process has to do with. */
interface Session {
  readonly upload: UploadBytes
  readonly actor: string
  touchedAtMs: number
  isEnded: boolean
  /** The request that has it now. A later request of the client takes it over. */
  current: { readonly leave: AbortController; readonly over: Promise<void> } | undefined
}

/**
 * Uploads that have begun and not ended: in the memory of this process, and as records in the store, so that
 * they go on after a restart. One request at a time has an upload: a client that comes back after its
 * connection broke takes it over from the request that is still waiting for bytes.
 */
export class Uploads implements AsyncDisposable {
  readonly #parts: UploadsParts
  readonly #sessions = new Map<UploadId, Session>()
  readonly #timer: NodeJS.Timeout
  #sweeping: Promise<void> | undefined

  constructor(parts: UploadsParts) {
    this.#parts = parts
    this.#timer = setInterval(() => void this.sweep(), SWEEP_EVERY_MS).unref()
  }

  /** Begins an upload. The client may say by which algorithm it will name the blob. */
  async begin(
    { namespace, repository, actor }: Asked,
    algorithm: DigestAlgorithm = 'sha256',
  ): Promise<UploadState> {
    const ownCount = [...this.#sessions.values()].filter(session => session.actor === actor).length
    if (ownCount >= PER_ACTOR_MAX) {
      throw new OciError('TOOMANYREQUESTS', `${actor} has begun ${ownCount} uploads that have not ended`)
    }
    const { store, clock } = this.#parts
    const id = newUploadId()
    const place = { namespace, repository }
    const upload = new UploadBytes({ id, place, store, algorithm, syncedBytes: 0, isNew: true })
    const session: Session = {
      upload,
      actor,
      touchedAtMs: clock.wallMs(),
      isEnded: false,
      current: undefined,
    }
    await this.#save(session, 'relaxed')
    this.#remember(session)
    return { id, receivedBytes: 0 }
  }

  /** How far an upload has come; BLOB_UPLOAD_UNKNOWN if the repository has no such upload. */
  async state(asked: Asked, id: UploadId): Promise<UploadState> {
    const session = await this.#find(asked, id)
    if (session.current === undefined) await this.#with(session, async () => await Promise.resolve())
    return { id, receivedBytes: session.upload.receivedBytes }
  }

  /** Appends a part, unless it says that it begins elsewhere. */
  async append(asked: Asked, id: UploadId, part: UploadPart): Promise<PartOutcome> {
    const session = await this.#find(asked, id)
    return await this.#with(session, async signal => await this.#take(session, part, signal))
  }

  /**
   * Appends the last part and has `make` make something of the bytes, which are proved to hash to the digest.
   * Ends the upload then. Returns the state if the part is out of order. Wrong bytes end the upload too:
   * nothing could make them right.
   */
  async finish(
    asked: Asked,
    { id, digest }: { readonly id: UploadId; readonly digest: Digest },
    { part, make }: { readonly part: UploadPart; readonly make: (upload: UploadBytes) => Promise<void> },
  ): Promise<PartOutcome | undefined> {
    const session = await this.#find(asked, id)
    return await this.#with(session, async signal => {
      const { upload } = session
      const outcome = await this.#take(session, part, signal)
      if (outcome.kind === 'out-of-order') return outcome
      const [algorithm] = digest.split(':') as [DigestAlgorithm]
      const actual = await upload.digest(algorithm)
      if (actual !== digest) {
        await this.#end(session)
        throw new OciError(
          'DIGEST_INVALID',
          `the ${upload.receivedBytes} bytes received have the digest ${actual}`,
        )
      }
      await make(upload)
      await this.#end(session)
      return undefined
    })
  }

  /** Ends an upload and removes its bytes at once. */
  async cancel(asked: Asked, id: UploadId): Promise<void> {
    const session = await this.#find(asked, id)
    session.current?.leave.abort(new OciError('BLOB_UPLOAD_UNKNOWN', 'the upload was cancelled'))
    await session.current?.over
    await this.#end(session)
  }

  /** Ends uploads that nothing has moved on for a day. Reports failures as events. */
  async sweep(): Promise<number> {
    let ended = 0
    const sweeping = this.#sweepNow(() => (ended += 1)).catch((error: unknown) =>
      this.#parts.events.storageFailed('sweep-uploads', error),
    )
    this.#sweeping = sweeping
    await sweeping
    return ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    await this.#sweeping
    for (const { current, upload } of this.#sessions.values()) {
      current?.leave.abort(new OciError('UNAVAILABLE', 'the mirror is shutting down'))
      await current?.over
      await upload.close()
    }
  }

  async #take(session: Session, part: UploadPart, signal: AbortSignal): Promise<PartOutcome> {
    const { upload } = session
    const state = { id: upload.id, receivedBytes: upload.receivedBytes }
    if (part.start !== undefined && part.start !== upload.receivedBytes)
      return { kind: 'out-of-order', ...state }
    const before = upload.receivedBytes
    await upload.append(part, signal)
    session.touchedAtMs = this.#parts.clock.wallMs()
    if (upload.receivedBytes > before && (await upload.sync())) await this.#save(session, 'durable')
    return { kind: 'taken', id: upload.id, receivedBytes: upload.receivedBytes }
  }

  /** Has the upload for one request: opens it before, and closes its file afterwards. */
  async #with<T>(session: Session, action: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { promise: over, resolve } = Promise.withResolvers<void>()
    const before = session.current
    const current = { leave: new AbortController(), over }
    session.current = current
    before?.leave.abort(new OciError('BLOB_UPLOAD_INVALID', 'another request goes on with this upload'))
    try {
      await before?.over
      if (session.isEnded) throw unknownUpload()
      await session.upload.open()
      return await action(current.leave.signal)
    } finally {
      await session.upload.close()
      if (session.current === current) session.current = undefined
      resolve()
    }
  }

  async #find(place: Asked, id: UploadId): Promise<Session> {
    const session = this.#sessions.get(id) ?? (await this.#load(id))
    if (session !== undefined && isSame(session.upload.place, place)) return session
    throw unknownUpload()
  }

  /** An upload that an earlier process began. */
  async #load(id: UploadId): Promise<Session | undefined> {
    const { store, clock } = this.#parts
    const record = await this.#readRecord(id)
    const known = this.#sessions.get(id)
    if (record === undefined || known !== undefined) return known
    const { place, algorithm, syncedBytes, touchedAtMs } = record
    if (clock.wallMs() - touchedAtMs > IDLE_MS) return undefined
    const upload = new UploadBytes({ id, place, store, algorithm, syncedBytes, isNew: false })
    const session: Session = { upload, actor: '', touchedAtMs, isEnded: false, current: undefined }
    this.#remember(session)
    return session
  }

  async #readRecord(id: UploadId): Promise<UploadRecord | undefined> {
    const bytes = await this.#parts.store.readRecord({ kind: 'hosted-upload', id })
    if (bytes === undefined) return undefined
    try {
      return readUploadRecord(bytes)
    } catch (error) {
      if (!(error instanceof DamagedRecordError)) throw error
      this.#parts.events.recordDamaged('upload', 'lost', error)
      return undefined
    }
  }

  async #save({ upload, touchedAtMs }: Session, durability: 'durable' | 'relaxed'): Promise<void> {
    const { id, place, algorithm, syncedBytes } = upload
    const bytes = writeUploadRecord({ place, algorithm, syncedBytes, touchedAtMs })
    await this.#parts.store.writeRecord({ kind: 'hosted-upload', id }, bytes, durability)
  }

  #remember(session: Session): void {
    this.#sessions.set(session.upload.id, session)
    for (const [id, { current }] of this.#sessions) {
      if (this.#sessions.size <= REMEMBERED_MAX) return
      if (current === undefined) this.#sessions.delete(id)
    }
  }

  async #end(session: Session): Promise<void> {
    const { upload } = session
    session.isEnded = true
    this.#sessions.delete(upload.id)
    await upload.remove()
    await this.#parts.store.deleteRecord({ kind: 'hosted-upload', id: upload.id })
  }

  async #sweepNow(note: () => void): Promise<void> {
    const { store, clock } = this.#parts
    for await (const name of store.listRecordsOf({ kind: 'hosted-upload' })) {
      if (name.kind !== 'hosted-upload') continue
      const { id } = name
      const session = this.#sessions.get(id)
      const touchedAtMs = session?.touchedAtMs ?? (await this.#readRecord(id))?.touchedAtMs ?? 0
      if (session?.current !== undefined || clock.wallMs() - touchedAtMs <= IDLE_MS) continue
      this.#sessions.delete(id)
      await (await store.openUpload(id, 0))?.remove()
      await store.deleteRecord(name)
      note()
    }
  }
}

function unknownUpload(): OciError {
  return new OciError('BLOB_UPLOAD_UNKNOWN', 'this repository has no such upload')
}

function isSame(one: Place, other: Place): boolean {
  return one.namespace === other.namespace && one.repository === other.repository
}
