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
  /** Bytes of all bodies that are being read. */
  readonly togetherMax: number
  /** The API server waits for at most 30 s. */
  readonly limitMs: number
}

const BODY_LIMITS: BodyLimits = {
  bytesMax: 16 * 1024 * 1024,
  togetherMax: 64 * 1024 * 1024,
  limitMs: 30_000,
}

/** Reads the bodies of reviews within limits of memory and time. */
export class Bodies {
  readonly #limits: BodyLimits
  #held = 0

  constructor(limits: BodyLimits = BODY_LIMITS) {
    this.#limits = limits
  }

  /** The whole body as text. Throws a {@link BodyRefused} beyond a limit. */
  async read(request: Readable): Promise<string> {
    const { bytesMax, limitMs } = this.#limits
    const pieces: Buffer[] = []
    let bytes = 0
    const timer = setTimeout(
      () => request.destroy(new BodyRefused(408, `the body took longer than ${limitMs / 1000} s`)),
      limitMs,
    )
    try {
      // A refusal can still be answered if the request is not destroyed here.
      const read = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>
      for await (const piece of read) {
        bytes += piece.length
        this.#held += piece.length
        if (bytes > bytesMax) throw new BodyRefused(413, `the body is larger than ${bytesMax} bytes`)
        if (this.#held > this.#limits.togetherMax)
          throw new BodyRefused(503, 'too many reviews are being read')
        pieces.push(piece)
      }
      return Buffer.concat(pieces).toString('utf8')
    } finally {
      clearTimeout(timer)
      this.#held -= bytes
    }
  }
}
