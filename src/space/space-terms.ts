import type { IndexFeed } from '../content/index/feed.ts'
import type { Clock } from '../lib/clock.ts'
import type { EventDetails } from '../observe/event.ts'
import type { Events } from '../observe/events.ts'
import type { Store } from '../storage/store.ts'
import type { Bounds } from './bounds.ts'
import type { RemovalNotices } from './removal-notices.ts'
import type { NamespaceTerms } from './victims.ts'

export interface SpaceParts {
  readonly store: Store
  /** The directory of the store. It contains the index and the files that count beside the content. */
  readonly root: string
  readonly bounds: Bounds
  readonly clock: Clock
  readonly events: Events
  /** Current settings of the namespaces. */
  readonly terms: () => NamespaceTerms
  /** Announces removals while other processes may take content for hosted repositories. */
  readonly notices?: () => RemovalNotices | undefined
  /** Terms of a store that is a bucket. */
  readonly bucket?: BucketTerms | undefined
}

/** A bucket has no size of its own, and every look at it costs a request. */
export interface BucketTerms {
  /** Name of the index file below the root, one for each bucket. */
  readonly indexName: string
  /** True if nothing is bounded: the index opens, and the bucket is walked, only when it is asked for. */
  readonly isLazy: boolean
  /** Most objects to evict in a second. */
  readonly evictionsPerSecond: number
}

/** Fill level and limits of the cache. */
export interface SpaceStatus {
  readonly indexState: IndexFeed['state']
  /** True if the index knows everything in the store; otherwise the numbers may be too small. */
  readonly isComplete: boolean
  readonly objects: number
  readonly storedBytes: number
  /** Bytes of running downloads, leftovers of earlier ones, and quarantined objects. */
  readonly scratchBytes: number
  readonly usedBytes: number
  readonly maxBytes: number | undefined
  readonly freeBytes: number | undefined
  readonly totalBytes: number | undefined
  readonly minFreeBytes: number
  readonly dynamicBytes: number
  readonly dynamicShare: number
  readonly bytesByNamespace: Readonly<Record<string, number>>
}

/** A status as an event. What only the index knows is left out while it is not open. */
export function measuredOf(status: SpaceStatus): EventDetails['space-measured'] {
  const { usedBytes, objects, maxBytes, freeBytes, minFreeBytes, indexState, isComplete } = status
  const bounds = { maxBytes, freeBytes, minFreeBytes }
  if (indexState !== 'open') return { ...bounds, usedBytes: undefined, objects: undefined, index: indexState }
  return { ...bounds, usedBytes, objects, index: isComplete ? 'open' : 'rebuilding' }
}
