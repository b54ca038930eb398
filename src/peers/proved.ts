import type { IncomingMessage } from 'node:http'
import { type Digest, matchesDigest } from '../oci/digest.ts'
import type { BlobBody } from '../upstream/registry.ts'

/** Blobs up to this size are proved before they are passed on: a fill holds as much back anyway. */
const PROVED_AHEAD_BYTES = 64 * 1024

/** True if a blob is proved before it is passed on. */
export function isShort({ offset, sizeBytes }: BlobBody): boolean {
  return offset === 0 && sizeBytes !== undefined && sizeBytes <= PROVED_AHEAD_BYTES
}

/** A short blob with its proof, so that wrong bytes of a replica cost nothing. */
export async function provedAhead(body: BlobBody, digest: Digest): Promise<BlobBody | undefined> {
  const pieces: Uint8Array[] = []
  let sizeBytes = 0
  try {
    for await (const piece of body.chunks) {
      sizeBytes += piece.byteLength
      if (sizeBytes > PROVED_AHEAD_BYTES) break
      pieces.push(Uint8Array.from(piece))
    }
  } catch {
    return undefined
  }
  const bytes = Buffer.concat(pieces)
  if (sizeBytes > PROVED_AHEAD_BYTES || !matchesDigest(bytes, digest)) {
    body.disown?.()
    return undefined
  }
  return {
    offset: 0,
    sizeBytes: bytes.byteLength,
    validator: undefined,
    isKept: body.isKept,
    chunks: once(bytes),
    [Symbol.asyncDispose]: async () => await body[Symbol.asyncDispose](),
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  await Promise.resolve()
  if (bytes.byteLength > 0) yield bytes
}

/** A body as a whole; `undefined` if it is too large, breaks off, or has not ended in time. */
export async function readUpTo(
  body: IncomingMessage,
  sizeMax: number,
  withinMs: number,
): Promise<Buffer | undefined> {
  const pieces: Uint8Array[] = []
  let sizeBytes = 0
  const timer = setTimeout(() => body.destroy(), withinMs)
  using _ = { [Symbol.dispose]: () => clearTimeout(timer) }
  try {
    for await (const piece of body as AsyncIterable<Uint8Array>) {
      sizeBytes += piece.byteLength
      if (sizeBytes > sizeMax) return undefined
      pieces.push(piece)
    }
  } catch {
    return undefined
  }
  return Buffer.concat(pieces)
}
