import { type Ledger, NO_LEDGER, NoRoomError } from '../../content/ledger.ts'
import type { Proofs } from '../../content/proofs.ts'
import type { Clock } from '../../lib/clock.ts'
import { bytesIn } from '../../lib/read-ahead.ts'
import type { BufferPool } from '../../lib/reader-buffers.ts'
import type { FinishedFill } from '../../observe/event.ts'
import type { Events } from '../../observe/events.ts'
import { OciError, UpstreamError } from '../../oci/error.ts'
import type { SpoolFile, Store } from '../../storage/store.ts'
import type { Bypass } from './bypass.ts'
import { Download, type Wanted } from './download.ts'
import { type Beginning, beginDownload, claimantOf, KEPT_BYTES_MIN, leavesGoodBytes } from './leftover.ts'
import type { Opening } from './opening.ts'
import { Speed } from './speed.ts'
import { Spool } from './spool.ts'
import { type Storing, storeProved } from './storing.ts'

export interface FillParts {
  readonly store: Store
  readonly proofs: Pick<Proofs, 'holds' | 'trust'>
  readonly events: Events
  readonly clock: Clock
  readonly bypass: Bypass
  /** The readers' buffers. */
  readonly buffers: BufferPool
  readonly ledger?: Pick<Ledger, 'makeRoom'>
}

/** Callbacks of a fill, so that no request joins one that has ended. */
export interface FillOwner {
  /** Called before anything is aborted or closed, however the fill ended. */
  ended(fill: Fill): void
  /** Called when the last participant has left a fill that is still running. */
  orphaned(fill: Fill): void
}

/**
 * Fetches one blob into a spool, proves it, and has the store adopt it. It is the only consumer of the
 * upstream's stream; participants read the spool. It outlives them: it ends when the blob is stored, the
 * upstream fails for good, or {@link abandon} is called.
 */
export class Fill {
  readonly wanted: Wanted
  /** Settles as soon as the upstream's headers have arrived. Rejects with the error of the upstream. */
  readonly opening: Promise<Opening>
  /**
   * Resolves with `true` once the bytes have matched the digest, or with `false` once it is certain that they
   * will not. Never rejects.
   */
  readonly proof: Promise<boolean>
  /** Resolves once the blob is stored, or will not be. Never rejects. */
  readonly ended: Promise<void>
  /** Resolves when the fill has ended and the last participant has left. Never rejects. */
  readonly over: Promise<void>
  readonly #parts: FillParts
  readonly #owner: FillOwner
  readonly #opening = Promise.withResolvers<Opening>()
  readonly #proof = Promise.withResolvers<boolean>()
  readonly #ended = Promise.withResolvers<void>()
  readonly #abandoned = new AbortController()
  readonly #everyoneLeft = Promise.withResolvers<void>()
  readonly #startedAtMs: number
  readonly #speed: Speed
  #participants = 0
  #isRunning = true
  #spool: Spool | undefined

  constructor(parts: FillParts, wanted: Wanted, owner: FillOwner) {
    this.#parts = parts
    this.wanted = wanted
    this.#owner = owner
    this.#startedAtMs = parts.clock.monotonicMs()
    this.#speed = new Speed(parts.clock)
    this.opening = this.#opening.promise
    this.opening.catch(() => undefined)
    this.proof = this.#proof.promise
    this.ended = this.#ended.promise
    this.over = this.#run()
  }

  get participants(): number {
    return this.#participants
  }

  /** Bytes written so far, the time since the start, and the speed now. No size until it is known. */
  get progress(): {
    readonly writtenBytes: number
    readonly sizeBytes: number | undefined
    readonly forMs: number
    readonly bytesPerSecond: number
  } {
    return {
      writtenBytes: this.#spool?.writtenBytes ?? 0,
      sizeBytes: this.#spool?.sizeBytes,
      forMs: this.#parts.clock.monotonicMs() - this.#startedAtMs,
      bytesPerSecond: this.#speed.bytesPerSecond,
    }
  }

  /** Adds a participant. The spool stays open until the returned function is called, once. */
  enter(): () => void {
    this.#participants += 1
    return () => {
      this.#participants -= 1
      if (this.#participants > 0) return
      if (this.#isRunning) this.#owner.orphaned(this)
      else this.#everyoneLeft.resolve()
    }
  }

  /** Ends the fill: its participants fail with the reason, and what was written is kept for the next fill. */
  abandon(reason: Error): void {
    this.#owner.ended(this)
    this.#abandoned.abort(reason)
  }

  async #run(): Promise<void> {
    const { store, proofs, events } = this.#parts
    // A request may have looked for the blob just before the previous fill stored it. It would fetch the blob
    // a second time.
    if (this.#mayBeStored && (await proofs.holds(this.wanted.digest))) {
      this.#end()
      this.#opening.resolve({ kind: 'stored' })
      return
    }
    events.fillStarted()
    let file: SpoolFile
    try {
      file = await store.createSpool(this.wanted.digest, claimantOf(this.wanted.source))
    } catch (error) {
      this.#giveUpSpooling('create-spool', error)
      return
    }
    try {
      await this.#fill(file)
      if (this.#participants > 0) await this.#everyoneLeft.promise
    } finally {
      await this.#close(file)
    }
  }

  /**
   * False for a repository of an untrusted registry that has not sent the blob yet: it must not use what is
   * stored.
   */
  get #mayBeStored(): boolean {
    const { source, isStranger = false } = this.wanted
    return source.isTrusted || !isStranger
  }

  async #fill(file: SpoolFile): Promise<void> {
    const { bypass } = this.#parts
    const spool = new Spool(file, {
      buffers: this.#parts.buffers,
      elsewhere: (range, signal) => bypass.read(this.wanted, range, signal),
    })
    this.#spool = spool
    let beginning: Beginning | undefined
    try {
      const { source, isStranger = false } = this.wanted
      if (isStranger && source.isTrusted && file.sizeBytes > 0) await file.clear()
      beginning = await beginDownload(file, this.wanted.digest, {
        download: from => new Download(this.#parts, this.wanted, from, this.#abandoned.signal),
        signal: this.#abandoned.signal,
        failed: error => this.#parts.events.storageFailed('read-spool', error),
      })
      if (beginning === undefined) {
        this.#finish({ result: 'absent', sizeBytes: 0, resumes: 0, error: undefined })
        this.#opening.resolve({ kind: 'absent' })
        return
      }
      const { download, sizeBytes } = beginning
      if (!(await this.#hasRoom(file, sizeBytes))) {
        await download?.close()
        this.#finish({ result: 'not-stored', sizeBytes: 0, resumes: 0, error: undefined })
        this.#opening.resolve({ kind: 'unspoolable' })
        return
      }
      // The fill may have been abandoned while room was made; its participants must not wait for an opening.
      this.#abandoned.signal.throwIfAborted()
      if (file.sizeBytes > 0) spool.restore(file.sizeBytes)
      if (sizeBytes !== undefined) spool.expect(sizeBytes)
      this.#opening.resolve({ kind: 'open', spool })
      const result = (await this.#complete(beginning, spool))
        ? await this.#store(file, spool, download)
        : 'not-stored'
      this.#finish({
        result,
        sizeBytes: spool.writtenBytes,
        resumes: download?.resumes ?? 0,
        error: undefined,
      })
    } catch (error) {
      this.#fail(error, { file, spool, resumes: beginning?.download?.resumes ?? 0 })
    } finally {
      await beginning?.leftover.abandon()
    }
  }

  #fail(
    error: unknown,
    { file, spool, resumes }: { readonly file: SpoolFile; readonly spool: Spool; readonly resumes: number },
  ): void {
    const isOurs = !(error instanceof UpstreamError || error instanceof OciError)
    if (isOurs && !this.#abandoned.signal.aborted && spool.writtenBytes === 0) {
      this.#giveUpSpooling('spool', error)
      return
    }
    const isMismatch = error instanceof UpstreamError && error.kind === 'mismatch'
    const isAbandoned = this.#abandoned.signal.aborted
    if (spool.writtenBytes >= KEPT_BYTES_MIN && (isAbandoned || leavesGoodBytes(error))) file.keep()
    const failed = isAbandoned ? 'abandoned' : 'failed'
    const result = isMismatch ? 'mismatch' : failed
    this.#finish({ result, sizeBytes: spool.writtenBytes, resumes, error })
    this.#opening.reject(error)
    spool.fail(error)
  }

  /** The blob cannot be stored: requests that wait for the opening use the bypass. */
  #giveUpSpooling(operation: string, error: unknown): void {
    const { events } = this.#parts
    events.storageFailed(operation, error)
    events.bypassChanged(true, 'blobs', error)
    this.#finish({ result: 'not-stored', sizeBytes: 0, resumes: 0, error: undefined })
    this.#opening.resolve({ kind: 'unspoolable' })
  }

  /** If the upstream states no size, room is made as the bytes arrive. */
  async #hasRoom(file: SpoolFile, sizeBytes: number | undefined): Promise<boolean> {
    const { ledger = NO_LEDGER } = this.#parts
    return await ledger.makeRoom(file, {
      namespace: this.wanted.source.namespace,
      digest: this.wanted.digest,
      sizeBytes,
    })
  }

  /**
   * Returns `false` if the spool could not be completed. Its readers have then been sent elsewhere or
   * disconnected.
   */
  async #complete({ download, leftover }: Beginning, spool: Spool): Promise<boolean> {
    if (download === undefined) {
      this.#prove(spool)
      return true
    }
    try {
      if (leftover.hashing !== undefined) download.takeUp(await leftover.hashing)
    } catch (error) {
      this.#abandoned.signal.throwIfAborted()
      this.#parts.events.storageFailed('read-spool', error)
      await download.close()
      spool.breakOff(undefined)
      return false
    }
    return await this.#pour(download, spool)
  }

  /**
   * Writes the download into the spool. Returns `false` if a write failed; its readers then continue from the
   * upstream.
   */
  async #pour(download: Download, spool: Spool): Promise<boolean> {
    const { events, bypass } = this.#parts
    for await (const chunks of download.chunks({ isOver: true })) {
      this.#abandoned.signal.throwIfAborted()
      this.#speed.add(bytesIn(chunks))
      try {
        await spool.append(...chunks)
      } catch (error) {
        // The refusal of room is an event of its own, and nothing is wrong with the store.
        if (!(error instanceof NoRoomError)) {
          events.storageFailed('write-spool', error)
          events.bypassChanged(true, 'blobs', error)
        }
        const { checkpoint } = download
        spool.breakOff((range, held, signal) => bypass.read(this.wanted, range, signal, { checkpoint, held }))
        return false
      }
    }
    this.#prove(spool)
    return true
  }

  /** Resolves the proof first: the right to see the blob must be recorded before a reader can finish. */
  #prove(spool: Spool): void {
    this.#proof.resolve(true)
    spool.prove()
  }

  async #store(file: SpoolFile, spool: Spool, download: Download | undefined): Promise<Storing> {
    const { digest } = this.wanted
    const proved = { digest, file, sizeBytes: spool.writtenBytes, isKept: download?.isKept }
    return await storeProved(this.#parts, proved, this.#abandoned.signal)
  }

  #finish(fill: Pick<FinishedFill, 'result' | 'sizeBytes' | 'resumes' | 'error'>): void {
    this.#end()
    const durationMs = this.#parts.clock.monotonicMs() - this.#startedAtMs
    const { source, digest } = this.wanted
    this.#parts.events.fillFinished({ ...fill, namespace: source.namespace, digest, durationMs })
  }

  #end(): void {
    this.#proof.resolve(false)
    this.#ended.resolve()
    this.#isRunning = false
    this.#owner.ended(this)
  }

  async #close(file: SpoolFile): Promise<void> {
    try {
      await file[Symbol.asyncDispose]()
    } catch (error) {
      this.#parts.events.storageFailed('close-spool', error)
    }
  }
}
