import { lruCache } from '../lib/lru.ts'
import type { Outcome } from '../oci/content.ts'
import { formatImage } from '../oci/image-name.ts'
import type { Place } from '../oci/place.ts'
import type { Reference } from '../oci/reference.ts'

const REMEMBERED_MAX = 10_000
/** Clients remembered for each image. */
const PULLERS_MAX = 5

/** A client that pulled an image. */
interface PullingClient {
  readonly client: string
  readonly atMs: number
}

/** Result of the last pull of an image. */
export interface RecentPull {
  readonly atMs: number
  readonly status: number
  readonly outcome: Outcome | undefined
  /** Error message of a failed pull. */
  readonly message: string | undefined
  /** The last clients, the latest first. Those that got the same answer at the same moment are left out. */
  readonly pullers: readonly PullingClient[]
}

/** Result of one request for a manifest. */
export interface Pulled {
  readonly outcome: Outcome | undefined
  readonly status: number
  readonly error: unknown
  /** Address of the client. */
  readonly client?: string | undefined
  /** Requests answered from the cache; more than one if a further thread reports several at once. */
  readonly hits: number
}

type Answered = (place: Place, reference: Reference, use: Pick<Pulled, 'hits'>) => void

/** Remembers the last pull of each image, in memory, so that an operator can see why one failed. */
export class RecentPulls {
  readonly #pulls = lruCache<string, RecentPull>(REMEMBERED_MAX)
  readonly #answered: Answered | undefined

  /** @param answered is called for each pull that was answered with a manifest. */
  constructor(answered?: Answered) {
    this.#answered = answered
  }

  note(place: Place, reference: Reference, pulled: Pulled): void {
    const { outcome, status, error, client } = pulled
    if (outcome !== undefined) this.#answered?.(place, reference, pulled)
    const message = error instanceof Error ? error.message : undefined
    const image = formatImage(place.namespace, place.repository, reference)
    const atMs = Date.now()
    const before = this.#pulls.get(image)?.pullers.filter(puller => puller.client !== client) ?? []
    const pullers = client === undefined ? before : [{ client, atMs }, ...before.slice(0, PULLERS_MAX - 1)]
    this.#pulls.set(image, { atMs, status, outcome, message, pullers })
  }

  /** Counts a further request that got the same answer as the last one, a moment ago. */
  again(place: Place, reference: Reference): void {
    this.#answered?.(place, reference, ONE_HIT)
  }

  /** The last clients that pulled an image of this full name. */
  pullersOf(image: string): readonly PullingClient[] {
    return this.#pulls.peek(image)?.pullers ?? []
  }

  find(place: Place, reference: Reference): RecentPull | undefined {
    return this.#pulls.get(formatImage(place.namespace, place.repository, reference))
  }
}

const ONE_HIT = { hits: 1 } as const
