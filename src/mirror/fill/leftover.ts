import type { Hash } from 'node:crypto'
import { algorithmOf, type Digest, finishHash } from '../../oci/digest.ts'
import { UpstreamError } from '../../oci/error.ts'
import type { SpoolFile } from '../../storage/store.ts'
import type { Source } from '../sources.ts'
import type { StartingPoint } from './checkpoint.ts'
import { Download } from './download.ts'

const PIECE_BYTES = 1024 * 1024
/** A partial download smaller than this is not worth keeping for the next fill. */
export const KEPT_BYTES_MIN = 1024 * 1024

/**
 * Start of a fill: an open download, or none if the partial download of an earlier fill is the whole blob.
 */
export interface Beginning {
  readonly download: Download | undefined
  /** Size of the whole blob, if known. */
  readonly sizeBytes: number | undefined
  readonly leftover: Leftover
}

export interface BeginningParts {
  readonly download: (from: StartingPoint) => Download
  readonly signal: AbortSignal
  /** Called if the leftover cannot be read. The fill continues without it. */
  readonly failed: (error: unknown) => void
}

/**
 * Starts the download where the leftover of an earlier fill ends, or from the first byte with an empty file
 * if the upstream cannot continue there. `undefined`: the upstream does not have the blob. Hashing a large
 * leftover again takes seconds, and clients get its bytes meanwhile: the tail, which completes a response,
 * still waits for the proof of the whole blob.
 */
export async function beginDownload(
  file: SpoolFile,
  digest: Digest,
  parts: BeginningParts,
): Promise<Beginning | undefined> {
  let download: Download | undefined
  if (file.sizeBytes > 0) {
    const leftover = Leftover.of(file, digest, parts.signal)
    try {
      const beginning = await goOn(leftover, digest, parts)
      if (!(beginning instanceof Afresh)) return beginning
      download = beginning.download
    } catch (error) {
      await leftover.abandon()
      throw error
    }
    await leftover.abandon()
    await clear(file, download)
  }
  if (download === undefined) {
    download = parts.download(Download.start(digest))
    if (!(await download.open())) return undefined
  }
  return { download, sizeBytes: download.sizeBytes, leftover: Leftover.none() }
}

/** The leftover is unusable. The download starts at the first byte, if one is open already. */
class Afresh {
  readonly download: Download | undefined

  constructor(download?: Download) {
    this.download = download
  }
}

async function goOn(
  leftover: Leftover,
  digest: Digest,
  { download: makeDownload, failed }: BeginningParts,
): Promise<Beginning | undefined | Afresh> {
  const download = makeDownload({ offset: leftover.sizeBytes, hash: undefined })
  try {
    if (!(await download.open())) {
      await leftover.abandon()
      return undefined
    }
  } catch (error) {
    await download.close()
    if (!(error instanceof UpstreamError)) throw error
    // The upstream has no bytes after the leftover, which may be the whole blob.
    if (error.status === 416 && (await leftover.isWhole(digest, failed)))
      return { download: undefined, sizeBytes: leftover.sizeBytes, leftover }
    if (error.status === 416 || error.kind === 'invalid' || error.kind === 'mismatch') return new Afresh()
    throw error
  }
  return download.offset > 0 ? { download, sizeBytes: download.sizeBytes, leftover } : new Afresh(download)
}

async function clear(file: SpoolFile, download: Download | undefined): Promise<void> {
  try {
    await file.clear()
  } catch (error) {
    await download?.close()
    throw error
  }
}

/** Bytes of an earlier fill in a spool file, and their hash, which is computed in the background. */
class Leftover {
  readonly sizeBytes: number
  readonly hashing: Promise<Hash> | undefined
  readonly #ended: AbortController

  private constructor(
    sizeBytes: number,
    ended: AbortController,
    hashing: ((signal: AbortSignal) => Promise<Hash>) | undefined,
  ) {
    this.sizeBytes = sizeBytes
    this.#ended = ended
    this.hashing = hashing?.(ended.signal)
    // Callers that await the hash see the failure.
    this.hashing?.catch(() => undefined)
  }

  static none(): Leftover {
    return new Leftover(0, new AbortController(), undefined)
  }

  static of(file: SpoolFile, digest: Digest, lifetime: AbortSignal): Leftover {
    const { hash } = Download.start(digest)
    return new Leftover(
      file.sizeBytes,
      new AbortController(),
      async ended => await hashFile(file, hash, AbortSignal.any([ended, lifetime])),
    )
  }

  /** True if the leftover is the whole blob; false if it cannot be read. */
  async isWhole(digest: Digest, failed: (error: unknown) => void): Promise<boolean> {
    try {
      const hash = await this.hashing
      return hash !== undefined && finishHash(hash.copy(), algorithmOf(digest)) === digest
    } catch (error) {
      failed(error)
      return false
    }
  }

  /** Stops the hashing, and resolves when the file is no longer read. */
  async abandon(): Promise<void> {
    this.#ended.abort(new Error('the hash of the partial download is not needed'))
    await this.hashing?.catch(() => undefined)
  }
}

async function hashFile(file: SpoolFile, hash: Hash, signal: AbortSignal): Promise<Hash> {
  const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES)
  const sizeBytes = file.sizeBytes
  for (let offset = 0; offset < sizeBytes; ) {
    signal.throwIfAborted()
    const count = await file.read(buffer.subarray(0, Math.min(buffer.byteLength, sizeBytes - offset)), offset)
    if (count === 0) throw new Error(`spool ends at ${offset} of ${sizeBytes} bytes`)
    hash.update(buffer.subarray(0, count))
    offset += count
  }
  return hash
}

/**
 * For an untrusted registry we resume only from bytes that it sent itself, so its partial downloads are kept
 * for its own repository.
 */
export function claimantOf({ isTrusted, namespace, repository }: Source): string | undefined {
  return isTrusted ? undefined : `${namespace}/${repository}`
}

/**
 * True if the next fill can use what arrived before the error. Bytes that the upstream contradicted are
 * worthless. After a failure of the file itself, the next fill must not use the same file again.
 */
export function leavesGoodBytes(error: unknown): boolean {
  return error instanceof UpstreamError && error.kind !== 'mismatch' && error.kind !== 'invalid'
}
