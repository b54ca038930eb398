import type { Clock } from '../lib/clock.ts'
import { headerOf, lengthOf, type UpstreamAnswer } from './answer.ts'
import { authorityText } from './dial/target.ts'
import { isGzipped } from './encoding.ts'
import { asUpstreamError, Trouble } from './failure.ts'
import { PacedBody, type PaceLimits } from './paced-body.ts'
import type { BlobBody, BlobFrom } from './registry.ts'

export interface BlobContext {
  readonly clock: Pick<Clock, 'monotonicMs'>
  readonly limits: PaceLimits
  readonly signal: AbortSignal
  /** Called with the number of new bytes, after every mebibyte and at the end. */
  readonly onBytes: (bytes: number) => void
  /** Called once, when the body has ended or was given up. */
  readonly onEnd: () => void
}

/** Where a body starts and ends within its blob. */
export interface BlobExtent {
  readonly offset: number
  readonly sizeBytes: number | undefined
}

const CONTENT_RANGE = /^bytes ([0-9]{1,15})-([0-9]{1,15})\/([0-9]{1,15}|\*)$/
const STRONG_ETAG = /^"[\x21\x23-\x7e]{1,512}"$/
const REPORTED_BYTES = 1024 * 1024

/**
 * The part of the blob that an answer brings. `undefined` if it is not the part that was asked for: another
 * range, one that contradicts its own length, or a range of a body with another validator.
 */
export function blobExtentOf(answer: UpstreamAnswer, from: BlobFrom): BlobExtent | undefined {
  const lengthBytes = lengthOf(answer.headers)
  if (answer.status === 200) return { offset: 0, sizeBytes: lengthBytes }
  // It is a range of the packed bytes.
  if (isGzipped(answer.headers)) return undefined
  const [, start, end, total] = CONTENT_RANGE.exec(headerOf(answer.headers, 'content-range') ?? '') ?? []
  if (answer.status !== 206 || from.offset === 0 || Number(start) !== from.offset) return undefined
  const endOffset = Number(end) + 1
  const sizeBytes = total === '*' ? undefined : Number(total)
  if (endOffset <= from.offset || (sizeBytes !== undefined && endOffset > sizeBytes)) return undefined
  if (lengthBytes !== undefined && lengthBytes !== endOffset - from.offset) return undefined
  const validator = strongEtagOf(answer)
  if (from.validator !== undefined && validator !== undefined && validator !== from.validator)
    return undefined
  return { offset: from.offset, sizeBytes }
}

/** The answer's `ETag`, if it is a strong one (RFC 9110 §8.8.3). */
function strongEtagOf(answer: UpstreamAnswer): string | undefined {
  const etag = headerOf(answer.headers, 'etag')
  return etag !== undefined && STRONG_ETAG.test(etag) ? etag : undefined
}

/** A blob's body as it comes from an upstream. */
export class UpstreamBlob implements BlobBody {
  readonly offset: number
  readonly sizeBytes: number | undefined
  readonly validator: string | undefined
  readonly chunks: AsyncIterable<Uint8Array>
  readonly areChunksOurs = true
  readonly #answer: UpstreamAnswer
  readonly #context: BlobContext
  #isOver = false

  constructor(answer: UpstreamAnswer, extent: BlobExtent, context: BlobContext) {
    this.offset = extent.offset
    this.sizeBytes = extent.sizeBytes
    this.validator = strongEtagOf(answer)
    this.#answer = answer
    this.#context = context
    this.chunks = this.#read()
    // A body that breaks or ends unread frees its place too.
    answer.body.once('close', () => this.#end())
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#answer.body.destroy()
    this.#end()
    return Promise.resolve()
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    const { clock, limits, signal, onBytes } = this.#context
    let position = this.offset
    let unreported = 0
    try {
      for await (const piece of new PacedBody(this.#answer.body, limits, clock)) {
        position += piece.byteLength
        if (position > (this.sizeBytes ?? Number.POSITIVE_INFINITY)) {
          throw new Trouble('invalid', 'sent more than it announced')
        }
        unreported += piece.byteLength
        if (unreported >= REPORTED_BYTES) {
          onBytes(unreported)
          unreported = 0
        }
        yield piece
      }
      if (position < (this.sizeBytes ?? 0)) throw new Trouble('cut', 'broke off the connection')
    } catch (error) {
      throw asUpstreamError(error, authorityText(this.#answer.target.origin), signal)
    } finally {
      if (unreported > 0) onBytes(unreported)
      this.#end()
    }
  }

  #end(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#context.onEnd()
  }
}
