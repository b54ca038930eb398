import { appendFile } from 'node:fs/promises'
import type { Output } from './output.ts'

/** Most characters that wait for the disk. */
const WAITING_MAX = 4 * 1024 * 1024
const OWNER_ONLY = 0o600

/**
 * Appends lines to a file, in order, without making anybody wait for the disk. It opens the file for each
 * batch, so that the file may be renamed or removed at any time.
 */
export class FileOutput implements Output, AsyncDisposable {
  readonly #path: string
  readonly #failed: (error: unknown) => void
  #waiting = ''
  #writing: Promise<void> | undefined

  /** @param failed is called with the reason when lines are lost. */
  constructor(path: string, failed: (error: unknown) => void) {
    this.#path = path
    this.#failed = failed
  }

  write(lines: string): void {
    if (this.#waiting.length + lines.length > WAITING_MAX) {
      this.#failed(new Error(`lines for ${this.#path} are lost: its disk is too slow`))
      return
    }
    this.#waiting += lines
    this.#writing ??= this.#writeAll()
  }

  /** Resolves when everything is written, or lost. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting !== '') {
      const lines = this.#waiting
      this.#waiting = ''
      try {
        await appendFile(this.#path, lines, { mode: OWNER_ONLY })
      } catch (error) {
        this.#failed(error)
      }
    }
    this.#writing = undefined
  }
}
