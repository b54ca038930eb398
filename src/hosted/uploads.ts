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
/** The record of an upload that is moved on by small parts is at most this old. */
const SAVED_EVERY_MS = 3_600_000
/** Most uploads that this process remembers; others are read from the store again. */
const REMEMBERED_MAX = 4096
/** Most uploads that one client may have begun and not ended. */
const PER_OWNER_MAX = 1000
/** Clients without an identity are told apart by their addresses. */
const ANONYMOUS = 'anonymous'
const TRY_AGAIN_MS = 60_000
/** A body of unknown size is asked about again after this many bytes. */
const ASKED_EVERY_BYTES = 8 * 1024 * 1024

export interface UploadsParts {
  readonly store: Store
  readonly clock: Pick<Clock, 'wallMs'>
  readonly events: Pick<Events, 'storageFailed' | 'recordDamaged'>
  /** Asks if an upload may come to have so many bytes, and has them received. Throws if it may not. */
  readonly receive: <T>(asked: Asked, expected: ExpectedBytes, action: () => Promise<T>) => Promise<T>
}

/** What is known of an upload before its bytes come. */
interface ExpectedBytes {
  readonly sizeBytes: number
  readonly digest?: Digest | undefined
}

/** An upload that this process has to do with. */
interface Session {
  readonly upload: UploadBytes
  /** The identity that began it, or the address of a client without one. */
  readonly owner: string
  touchedAtMs: number
  /** What its record says of that. */
  savedAtMs: number
  isEnded: boolean
  /** The request that has it now. A later request of the client takes it over. */
  current: { readonly leave: AbortController; readonly over: Promise<void> } | undefined
}

/** A part that a session is taking. */
interface Taking {
  readonly session: Session
  readonly part: UploadPart
  readonly signal: AbortSignal
  readonly digest?: Digest
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
    { namespace, repository, actor, client }: Asked,
    algorithm: DigestAlgorithm = 'sha256',
  ): Promise<UploadState> {
    const owner = actor === ANONYMOUS ? `${actor} at ${client}` : actor
    const ownCount = [...this.#sessions.values()].filter(session => session.owner === owner).length
    if (ownCount >= PER_OWNER_MAX) {
      const message = `${owner} has begun ${ownCount} uploads that have not ended: finish or cancel some first`
      throw new OciError('RATE_LIMITED', message, { retryAfterMs: TRY_AGAIN_MS })
    }
    const { store, clock } = this.#parts
    const id = newUploadId()
    const place = { namespace, repository }
    const upload = new UploadBytes({ id, place, store, algorithm, syncedBytes: 0, isNew: true })
    const session: Session = {
      upload,
      owner,
      touchedAtMs: clock.wallMs(),
      savedAtMs: 0,
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
    return await this.#with(session, async signal => await this.#take(asked, { session, part, signal }))
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
      const outcome = await this.#take(asked, { session, part, signal, digest })
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

  async #take(asked: Asked, { session, part, signal, digest }: Taking): Promise<PartOutcome> {
    const { upload } = session
    const before = upload.receivedBytes
    if (part.start !== undefined && part.start !== before)
      return { kind: 'out-of-order', id: upload.id, receivedBytes: before }
    const receive = async (): Promise<void> => await upload.append(this.#watched(asked, before, part), signal)
    try {
      if (part.sizeBytes === 0) await receive()
      else await this.#parts.receive(asked, { sizeBytes: before + (part.sizeBytes ?? 0), digest }, receive)
    } finally {
      session.touchedAtMs = this.#parts.clock.wallMs()
    }
    if (upload.receivedBytes > before && (await upload.sync())) await this.#save(session, 'durable')
    // Another process, or this one after a restart, reads when it was last moved on.
    else if (session.touchedAtMs - session.savedAtMs > SAVED_EVERY_MS) await this.#save(session, 'relaxed')
    return { kind: 'taken', id: upload.id, receivedBytes: upload.receivedBytes }
  }

  /** A part whose size is not known is asked about while it comes. */
  #watched(asked: Asked, before: number, part: UploadPart): UploadPart {
    if (part.sizeBytes !== undefined) return part
    const ask = async (sizeBytes: number): Promise<void> =>
      await this.#parts.receive(asked, { sizeBytes }, async () => await Promise.resolve())
    async function* pieces(): AsyncGenerator<Uint8Array> {
      let [sizeBytes, askedBytes] = [before, before]
      for await (const piece of part.pieces) {
        sizeBytes += piece.byteLength
        if (sizeBytes >= askedBytes + ASKED_EVERY_BYTES) {
          await ask(sizeBytes)
          askedBytes = sizeBytes
        }
        yield piece
      }
    }
    return { ...part, pieces: { [Symbol.asyncIterator]: pieces } }
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
    const session: Session = {
      upload,
      owner: '',
      touchedAtMs,
      savedAtMs: touchedAtMs,
      isEnded: false,
      current: undefined,
    }
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

  async #save(session: Session, durability: 'durable' | 'relaxed'): Promise<void> {
    const { upload, touchedAtMs } = session
    session.savedAtMs = touchedAtMs
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
