import type { Hash } from 'node:crypto'
import type { Clock } from '../lib/clock.ts'
import type { Events, FinishedFill } from '../observe/events.ts'
import { UpstreamError, type UpstreamErrorKind } from '../oci/error.ts'
import type { SpoolFile, Store } from '../storage/store.ts'
import { passThrough } from './bypass.ts'
import { Download, type Progress, type Wanted } from './download.ts'
import type { Proofs } from './proofs.ts'
import { Spool } from './spool.ts'

/** A partial spool smaller than this is not worth keeping for the next fill. */
const KEEP_BYTES = 1024 * 1024

/** What {@link Fill} works with. */
export interface FillParts {
  readonly store: Store
  readonly proofs: Pick<Proofs, 'trust'>
  readonly events: Events
  readonly clock: Clock
}

/** After these, what was written so far is worth nothing. */
const FRUITLESS: ReadonlySet<UpstreamErrorKind> = new Set<UpstreamErrorKind>(['invalid', 'mismatch'])

/** How a fill began. `absent`: the upstream does not have the blob. `unspoolable`: there is nowhere to put it. */
export type Opening =
  | { readonly kind: 'open'; readonly spool: Spool }
  | { readonly kind: 'absent' }
  | { readonly kind: 'unspoolable' }

/** What a fill tells its owner, so that nobody joins one that is over. */
export interface FillOwner {
  /** Called before anything is aborted or closed, whatever the end. */
  ended(fill: Fill): void
  /** Called when the last participant has left a fill that still runs. */
  orphaned(fill: Fill): void
}

/**
 * A flight's body: fetches one blob into a spool, proves it, and has the store adopt it. It is the only consumer of the upstream's
 * stream; participants read the spool. It outlives them: it ends when the blob is stored, the upstream fails for good, or
 * {@link abandon} is called.
 */
export class Fill {
  readonly wanted: Wanted
  /** Settles as soon as the upstream's headers are here. Rejects with the upstream's trouble. */
  readonly opening: Promise<Opening>
  /** Resolves when everything is over, participants included; never rejects. */
  readonly over: Promise<void>
  readonly #parts: FillParts
  readonly #owner: FillOwner
  readonly #opening = Promise.withResolvers<Opening>()
  readonly #abandoned = new AbortController()
  readonly #everyoneLeft = Promise.withResolvers<void>()
  readonly #startedAtMs: number
  #participants = 0
  #isRunning = true

  constructor(parts: FillParts, wanted: Wanted, owner: FillOwner) {
    this.#parts = parts
    this.wanted = wanted
    this.#owner = owner
    this.#startedAtMs = parts.clock.monotonicMs()
    this.opening = this.#opening.promise
    this.opening.catch(() => undefined)
    this.over = this.#run()
  }

  /** Takes part at once, so that the spool stays open until the returned function is called, once. */
  enter(): () => void {
    this.#participants += 1
    return () => {
      this.#participants -= 1
      if (this.#participants > 0) return
      if (this.#isRunning) this.#owner.orphaned(this)
      else this.#everyoneLeft.resolve()
    }
  }

  /** Gives up: the participants fail with the reason, and what was written is kept for the next fill. */
  abandon(reason: Error): void {
    this.#owner.ended(this)
    this.#abandoned.abort(reason)
  }

  async #run(): Promise<void> {
    const { store, events } = this.#parts
    events.fillStarted()
    let file: SpoolFile
    try {
      file = await store.createSpool(this.wanted.digest)
    } catch (error) {
      events.storageFailed('create-spool', error)
      events.bypassChanged(true)
      this.#finish({ result: 'not-stored', sizeBytes: 0, resumes: 0, error: undefined })
      this.#opening.resolve({ kind: 'unspoolable' })
      return
    }
    try {
      await this.#fill(file)
      if (this.#participants > 0) await this.#everyoneLeft.promise
    } finally {
      await this.#close(file)
    }
  }

  async #fill(file: SpoolFile): Promise<void> {
    const spool = new Spool(file)
    let download: Download | undefined
    try {
      download = await this.#open(file)
      if (download === undefined) {
        this.#finish({ result: 'absent', sizeBytes: 0, resumes: 0, error: undefined })
        this.#opening.resolve({ kind: 'absent' })
        return
      }
      if (file.sizeBytes > 0) spool.restore(file.sizeBytes)
      if (download.sizeBytes !== undefined) spool.expect(download.sizeBytes)
      this.#opening.resolve({ kind: 'open', spool })
      const result = (await this.#pour(download, spool)) ? await this.#adopt(file, spool) : 'not-stored'
      this.#finish({ result, sizeBytes: spool.writtenBytes, resumes: download.resumes, error: undefined })
    } catch (error) {
      const isMismatch = error instanceof UpstreamError && error.kind === 'mismatch'
      const isFruitless = error instanceof UpstreamError && FRUITLESS.has(error.kind)
      if (!isFruitless && spool.writtenBytes >= KEEP_BYTES) file.keep()
      const failed = this.#abandoned.signal.aborted ? 'abandoned' : 'failed'
      const result = isMismatch ? 'mismatch' : failed
      this.#finish({ result, sizeBytes: spool.writtenBytes, resumes: download?.resumes ?? 0, error })
      this.#opening.reject(error)
      spool.fail(error)
    }
  }

  /** Begins the download where a leftover of an earlier fill ends, or afresh if that leads nowhere. `undefined`: there is no blob. */
  async #open(file: SpoolFile): Promise<Download | undefined> {
    const progress = await this.#restore(file)
    const download = this.#download(progress)
    try {
      return (await download.open()) ? download : undefined
    } catch (error) {
      const isFruitless =
        error instanceof UpstreamError && (FRUITLESS.has(error.kind) || error.status === 416)
      if (progress.offset === 0 || !isFruitless) throw error
      await download.close()
      await file.clear()
      const afresh = this.#download(Download.start(this.wanted.digest))
      return (await afresh.open()) ? afresh : undefined
    }
  }

  #download(from: Progress, signal: AbortSignal = this.#abandoned.signal): Download {
    return new Download(this.#parts, this.wanted, from, signal)
  }

  /** Hashes again what an earlier fill left behind: its bytes are believed only as a prefix of what will be proved. */
  async #restore(file: SpoolFile): Promise<Progress> {
    const start = Download.start(this.wanted.digest)
    if (file.sizeBytes === 0) return start
    try {
      await hashFile(file, start.hash, this.#abandoned.signal)
      return { offset: file.sizeBytes, hash: start.hash }
    } catch (error) {
      this.#abandoned.signal.throwIfAborted()
      this.#parts.events.storageFailed('read-spool', error)
      await file.clear()
      return Download.start(this.wanted.digest)
    }
  }

  /** Writes the download into the spool; `false` if the spool could not take it and the readers have been sent elsewhere. */
  async #pour(download: Download, spool: Spool): Promise<boolean> {
    const { events } = this.#parts
    for await (const chunk of download.chunks()) {
      this.#abandoned.signal.throwIfAborted()
      try {
        await spool.append(chunk)
      } catch (error) {
        events.storageFailed('write-spool', error)
        events.bypassChanged(true)
        const { progress } = download
        spool.breakOff((range, held, signal) =>
          passThrough(this.#download(progress, signal), range, held, signal),
        )
        return false
      }
    }
    spool.prove()
    return true
  }

  async #adopt(file: SpoolFile, spool: Spool): Promise<'stored' | 'not-stored'> {
    const { store, proofs, events } = this.#parts
    try {
      await store.adopt(file, this.wanted.digest, spool.writtenBytes)
      await proofs.trust(this.wanted.digest)
      events.bypassChanged(false)
      return 'stored'
    } catch (error) {
      events.storageFailed('adopt', error)
      events.bypassChanged(true)
      return 'not-stored'
    }
  }

  #finish(fill: Pick<FinishedFill, 'result' | 'sizeBytes' | 'resumes' | 'error'>): void {
    this.#isRunning = false
    this.#owner.ended(this)
    const durationMs = this.#parts.clock.monotonicMs() - this.#startedAtMs
    const { source, digest } = this.wanted
    this.#parts.events.fillFinished({ ...fill, namespace: source.namespace, digest, durationMs })
  }

  async #close(file: SpoolFile): Promise<void> {
    try {
      await file[Symbol.asyncDispose]()
    } catch (error) {
      this.#parts.events.storageFailed('close-spool', error)
    }
  }
}

const HASH_PIECE_BYTES = 1024 * 1024

async function hashFile(file: SpoolFile, hash: Hash, signal: AbortSignal): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(HASH_PIECE_BYTES)
  for (let offset = 0; offset < file.sizeBytes; ) {
    signal.throwIfAborted()
    const count = await file.read(
      buffer.subarray(0, Math.min(HASH_PIECE_BYTES, file.sizeBytes - offset)),
      offset,
    )
    if (count === 0) throw new Error(`spool ends at ${offset} of ${file.sizeBytes} bytes`)
    hash.update(buffer.subarray(0, count))
    offset += count
  }
}
