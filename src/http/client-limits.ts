import { randomInt } from 'node:crypto'
import type { Peer } from '../access/peer.ts'
import { clientNetwork } from '../lib/ip-address.ts'
import { type CountMemory, type MomentMemory, SharedCounts, SharedMoments } from '../lib/shared-count.ts'
import type { Events } from '../observe/events.ts'
import { OciError } from '../oci/error.ts'
import { ANONYMOUS, type Identity } from '../oci/identity.ts'
import type { HttpExchange } from './exchange.ts'
import type { Route } from './route.ts'

/** Limits for each client; `undefined` is no limit. */
export interface ClientLimitsOptions {
  readonly requestsPerSecond: number | undefined
  /** Blobs that a client may download at the same time. */
  readonly downloads: number | undefined
}

/** Memory of the limits, shared by all threads. */
export interface ClientLimitsMemory {
  readonly full: MomentMemory
  readonly running: CountMemory
  readonly seed: number
}

/**
 * Counts a request, and the download that it may be. Throws an `OciError` RATE_LIMITED if its client is over
 * one of its limits.
 */
export function limitClient(
  { clientLimits, events }: { readonly clientLimits?: ClientLimits | undefined; readonly events: Events },
  exchange: HttpExchange,
  route: Route,
): void {
  if (clientLimits === undefined) return
  const { identity = ANONYMOUS, peer, request } = exchange
  try {
    clientLimits.takeRequest(identity, peer)
    if (route.kind === 'blob' && request.method === 'GET')
      exchange.endDownload = clientLimits.enterDownload(identity, peer)
  } catch (error) {
    events.clientLimited()
    throw error
  }
}

/** Seconds of requests that a client may send at once after a pause. */
const BURST_SECONDS = 10
/** Time after which a client may try another download, in milliseconds. */
const DOWNLOAD_RETRY_MS = 5000
/** Clients that share a slot share its limit. */
const SLOTS = 64 * 1024

/**
 * Limits what each client asks, by a token bucket for its requests and a count of its downloads. A client is
 * an identity; without one it is an IPv4 address or an IPv6 /64. Clients of a unix socket are not limited.
 */
export class ClientLimits {
  readonly #options: ClientLimitsOptions
  readonly #nowUs: () => bigint
  /**
   * For each slot the time at which its bucket is full again, in microseconds. One number is a whole bucket,
   * so that threads can change it without a lock.
   */
  readonly #full: SharedMoments
  readonly #running: SharedCounts
  readonly #seed: number

  /**
   * @param memory that of the first thread's limits; new if left out.
   * @param nowUs a monotonic clock that all threads share.
   */
  constructor(options: ClientLimitsOptions, memory?: ClientLimitsMemory, nowUs: () => bigint = sharedUs) {
    this.#options = options
    this.#nowUs = nowUs
    this.#full = new SharedMoments(SLOTS, memory?.full)
    this.#running = new SharedCounts(SLOTS, memory?.running)
    this.#seed = memory?.seed ?? randomInt(2 ** 31)
  }

  get memory(): ClientLimitsMemory {
    return { full: this.#full.memory, running: this.#running.memory, seed: this.#seed }
  }

  /** Counts a request. Throws an `OciError` RATE_LIMITED, with the time to wait, if it is one too many. */
  takeRequest(identity: Identity, peer: Peer): void {
    const { requestsPerSecond } = this.#options
    const slot = requestsPerSecond === undefined ? undefined : this.#slotOf(identity, peer)
    if (requestsPerSecond === undefined || slot === undefined) return
    const eachUs = BigInt(Math.round(1_000_000 / requestsPerSecond))
    const burstUs = eachUs * BigInt(requestsPerSecond * BURST_SECONDS)
    for (;;) {
      const nowUs = this.#nowUs()
      const before = this.#full.get(slot)
      const after = (before > nowUs ? before : nowUs) + eachUs
      const excessUs = after - nowUs - burstUs
      if (excessUs > 0n) throw limited('requests per second', Number(excessUs) / 1000)
      if (this.#full.replace(slot, before, after)) return
    }
  }

  /**
   * Counts a download until the result is called. Throws an `OciError` RATE_LIMITED if it is one too many.
   */
  enterDownload(identity: Identity, peer: Peer): (() => void) | undefined {
    const { downloads } = this.#options
    const slot = downloads === undefined ? undefined : this.#slotOf(identity, peer)
    if (downloads === undefined || slot === undefined) return undefined
    if (this.#running.add(slot, 1) >= downloads) {
      this.#running.add(slot, -1)
      throw limited('downloads at the same time', DOWNLOAD_RETRY_MS)
    }
    return () => this.#running.add(slot, -1)
  }

  /** FNV-1a, with a random seed, so that no client can choose a name that shares a slot with another. */
  #slotOf({ name }: Identity, { address }: Peer): number | undefined {
    const isAnonymous = name === ANONYMOUS.name
    if (isAnonymous && address === undefined) return undefined
    const key = isAnonymous ? clientNetwork(address ?? '') : `identity ${name}`
    let hash = 0x811c9dc5 ^ this.#seed
    for (let index = 0; index < key.length; index += 1)
      hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193)
    return (hash ^ (hash >>> 16)) & (SLOTS - 1)
  }
}

/** Time that does not jump, and is the same in all threads but for the adjustments between their starts. */
function sharedUs(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000))
}

function limited(what: string, retryAfterMs: number): OciError {
  return new OciError('RATE_LIMITED', `this client is over its limit of ${what}`, { retryAfterMs })
}
