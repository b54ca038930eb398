import { PerformanceObserver } from 'node:perf_hooks'
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'

const MIB = 1024 * 1024

/**
 * Size of the nursery of a busy thread, in bytes, both halves together. One of 2 MiB is emptied after every
 * 40 warm manifests, and that takes a quarter of their processor time.
 */
const BUSY_BYTES = 8 * MIB

/** Collections within {@link WINDOW_MS} that show a thread to be busy. */
const BUSY = 20
const WINDOW_MS = 1000
/** Shortest time from one try to the next, in milliseconds. */
const TRY_EVERY_MS = 10_000

const KEPT_PIECES = 32
const PIECE_VALUES = 4096
const TRIES = 2048

/**
 * Gives this thread a nursery of {@link BUSY_BYTES} once it is busy. An idle thread keeps the small one that
 * V8 starts with, and V8 takes the larger one back after a while without work.
 *
 * V8 would let it grow by itself, but to 64 MiB: it reads `--max-semi-space-size` only when a thread starts,
 * and the first thread has started before us. It grows by a factor that V8 reads at each collection and that
 * is 1 in this process, except while {@link growNursery} makes V8 collect.
 */
export function growNurseryWhenBusy(): void {
  let [windowMs, collections, triedAtMs] = [0, 0, -Infinity]
  new PerformanceObserver(list => {
    const nowMs = performance.now()
    if (nowMs - windowMs > WINDOW_MS) [windowMs, collections] = [nowMs, 0]
    collections += list.getEntries().length
    if (collections < BUSY || nowMs - triedAtMs < TRY_EVERY_MS) return
    triedAtMs = nowMs
    growNursery(BUSY_BYTES)
  }).observe({ entryTypes: ['gc'] })
}

/**
 * Makes the nursery of this thread grow to `bytes`, in some milliseconds. V8 lets it grow after a collection,
 * once it has copied as much since the last time as fits into it. So we allocate, keep the latest of it, and
 * look again and again.
 */
export function growNursery(bytes: number): void {
  const kept: unknown[][] = []
  setFlagsFromString('--semi-space-growth-factor=2')
  for (let tries = 0; tries < TRIES && nurseryBytes() < bytes; tries += 1)
    kept[tries % KEPT_PIECES] = Array.from({ length: PIECE_VALUES })
  setFlagsFromString('--semi-space-growth-factor=1')
}

/**
 * Size of the nursery of this thread, in bytes, both halves together. V8's own sum counts some pages twice
 * while it collects; what is used and what is free make up one half, a little less or more.
 */
export function nurseryBytes(): number {
  const space = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')
  if (space === undefined) return 0
  return 2 * MIB * Math.round((space.space_used_size + space.space_available_size) / MIB)
}
