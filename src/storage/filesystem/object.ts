import type { BigIntStats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { readAhead } from '../../lib/read-ahead.ts'
import type { BufferPool } from '../../lib/reader-buffers.ts'
import type { LocalFile, StoredObject } from '../store.ts'
import { openRegular, readFully } from './regular-file.ts'

/** Content in a regular file. */
export class FileObject implements StoredObject {
  readonly sizeBytes: number
  readonly version: string
  readonly file: LocalFile
  readonly #handle: FileHandle
  readonly #buffers: BufferPool

  constructor({ handle, stats, buffers }: FileObjectParts) {
    this.#handle = handle
    this.#buffers = buffers
    this.file = { fd: handle.fd }
    this.sizeBytes = Number(stats.size)
    // The store never writes into a visible file. A write by another program changes one of these values. The
    // rename of `adopt` changes ctime, so a version read before it never equals the version of a later open.
    this.version = [stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join('-')
  }

  read(start: number, end: number): AsyncIterable<Uint8Array> {
    if (!(start >= 0 && start <= end && end <= this.sizeBytes)) {
      throw new RangeError(`bytes ${start} to ${end} are not within an object of ${this.sizeBytes} bytes`)
    }
    const readInto = async (buffer: Buffer, position: number, length: number): Promise<void> =>
      await readFully(this.#handle, buffer, { position, length })
    return readAhead(this.#buffers, readInto, { start, end })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close()
  }
}

/** Opens the content at a path; `undefined` if nothing is there. */
export async function openFileObject(path: string, buffers: BufferPool): Promise<FileObject | undefined> {
  const file = await openRegular(path, 'read')
  return file === undefined ? undefined : new FileObject({ ...file, buffers })
}

interface FileObjectParts {
  readonly handle: FileHandle
  readonly stats: BigIntStats
  readonly buffers: BufferPool
}
