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
/** Pieces without any growth after which V8 will not let it grow: its limit is smaller. */
const FRUITLESS_MAX = 512

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
    // With a small memory limit V8's own one is smaller, and another try would be in vain.
    triedAtMs = growNursery(BUSY_BYTES) ? nowMs : Infinity
  }).observe({ entryTypes: ['gc'] })
}

/**
 * Makes the nursery of this thread grow to `bytes`, in some milliseconds. V8 lets it grow after a collection,
 * once it has copied as much since the last time as fits into it. So we allocate, keep the latest of it, and
 * look again and again. Returns `false` if V8 does not let it grow that far.
 */
export function growNursery(bytes: number): boolean {
  const kept: unknown[][] = []
  let largest = nurseryBytes()
  for (let [pieces, fruitless] = [0, 0]; largest < bytes && fruitless < FRUITLESS_MAX; pieces += 1) {
    // Another thread that is done meanwhile sets it back.
    setFlagsFromString('--semi-space-growth-factor=2')
    kept[pieces % KEPT_PIECES] = Array.from({ length: PIECE_VALUES })
    const now = nurseryBytes()
    fruitless = now > largest ? 0 : fruitless + 1
    largest = Math.max(largest, now)
  }
  setFlagsFromString('--semi-space-growth-factor=1')
  return largest >= bytes
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
