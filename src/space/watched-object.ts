import type { LocalFile, StoredObject } from '../storage/store.ts'

/** An open object that is held against eviction until it is disposed of. */
export class WatchedObject implements StoredObject {
  readonly sizeBytes: number
  readonly version: string
  readonly #object: StoredObject
  readonly #release: () => void

  constructor(object: StoredObject, release: () => void) {
    this.#object = object
    this.#release = release
    this.sizeBytes = object.sizeBytes
    this.version = object.version
  }

  get file(): LocalFile | undefined {
    return this.#object.file
  }

  read(start: number, end: number): AsyncIterable<Uint8Array> {
    return this.#object.read(start, end)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#object[Symbol.asyncDispose]()
    } finally {
      this.#release()
    }
  }
}
