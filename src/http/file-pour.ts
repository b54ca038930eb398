import { readSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { readableBytes } from '../content/tail.ts'
import { settledOrAborted } from '../lib/abort.ts'
import { free } from '../lib/read-ahead.ts'
import type { ContentFile } from '../oci/content.ts'
import type { FileSender, FileSpan } from './file-sender.ts'
import type { ReaderWatch } from './reader-watch.ts'
import type { SentContent } from './reply.ts'

/**
 * Most bytes handed to one client before the other clients get their turn. Checking that they are in memory
 * takes a twentieth of the time of sending them.
 */
const SPAN_BYTES = 512 * 1024
/** Bytes of one wait for room in a client's buffer. They are copied, so there are few of them. */
const STEP_BYTES = 4 * 1024
/** Bytes that are read in the usual way once a part of a file is not in memory. */
const COLD_BYTES = 4 * 1024 * 1024
/** Number of refusals in a row after which the kernel is not asked again for this response. */
const REFUSALS_MAX = 3

export interface FilePourParts {
  readonly sender: FileSender
  readonly response: ServerResponse
  readonly watch: ReaderWatch
  readonly content: SentContent
  readonly file: ContentFile
}

/**
 * Sends a range of a stored or growing file inside the kernel. What is not in memory is read in the usual
 * way, so that the disk never holds up the other clients of this thread.
 */
export class FilePour {
  readonly #parts: FilePourParts
  readonly #start: number
  #offset: number
  /** True if the socket may have no room, or the header is still to be sent. */
  #mustWait = true
  #refusals = 0

  constructor(parts: FilePourParts, start: number) {
    this.#parts = parts
    this.#start = start
    this.#offset = start
  }

  /**
   * Sends bytes up to `end`, and returns the offset that it reached. Ends before `end`, without an error, if
   * the client has left or the file cannot supply the bytes. The caller then reads the rest from the content,
   * whose owner finds the defect.
   */
  async sendTo(end: number, signal: AbortSignal): Promise<number> {
    while (this.#offset < end && !signal.aborted && this.#refusals < REFUSALS_MAX) {
      const limit = await this.#readableTo(end, signal)
      if (limit === undefined || signal.aborted) break
      const spanEnd = Math.min(limit, this.#offset + SPAN_BYTES)
      const isComplete = this.#parts.sender.isInMemory(this.#span(spanEnd))
        ? await this.#pour(spanEnd)
        : await this.#relay(Math.min(limit, this.#offset + COLD_BYTES), signal)
      if (!isComplete) break
    }
    return this.#offset
  }

  /** Waits for readable bytes, and returns where they end; `undefined` if the file does not get them. */
  async #readableTo(end: number, signal: AbortSignal): Promise<number | undefined> {
    const { file } = this.#parts
    if (file.kind === 'whole') return end
    while (!signal.aborted) {
      const { changes } = file.progress
      const { state, writtenBytes, sizeBytes } = file.progress.progress
      const limit = Math.min(end, readableBytes(state === 'proved', writtenBytes, sizeBytes))
      if (state === 'lost') return undefined
      if (limit > this.#offset) return limit
      if (state === 'proved') return undefined
      await settledOrAborted(file.progress.wait(changes), signal)
    }
    return undefined
  }

  #span(end: number): FileSpan {
    return { fd: this.#parts.file.fd, offset: this.#offset, length: end - this.#offset }
  }

  /** Sends bytes that are in memory; `false` if the file ends before them, or the kernel refuses to send. */
  async #pour(end: number): Promise<boolean> {
    let hasWaited = false
    while (this.#offset < end) {
      if (!this.#mustWait && this.#send(end)) break
      if (this.#refusals >= REFUSALS_MAX || !(await this.#step(end))) return false
      hasWaited = true
    }
    if (!hasWaited) await setImmediate()
    return true
  }

  /** Hands bytes to the kernel; `true` if it took all of them. */
  #send(end: number): boolean {
    const { sender, response, watch } = this.#parts
    const span = this.#span(end)
    // Looked up each time, because the descriptor belongs to another connection once this one is closed.
    const socket = sender.socketOf(response.socket)
    const sentBytes = socket === undefined ? 0 : sender.send(socket, span)
    this.#offset += sentBytes
    watch.took(sentBytes)
    this.#refusals = sentBytes === 0 ? this.#refusals + 1 : 0
    this.#mustWait = sentBytes < span.length
    return !this.#mustWait
  }

  /**
   * Writes a few bytes in the usual way, with the header before the first ones. Resolves once the socket has
   * taken them, which is when it has room again.
   */
  async #step(end: number): Promise<boolean> {
    const { fd, offset, length } = this.#span(end)
    const piece = Buffer.allocUnsafeSlow(Math.min(length, STEP_BYTES))
    const count = readOrNone(fd, piece, offset)
    if (count === 0) return false
    await this.#parts.watch.write(piece.subarray(0, count))
    // With a thousand clients, those that wait for the garbage collector would take tens of megabytes.
    free(piece)
    this.#offset += count
    this.#mustWait = false
    return true
  }

  /** Reads bytes in the usual way; `false` if the content ends before them. */
  async #relay(end: number, signal: AbortSignal): Promise<boolean> {
    const { content, watch } = this.#parts
    const isContinued = this.#offset > this.#start
    for await (const piece of content.read({ start: this.#offset, end }, signal, isContinued)) {
      await watch.writeAll(piece)
      this.#offset += piece.byteLength
    }
    this.#mustWait = false
    return this.#offset === end
  }
}

/** Reads into a buffer; 0 if the file cannot be read. The content then decides what comes instead of it. */
function readOrNone(fd: number, piece: Uint8Array, offset: number): number {
  try {
    return readSync(fd, piece, 0, piece.byteLength, offset)
  } catch {
    return 0
  }
}
