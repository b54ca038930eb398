import type { Hash } from 'node:crypto'
import type { Clock } from '../../lib/clock.ts'
import { bytesIn, free, gathered } from '../../lib/read-ahead.ts'
import type { Events } from '../../observe/events.ts'
import { algorithmOf, type Digest, finishHash, startHash } from '../../oci/digest.ts'
import { UpstreamError, type UpstreamErrorKind } from '../../oci/error.ts'
import type { BlobBody } from '../../upstream/registry.ts'
import type { Source } from '../sources.ts'
import { type Checkpoint, type StartingPoint, skipPrefix } from './checkpoint.ts'
import { Silence } from './silence.ts'

const RESUMES_MAX = 5
const RESUME_PAUSE_MS = 250
/** After this much progress the count of resumes starts again. */
const PROGRESS_BYTES = 1024 * 1024
const PAUSE_MS_MAX = 10_000
/** Bytes that may arrive while the ones before them are written. */
const AHEAD_BYTES = 512 * 1024

const RESUMABLE: ReadonlySet<UpstreamErrorKind> = new Set<UpstreamErrorKind>([
  'breaker',
  'connect',
  'cut',
  'dns',
  'rate-limited',
  'stalled',
  'status',
  'timeout',
  'tls',
  'token',
  'too-many',
])

export interface Wanted {
  readonly source: Source
  readonly digest: Digest
  /**
   * True if the repository is not known to have the blob. Stored bytes and the remains of an earlier fill may
   * then belong to another repository and are not shown.
   */
  readonly isStranger?: boolean
}

export interface DownloadParts {
  readonly events: Events
  readonly clock: Clock
}

interface ChunkUse {
  readonly isOver: boolean
}

/**
 * Download of one blob from the upstream: its bytes in order, hashed as they pass. After a cut or a stall it
 * requests the rest by Range and accepts only the exact rest of the same blob. If the upstream sends the blob
 * from the start instead, the prefix is hashed and compared before any new byte is used. The whole is
 * compared with the digest at the end. One silence of the upstream, resumes included, lasts at most
 * `Terms.silenceMaxMs`.
 */
export class Download {
  readonly #wanted: Wanted
  readonly #parts: DownloadParts
  readonly #signal: AbortSignal
  #hash: Hash
  #offset: number
  /** True if the hash covers all bytes before the offset. */
  #isHashed: boolean
  #sizeBytes: number | undefined
  #validator: string | undefined
  #body: BlobBody | undefined
  /** The last body that came from another replica. */
  #foreign: BlobBody | undefined
  #resumes = 0
  #attempts = 0
  #offsetOfLastResume = 0
  readonly #silence: Silence

  constructor(parts: DownloadParts, wanted: Wanted, from: StartingPoint, signal: AbortSignal) {
    this.#parts = parts
    this.#wanted = wanted
    this.#signal = signal
    this.#offset = from.offset
    this.#hash = from.hash?.copy() ?? startHash(algorithmOf(wanted.digest))
    this.#isHashed = from.hash !== undefined
    this.#silence = new Silence(parts.clock, wanted.source.terms.silenceMaxMs, signal)
  }

  /** Checkpoint of a download at its first byte. */
  static start(digest: Digest): Checkpoint {
    return { offset: 0, hash: startHash(algorithmOf(digest)) }
  }

  /** Size of the whole blob; `undefined` until the upstream has stated it. */
  get sizeBytes(): number | undefined {
    return this.#sizeBytes
  }

  /**
   * Offset of the next byte. If it is 0 after {@link open}, the upstream did not continue after the bytes
   * that are not hashed yet.
   */
  get offset(): number {
    return this.#offset
  }

  get resumes(): number {
    return this.#resumes
  }

  /**
   * Resolves with `true` once another replica has stored the blob in the store that is ours too; `undefined`
   * if none is about to.
   */
  get isKept(): BlobBody['isKept'] {
    return this.#foreign?.isKept
  }

  /** Snapshot of the offset and the hash after the last chunks that were taken. */
  get checkpoint(): Checkpoint {
    return { offset: this.#offset, hash: this.#hash.copy() }
  }

  /**
   * Sends the request; `false` if the upstream does not have the blob. Throws the error of the upstream. An
   * empty blob is checked against the digest here: the headers of an empty response are the whole response,
   * so they must not be sent before the proof.
   */
  async open(): Promise<boolean> {
    const body = await this.#request()
    if (body === undefined) return false
    try {
      await this.#use(body)
      if (this.#sizeBytes === 0) this.#requireMatch()
    } catch (error) {
      await this.close()
      throw error
    }
    return true
  }

  /**
   * Sets the hash of the bytes before the offset. Must be called before {@link chunks} if the download
   * started without a hash.
   */
  takeUp(hash: Hash): void {
    this.#hash = hash.copy()
    this.#isHashed = true
  }

  /**
   * Yields the bytes from the starting point on, as many chunks at once as have arrived. They count as taken
   * when the next ones are requested. Ends only after the whole blob has matched its digest. Throws an
   * `UpstreamError` of kind `mismatch` if it does not match, or the last error if resuming failed.
   * @param use.isOver true if the caller does not use chunks any more when it requests the next ones.
   */
  async *chunks(use: ChunkUse = { isOver: false }): AsyncGenerator<readonly Uint8Array[]> {
    try {
      for (;;) {
        try {
          if (this.#body === undefined) await this.#reopen()
          yield* this.#pass(use)
          break
        } catch (error) {
          if (this.#offset === this.#sizeBytes) break
          await this.#resume(error)
        }
      }
    } finally {
      this.#silence.end()
      await this.close()
    }
    this.#requireMatch()
  }

  /** Closes the connection if one is open. */
  async close(): Promise<void> {
    const body = this.#body
    this.#body = undefined
    await body?.[Symbol.asyncDispose]()
  }

  async #reopen(): Promise<void> {
    if (!(await this.open()))
      throw new UpstreamError('invalid', 'the upstream no longer has the blob that it was sending')
  }

  async *#pass({ isOver }: ChunkUse): AsyncGenerator<readonly Uint8Array[]> {
    if (this.#body === undefined) throw new UpstreamError('cut', 'the connection to the upstream was lost')
    const isFreed = isOver && this.#body.areChunksOurs === true
    this.#silence.begin()
    for await (const arrived of gathered(this.#body.chunks, AHEAD_BYTES)) {
      this.#silence.end()
      const chunks = this.#fitting(arrived)
      if (chunks.length > 0) yield chunks
      for (const chunk of chunks) this.#hash.update(chunk)
      this.#offset += bytesIn(chunks)
      if (isFreed) chunks.forEach(free)
      if (chunks.length < arrived.length) {
        throw new UpstreamError(
          'invalid',
          `the upstream sent more than the ${this.#sizeBytes} bytes that it stated`,
        )
      }
      this.#silence.begin()
    }
    if (this.#sizeBytes !== undefined && this.#offset < this.#sizeBytes) {
      throw new UpstreamError(
        'cut',
        `the upstream ended the body at byte ${this.#offset} of ${this.#sizeBytes}`,
      )
    }
  }

  /** The first of the chunks, as far as they are within the stated size. */
  #fitting(chunks: readonly Uint8Array[]): readonly Uint8Array[] {
    let restBytes = (this.#sizeBytes ?? Number.POSITIVE_INFINITY) - this.#offset
    const excess = chunks.findIndex(chunk => (restBytes -= chunk.byteLength) < 0)
    return excess < 0 ? chunks : chunks.slice(0, excess)
  }

  /**
   * Reopens the download after a failure, with as many attempts as the limits allow; throws the last error.
   */
  async #resume(failure: unknown): Promise<void> {
    let error = failure
    for (;;) {
      await this.close()
      this.#signal.throwIfAborted()
      this.#requirePatience(error)
      await this.#pauseBeforeResume(error)
      try {
        await this.#reopen()
        return
      } catch (next) {
        error = next
      }
    }
  }

  /**
   * Throws the error if the upstream has been silent for too long, or stalls again before it has sent a byte.
   */
  #requirePatience(error: unknown): void {
    const isStalled = error instanceof UpstreamError && error.kind === 'stalled'
    if (isStalled && this.#silence.isLimited) throw error
    // Closes the body when the time is up, in case the upstream hangs in the middle of it.
    this.#silence.limit(() => void this.close())
  }

  /** Throws the error if another attempt is pointless; otherwise waits before it. */
  async #pauseBeforeResume(error: unknown): Promise<void> {
    if (!(error instanceof UpstreamError) || !RESUMABLE.has(error.kind)) throw error
    // The upstream has no bytes after the offset, whatever size it stated.
    if (error.status === 416) throw error
    if (this.#offset >= this.#offsetOfLastResume + PROGRESS_BYTES) this.#attempts = 0
    this.#offsetOfLastResume = this.#offset
    if (this.#attempts >= RESUMES_MAX) throw error
    const { clock, events } = this.#parts
    const { source, digest } = this.#wanted
    events.fillResumed({ namespace: source.namespace, digest, offset: this.#offset, error })
    const pauseMs = this.#attempts === 0 ? 0 : RESUME_PAUSE_MS * 2 ** this.#attempts
    this.#attempts += 1
    this.#resumes += 1
    await clock.delay(
      Math.min(PAUSE_MS_MAX, Math.max(pauseMs, error.retryAfterMs ?? 0)),
      this.#silence.signal,
    )
  }

  async #request(): Promise<BlobBody | undefined> {
    const { source, digest } = this.#wanted
    const from = { offset: this.#offset, validator: this.#validator }
    return await source.registry.getBlob(source.repository, digest, from, this.#silence.signal)
  }

  async #use(body: BlobBody): Promise<void> {
    this.#body = body
    if (body.disown !== undefined || body.isKept !== undefined) this.#foreign = body
    if (this.#sizeBytes !== undefined && body.sizeBytes !== undefined && body.sizeBytes !== this.#sizeBytes) {
      this.#foreign?.disown?.()
      throw new UpstreamError(
        'invalid',
        `the upstream first stated ${this.#sizeBytes} bytes, now it states ${body.sizeBytes}`,
      )
    }
    this.#sizeBytes ??= body.sizeBytes
    this.#validator ??= body.validator
    if (body.offset === this.#offset) return
    if (body.offset !== 0)
      throw new UpstreamError('invalid', 'the upstream sent a different range than requested')
    if (!this.#isHashed) {
      this.#offset = 0
      this.#isHashed = true
      return
    }
    this.#body = await skipPrefix(body, this.checkpoint, {
      algorithm: algorithmOf(this.#wanted.digest),
      silence: this.#silence,
    })
  }

  #requireMatch(): void {
    const { digest } = this.#wanted
    const actual = finishHash(this.#hash.copy(), algorithmOf(digest))
    if (actual === digest) return
    this.#foreign?.disown?.()
    throw new UpstreamError('mismatch', `the upstream sent ${actual} when asked for ${digest}`)
  }
}
