import type { Room } from '../storage/store.ts'

/** A size in bytes, or a percentage of something larger. */
type Size =
  | { readonly kind: 'bytes'; readonly bytes: number }
  | { readonly kind: 'percent'; readonly percent: number }

/** Operator's limits on the size of the cache. */
export interface Bounds {
  /** Most the cache may hold; `undefined` for as much as {@link minFree} leaves. */
  readonly maxSize: Size | undefined
  /** Room to keep free on the file system of the cache; `undefined` for the default. */
  readonly minFree: Size | undefined
  /** Part of the cache, from 0 to 1, that all namespaces which are not configured may use together. */
  readonly dynamicShare: number
  /** Largest blob to keep. A percentage refers to what the cache can hold; `undefined` is the default. */
  readonly maxBlob?: Size | undefined
}

/**
 * Eviction begins above HIGH and ends at LOW, as fractions of the maximum, so that it does not run all the
 * time.
 */
const HIGH = 0.95
const LOW = 0.9
/** Eviction for a full file system frees room up to this multiple of the minimum. */
const FREE_AGAIN = 1.1

const MIN_FREE_PERCENT = 5
const MIN_FREE_BYTES = 2 * 1024 ** 3
/** On a small file system the default is at most this percentage of it. */
const MIN_FREE_PERCENT_MAX = 10
const MAX_BLOB = { kind: 'percent', percent: 50 } as const

/** {@link Bounds} in bytes, on a file system of a certain size. */
export interface Limits {
  readonly maxBytes: number
  readonly minFreeBytes: number
}

/** Converts bounds to bytes. For a store without a file system of its own there is no free room to keep. */
export function limitsOf(bounds: Bounds, room: Room | undefined): Limits {
  const totalBytes = room?.totalBytes ?? Infinity
  return {
    maxBytes: bounds.maxSize === undefined ? Infinity : inBytes(bounds.maxSize, totalBytes),
    minFreeBytes: room === undefined ? 0 : minFree(bounds.minFree, totalBytes),
  }
}

/** Fill level of the cache. Promised room counts as used. */
export interface Filling {
  readonly usedBytes: number
  readonly dynamicBytes: number
  /** Free room that is not promised to a download; `undefined` if unknown. */
  readonly freeBytes: number | undefined
}

/** Most bytes the cache can hold: its maximum, or what it holds and the free room above the minimum. */
export function ceilingOf({ usedBytes, freeBytes }: Filling, { maxBytes, minFreeBytes }: Limits): number {
  return Math.min(maxBytes, usedBytes + Math.max(0, (freeBytes ?? Infinity) - minFreeBytes))
}

/** Size of the largest blob that is kept. */
export function maxBlobBytes({ maxBlob = MAX_BLOB }: Bounds, ceilingBytes: number): number {
  if (maxBlob.kind === 'percent' && ceilingBytes === Infinity) return Infinity
  return Math.min(inBytes(maxBlob, ceilingBytes), ceilingBytes)
}

/** Bytes to evict now to bring the cache within its bounds, with a margin. */
export function demandOf(
  filling: Filling,
  limits: Limits,
  dynamicShare: number,
): { readonly bytes: number; readonly dynamicBytes: number } {
  const { usedBytes, dynamicBytes, freeBytes } = filling
  const { maxBytes, minFreeBytes } = limits
  const overMax = usedBytes > maxBytes * HIGH ? usedBytes - maxBytes * LOW : 0
  const isTight = freeBytes !== undefined && freeBytes < minFreeBytes
  const underFree = isTight ? minFreeBytes * FREE_AGAIN - freeBytes : 0
  const shareBytes = shareOf(filling, limits, dynamicShare)
  return {
    bytes: Math.ceil(Math.max(0, overMax, underFree)),
    dynamicBytes: dynamicBytes > shareBytes ? Math.ceil(dynamicBytes - shareBytes * HIGH) : 0,
  }
}

/** Bytes to evict before a download for a configured namespace may take `bytes` more. */
export function lackingBytes(
  { usedBytes, freeBytes }: Filling,
  { maxBytes, minFreeBytes }: Limits,
  bytes: number,
): number {
  return Math.max(0, usedBytes + bytes - maxBytes, minFreeBytes + bytes - (freeBytes ?? Infinity))
}

/**
 * Bytes to evict from namespaces that are not configured before a download for one of them may take `bytes`
 * more. The result stays below the marks at which eviction begins, so that such a download never evicts
 * configured content.
 */
export function lackingDynamicBytes(
  filling: Filling,
  limits: Limits,
  { bytes, dynamicShare }: { readonly bytes: number; readonly dynamicShare: number },
): number {
  const overShare = filling.dynamicBytes + bytes - shareOf(filling, limits, dynamicShare)
  return Math.max(lackingBytes(filling, marksOf(limits), bytes), overShare)
}

/** The limits at which eviction begins. What stays within them makes nothing go. */
export function marksOf({ maxBytes, minFreeBytes }: Limits): Limits {
  return { maxBytes: maxBytes * HIGH, minFreeBytes: minFreeBytes * FREE_AGAIN }
}

/** True if eviction should begin before a download has to wait for it. */
export function isAbove(usedBytes: number, { maxBytes }: Limits): boolean {
  return usedBytes > maxBytes * HIGH
}

/** An unlimited cache with a share of 0 gives 0; Infinity * 0 would be NaN. */
function shareOf(filling: Filling, limits: Limits, dynamicShare: number): number {
  return dynamicShare === 0 ? 0 : ceilingOf(filling, limits) * dynamicShare
}

function minFree(size: Size | undefined, totalBytes: number): number {
  if (size !== undefined) return inBytes(size, totalBytes)
  const wanted = Math.max((totalBytes * MIN_FREE_PERCENT) / 100, MIN_FREE_BYTES)
  return Math.min(wanted, (totalBytes * MIN_FREE_PERCENT_MAX) / 100)
}

function inBytes(size: Size, totalBytes: number): number {
  return size.kind === 'bytes' ? size.bytes : Math.floor((totalBytes * size.percent) / 100)
}
