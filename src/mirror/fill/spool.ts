import { readableBytes, SharedProgress } from '../../content/tail.ts'
import type { BufferPool, ReaderBuffers } from '../../lib/reader-buffers.ts'
import type { ByteRange, ContentFile, FileProgress, Progress } from '../../oci/content.ts'
import type { SpoolFile } from '../../storage/store.ts'
import { Recent } from './recent.ts'

/**
 * Source of bytes for readers beyond the spool's end once the spool cannot be written any more. `held` are
 * the bytes from the start of the range up to the spool's end, which the reader has not received yet: they
 * are held back with the rest of the tail.
 */
export type Continuation = (
  range: ByteRange,
  held: Uint8Array,
  signal: AbortSignal,
) => AsyncIterable<Uint8Array>

/**
 * Reads a range from a new download of the whole blob, which is proved on its own. For readers that the file
 * itself fails.
 */
export type Elsewhere = (range: ByteRange, signal: AbortSignal) => AsyncIterable<Uint8Array>

/**
 * State of a spool; it leaves `growing` once. `growing`: more bytes may come. `broken`: the file cannot be
 * written, and readers switch to the continuation. `proved`: the file is whole and matches its digest.
 * `failed`: nothing more is given out.
 */
type State =
  | { readonly kind: 'growing' }
  | { readonly kind: 'broken'; readonly continuation: Continuation | undefined }
  | { readonly kind: 'proved' }
  | { readonly kind: 'failed'; readonly error: unknown }

interface SpoolParts {
  readonly buffers: BufferPool
  readonly elsewhere?: Elsewhere
}

/**
 * One writer, many readers at any offset and any pace. Bytes below {@link writtenBytes} are immutable, so
 * readers need no lock: each reads the file by itself and waits only for the writer. From the first reader
 * on, the last bytes written are also kept in memory, so that readers that keep up do not read the file.
 */
export class Spool implements FileProgress {
  readonly #file: SpoolFile
  readonly #buffers: BufferPool
  readonly #elsewhere: Elsewhere | undefined
  #sizeBytes: number | undefined
  #state: State = { kind: 'growing' }
  #writtenBytes = 0
  readonly #recent = new Recent()
  #waiting = new Set<Pick<Waiter, 'wake'>>()
  #changes = 0
  #shared: SharedProgress | undefined

  constructor(file: SpoolFile, { buffers, elsewhere }: SpoolParts) {
    this.#file = file
    this.#buffers = buffers
    this.#elsewhere = elsewhere
  }

  get writtenBytes(): number {
    return this.#writtenBytes
  }

  /** Size of the whole content; `undefined` until it is known. */
  get sizeBytes(): number | undefined {
    return this.#sizeBytes
  }

  /** Sets the size of the whole content. */
  expect(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes
    this.#publish()
  }

  /** Makes the bytes readable that the file already contained. */
  restore(sizeBytes: number): void {
    this.#writtenBytes = sizeBytes
    this.#announce()
  }

  /** Appends pieces; the caller may reuse their buffers afterwards. Throws if the file cannot be written. */
  async append(...pieces: readonly Uint8Array[]): Promise<void> {
    await this.#file.append(...pieces)
    for (const piece of pieces) {
      this.#recent.append(this.#writtenBytes, piece)
      this.#writtenBytes += piece.byteLength
    }
    this.#announce()
  }

  /** Marks the file as whole and matching its digest, which releases the tail. */
  prove(): void {
    if (this.#state.kind === 'growing') this.#sizeBytes = this.#writtenBytes
    this.#settle({ kind: 'proved' })
  }

  /** Marks the spool as failed: nothing more is given out. */
  fail(error: unknown): void {
    this.#settle({ kind: 'failed', error })
  }

  /**
   * Marks the file as unwritable: readers beyond its end switch to the continuation. Without one, readers
   * that already received bytes are disconnected, and the others start elsewhere.
   */
  breakOff(continuation: Continuation | undefined): void {
    this.#settle({ kind: 'broken', continuation })
  }

  /** Yields the bytes of the range as they arrive; see {@link Content.read}. Only while the file is open. */
  async *read(range: ByteRange, signal: AbortSignal, isContinued = false): AsyncGenerator<Uint8Array> {
    const buffers = this.#buffers.enter()
    try {
      yield* this.#follow(range, { signal, isContinued, buffers })
    } finally {
      buffers.leave()
    }
  }

  /** The file, for readers that follow it by themselves; `undefined` if they cannot read this spool. */
  get file(): ContentFile | undefined {
    const { file } = this.#file
    if (file === undefined || this.#progressState() === 'lost') return undefined
    return { kind: 'growing', fd: file.fd, progress: this }
  }

  get changes(): number {
    return this.#changes
  }

  get progress(): Progress {
    return { state: this.#progressState(), writtenBytes: this.#writtenBytes, sizeBytes: this.#sizeBytes }
  }

  get shared(): FileProgress {
    this.#shared ??= new SharedProgress()
    this.#publish()
    return this.#shared
  }

  async wait(changes: number): Promise<void> {
    if (changes !== this.#changes) return
    await new Promise<void>(resolve => this.#waiting.add({ wake: resolve }))
  }

  async *#follow(
    { start, end }: ByteRange,
    { signal, isContinued, buffers }: Following,
  ): AsyncGenerator<Uint8Array> {
    let offset = start
    let buffer: Uint8Array | undefined
    this.#recent.keep()
    using waiter = new Waiter(signal)
    while (!signal.aborted) {
      const last = Math.min(end, this.#sizeBytes ?? Infinity)
      const state = this.#state
      // Empty content has no tail to hold back, so its end waits for the proof.
      if (offset >= last && (last > 0 || state.kind === 'proved')) return
      const limit = Math.min(last, this.#readableBytes())
      if (offset < limit) {
        buffer ??= buffers.take(buffers.pieceBytes)
        let piece: Uint8Array
        try {
          piece = await this.#piece(buffer, offset, limit)
        } catch (error) {
          const hasBegun = isContinued || offset > start
          yield* this.#goElsewhere({ start: offset, end }, { error, hasBegun }, signal)
          return
        }
        offset += piece.byteLength
        yield piece
      } else if (state.kind === 'growing') await waiter.wait(this.#waiting)
      else if (state.kind === 'failed') throw state.error
      else if (state.kind === 'broken') {
        const hasBegun = isContinued || offset > start
        yield* this.#goOn({ start: offset, end }, { state, hasBegun }, signal)
        return
      }
    }
  }

  async *#goOn(
    range: ByteRange,
    { state, hasBegun }: { readonly state: State & { readonly kind: 'broken' }; readonly hasBegun: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    let held: Uint8Array
    try {
      if (state.continuation === undefined) throw new Error('the spool is lost')
      held = await this.#held(range.start)
    } catch (error) {
      yield* this.#goElsewhere(range, { error, hasBegun }, signal)
      return
    }
    yield* state.continuation(range, held, signal)
  }

  /**
   * For a reader that the file fails. The bytes it has received are good only if the spool is proved in the
   * end; otherwise the rest of another download could complete wrong bytes.
   */
  async *#goElsewhere(
    range: ByteRange,
    { error, hasBegun }: { readonly error: unknown; readonly hasBegun: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    if (this.#elsewhere === undefined) throw error
    if (hasBegun) {
      using waiter = new Waiter(signal)
      while (this.#state.kind === 'growing' && !waiter.isAborted) await waiter.wait(this.#waiting)
      if (signal.aborted) return
      if (this.#state.kind !== 'proved') throw error
    }
    yield* this.#elsewhere(range, signal)
  }

  /** Offset at which readers must stop for now. */
  #readableBytes(): number {
    return this.#state.kind === 'failed'
      ? 0
      : readableBytes(this.#state.kind === 'proved', this.#writtenBytes, this.#sizeBytes)
  }

  #progressState(): Progress['state'] {
    const { kind } = this.#state
    return kind === 'growing' || kind === 'proved' ? kind : 'lost'
  }

  #publish(): void {
    this.#shared?.publish(this.progress)
  }

  /** Reads into the reader's own buffer, from the offset on. */
  async #piece(buffer: Uint8Array, offset: number, limit: number): Promise<Uint8Array> {
    const target = buffer.subarray(0, limit - offset)
    const recentBytes = this.#recent.copy(target, offset)
    if (recentBytes > 0) return target.subarray(0, recentBytes)
    const count = await this.#file.read(target, offset)
    if (count === 0)
      throw new Error(`spool ends at ${offset} though ${this.#writtenBytes} bytes were written`)
    return target.subarray(0, count)
  }

  #settle(state: State): void {
    if (this.#state.kind !== 'growing') return
    this.#state = state
    this.#recent.release()
    this.#announce()
  }

  #announce(): void {
    this.#changes += 1
    this.#publish()
    const waiting = this.#waiting
    if (waiting.size === 0) return
    this.#waiting = new Set()
    for (const waiter of waiting) waiter.wake()
  }

  /** Bytes written from the offset on. All of them are within the tail that is held back. */
  async #held(offset: number): Promise<Uint8Array> {
    const held = Buffer.allocUnsafeSlow(Math.max(0, this.#writtenBytes - offset))
    let filled = 0
    while (filled < held.byteLength) {
      filled += (await this.#piece(held.subarray(filled), offset + filled, offset + held.byteLength))
        .byteLength
    }
    return held
  }
}

interface Following {
  readonly signal: AbortSignal
  readonly isContinued: boolean
  readonly buffers: ReaderBuffers
}

/**
 * Lets one reader wait for the writer. It listens to its signal once for its whole life, because a reader
 * that keeps up with a slow upstream waits a thousand times a second.
 */
class Waiter implements Disposable {
  readonly #signal: AbortSignal
  #wake: () => void = () => undefined

  constructor(signal: AbortSignal) {
    this.#signal = signal
    signal.addEventListener('abort', this.wake, { once: true })
  }

  get isAborted(): boolean {
    return this.#signal.aborted
  }

  readonly wake = (): void => this.#wake()

  /** Resolves when the spool changes or the signal aborts. */
  async wait(waiting: Set<Pick<Waiter, 'wake'>>): Promise<void> {
    waiting.add(this)
    await new Promise<void>(resolve => {
      this.#wake = resolve
    })
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener('abort', this.wake)
  }
}
