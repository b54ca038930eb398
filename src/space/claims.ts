import type { IndexFeed } from '../content/index/feed.ts'
import type { Clock } from '../lib/clock.ts'
import type { Events } from '../observe/events.ts'
import {
  type Bounds,
  ceilingOf,
  type Filling,
  lackingBytes,
  lackingDynamicBytes,
  marksOf,
  maxBlobBytes,
} from './bounds.ts'
import type { RoomBook } from './room-book.ts'
import type { Demand } from './victims.ts'
import type { Claim } from './watched-spool.ts'

/** Longest wait of a download for room, in milliseconds: its clients may not have received a byte yet. */
const CLAIM_MS = 8000

export interface ClaimsParts {
  readonly book: RoomBook
  readonly index: Pick<IndexFeed, 'state' | 'open' | 'bytes'>
  readonly bounds: Bounds
  readonly clock: Clock
  readonly events: Events
  readonly filling: () => Filling
  readonly dynamicShare: () => number
  /** Evicts as much of the demand as one turn allows, and returns the number of objects. */
  readonly evict: (demand: () => Demand) => Promise<number>
}

/**
 * Grants room to downloads. A namespace that is not configured only gets room from others of its kind, within
 * their share. Nothing is evicted for content that would not fit even then.
 */
export class Claims {
  readonly #parts: ClaimsParts

  constructor(parts: ClaimsParts) {
    this.#parts = parts
  }

  /** True if the content would fit after evicting everything that may go. Evicts nothing. */
  async couldFit(claim: Claim): Promise<boolean> {
    await this.#openIndex(claim)
    const { book, index } = this.#parts
    // Downloads of configured namespaces keep their reservations.
    const withReserved = (): Claim => ({
      ...claim,
      bytes: claim.bytes + (claim.payer.isDynamic ? 0 : book.reservedBytes),
    })
    if (this.#isPossible(withReserved())) return true
    await book.measure()
    await index.open()
    return this.#isPossible(withReserved()) || this.#refuse(claim)
  }

  /** Takes room, evicting if necessary; `false` if there is not enough. */
  async take(claim: Claim): Promise<boolean> {
    const { book, index, clock, events, evict } = this.#parts
    await this.#openIndex(claim)
    const endsAtMs = clock.monotonicMs() + CLAIM_MS
    while (clock.monotonicMs() < endsAtMs) {
      if (this.#takeNow(claim)) return true
      await book.measure()
      if (this.#takeNow(claim)) return true
      try {
        await index.open()
        if (!claim.isAnnounced || index.state !== 'open' || !this.#isPossible(claim)) break
        const objects = await evict(() => this.#demandFor(claim))
        await book.remeasure()
        if (objects === 0 && this.#lacking(claim) > 0) break
      } catch (error) {
        events.storageFailed('evict', error)
        break
      }
    }
    return this.#refuse(claim)
  }

  /**
   * The share of namespaces that are not configured and the maximum can be enforced only if the index knows
   * what is stored.
   */
  async #openIndex({ payer }: Claim): Promise<void> {
    const { index, book } = this.#parts
    // Without a maximum and without a file system no share can be exceeded.
    const hasShare = payer.isDynamic && book.room !== undefined
    const isBound = hasShare || book.limits.maxBytes < Infinity
    if (isBound && index.state === 'absent') await index.open()
  }

  /** Decides and claims synchronously, so that no two downloads get the same room. */
  #takeNow(claim: Claim): boolean {
    if (this.#isTooLarge(claim) || this.#lacking(claim) > 0) return false
    this.#parts.book.claim(claim.bytes, claim.payer.isDynamic)
    return true
  }

  /** True if evicting could make room. Room held by other downloads is not available. */
  #isPossible(claim: Claim): boolean {
    if (this.#isTooLarge(claim)) return false
    const { book, filling, index } = this.#parts
    const { isDynamic } = claim.payer
    const evictable = isDynamic ? filling().dynamicBytes - book.dynamicScratchBytes : index.bytes
    return this.#lacking(claim) <= (index.state === 'open' ? evictable : 0)
  }

  #isTooLarge({ totalBytes }: Claim): boolean {
    const { book, bounds, filling } = this.#parts
    return totalBytes > maxBlobBytes(bounds, ceilingOf(filling(), book.limits))
  }

  /** Bytes to evict before the claimed ones fit. */
  #lacking({ payer, bytes, isAnnounced }: Claim): number {
    const { book, filling, index, dynamicShare } = this.#parts
    // Only the process that owns the index knows how much is stored, and enforces the maximum.
    const all = index.state === 'open' ? book.limits : { ...book.limits, maxBytes: Infinity }
    const limits = isAnnounced ? all : marksOf(all)
    return payer.isDynamic
      ? lackingDynamicBytes(filling(), limits, { bytes, dynamicShare: dynamicShare() })
      : lackingBytes(filling(), limits, bytes)
  }

  #demandFor(claim: Claim): Demand {
    const lacking = this.#lacking(claim)
    return claim.payer.isDynamic ? { bytes: 0, dynamicBytes: lacking } : { bytes: lacking, dynamicBytes: 0 }
  }

  #refuse({ totalBytes }: Claim): false {
    this.#parts.events.roomRefused(totalBytes)
    return false
  }
}
