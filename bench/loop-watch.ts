/**
 * Runs inside a server that is measured, by `--import`: counts how late a timer of its event loop comes, as
 * Node's own `monitorEventLoopDelay` does, and keeps the counts in a file of the directory that LOOP_WATCH
 * names.
 */
import { openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { isMainThread, threadId, workerData } from 'node:worker_threads'

const EVERY_MS = 5
const WRITTEN_EVERY = 20
const BUCKETS = 1024

// Other threads than those that serve clients may stand still.
if (isMainThread || (workerData as { readonly socket?: unknown } | null)?.socket !== undefined) {
  const counts = new Uint32Array(BUCKETS)
  const file = openSync(join(process.env['LOOP_WATCH'] ?? '', `${process.pid}.${threadId}`), 'w')
  let lastMs = performance.now()
  let ticks = 0
  setInterval(() => {
    const nowMs = performance.now()
    const lateMs = Math.min(Math.max(0, Math.floor(nowMs - lastMs - EVERY_MS)), BUCKETS - 1)
    counts[lateMs] = (counts[lateMs] ?? 0) + 1
    lastMs = nowMs
    ticks += 1
    if (ticks % WRITTEN_EVERY === 0) writeSync(file, counts, 0, counts.byteLength, 0)
  }, EVERY_MS).unref()
}
