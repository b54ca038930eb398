import { clip } from './log.ts'

/** Fields of a finished request that concern its client. */
interface SeenRequest {
  readonly client: string | undefined
  readonly userAgent: string | undefined
  readonly resource: string
  readonly namespace: string | undefined
  readonly status: number
}

/** A recent client: an address with a user agent. */
export interface RecentClient {
  readonly address: string
  readonly userAgent: string
  readonly requests: number
  /** Registries that it requested, at most the first twenty. */
  readonly namespaces: readonly string[]
  /** ISO 8601. */
  readonly firstSeen: string
  readonly lastSeen: string
  readonly lastStatus: number
}

/** Record of a client in memory. */
export interface SeenClient {
  readonly address: string
  readonly userAgent: string
  readonly namespaces: Set<string>
  firstSeenMs: number
  requests: number
  lastSeenMs: number
  lastStatus: number
}

const CLIENTS_MAX = 500
const NAMESPACES_MAX = 20
/** Resources that a pull requests. A health probe requests others and does not count as a client. */
const PULLING: ReadonlySet<string> = new Set(['base', 'manifest', 'blob', 'tags', 'referrers'])

/**
 * The most recent clients, in memory, so that an operator can see what uses the mirror. A new client replaces
 * the one not seen for longest.
 */
export class RecentClients {
  readonly #now: () => number
  readonly #seen = new Map<string, SeenClient>()
  /** The last record of the map. */
  #latest: SeenClient | undefined

  /** @param now wall clock, in milliseconds. */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  saw(request: SeenRequest): void {
    if (request.client === undefined || !PULLING.has(request.resource)) return
    const userAgent = clip(request.userAgent ?? '')
    const key = `${request.client} ${userAgent}`
    const nowMs = this.#now()
    const seen = this.#seen.get(key) ?? {
      address: request.client,
      userAgent,
      firstSeenMs: nowMs,
      namespaces: new Set(),
      requests: 0,
      lastSeenMs: nowMs,
      lastStatus: 0,
    }
    seen.requests += 1
    seen.lastSeenMs = nowMs
    seen.lastStatus = request.status
    if (request.namespace !== undefined && seen.namespaces.size < NAMESPACES_MAX)
      seen.namespaces.add(request.namespace)
    if (seen !== this.#latest) this.#put(key, seen)
  }

  /** Removes and returns all records, to be merged in another thread. */
  take(): readonly SeenClient[] {
    const seen = [...this.#seen.values()]
    this.#seen.clear()
    this.#latest = undefined
    return seen
  }

  /** Adds the records of another thread. */
  merge(clients: readonly SeenClient[]): void {
    for (const client of clients) {
      const key = `${client.address} ${client.userAgent}`
      const known = this.#seen.get(key)
      if (known === undefined) {
        this.#put(key, client)
        continue
      }
      known.requests += client.requests
      known.firstSeenMs = Math.min(known.firstSeenMs, client.firstSeenMs)
      // The report of a thread is older than what this one has seen since.
      if (client.lastSeenMs >= known.lastSeenMs) known.lastStatus = client.lastStatus
      known.lastSeenMs = Math.max(known.lastSeenMs, client.lastSeenMs)
      for (const namespace of client.namespaces)
        if (known.namespaces.size < NAMESPACES_MAX) known.namespaces.add(namespace)
      this.#put(key, known)
    }
  }

  #put(key: string, seen: SeenClient): void {
    this.#seen.delete(key)
    this.#seen.set(key, seen)
    this.#latest = seen
    if (this.#seen.size <= CLIENTS_MAX) return
    const [oldest] = this.#seen.keys()
    if (oldest !== undefined) this.#seen.delete(oldest)
  }

  /** Lists the clients, most recently seen first. */
  list(): readonly RecentClient[] {
    return [...this.#seen.values()].toReversed().map(seen => ({
      address: seen.address,
      userAgent: seen.userAgent,
      requests: seen.requests,
      namespaces: [...seen.namespaces],
      firstSeen: new Date(seen.firstSeenMs).toISOString(),
      lastSeen: new Date(seen.lastSeenMs).toISOString(),
      lastStatus: seen.lastStatus,
    }))
  }
}
