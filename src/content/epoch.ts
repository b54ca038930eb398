import { type CountMemory, SharedCounts } from '../lib/shared-count.ts'
import type { Digest } from '../oci/digest.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'

/** What an event is about. Without a part, it is about all of them. */
export type Affected =
  | { readonly kind: 'everything' }
  | { readonly kind: 'namespace'; readonly namespace: Namespace }
  | { readonly kind: 'place'; readonly place: Place }
  | { readonly kind: 'digest'; readonly digest: Digest }

const EVERYTHING: Affected = { kind: 'everything' }
const ALL = 0
const TOTAL = 1
const NAMED = 2
/** Different names may share a cell: then one of them is asked for again without need. */
const CELLS = 4096

/**
 * Counters that go up whenever earlier answers may no longer be repeated: a tag moved, content was removed, a
 * permission was revoked, or an upstream is failing. There is one for each repository, namespace and digest,
 * so that an eviction does not make the mirror forget all other answers. They are in memory that threads can
 * share.
 */
export class Epoch {
  readonly #counts: SharedCounts

  constructor(memory?: CountMemory) {
    this.#counts = new SharedCounts(NAMED + CELLS, memory)
  }

  /** The counters' memory, to pass to another thread. */
  get memory(): CountMemory {
    return this.#counts.memory
  }

  /** Count of all events. While it stays the same, nothing has happened to any answer. */
  get now(): number {
    return this.#counts.get(TOTAL)
  }

  bump(affected: Affected = EVERYTHING): void {
    this.#counts.add(cellOf(affected), 1)
    this.#counts.add(TOTAL, 1)
  }

  /** The counters that concern an answer with this digest from this place. */
  view(place: Place, digest: Digest): EpochView {
    const cells = [
      ALL,
      cellOf({ kind: 'namespace', namespace: place.namespace }),
      cellOf({ kind: 'place', place }),
      cellOf({ kind: 'digest', digest }),
    ]
    return { cells, sum: this.#sum(cells) }
  }

  /** True until something happens to the answer. The counters only go up, so their sum tells. */
  isSame({ cells, sum }: EpochView): boolean {
    return this.#sum(cells) === sum
  }

  #sum(cells: readonly number[]): number {
    let sum = 0
    for (const cell of cells) sum += this.#counts.get(cell)
    return sum
  }
}

/** State of the counters that concern one answer. */
export interface EpochView {
  readonly cells: readonly number[]
  readonly sum: number
}

function cellOf(affected: Affected): number {
  switch (affected.kind) {
    case 'everything':
      return ALL
    case 'namespace':
      return NAMED + hashOf(affected.namespace)
    case 'place':
      return NAMED + hashOf(`${affected.place.namespace}/${affected.place.repository}`)
    case 'digest':
      return NAMED + hashOf(affected.digest)
  }
}

/** FNV-1a, folded to the number of cells. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index += 1)
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  return (hash >>> 0) % CELLS
}

/** Terms on which an answer may be repeated without asking for it again. */
export interface Repeatable {
  /** {@link Epoch.now} when the request was made. The answer may be kept only if it is still the same. */
  readonly epoch: number
  /** Longest validity, in milliseconds; `Infinity` for an answer about a digest. */
  readonly forMs: number
  /** Called now and then when the answer is repeated, so that the content counts as used. */
  readonly again?: () => void
}
