import { HELD_BACK_BYTES } from '../../content/tail.ts'
import { bytesIn } from '../../lib/read-ahead.ts'
import { Semaphore } from '../../lib/semaphore.ts'
import type { ByteRange, Content } from '../../oci/content.ts'
import type { Digest } from '../../oci/digest.ts'
import { overloaded } from '../../oci/error.ts'
import { OCTET_STREAM } from '../../oci/media-type.ts'
import type { Checkpoint } from './checkpoint.ts'
import { Download, type DownloadParts, type Wanted } from './download.ts'

/**
 * Fewer than the bodies that one upstream sends at once, so that slow clients leave connections for fills.
 */
const PLACES = 32
const WAITING_MAX = 1024
/** Longest wait for a place before the first header, in milliseconds: clients give up soon after. */
const WAIT_MS_MAX = 15_000
const NOTHING = new Uint8Array(0)

/**
 * Checkpoint at which the download for one reader starts, and the bytes before it that the reader has not
 * received yet.
 */
export interface TakeOver {
  readonly checkpoint: Checkpoint
  readonly held: Uint8Array
}

/**
 * Downloads that pass straight through to one client each, for when nothing can be stored. Each runs at the
 * pace of its client, so only a limited number runs at once; the others wait.
 */
export class Bypass {
  readonly #parts: DownloadParts
  readonly #places: Semaphore

  constructor(parts: DownloadParts, places: number = PLACES) {
    this.#parts = parts
    this.#places = new Semaphore(places)
  }

  /**
   * Opens the blob from its first byte; `undefined` if the upstream does not have it. Throws an OciError
   * UNAVAILABLE if too many requests wait already, or this one has waited for too long. The caller disposes
   * of the content.
   */
  async open(wanted: Wanted, lifetime: AbortSignal): Promise<Content | undefined> {
    const leave = await this.#enterSoon(lifetime)
    const left = new AbortController()
    const start = Download.start(wanted.digest)
    const download = new Download(this.#parts, wanted, start, AbortSignal.any([lifetime, left.signal]))
    try {
      if (await download.open()) return contentOf(wanted.digest, { download, left, leave })
    } catch (error) {
      leave()
      throw error
    }
    leave()
    return undefined
  }

  async #enterSoon(lifetime: AbortSignal): Promise<() => void> {
    if (this.#places.waiting >= WAITING_MAX) throw overloaded()
    const [inside, late] = [new AbortController(), new AbortController()]
    this.#parts.clock.delay(WAIT_MS_MAX, inside.signal).then(
      () => late.abort(overloaded()),
      () => undefined,
    )
    try {
      return await this.#places.enter(AbortSignal.any([lifetime, late.signal]))
    } finally {
      inside.abort()
    }
  }

  /** Reads a range of the blob for a client that received its earlier bytes from elsewhere. */
  async *read(
    wanted: Wanted,
    range: ByteRange,
    signal: AbortSignal,
    from?: TakeOver,
  ): AsyncGenerator<Uint8Array> {
    const { checkpoint, held } = from ?? { checkpoint: Download.start(wanted.digest), held: NOTHING }
    let leave: () => void
    try {
      leave = await this.#places.enter(signal)
    } catch (error) {
      if (signal.aborted) return
      throw error
    }
    try {
      yield* passThrough(new Download(this.#parts, wanted, checkpoint, signal), range, held, signal)
    } finally {
      leave()
    }
  }
}

function contentOf(
  digest: Digest,
  {
    download,
    left,
    leave,
  }: { readonly download: Download; readonly left: AbortController; readonly leave: () => void },
): Content {
  const end = (): void => left.abort(new Error('the client is done'))
  return {
    digest,
    mediaType: OCTET_STREAM,
    sizeBytes: download.sizeBytes,
    read: (range, signal) => {
      // Aborts a stalled download, so that it does not keep its place after the client has left.
      signal.addEventListener('abort', end, { once: true })
      return passThrough(download, range, NOTHING, signal)
    },
    [Symbol.asyncDispose]: async () => {
      end()
      await download.close()
      leave()
    },
  }
}

interface Held {
  readonly offset: number
  readonly bytes: Uint8Array
}

/**
 * Yields a range of a download as it passes. The last 64 KiB are held back until the download has ended,
 * which it does only if the whole blob matched its digest. `before` holds the bytes from the start of the
 * range up to the start of the download.
 */
export async function* passThrough(
  download: Download,
  range: ByteRange,
  before: Uint8Array,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const held: Held[] = []
  let offset = download.checkpoint.offset
  let heldBytes = before.byteLength
  if (before.byteLength > 0) held.push({ offset: offset - before.byteLength, bytes: before })
  try {
    for await (const chunks of download.chunks()) {
      if (signal.aborted) return
      for (const bytes of chunks) {
        held.push({ offset, bytes })
        offset += bytes.byteLength
      }
      heldBytes += bytesIn(chunks)
      for (let first = held[0]; first !== undefined; first = held[0]) {
        if (heldBytes - first.bytes.byteLength < HELD_BACK_BYTES) break
        if (first.offset >= range.end) return
        held.shift()
        heldBytes -= first.bytes.byteLength
        yield* partOf(first, range)
      }
    }
  } catch (error) {
    if (signal.aborted) return
    throw error
  }
  for (const last of held) yield* partOf(last, range)
}

function* partOf({ offset, bytes }: Held, { start, end }: ByteRange): Generator<Uint8Array> {
  const clipped = bytes.subarray(
    Math.max(0, start - offset),
    Math.max(0, Math.min(bytes.byteLength, end - offset)),
  )
  if (clipped.byteLength > 0) yield clipped
}
