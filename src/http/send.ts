import type { ServerResponse } from 'node:http'
import { untilAborted } from '../lib/abort.ts'
import type { ByteRange, Content } from '../oci/content.ts'
import type { Reply } from './reply.ts'

/** How slowly a client may read before it is taken for gone. */
export interface ReadingLimits {
  /** Without any progress for so long, in milliseconds. */
  readonly idleMs: number
  /** Fewer than {@link floorBytes} within so long, in milliseconds. */
  readonly floorMs: number
  readonly floorBytes: number
}

/** Behaviour.md, section 7. The floor is half of 1 KiB/s, since progress is seen only in pieces of 64 KiB. */
export const READING_LIMITS: ReadingLimits = { idleMs: 60_000, floorMs: 120_000, floorBytes: 60 * 1024 }

/** How often within the idle limit it is looked whether there was progress. */
const LOOKS = 20

/** A client that takes longer than this for a piece gets smaller ones, so that its progress can be seen. */
const SLOW_MS = 1000
const SLOW_PIECE_BYTES = 64 * 1024

/** The client reads too slowly, or not at all: the connection was closed. */
export class SlowReaderError extends Error {
  constructor() {
    super('the client does not read')
    this.name = 'SlowReaderError'
  }
}

/**
 * Puts a reply onto the socket and returns the count of body bytes handed over. Disposes of the content. Throws if the content fails;
 * what has been sent then is incomplete, and {@link breakOff} must follow. Ends quietly when the signal says that the client has left.
 */
export async function send(
  response: ServerResponse,
  reply: Reply,
  limits: ReadingLimits,
  signal: AbortSignal,
): Promise<number> {
  const { body, status, headers } = reply
  // Without a listener on the response, Node itself closes the connection when this timer fires.
  response.socket?.setTimeout(limits.idleMs)
  if (body.kind === 'content') {
    const { content, range } = body
    await using _ = content
    response.writeHead(status, headers)
    // The client learns at once that its download has begun, however long the upstream takes for the first byte.
    if (reply.outcome !== 'hit') response.flushHeaders()
    return await sendContent(response, content, { range, limits }, signal)
  }
  response.writeHead(status, headers)
  if (body.kind === 'none' || response.req.method === 'HEAD') {
    response.end()
    return 0
  }
  if (body.bytes.byteLength > LARGE_BYTES) await untilAborted(flushed(response, body.bytes), signal)
  endWith(response, body.bytes)
  return body.bytes.byteLength
}

/** Node joins a text to the header and writes both at once, which bytes would take two buffers and a `writev` for. */
function endWith(response: ServerResponse, bytes: Uint8Array): void {
  if (bytes.byteLength > LARGE_BYTES) response.end()
  else if (bytes.byteLength > JOINED_BYTES) response.end(bytes)
  else
    response.end(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1'), 'latin1')
}

const JOINED_BYTES = 16 * 1024

/** What may not fit into a socket's buffer is flushed before the end, as an ended response counts as done when we shut down. */
const LARGE_BYTES = 64 * 1024

async function flushed(response: ServerResponse, bytes: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  response.write(bytes, error => (error ? reject(error) : resolve()))
  await promise
}

async function sendContent(
  response: ServerResponse,
  content: Content,
  { range, limits }: { readonly range: ByteRange; readonly limits: ReadingLimits },
  signal: AbortSignal,
): Promise<number> {
  const watch = new ReaderWatch(response, limits)
  const leave = (): void => watch.abandon(signal.reason)
  signal.addEventListener('abort', leave, { once: true })
  let sentBytes = 0
  try {
    for await (const piece of content.read(range, signal)) {
      for (const slice of slices(piece, watch.isSlow)) {
        await watch.write(slice)
        sentBytes += slice.byteLength
      }
    }
    if (!signal.aborted) response.end()
  } catch (error) {
    // A write into a connection that is gone may fail before anybody has said that the client left.
    if (!signal.aborted && !response.req.socket.destroyed) throw error
  } finally {
    signal.removeEventListener('abort', leave)
    watch.stop()
  }
  if (watch.isTooSlow) throw new SlowReaderError()
  return sentBytes
}

function slices(piece: Uint8Array, isSlow: boolean): readonly Uint8Array[] {
  if (!isSlow || piece.byteLength <= SLOW_PIECE_BYTES) return [piece]
  const count = Math.ceil(piece.byteLength / SLOW_PIECE_BYTES)
  return Array.from({ length: count }, (_, index) =>
    piece.subarray(index * SLOW_PIECE_BYTES, (index + 1) * SLOW_PIECE_BYTES),
  )
}

/**
 * Writes to a client and closes the connection of one that does not read. Time in which we have nothing to give does not count: the
 * socket's own timer sees any byte that the kernel takes, and the floor is looked at only while a write is waiting.
 */
class ReaderWatch {
  readonly #response: ServerResponse
  readonly #limits: ReadingLimits
  #writeStartedAtMs: number | undefined
  #quietSinceMs = 0
  #lookedAtMs = -Infinity
  #waitedMs = 0
  #windowBytes = 0
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

  /** Resolves once the kernel has taken the piece, whose bytes may then be reused. */
  async write(piece: Uint8Array): Promise<void> {
    const startedAtMs = performance.now()
    this.#writeStartedAtMs = startedAtMs
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

  /** Ends the write that waits, as its client has left. */
  abandon(reason: unknown): void {
    this.#abandon(reason)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#response.removeListener('timeout', this.#onIdle)
    this.#response.socket?.setTimeout(this.#limits.idleMs)
  }

  /**
   * Node's timer is silent if the kernel has taken a part of a write since it was set, so that it sees no progress only at its second
   * end: with the whole limit as its length it would take up to twice as long. So it is short, and its ends in a row are counted.
   */
  readonly #onIdle = (): void => {
    const { idleMs } = this.#limits
    const nowMs = performance.now()
    const lookMs = idleMs / LOOKS
    const isInARow = nowMs - this.#lookedAtMs < 1.5 * lookMs
    if (!isInARow || this.#writeStartedAtMs === undefined) this.#quietSinceMs = nowMs - lookMs
    this.#lookedAtMs = nowMs
    if (this.#writeStartedAtMs !== undefined && nowMs - this.#quietSinceMs >= idleMs) this.#giveUp()
    else this.#response.socket?.setTimeout(lookMs)
  }

  /** Every full window of waiting is judged by what went out in it. */
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

/**
 * Ends a response that cannot be completed: what was written is flushed, then FIN, so that clients can resume by Range. The
 * connection is never used again, and a chunked body never gets its last chunk. To an HTTP/1.0 client without a length the FIN
 * would be the proper end of the body (RFC 9112, section 6.3), so that one gets a reset.
 */
export function breakOff(response: ServerResponse): void {
  const isEndedByClose = response.req.httpVersion === '1.0' && !response.hasHeader('content-length')
  if (isEndedByClose) response.socket?.resetAndDestroy()
  else response.socket?.destroySoon()
}
