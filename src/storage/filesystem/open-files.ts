import type { BigIntStats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import type { BufferPool } from '../../lib/reader-buffers.ts'
import { FileObject, versionOf } from './object.ts'
import { openRegular } from './regular-file.ts'

interface SharedFile {
  readonly handle: FileHandle
  readonly version: string
  users: number
}

/**
 * Open content, by path. Readers that come while another one reads the same content share its descriptor: a
 * thousand clients of one blob need one, and opening costs each of them one call instead of three.
 */
export class OpenFiles {
  readonly #buffers: BufferPool
  readonly #files = new Map<string, SharedFile>()

  constructor(buffers: BufferPool) {
    this.#buffers = buffers
  }

  /** Opens the content at a path; `undefined` if nothing is there. */
  async open(path: string): Promise<FileObject | undefined> {
    const shared = this.#files.get(path)
    return (shared === undefined ? undefined : await this.#share(path, shared)) ?? (await this.#open(path))
  }

  /** Joins the readers of a file; `undefined` if it is not what lies at the path any more. */
  async #share(path: string, shared: SharedFile): Promise<FileObject | undefined> {
    shared.users += 1
    let stats: BigIntStats | undefined
    try {
      stats = await shared.handle.stat({ bigint: true })
    } catch {
      // Opening it anew shows what is wrong.
    }
    // A removed file has no name. A file that was moved aside has another ctime.
    if (stats !== undefined && stats.nlink > 0n && versionOf(stats) === shared.version)
      return this.#objectOf(path, shared, stats)
    await this.#leave(path, shared)
    return undefined
  }

  async #open(path: string): Promise<FileObject | undefined> {
    const file = await openRegular(path, 'read')
    if (file === undefined) return undefined
    const shared = { handle: file.handle, version: versionOf(file.stats), users: 1 }
    this.#files.set(path, shared)
    return this.#objectOf(path, shared, file.stats)
  }

  #objectOf(path: string, shared: SharedFile, stats: BigIntStats): FileObject {
    let hasLeft = false
    return new FileObject({
      handle: shared.handle,
      stats,
      buffers: this.#buffers,
      close: async () => {
        if (hasLeft) return
        hasLeft = true
        await this.#leave(path, shared)
      },
    })
  }

  /** The last reader closes the file. */
  async #leave(path: string, shared: SharedFile): Promise<void> {
    shared.users -= 1
    if (shared.users > 0) return
    if (this.#files.get(path) === shared) this.#files.delete(path)
    await shared.handle.close()
  }
}
