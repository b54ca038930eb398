import { LRUCache } from 'lru-cache'
import type { Outcome } from '../oci/content.ts'
import { formatImage } from '../oci/image-name.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'

const REMEMBERED_MAX = 10_000

/** Result of the last pull of an image. */
export interface RecentPull {
  readonly atMs: number
  readonly status: number
  readonly outcome: Outcome | undefined
  /** Error message of a failed pull. */
  readonly message: string | undefined
}

/** Result of one request for a manifest. */
export interface Pulled {
  readonly outcome: Outcome | undefined
  readonly status: number
  readonly error: unknown
  /** Requests answered from the cache; more than one if a further thread reports several at once. */
  readonly hits: number
}

type Answered = (place: Place, reference: Reference, use: Pick<Pulled, 'hits'>) => void

/** Remembers the last pull of each image, in memory, so that an operator can see why one failed. */
export class RecentPulls {
  readonly #pulls = new LRUCache<string, RecentPull>({ max: REMEMBERED_MAX })
  readonly #answered: Answered | undefined

  /** @param answered is called for each pull that was answered with a manifest. */
  constructor(answered?: Answered) {
    this.#answered = answered
  }

  note(place: Place, reference: Reference, pulled: Pulled): void {
    const { outcome, status, error } = pulled
    if (outcome !== undefined) this.#answered?.(place, reference, pulled)
    const message = error instanceof Error ? error.message : undefined
    const image = formatImage(place.namespace, place.repository, reference)
    this.#pulls.set(image, { atMs: Date.now(), status, outcome, message })
  }

  /** Counts a further request that got the same answer as the last one, a moment ago. */
  again(place: Place, reference: Reference): void {
    this.#answered?.(place, reference, ONE_HIT)
  }

  find(place: Place, reference: Reference): RecentPull | undefined {
    return this.#pulls.get(formatImage(place.namespace, place.repository, reference))
  }
}

const ONE_HIT = { hits: 1 } as const
