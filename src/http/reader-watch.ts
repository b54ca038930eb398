import type { ServerResponse } from 'node:http'
import type { SendQueues } from './send-queue.ts'

/** Slowest a client may read before its connection is closed. */
export interface ReadingLimits {
  /** Longest time without any progress, in milliseconds. */
  readonly idleMs: number
  /** Time in which the client must read at least {@link floorBytes}, in milliseconds. */
  readonly floorMs: number
  readonly floorBytes: number
  /**
   * Shows the progress of slow clients. Without it, progress shows only when the kernel takes bytes from us,
   * about a megabyte at a time.
   */
  readonly queues?: Pick<SendQueues, 'of'>
}

/**
 * A client that takes longer than this for a piece gets smaller pieces, so that its progress shows, in
 * milliseconds.
 */
const SLOW_MS = 1000

/** Size of the pieces for a slow client, small enough to show its progress. */
const SLOW_PIECE_BYTES = 64 * 1024

/** Number of progress checks per idle limit. */
const LOOKS = 20

/**
 * Writes to a client, and closes its connection if it does not read. Time in which we have nothing to send
 * does not count. A client is judged only while a write is waiting, by the bytes that the kernel takes from
 * us and by the bytes that the kernel still holds for the client.
 */
export class ReaderWatch {
  readonly #response: ServerResponse
  readonly #limits: ReadingLimits
  #writeStartedAtMs: number | undefined
  #quietSinceMs = 0
  #lookedAtMs = -Infinity
  #waitedMs = 0
  #windowBytes = 0
  /** Bytes that the kernel held for the client at the last check of this write. */
  #queuedBytes: number | undefined
  #abandon: (reason: unknown) => void = () => undefined
  readonly #timer: NodeJS.Timeout
  isSlow = false
  isTooSlow = false

  constructor(response: ServerResponse, limits: ReadingLimits) {
    this.#response = response
    this.#limits = limits
    response.on('timeout', this.#onIdle)
    response.socket?.setTimeout(limits.idleMs / LOOKS)
    this.#timer = setInterval(this.#onTick, limits.floorMs / 4)
    this.#timer.unref()
  }

  /** Resolves once the kernel has taken the piece. Its memory may then be reused. */
  async write(piece: Uint8Array): Promise<void> {
    const startedAtMs = performance.now()
    this.#writeStartedAtMs = startedAtMs
    this.#queuedBytes = undefined
    await new Promise<void>((resolve, reject) => {
      this.#abandon = reject
      this.#response.write(piece, error => (error ? reject(error) : resolve()))
    })
    const tookMs = performance.now() - Math.max(startedAtMs, this.#writeStartedAtMs)
    this.#waitedMs += tookMs
    this.#windowBytes += piece.byteLength
    this.#writeStartedAtMs = undefined
    this.#lookedAtMs = -Infinity
    if (tookMs > SLOW_MS) this.isSlow = true
  }

  /** Writes a piece of any size. For a slow client it is cut, so that its progress shows. */
  async writeAll(piece: Uint8Array): Promise<void> {
    const sizeBytes = this.isSlow ? SLOW_PIECE_BYTES : piece.byteLength
    for (let start = 0; start < piece.byteLength; start += sizeBytes)
      await this.write(piece.subarray(start, start + sizeBytes))
  }

  /** Counts bytes that the kernel has taken in another way than by {@link write}. */
  took(bytes: number): void {
    this.#windowBytes += bytes
  }

  /** Ends the waiting write, because its client has left. */
  abandon(reason: unknown): void {
    this.#abandon(reason)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#response.removeListener('timeout', this.#onIdle)
    this.#response.socket?.setTimeout(this.#limits.idleMs)
  }

  /**
   * Node's timer does not fire if the kernel has taken a part of a write since it was set, so it reports a
   * stall only the second time it runs out. A timer as long as the limit would take up to twice that time. So
   * the timer is short, and its consecutive firings are counted.
   */
  readonly #onIdle = (): void => {
    const { idleMs } = this.#limits
    const nowMs = performance.now()
    const lookMs = idleMs / LOOKS
    const isInARow = nowMs - this.#lookedAtMs < 1.5 * lookMs
    if (!isInARow || this.#writeStartedAtMs === undefined) this.#quietSinceMs = nowMs - lookMs
    this.#lookedAtMs = nowMs
    if (this.#writeStartedAtMs !== undefined && nowMs - this.#quietSinceMs >= idleMs) {
      this.#giveUp()
      return
    }
    this.#response.socket?.setTimeout(lookMs)
    if (this.#writeStartedAtMs !== undefined) void this.#lookAtQueue()
  }

  /**
   * A client may take bytes that the kernel holds while the kernel takes none from us for minutes. That is
   * progress too.
   */
  async #lookAtQueue(): Promise<void> {
    const { socket } = this.#response
    const queuedBytes = socket === null ? undefined : await this.#limits.queues?.of(socket)
    const before = this.#queuedBytes
    this.#queuedBytes = queuedBytes
    if (queuedBytes === undefined || before === undefined || queuedBytes === before) return
    this.#quietSinceMs = performance.now()
    this.#windowBytes += Math.max(0, before - queuedBytes)
  }

  /** Judges every full window of waiting by the bytes that went out in it. */
  readonly #onTick = (): void => {
    const nowMs = performance.now()
    if (this.#writeStartedAtMs !== undefined) {
      this.#waitedMs += nowMs - this.#writeStartedAtMs
      this.#writeStartedAtMs = nowMs
    }
    if (this.#waitedMs < this.#limits.floorMs) return
    if (this.#windowBytes < this.#limits.floorBytes) this.#giveUp()
    this.#waitedMs = 0
    this.#windowBytes = 0
  }

  #giveUp(): void {
    this.isTooSlow = true
    this.#response.socket?.destroy()
  }
}
