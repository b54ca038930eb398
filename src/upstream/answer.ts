import type { Readable } from 'node:stream'
import type { Clock } from '../lib/clock.ts'
import type { Target } from './dial/target.ts'
import { Trouble } from './failure.ts'
import { PacedBody, type PaceLimits } from './paced-body.ts'

/** Response headers by lower-case name. A header that was sent several times is a list. */
export type AnswerHeaders = Readonly<Record<string, string | readonly string[] | undefined>>

/**
 * An upstream's answer whose body is still arriving. Its owner reads the body or calls {@link discardBody}.
 */
export interface UpstreamAnswer {
  readonly status: number
  readonly headers: AnswerHeaders
  readonly body: Readable
  /** Where the answer came from, after redirects. */
  readonly target: Target
}

/** An unread body of at most this size is read to its end, so that its connection can be used again. */
const DISCARD_MAX = 64 * 1024

/** The value of a header that was sent exactly once. */
export function headerOf(headers: AnswerHeaders, name: string): string | undefined {
  const value = headers[name]
  return typeof value === 'string' ? value : undefined
}

/** All values of a header. */
export function headersOf(headers: AnswerHeaders, name: string): readonly string[] {
  const value = headers[name]
  return value === undefined ? [] : typeof value === 'string' ? [value] : value
}

const COUNT = /^[0-9]{1,15}$/

/** `Content-Length`, if it was sent and is a number. */
export function lengthOf(headers: AnswerHeaders): number | undefined {
  const text = headerOf(headers, 'content-length')
  return text !== undefined && COUNT.test(text) ? Number(text) : undefined
}

export interface WholeRead {
  readonly sizeMax: number
  readonly limits: PaceLimits
  readonly clock: Pick<Clock, 'monotonicMs'>
}

/** Reads a body to its end as it comes. Throws a {@link Trouble} of kind `invalid` if it is too large. */
export async function readWhole(answer: UpstreamAnswer, read: WholeRead): Promise<Buffer> {
  const tooLarge = `sent an answer of more than ${read.sizeMax} bytes`
  if ((lengthOf(answer.headers) ?? 0) > read.sizeMax) {
    answer.body.destroy()
    throw new Trouble('invalid', tooLarge)
  }
  const pieces: Uint8Array[] = []
  let sizeBytes = 0
  for await (const piece of new PacedBody(answer.body, read.limits, read.clock)) {
    sizeBytes += piece.byteLength
    if (sizeBytes > read.sizeMax) throw new Trouble('invalid', tooLarge)
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

/**
 * Disposes of an unwanted body: reads a short one, so that its connection stays usable, and destroys any
 * other.
 */
export function discardBody(answer: UpstreamAnswer): void {
  const { body } = answer
  if (body.destroyed || body.readableEnded) return
  if ((lengthOf(answer.headers) ?? 0) > DISCARD_MAX) {
    body.destroy()
    return
  }
  let restBytes = DISCARD_MAX
  const timer = setTimeout(() => body.destroy(), DISCARD_MS)
  body.on('data', (piece: Uint8Array) => {
    restBytes -= piece.byteLength
    if (restBytes < 0) body.destroy()
  })
  body.once('close', () => clearTimeout(timer))
}

const DISCARD_MS = 1000
