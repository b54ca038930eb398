import { type FileHandle, unlink } from 'node:fs/promises'
import { bytesIn } from '../../lib/read-ahead.ts'
import { hasCode } from '../../lib/system-error.ts'
import type { Events } from '../../observe/events.ts'
import type { Durability, LocalFile, UploadSpool } from '../store.ts'
import { readFully, writeFully } from './regular-file.ts'

export interface DiskSpoolParts {
  readonly handle: FileHandle
  readonly path: string
  /** Number of bytes already in the file. */
  readonly sizeBytes: number
  /** Moves the file to where the next fill finds it; `undefined` if leftovers cannot be trusted. */
  readonly leave: ((path: string) => Promise<void>) | undefined
  readonly events: Pick<Events, 'storageFailed'>
}

/**
 * A spool in a file. Bytes below `sizeBytes` are never overwritten while readers use them, so readers need no
 * lock. Bytes that a failed append left above are never given out, and the next append overwrites them.
 */
export class DiskSpool implements UploadSpool {
  readonly #parts: DiskSpoolParts
  #sizeBytes: number
  #state: 'open' | 'moving' | 'adopted' | 'closed' = 'open'
  #isKept = false

  constructor(parts: DiskSpoolParts) {
    this.#parts = parts
    this.#sizeBytes = parts.sizeBytes
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  get file(): LocalFile | undefined {
    return this.#state === 'closed' ? undefined : { fd: this.#parts.handle.fd }
  }

  async append(...pieces: readonly Uint8Array[]): Promise<void> {
    this.#assertOpen()
    await writeFully(this.#parts.handle, pieces, this.#sizeBytes)
    this.#sizeBytes += bytesIn(pieces)
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    const length = Math.max(Math.min(buffer.length, this.#sizeBytes - position), 0)
    await readFully(this.#parts.handle, buffer, { position, length })
    return length
  }

  async clear(): Promise<void> {
    this.#assertOpen()
    await this.#parts.handle.truncate(0)
    this.#sizeBytes = 0
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#assertOpen()
    await this.#parts.handle.truncate(sizeBytes)
    this.#sizeBytes = Math.min(sizeBytes, this.#sizeBytes)
  }

  async sync(): Promise<void> {
    this.#assertOpen()
    await this.#parts.handle.datasync()
  }

  keep(): void {
    this.#isKept = true
  }

  async remove(): Promise<void> {
    this.#isKept = false
    await this[Symbol.asyncDispose]()
  }

  /**
   * Hands the file over: checks that it holds exactly `sizeBytes` bytes, syncs it if it must be durable, and
   * has `move` take it from its path. Nothing can write into it afterwards. If a step throws, the spool is
   * unchanged.
   */
  async surrender(
    sizeBytes: number,
    durability: Durability,
    move: (path: string) => Promise<void>,
  ): Promise<void> {
    this.#assertOpen()
    if (this.#sizeBytes !== sizeBytes) {
      throw new Error(`a spool of ${this.#sizeBytes} bytes cannot be adopted as ${sizeBytes} bytes`)
    }
    this.#state = 'moving'
    try {
      await this.#trimTo(sizeBytes)
      if (durability === 'durable') await this.#parts.handle.datasync()
      await move(this.#parts.path)
      this.#state = 'adopted'
    } finally {
      if (this.#state === 'moving') this.#state = 'open'
    }
  }

  /**
   * Cuts off bytes that a failed append left beyond the size. Throws if another process has truncated the
   * file.
   */
  async #trimTo(sizeBytes: number): Promise<void> {
    const { size } = await this.#parts.handle.stat()
    if (size < sizeBytes)
      throw new Error(`the spool holds ${size} of ${sizeBytes} bytes: another process truncated it`)
    if (size > sizeBytes) await this.#parts.handle.truncate(sizeBytes)
  }

  /** Never throws: the next sweep removes whatever could not be removed here. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'closed') return
    const isAdopted = this.#state === 'adopted'
    this.#state = 'closed'
    const { handle, path, events } = this.#parts
    try {
      if (!isAdopted) await this.#abandon(path)
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) events.storageFailed('spool', error)
    }
    try {
      await handle.close()
    } catch (error) {
      events.storageFailed('spool', error)
    }
  }

  async #abandon(path: string): Promise<void> {
    const { leave, events } = this.#parts
    if (this.#isKept && this.#sizeBytes > 0 && leave !== undefined) {
      try {
        await this.#trimTo(this.#sizeBytes)
        // After the rename another fill may own the file, so nothing may write through this handle any more,
        // and nothing does.
        await leave(path)
        return
      } catch (error) {
        events.storageFailed('spool', error)
      }
    }
    await unlink(path)
  }

  #assertOpen(): void {
    if (this.#state !== 'open') throw new Error(`the spool is ${this.#state}`)
  }
}
