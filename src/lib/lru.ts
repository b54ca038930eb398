import { LRUCache } from 'lru-cache'

/**
 * A cache of at most `entriesMax` entries that takes memory as it fills. With its option `max`, lru-cache
 * reserves room for all of them at once.
 */
export function lruCache<K extends {}, V extends {}>(entriesMax: number): LRUCache<K, V> {
  return new LRUCache({ maxSize: entriesMax, sizeCalculation: () => 1 })
}
