import type { ServerResponse } from 'node:http'
import { untilAborted } from '../lib/abort.ts'
import type { ByteRange } from '../oci/content.ts'
import { FilePour } from './file-pour.ts'
import type { FileSender } from './file-sender.ts'
import { ReaderWatch, type ReadingLimits } from './reader-watch.ts'
import type { Body, Reply, SentContent } from './reply.ts'

export interface SendingLimits extends ReadingLimits {
  /** Sends files inside the kernel. Without it, or where it does not apply, they are read and written. */
  readonly sender?: FileSender | undefined
}

/** Ranges below this size are read and written: that takes one call less. */
const POURED_BYTES = 32 * 1024

/** The floor is half of 1 KiB/s, because progress shows only in pieces of 64 KiB. */
export const READING_LIMITS: ReadingLimits = { idleMs: 60_000, floorMs: 120_000, floorBytes: 60 * 1024 }

/** The connection was closed because the client read too slowly, or not at all. */
export class SlowReaderError extends Error {
  constructor() {
    super('the client does not read')
    this.name = 'SlowReaderError'
  }
}

/**
 * Writes a reply to the socket and returns the count of body bytes handed over. Disposes of the content.
 * Throws if the content fails: what was sent is then incomplete, and the caller must call {@link breakOff}.
 * Ends without an error when the signal reports that the client has left.
 */
export async function send(
  response: ServerResponse,
  reply: Reply,
  limits: SendingLimits,
  signal: AbortSignal,
): Promise<number> {
  const sentBytes = sendAtOnce(response, reply, limits)
  if (sentBytes !== undefined) return sentBytes
  const { body, status, headers } = reply
  // Not for a reply that is sent at once: its length is known, and Node would write it in two pieces.
  response.strictContentLength = true
  response.socket?.setTimeout(limits.idleMs)
  if (body.kind === 'content') {
    const { content, range } = body
    await using _ = content
    response.writeHead(status, headers)
    // The client should learn at once that its download has begun, however long the upstream takes for the
    // first byte.
    if (reply.outcome !== 'hit') response.flushHeaders()
    const isSized = 'Content-Length' in headers
    return await sendContent(response, content, { range, limits, isSized }, signal)
  }
  response.writeHead(status, headers)
  if (body.kind !== 'bytes') return 0
  await untilAborted(flushed(response, body.bytes), signal)
  response.end()
  return body.bytes.byteLength
}

/**
 * Sends a reply that needs no waiting, and returns the count of body bytes. Returns `undefined` if
 * {@link send} has to send it.
 */
export function sendAtOnce(
  response: ServerResponse,
  { body, status, headers, fields }: Reply,
  limits: ReadingLimits,
): number | undefined {
  if (body.kind === 'content') return undefined
  const isHead = response.req.method === 'HEAD'
  if (body.kind === 'bytes' && body.bytes.byteLength > LARGE_BYTES && !isHead) return undefined
  // Without a listener on the response, Node itself closes the connection when this timer fires.
  response.socket?.setTimeout(limits.idleMs)
  if (fields === undefined) response.writeHead(status, headers)
  else response.writeHead(status, fields as string[])
  if (body.kind === 'none' || isHead) {
    response.end()
    return 0
  }
  const joined = body.kind === 'bytes' ? joinedBody(body.bytes) : body
  if (joined.kind === 'text') {
    response.end(joined.text, 'latin1')
    return joined.text.length
  }
  response.end(joined.bytes)
  return joined.bytes.byteLength
}

/**
 * A small body as a text. Node joins a text to the header and writes both at once; bytes would take two
 * buffers and a `writev`.
 */
export function joinedBody(bytes: Uint8Array): Extract<Body, { readonly kind: 'bytes' | 'text' }> {
  if (bytes.byteLength > JOINED_BYTES) return { kind: 'bytes', bytes }
  return {
    kind: 'text',
    text: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1'),
  }
}

const JOINED_BYTES = 16 * 1024

/**
 * Size in bytes above which a body may not fit into a socket's buffer. Such a body is flushed before the end,
 * because shutdown counts an ended response as done.
 */
const LARGE_BYTES = 64 * 1024

async function flushed(response: ServerResponse, bytes: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  response.write(bytes, error => (error ? reject(error) : resolve()))
  await promise
}

interface Sending {
  readonly range: ByteRange
  readonly limits: SendingLimits
  /** True if the header states the length of the body. Otherwise Node sends it in chunks. */
  readonly isSized: boolean
}

async function sendContent(
  response: ServerResponse,
  content: SentContent,
  { range, limits, isSized }: Sending,
  signal: AbortSignal,
): Promise<number> {
  const watch = new ReaderWatch(response, limits)
  const leave = (): void => watch.abandon(signal.reason)
  signal.addEventListener('abort', leave, { once: true })
  let offset = range.start
  try {
    const pour = pourOf(response, content, { range, limits, isSized, watch })
    if (pour !== undefined) offset = await pour.sendTo(range.end, signal)
    const rest = { start: offset, end: range.end }
    if (pour === undefined || (offset < range.end && !signal.aborted)) {
      for await (const piece of content.read(rest, signal, offset > range.start)) {
        if (offset + piece.byteLength > range.end) throw new Error('the content is longer than its range')
        await watch.writeAll(piece)
        offset += piece.byteLength
      }
    }
    if (signal.aborted) return offset - range.start
    if (pour !== undefined && offset < range.end) throw new Error('the content is shorter than its range')
    response.end()
  } catch (error) {
    // A write into a closed connection may fail before the closing is reported.
    if (!signal.aborted && !response.req.socket.destroyed) throw error
  } finally {
    signal.removeEventListener('abort', leave)
    watch.stop()
  }
  if (watch.isTooSlow) throw new SlowReaderError()
  return offset - range.start
}

/** Prepares to send a file inside the kernel, if content, connection and system allow it. */
function pourOf(
  response: ServerResponse,
  content: SentContent,
  { range, limits: { sender }, isSized, watch }: Sending & { readonly watch: ReaderWatch },
): FilePour | undefined {
  if (sender === undefined || !isSized || range.end - range.start < POURED_BYTES) return undefined
  const { file } = content
  if (file === undefined || sender.socketOf(response.socket) === undefined) return undefined
  // Node does not count the bytes that the kernel sends.
  response.strictContentLength = false
  return new FilePour({ sender, response, watch, content, file }, range.start)
}

/**
 * Ends a response that cannot be completed. Written bytes are flushed, then FIN is sent, so that clients can
 * resume by Range. The connection is never used again, and a chunked body never gets its last chunk. For an
 * HTTP/1.0 client without a length, the FIN would mark the proper end of the body (RFC 9112, section 6.3), so
 * that client gets a reset.
 */
export function breakOff(response: ServerResponse): void {
  const isEndedByClose = response.req.httpVersion === '1.0' && !response.hasHeader('content-length')
  if (isEndedByClose) response.socket?.resetAndDestroy()
  else response.socket?.destroySoon()
}
