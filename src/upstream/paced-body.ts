import type { Readable } from 'node:stream'
import type { Clock } from '../lib/clock.ts'
import { Trouble } from './failure.ts'

/** Limits of a body's pace. */
export interface PaceLimits {
  /** Longest silence. */
  readonly idleMs: number
  /** Time in which at least `floorBytes` must arrive. */
  readonly floorMs: number
  readonly floorBytes: number
}

export const PACE_LIMITS: PaceLimits = { idleMs: 30_000, floorMs: 60_000, floorBytes: 60 * 10 * 1024 }

/** Bytes that may wait for the reader, besides those in the body's own buffer. */
const WAITING_BYTES = 128 * 1024

/**
 * A body in pieces as they come. Throws a {@link Trouble} of kind `stalled` when it is silent for too long or
 * slower than the floor. Time that the reader takes does not count. Leaving the loop destroys the body. Reads
 * by events: the iterator of a stream costs several times as much per piece.
 */
export class PacedBody implements AsyncIterableIterator<Uint8Array> {
  readonly #body: Readable
  readonly #limits: PaceLimits
  readonly #clock: Pick<Clock, 'monotonicMs'>
  #pieces: Uint8Array[] = []
  #waitingBytes = 0
  #isBegun = false
  #isOver = false
  #failure: { readonly error: unknown } | undefined
  #wake: (() => void) | undefined
  #idleTimer: NodeJS.Timeout | undefined
  /** Bytes of the current window, and the time that was waited for them. */
  #window = { bytes: 0, waitedMs: 0 }

  constructor(body: Readable, limits: PaceLimits, clock: Pick<Clock, 'monotonicMs'>) {
    this.#body = body
    this.#limits = limits
    this.#clock = clock
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (!this.#isBegun) this.#begin()
    let piece = this.#shift()
    if (piece === undefined) {
      const sinceMs = this.#clock.monotonicMs()
      while (piece === undefined && !this.#isOver) {
        await this.#arrival()
        piece = this.#shift()
      }
      this.#window.waitedMs += this.#clock.monotonicMs() - sinceMs
    }
    if (piece === undefined) {
      this.#leave()
      if (this.#failure !== undefined) throw this.#failure.error
      return { done: true, value: undefined }
    }
    this.#window.bytes += piece.byteLength
    if (this.#window.waitedMs >= this.#limits.floorMs) this.#judgeWindow()
    return { done: false, value: piece }
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#leave()
    return await Promise.resolve({ done: true, value: undefined })
  }

  #begin(): void {
    this.#isBegun = true
    const body = this.#body
    if (body.destroyed || body.readableEnded) {
      this.#end(body.errored ?? undefined)
      return
    }
    body.on('data', this.#onData)
    body.once('end', () => this.#end(undefined))
    body.once('error', error => this.#end(error))
    body.once('close', () => this.#end(undefined))
  }

  readonly #onData = (piece: Uint8Array): void => {
    if (this.#isOver) return
    this.#pieces.push(piece)
    this.#waitingBytes += piece.byteLength
    if (this.#waitingBytes >= WAITING_BYTES) this.#body.pause()
    this.#wake?.()
  }

  #shift(): Uint8Array | undefined {
    const piece = this.#pieces.shift()
    if (piece === undefined) return undefined
    this.#waitingBytes -= piece.byteLength
    if (this.#waitingBytes < WAITING_BYTES && this.#body.isPaused()) this.#body.resume()
    return piece
  }

  /** Waits for a piece or the end. Destroys the body when nothing comes for too long. */
  async #arrival(): Promise<void> {
    this.#idleTimer ??= setTimeout(this.#onIdle, this.#limits.idleMs)
    this.#idleTimer.refresh()
    await new Promise<void>(resolve => (this.#wake = resolve))
    this.#wake = undefined
  }

  readonly #onIdle = (): void => {
    if (this.#wake !== undefined) this.#body.destroy(new Trouble('stalled', 'stopped sending'))
  }

  #judgeWindow(): void {
    if (this.#window.bytes < this.#limits.floorBytes) {
      this.#failure = { error: new Trouble('stalled', 'sends too slowly') }
      this.#leave()
      throw this.#failure.error
    }
    this.#window = { bytes: 0, waitedMs: 0 }
  }

  /** The first reason counts. A body that closes without an error has ended or was destroyed here. */
  #end(error: Error | undefined): void {
    if (this.#isOver) return
    this.#isOver = true
    const isCut = error === undefined && !this.#body.readableEnded
    if (error !== undefined) this.#failure = { error }
    else if (isCut) this.#failure = { error: new Trouble('cut', 'broke off the connection') }
    this.#wake?.()
  }

  #leave(): void {
    this.#isOver = true
    this.#pieces = []
    clearTimeout(this.#idleTimer)
    this.#body.destroy()
    this.#wake?.()
  }
}
