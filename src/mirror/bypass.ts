import type { ByteRange } from '../oci/content.ts'
import type { Download } from './download.ts'
import { HELD_BACK_BYTES } from './spool.ts'

interface Held {
  readonly offset: number
  readonly bytes: Uint8Array
}

/**
 * Gives out a range of a download as it passes, for when nothing can be stored. The last 64 KiB are always in hand, and go out only
 * after the download has ended, which it does only if the whole blob matched its digest. `before` are bytes in front of the
 * download's own, from the range's start on.
 */
export async function* passThrough(
  download: Download,
  range: ByteRange,
  before: Uint8Array,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const held: Held[] = []
  let offset = download.progress.offset
  let heldBytes = before.byteLength
  if (before.byteLength > 0) held.push({ offset: offset - before.byteLength, bytes: before })
  for await (const chunk of download.chunks()) {
    if (signal.aborted) return
    held.push({ offset, bytes: chunk })
    offset += chunk.byteLength
    heldBytes += chunk.byteLength
    for (let first = held[0]; first !== undefined; first = held[0]) {
      if (heldBytes - first.bytes.byteLength < HELD_BACK_BYTES) break
      if (first.offset >= range.end) return
      held.shift()
      heldBytes -= first.bytes.byteLength
      yield* clip(first, range)
    }
  }
  for (const last of held) yield* clip(last, range)
}

function* clip({ offset, bytes }: Held, { start, end }: ByteRange): Generator<Uint8Array> {
  const clipped = bytes.subarray(
    Math.max(0, start - offset),
    Math.max(0, Math.min(bytes.byteLength, end - offset)),
  )
  if (clipped.byteLength > 0) yield clipped
}
