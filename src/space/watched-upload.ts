import type { LocalFile, UploadSpool } from '../storage/store.ts'
import { type RoomKeeper, WatchedSpool } from './watched-spool.ts'

const NOBODY = { namespace: undefined, isDynamic: false } as const
const NO_DIGEST = (): void => undefined

/** The spool of an upload that claims room before it grows. It is left behind for the next request. */
export class WatchedUpload implements UploadSpool {
  readonly watched: WatchedSpool
  readonly #upload: UploadSpool

  constructor(upload: UploadSpool, keeper: RoomKeeper) {
    this.#upload = upload
    this.watched = new WatchedSpool(upload, keeper, { payer: NOBODY, unhold: NO_DIGEST })
    this.watched.keep()
  }

  get sizeBytes(): number {
    return this.watched.sizeBytes
  }

  get file(): LocalFile | undefined {
    return this.watched.file
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.watched.append(bytes)
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    return await this.watched.read(buffer, position)
  }

  async clear(): Promise<void> {
    await this.watched.clear()
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.#upload.truncate(sizeBytes)
  }

  async sync(): Promise<void> {
    await this.#upload.sync()
  }

  keep(): void {
    this.watched.keep()
  }

  async remove(): Promise<void> {
    this.watched.letGo()
    await this.#upload.remove()
    await this.watched[Symbol.asyncDispose]()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.watched[Symbol.asyncDispose]()
  }
}
