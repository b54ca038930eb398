import type { IncomingMessage, ServerResponse } from 'node:http'
import type { IncomingBytes } from '../content/hosting.ts'
import { OciError } from '../oci/error.ts'

/** Slowest a client may send: at least this many bytes within this time, in milliseconds. */
const FLOOR_MS = 60_000
const FLOOR_BYTES = 30 * 1024
/** Unread rest of a body that is read and dropped, so that the client reads the answer. */
const DROPPED_BYTES_MAX = 1024 * 1024
const DROPPED_MS_MAX = 2000

/** The body of a request that sends content. */
export interface RequestBody extends IncomingBytes {
  /** True if the client waits for a go-ahead that it was never given. */
  readonly isAwaited: () => boolean
  readonly request: IncomingMessage
}

/** Limits of the speed of a body; tests have their own. */
export interface BodyFloor {
  readonly floorMs: number
  readonly floorBytes: number
}

/**
 * The body of a request. A client that sent `Expect: 100-continue` gets its go-ahead with the first read, so
 * that a request which is refused costs it no upload.
 */
export function bodyOf(
  request: IncomingMessage,
  response: ServerResponse,
  floor: BodyFloor = { floorMs: FLOOR_MS, floorBytes: FLOOR_BYTES },
): RequestBody {
  let isAwaited = request.headers.expect?.toLowerCase() === '100-continue'
  const length = request.headers['content-length']
  async function* pieces(): AsyncGenerator<Uint8Array> {
    if (isAwaited) response.writeContinue()
    isAwaited = false
    yield* watched(request, floor)
  }
  return {
    request,
    pieces: { [Symbol.asyncIterator]: pieces },
    sizeBytes: length === undefined ? undefined : Number(length),
    isAwaited: () => isAwaited,
  }
}

/** Reads a whole body of limited size into memory. BODY_TOO_LARGE if it is larger; `what` is its name. */
export async function readSmallBody(
  body: RequestBody,
  what: 'manifest' | 'form',
  bytesMax: number,
): Promise<Buffer> {
  const tooLarge = (): OciError =>
    new OciError('BODY_TOO_LARGE', `a ${what} of more than ${bytesMax} bytes is not taken`)
  if ((body.sizeBytes ?? 0) > bytesMax) throw tooLarge()
  const pieces: Uint8Array[] = []
  let sizeBytes = 0
  for await (const piece of body.pieces) {
    sizeBytes += piece.byteLength
    if (sizeBytes > bytesMax) throw tooLarge()
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

/**
 * Gets rid of a body that nobody has read to its end. Returns false if the connection must be closed, because
 * more may come.
 */
export async function dropRest({ request, isAwaited, sizeBytes }: RequestBody): Promise<boolean> {
  if (request.complete) return true
  if (isAwaited() || (sizeBytes ?? 0) > DROPPED_BYTES_MAX || request.destroyed) return false
  const { promise, resolve } = Promise.withResolvers<boolean>()
  let droppedBytes = 0
  const timer = setTimeout(() => resolve(false), DROPPED_MS_MAX)
  request.on('data', (piece: Uint8Array) => {
    droppedBytes += piece.byteLength
    if (droppedBytes > DROPPED_BYTES_MAX) resolve(false)
  })
  request.once('end', () => resolve(true))
  request.once('close', () => resolve(request.complete))
  request.resume()
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    request.removeAllListeners('data')
  }
}

/** Yields the pieces of a request, and throws if they come too slowly. */
async function* watched(
  request: IncomingMessage,
  { floorMs, floorBytes }: BodyFloor,
): AsyncGenerator<Uint8Array> {
  const slow = Promise.withResolvers<never>()
  slow.promise.catch(() => undefined)
  let sinceBytes = 0
  let isReading = true
  const timer = setInterval(() => {
    // A client that waits for us is not slow.
    if (isReading && sinceBytes < floorBytes)
      slow.reject(new OciError('BLOB_UPLOAD_INVALID', 'the client sends too slowly: what came is kept'))
    sinceBytes = 0
  }, floorMs).unref()
  const pieces = request.iterator({ destroyOnReturn: false })
  try {
    for (;;) {
      isReading = true
      const next = await Promise.race([pieces.next(), slow.promise])
      isReading = false
      if (next.done === true) return
      const piece = next.value as Uint8Array
      sinceBytes += piece.byteLength
      yield piece
    }
  } finally {
    clearInterval(timer)
    // Nothing flows while it is attached to the request, so the rest could not be dropped. Not awaited: it
    // may wait for a piece.
    pieces.return?.().catch(() => undefined)
  }
}
