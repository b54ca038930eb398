import type { Hash } from 'node:crypto'
import { finishHash, startHash } from '../../oci/digest.ts'
import { UpstreamError } from '../../oci/error.ts'
import type { BlobBody } from '../../upstream/registry.ts'
import type { Silence } from './silence.ts'

/** Position from which another download can continue. */
export interface Checkpoint {
  readonly offset: number
  /** Hash of all bytes before the offset. Shared: update only a copy. */
  readonly hash: Hash
}

/**
 * A checkpoint, or the size of a partial download that has not been hashed again yet; `Download.takeUp`
 * supplies its hash later.
 */
export type StartingPoint = Checkpoint | { readonly offset: number; readonly hash: undefined }

/**
 * Reads a body that starts at byte 0 up to the offset already reached, and proves that this prefix is the
 * same. Returns the rest as a body.
 */
export async function skipPrefix(
  body: BlobBody,
  reached: Checkpoint,
  { algorithm, silence }: { readonly algorithm: 'sha256' | 'sha512'; readonly silence: Silence },
): Promise<BlobBody> {
  const hash = startHash(algorithm)
  const iterator = body.chunks[Symbol.asyncIterator]()
  let skipped = 0
  let rest: Uint8Array = new Uint8Array(0)
  while (skipped < reached.offset) {
    const next = await iterator.next()
    silence.end()
    silence.begin()
    if (next.done === true)
      throw new UpstreamError(
        'mismatch',
        'the upstream sent the blob from its start again and ended it too early',
      )
    const wantedBytes = Math.min(next.value.byteLength, reached.offset - skipped)
    hash.update(next.value.subarray(0, wantedBytes))
    skipped += wantedBytes
    rest = next.value.subarray(wantedBytes)
  }
  if (finishHash(hash, algorithm) !== finishHash(reached.hash, algorithm)) {
    throw new UpstreamError('mismatch', 'the upstream sent the blob from its start again with other bytes')
  }
  return {
    offset: reached.offset,
    sizeBytes: body.sizeBytes,
    validator: body.validator,
    chunks: after(rest, iterator),
    [Symbol.asyncDispose]: async () => await body[Symbol.asyncDispose](),
  }
}

async function* after(first: Uint8Array, iterator: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (first.byteLength > 0) yield first
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value
}
