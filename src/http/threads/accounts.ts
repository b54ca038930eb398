import type { Ledger } from '../../content/ledger.ts'
import type { RecentClients } from '../../observe/recent-clients.ts'
import type { Pulled, RecentPulls } from '../../observe/recent-pulls.ts'
import type { Digest } from '../../oci/digest.ts'
import { formatImage } from '../../oci/image-name.ts'
import type { Place } from '../../oci/place.ts'
import type { Reference } from '../../oci/reference.ts'
import type { Account, NotedPull } from './protocol.ts'

/** Images that one report names. The pulls of one image are one entry. */
const PULLS_MAX = 1000

interface Use {
  hits: number
  servedBytes: number
}

/** Fields of a pull whose first report has already gone out: only hits are answered again. */
const ANSWERED_AGAIN = { outcome: 'hit', status: 200, message: undefined } as const

interface CountedPull extends NotedPull {
  hits: number
}

/** Collects uses, pulls and clients in a further thread, until they are reported to the first thread. */
export class Accounts implements Pick<Ledger, 'used'>, Pick<RecentPulls, 'note' | 'again'> {
  readonly #clients: Pick<RecentClients, 'take'>
  readonly #used = new Map<Digest, Use>()
  readonly #shown = new Set<Digest>()
  readonly #pulls = new Map<string, CountedPull>()

  constructor(clients: Pick<RecentClients, 'take'>) {
    this.#clients = clients
  }

  used(digest: Digest, { hits, servedBytes }: Use): void {
    const use = this.#used.get(digest)
    if (use === undefined) this.#used.set(digest, { hits, servedBytes })
    else {
      use.hits += hits
      use.servedBytes += servedBytes
    }
  }

  /** Notes that a manifest was served again without asking the mirror. */
  shown(digest: Digest): void {
    this.#shown.add(digest)
  }

  note(place: Place, reference: Reference, { outcome, status, error, hits, client }: Pulled): void {
    const { namespace, repository } = place
    const key = formatImage(namespace, repository, reference)
    const known = this.#pulls.get(key)
    this.#put(key, {
      place: { namespace, repository },
      reference,
      outcome,
      status,
      message: error instanceof Error ? error.message : undefined,
      hits: hits + (known?.hits ?? 0),
      client,
    })
  }

  /** Counts a further request that got the same answer as the last one, a moment ago. */
  again({ namespace, repository }: Place, reference: Reference): void {
    const key = formatImage(namespace, repository, reference)
    const known = this.#pulls.get(key)
    if (known === undefined)
      this.#put(key, { place: { namespace, repository }, reference, ...ANSWERED_AGAIN, hits: 1 })
    else known.hits += 1
  }

  #put(key: string, pull: CountedPull): void {
    const [oldest] = this.#pulls.keys()
    if (!this.#pulls.has(key) && this.#pulls.size >= PULLS_MAX && oldest !== undefined)
      this.#pulls.delete(oldest)
    this.#pulls.set(key, pull)
  }

  /** Everything collected since the last call; `undefined` if there is nothing. */
  take(): Account | undefined {
    const clients = this.#clients.take()
    if (clients.length + this.#used.size + this.#shown.size + this.#pulls.size === 0) return undefined
    const account = {
      used: [...this.#used].map(([digest, use]) => ({ digest, ...use })),
      shown: [...this.#shown],
      pulls: [...this.#pulls.values()],
      clients,
    }
    this.#used.clear()
    this.#shown.clear()
    this.#pulls.clear()
    return account
  }
}
