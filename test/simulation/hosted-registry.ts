import { Collection } from '../../src/hosted/collection.ts'
import { CollectionMarks } from '../../src/hosted/collection-marks.ts'
import { Publishing } from '../../src/hosted/publishing.ts'
import { Shelf } from '../../src/hosted/shelf.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { WatchedStore, type Watcher } from '../../src/space/watched-store.ts'
import { seeEvents } from '../support/seen-events.ts'
import { type SimulatedDisk, SimulatedStore } from './disk.ts'

/** A cache without bounds. */
const ROOMY: Watcher = {
  stored: () => undefined,
  removed: () => undefined,
  recordWritten: () => undefined,
  recordDeleted: () => undefined,
  payerOf: namespace => ({ namespace, isDynamic: false }),
  couldFit: async () => await Promise.resolve(true),
  claim: async () => await Promise.resolve(true),
  spare: async () => await Promise.resolve(true),
  pushed: () => undefined,
  reserve: () => undefined,
  wrote: () => undefined,
  release: () => undefined,
  leftBehind: () => undefined,
  tookUp: () => undefined,
}

/** The part of a registry that takes pushes. */
export interface Registry {
  readonly process: number
  readonly store: WatchedStore
  readonly shelf: Shelf
  readonly publishing: Publishing
  readonly collection: Collection
  readonly clock: Clock
}

/** A process of the registry. */
export function openRegistry(disk: SimulatedDisk, process: number, graceMs: number): Registry {
  const bare = new SimulatedStore(disk, process)
  const clock = disk.scheduler.clockOf(process)
  const { events } = seeEvents()
  const marks = new CollectionMarks({ store: bare, clock })
  const store = new WatchedStore(bare, ROOMY, () => marks)
  const shelf = new Shelf(store, events)
  const parties = { rules: [], witnesses: [] }
  const publishing = new Publishing({ store, shelf, clock, parties, marks, onChange: () => undefined })
  const collection = new Collection({
    store: {
      open: async digest => await store.open(digest),
      delete: async digest => await store.deleteAnnounced(digest),
    },
    shelf,
    publishing,
    marks,
    clock,
    events,
    graceMs,
    subjectOf: async () => await Promise.resolve(undefined),
    isCached: async () => await Promise.resolve(false),
    removed: async () => await Promise.resolve(),
  })
  return { process, store, shelf, publishing, collection, clock }
}
