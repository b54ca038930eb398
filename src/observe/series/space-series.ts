import type { Counter, Gauge, Registry } from 'prom-client'
import { declareIn } from './declare.ts'

/** Metrics of the size of the cache, and of what had to go. `docs/operations.md` explains them. */
export interface SpaceMetrics {
  readonly usedBytes: Gauge
  readonly storedObjects: Gauge
  readonly maxBytes: Gauge
  readonly freeBytes: Gauge
  readonly minFreeBytes: Gauge
  readonly indexState: Gauge<'state'>
  readonly evictedObjects: Counter<'reason'>
  readonly evictedBytes: Counter<'reason'>
  readonly roomRefused: Counter
}

/** Declares the metrics in a registry. */
export function createSpaceMetrics(registry: Registry): SpaceMetrics {
  const { counter, gauge } = declareIn(registry)
  return {
    usedBytes: gauge('cache_used_bytes', 'What the cache takes up, downloads under way included.'),
    storedObjects: gauge('cache_objects', 'Blobs and manifests in the cache.'),
    maxBytes: gauge('cache_max_bytes', 'What the cache may take up, where that is bounded.'),
    freeBytes: gauge('cache_free_bytes', 'What is free on the file system of the cache.'),
    minFreeBytes: gauge('cache_min_free_bytes', 'What is to stay free on that file system.'),
    indexState: gauge(
      'index_state',
      '1 for the state of the index: absent (not opened yet), open, rebuilding, locked or failed.',
      ['state'],
    ),
    evictedObjects: counter('evicted_objects_total', 'Objects evicted, by why.', ['reason']),
    evictedBytes: counter('evicted_bytes_total', 'Bytes evicted, by why.', ['reason']),
    roomRefused: counter('room_refused_total', 'Downloads that were not cached for want of room.'),
  }
}
