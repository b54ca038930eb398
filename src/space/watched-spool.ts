import { type Incoming, NoRoomError } from '../content/ledger.ts'
import { bytesIn } from '../lib/read-ahead.ts'
import type { LocalFile, SpoolFile } from '../storage/store.ts'
import type { Release } from './room-book.ts'

/** Room is claimed at most this far ahead of the received bytes, since an announced size may be a lie. */
const AHEAD_BYTES = 4 * 1024 * 1024

/** The namespace charged for new content. */
export interface Payer {
  readonly namespace: string | undefined
  /** True if the namespace is not configured. */
  readonly isDynamic: boolean
}

/** A download's request for room. */
export interface Claim {
  readonly payer: Payer
  readonly bytes: number
  /** Bytes that this download would then hold. */
  readonly totalBytes: number
  /**
   * True if the download has announced at least {@link totalBytes}. Nothing is evicted for any other: it may
   * turn out larger than the cache, and everything would have gone for nothing.
   */
  readonly isAnnounced: boolean
}

/** Decides about room for spools, and is notified of their fate. */
export interface RoomKeeper {
  payerOf(namespace: string): Payer
  /** True if the content would fit after evicting everything that may go. Evicts nothing. */
  couldFit(claim: Claim): Promise<boolean>
  /** Takes room, evicting if necessary; `false` if there is not enough. {@link release} gives it back. */
  claim(claim: Claim): Promise<boolean>
  /** Reserves room that will be claimed later; a negative number takes it back. */
  reserve(bytes: number): void
  /** Claimed bytes have been written to the disk. */
  wrote(bytes: number): void
  release(release: Release): void
  /** A partial download is kept for the next download of its digest. */
  leftBehind(bytes: number, isDynamic: boolean): void
  /** A download resumes from such a leftover and now holds its room. */
  tookUp(bytes: number, isDynamic: boolean): void
}

/** A spool that claims room before it grows. */
export class WatchedSpool implements SpoolFile {
  readonly inner: SpoolFile
  readonly #keeper: RoomKeeper
  readonly #unhold: () => void
  #payer: Payer
  #expectedBytes: number | undefined
  #claimedBytes = 0
  #writtenBytes = 0
  #reservedBytes = 0
  #isKept = false
  #isObject = false
  #isDisposed = false

  constructor(
    inner: SpoolFile,
    keeper: RoomKeeper,
    { payer, unhold }: { readonly payer: Payer; readonly unhold: () => void },
  ) {
    this.inner = inner
    this.#keeper = keeper
    this.#unhold = unhold
    this.#payer = payer
    const { sizeBytes } = inner
    if (sizeBytes === 0) return
    keeper.tookUp(sizeBytes, payer.isDynamic)
    this.#claimedBytes = sizeBytes
    this.#writtenBytes = sizeBytes
  }

  get sizeBytes(): number {
    return this.inner.sizeBytes
  }

  get file(): LocalFile | undefined {
    return this.inner.file
  }

  get namespace(): string | undefined {
    return this.#payer.namespace
  }

  /**
   * Charges the content to a namespace and takes its first room. Returns `false` if all of it could never
   * fit. A configured namespace reserves the rest too, so that downloads which cannot all be stored do not
   * start.
   */
  async charge({ namespace, sizeBytes }: Incoming): Promise<boolean> {
    this.#chargeTo(this.#keeper.payerOf(namespace))
    this.#expectedBytes = sizeBytes
    if (sizeBytes === undefined) return true
    const lackingBytes = Math.max(0, sizeBytes - this.#claimedBytes)
    if (!(await this.#keeper.couldFit(this.#claimOf(lackingBytes, sizeBytes)))) return false
    if (!this.#payer.isDynamic) this.#reserve(lackingBytes)
    return await this.#claimUpTo(this.#goalOf(this.inner.sizeBytes))
  }

  async append(...pieces: readonly Uint8Array[]): Promise<void> {
    const bytes = bytesIn(pieces)
    const neededBytes = this.inner.sizeBytes + bytes
    if (neededBytes > this.#claimedBytes && !(await this.#claimFor(neededBytes))) throw new NoRoomError()
    await this.inner.append(...pieces)
    this.#writtenBytes += bytes
    this.#keeper.wrote(bytes)
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    return await this.inner.read(buffer, position)
  }

  async clear(): Promise<void> {
    await this.inner.clear()
    this.#releaseAll()
  }

  keep(): void {
    this.#isKept = true
    this.inner.keep()
  }

  /** The file has become content, and is counted as such. */
  becomeObject(): void {
    this.#isObject = true
    this.#releaseAll()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDisposed) return
    this.#isDisposed = true
    const leftBytes = this.#isKept && !this.#isObject ? this.inner.sizeBytes : 0
    try {
      await this.inner[Symbol.asyncDispose]()
    } finally {
      if (leftBytes > 0) this.#keeper.leftBehind(leftBytes, this.#payer.isDynamic)
      this.#releaseAll()
      this.#unhold()
    }
  }

  #chargeTo(payer: Payer): void {
    const { isDynamic } = this.#payer
    this.#payer = payer
    if (isDynamic === payer.isDynamic || this.#claimedBytes === 0) return
    this.#keeper.release({ bytes: this.#claimedBytes, writtenBytes: this.#writtenBytes, isDynamic })
    this.#keeper.leftBehind(this.#claimedBytes, payer.isDynamic)
    this.#keeper.tookUp(this.#claimedBytes, payer.isDynamic)
  }

  /** Claims ahead if the size is unknown, or only what is needed if there is no room for more. */
  async #claimFor(neededBytes: number): Promise<boolean> {
    if (await this.#claimUpTo(this.#goalOf(neededBytes))) return true
    return this.#expectedBytes === undefined && (await this.#claimUpTo(neededBytes))
  }

  #goalOf(neededBytes: number): number {
    if (this.#expectedBytes === undefined) return neededBytes + Math.min(AHEAD_BYTES, neededBytes)
    return Math.max(neededBytes, Math.min(this.#expectedBytes, neededBytes + AHEAD_BYTES))
  }

  async #claimUpTo(totalBytes: number): Promise<boolean> {
    const bytes = totalBytes - this.#claimedBytes
    if (bytes <= 0) return true
    // Claimed bytes are no longer reserved; otherwise they would count twice.
    const reservedBytes = Math.min(bytes, this.#reservedBytes)
    this.#reserve(-reservedBytes)
    if (!(await this.#keeper.claim(this.#claimOf(bytes, totalBytes)))) return false
    this.#claimedBytes += bytes
    return true
  }

  #claimOf(bytes: number, totalBytes: number): Claim {
    return { payer: this.#payer, bytes, totalBytes, isAnnounced: totalBytes <= (this.#expectedBytes ?? -1) }
  }

  #reserve(bytes: number): void {
    this.#reservedBytes += bytes
    this.#keeper.reserve(bytes)
  }

  #releaseAll(): void {
    const { isDynamic } = this.#payer
    this.#keeper.release({ bytes: this.#claimedBytes, writtenBytes: this.#writtenBytes, isDynamic })
    this.#reserve(-this.#reservedBytes)
    this.#claimedBytes = 0
    this.#writtenBytes = 0
  }
}
