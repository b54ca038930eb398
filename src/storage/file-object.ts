import type { BigIntStats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { openRegular, readFully } from './regular-file.ts'
import type { StoredObject } from './store.ts'

/** Large enough that system calls do not count (measured: 64 KiB pieces are a quarter slower), small enough for 4,000 readers. */
const PIECE_BYTES = 256 * 1024

/** Content in a regular file. */
export class FileObject implements StoredObject {
  readonly sizeBytes: number
  readonly version: string
  readonly #handle: FileHandle

  constructor(handle: FileHandle, stats: BigIntStats) {
    this.#handle = handle
    this.sizeBytes = Number(stats.size)
    // The store itself never writes into a visible file; whoever else does changes one of these. The rename of `adopt` moves ctime,
    // so what is read before it is never the version that later opens see.
    this.version = [stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join('-')
  }

  /** Two buffers take turns: while the reader has one, the next read fills the other. */
  async *read(start: number, end: number): AsyncGenerator<Uint8Array> {
    if (!(start >= 0 && start <= end && end <= this.sizeBytes)) {
      throw new RangeError(`bytes ${start} to ${end} are not within an object of ${this.sizeBytes} bytes`)
    }
    const length = end - start
    let current = Buffer.allocUnsafeSlow(Math.min(length, PIECE_BYTES))
    let other = Buffer.allocUnsafeSlow(Math.min(Math.max(length - PIECE_BYTES, 0), PIECE_BYTES))
    let position = start
    let ahead = position < end ? this.#fill(current, position, end) : undefined
    try {
      while (ahead !== undefined) {
        const piece: Uint8Array = await ahead
        position += piece.length
        ahead = position < end ? this.#fill(other, position, end) : undefined
        yield piece
        ;[current, other] = [other, current]
      }
    } finally {
      // A reader that leaves early leaves no read behind that would still write into a buffer.
      await ahead?.catch(() => undefined)
    }
  }

  #fill(buffer: Buffer, position: number, end: number): Promise<Uint8Array> {
    const length = Math.min(PIECE_BYTES, end - position)
    const reading = readFully(this.#handle, buffer, { position, length }).then(() =>
      length === buffer.length ? buffer : buffer.subarray(0, length),
    )
    // Whoever awaits it sees the failure; this only says that it may come before anybody does.
    reading.catch(() => undefined)
    return reading
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close()
  }
}

/** Opens the content at a path; `undefined` if nothing is there. */
export async function openFileObject(path: string): Promise<FileObject | undefined> {
  const file = await openRegular(path, 'read')
  return file === undefined ? undefined : new FileObject(file.handle, file.stats)
}
