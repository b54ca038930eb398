import type { Readable } from 'node:stream'

/** A body that is too large, too slow, or one too many. */
export class BodyRefused extends Error {
  readonly status: 408 | 413 | 503

  constructor(status: BodyRefused['status'], message: string) {
    super(message)
    this.name = 'BodyRefused'
    this.status = status
  }
}

export interface BodyLimits {
  /**
   * The API server takes objects of 3 MiB. A review of an update has the object twice, and JSON may be larger
   * than what the client sent.
   */
  readonly bytesMax: number
  /** Memory for all bodies that are being read, in bytes. */
  readonly togetherMax: number
  /** The API server waits for at most 30 s. */
  readonly limitMs: number
}

const BODY_LIMITS: BodyLimits = {
  bytesMax: 16 * 1024 * 1024,
  togetherMax: 64 * 1024 * 1024,
  limitMs: 30_000,
}

const FIRST_BYTES = 16 * 1024

/** A body that is being read. */
interface Reading {
  readonly request: Readable
  /** What has come, and room for more: pieces of one byte each would take far more memory. */
  buffer: Buffer
}

/**
 * Reads the bodies of reviews within limits of memory and time. If the memory is used up, the body that has
 * been read for the longest time gives way: an API server sends a review in milliseconds, so whoever sends
 * slowly must not keep reviews out.
 */
export class Bodies {
  readonly #limits: BodyLimits
  /** The oldest one first. */
  readonly #running = new Set<Reading>()
  #held = 0

  constructor(limits: BodyLimits = BODY_LIMITS) {
    this.#limits = limits
  }

  /** The whole body as text. Throws a {@link BodyRefused} beyond a limit. */
  async read(request: Readable): Promise<string> {
    const { bytesMax, limitMs } = this.#limits
    const reading: Reading = { request, buffer: Buffer.alloc(0) }
    this.#running.add(reading)
    let bytes = 0
    const timer = setTimeout(
      () => request.destroy(new BodyRefused(408, `the body took longer than ${limitMs / 1000} s`)),
      limitMs,
    )
    try {
      // A refusal can still be answered if the request is not destroyed here.
      const read = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>
      for await (const piece of read) {
        if (bytes + piece.length > bytesMax)
          throw new BodyRefused(413, `the body is larger than ${bytesMax} bytes`)
        this.#makeRoom(reading, bytes + piece.length)
        bytes += piece.copy(reading.buffer, bytes)
      }
      return reading.buffer.toString('utf8', 0, bytes)
    } finally {
      clearTimeout(timer)
      this.#forget(reading)
    }
  }

  #makeRoom(reading: Reading, bytes: number): void {
    const { buffer } = reading
    if (bytes <= buffer.length) return
    const { bytesMax, togetherMax } = this.#limits
    const size = Math.min(bytesMax, Math.max(bytes, 2 * buffer.length, FIRST_BYTES))
    for (const oldest of this.#running) {
      if (this.#held - buffer.length + size <= togetherMax) break
      if (oldest === reading) throw new BodyRefused(503, 'too many reviews are being read')
      this.#forget(oldest)
      oldest.request.destroy(new BodyRefused(503, 'others sent their reviews faster'))
    }
    reading.buffer = Buffer.allocUnsafeSlow(size)
    buffer.copy(reading.buffer)
    this.#held += size - buffer.length
  }

  #forget(reading: Reading): void {
    if (!this.#running.delete(reading)) return
    this.#held -= reading.buffer.length
    reading.buffer = Buffer.alloc(0)
  }
}
