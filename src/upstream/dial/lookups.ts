import { untilAborted } from '../../lib/abort.ts'
import type { Clock } from '../../lib/clock.ts'
import { tldts } from '../../lib/libraries.ts'
import { lruCache } from '../../lib/lru.ts'
import { Semaphore } from '../../lib/semaphore.ts'
import { Trouble } from '../failure.ts'
import { isAbsentName, type Resolve } from './resolve.ts'
import { tooMany } from './too-many.ts'

/** Limits of look-ups for registries that are not configured. */
export interface LookupLimits {
  /** Look-ups at once, of all clients. */
  readonly lookupsMax: number
  /** Look-ups at once of one client, and those that may wait beside them. */
  readonly perClientMax: number
  readonly waitingPerClientMax: number
  /** Look-ups at once of one client below one registrable domain, and those that may wait beside them. */
  readonly perDomainMax: number
  readonly waitingPerDomainMax: number
  /** Longest wait for a place, in milliseconds. */
  readonly waitMs: number
  /** Names that one client may bring up at once, and each second from then on. */
  readonly newNamesMax: number
  readonly newNamesPerSecond: number
  /** Time for which an outcome is remembered, in milliseconds. */
  readonly rememberedMs: number
}

export const LOOKUP_LIMITS: LookupLimits = {
  lookupsMax: 256,
  perClientMax: 16,
  waitingPerClientMax: 64,
  perDomainMax: 2,
  waitingPerDomainMax: 16,
  waitMs: 10_000,
  newNamesMax: 32,
  newNamesPerSecond: 4,
  rememberedMs: 5000,
}

export interface LookupsOptions {
  readonly resolve: Resolve
  readonly clock: Clock
  readonly limits: LookupLimits
  /** Longest time of one look-up, from when it begins, in milliseconds. */
  readonly resolveMs: number
}

interface Outcome {
  readonly untilMs: number
  readonly addresses: readonly string[]
  readonly trouble: Trouble | undefined
}

const OUTCOMES_MAX = 1000
const KNOWN_MAX = 10_000
const CLIENTS_MAX = 10_000

/**
 * The DNS look-ups of registries that nobody configured. A client can name any number of hosts, and their
 * name servers can be silent: neither may cost more than a part of the look-ups that run at once, nor hold up
 * the look-ups of other names or other clients.
 */
export class Lookups {
  readonly #options: LookupsOptions
  readonly #all: Semaphore
  readonly #clients: Queues
  readonly #domains: Queues
  readonly #running = new Map<string, Promise<readonly string[]>>()
  readonly #outcomes = lruCache<string, Outcome>(OUTCOMES_MAX)
  /** Names that resolved once. To look them up again needs no allowance. */
  readonly #known = lruCache<string, true>(KNOWN_MAX)
  readonly #allowances = lruCache<string, { readonly names: number; readonly atMs: number }>(CLIENTS_MAX)

  constructor(options: LookupsOptions) {
    const { limits } = options
    this.#options = options
    this.#all = new Semaphore(limits.lookupsMax)
    this.#clients = new Queues(limits.perClientMax, limits.waitingPerClientMax)
    this.#domains = new Queues(limits.perDomainMax, limits.waitingPerDomainMax)
  }

  /**
   * All addresses of a name; none if it does not exist. Throws a {@link Trouble} of kind `dns`, and an
   * `UpstreamError` of kind `too-many` if the client asks for more than its part. `client` is `undefined` for
   * work of our own.
   */
  async find(hostname: string, client: string | undefined): Promise<readonly string[]> {
    const found = this.#recall(hostname)
    if (found !== undefined) return await found
    if (client !== undefined) this.#requireAllowance(hostname, client)
    const leave = await this.#enter(client, tldts().getDomain(hostname) ?? hostname)
    try {
      return await (this.#recall(hostname) ?? this.#begin(hostname))
    } finally {
      leave()
    }
  }

  /** What is known of a name, or being found out by a look-up that runs. Nobody joins one that waits. */
  #recall(hostname: string): Promise<readonly string[]> | undefined {
    const running = this.#running.get(hostname)
    if (running !== undefined) return running
    const outcome = this.#outcomes.get(hostname)
    if (outcome === undefined || outcome.untilMs <= this.#options.clock.monotonicMs()) return undefined
    return outcome.trouble === undefined
      ? Promise.resolve(outcome.addresses)
      : Promise.reject(outcome.trouble)
  }

  #begin(hostname: string): Promise<readonly string[]> {
    const flight = this.#lookUp(hostname).finally(() => this.#running.delete(hostname))
    this.#running.set(hostname, flight)
    return flight
  }

  async #lookUp(hostname: string): Promise<readonly string[]> {
    const { resolve, clock, limits, resolveMs } = this.#options
    const late = new AbortController()
    const timer = setTimeout(
      () => late.abort(new Trouble('dns', 'was not found in the DNS in time')),
      resolveMs,
    )
    let addresses: readonly string[] = []
    let trouble: Trouble | undefined
    try {
      addresses = await untilAborted(resolve(hostname, late.signal), late.signal)
      if (addresses.length > 0) this.#known.set(hostname, true)
    } catch (error) {
      if (!isAbsentName(error)) trouble = asTrouble(error)
    } finally {
      clearTimeout(timer)
    }
    this.#outcomes.set(hostname, { addresses, trouble, untilMs: clock.monotonicMs() + limits.rememberedMs })
    if (trouble !== undefined) throw trouble
    return addresses
  }

  /**
   * Waits for a place: of the domain, then of the client, then of all, so that what waits holds up little.
   */
  async #enter(client: string | undefined, domain: string): Promise<() => void> {
    const late = AbortSignal.timeout(this.#options.limits.waitMs)
    const held: (() => void)[] = []
    const leave = (): void => {
      for (const release of held.splice(0)) release()
    }
    try {
      held.push(await this.#domains.enter(`${client ?? ''} ${domain}`, late))
      if (client !== undefined) held.push(await this.#clients.enter(client, late))
      held.push(await this.#all.enter(late))
      return leave
    } catch {
      leave()
      throw tooMany('too many names are being looked up for this client')
    }
  }

  #requireAllowance(hostname: string, client: string): void {
    if (this.#known.get(hostname) === true) return
    const { clock, limits } = this.#options
    const nowMs = clock.monotonicMs()
    const before = this.#allowances.get(client)
    const grown = before === undefined ? 0 : ((nowMs - before.atMs) / 1000) * limits.newNamesPerSecond
    const names = Math.min((before?.names ?? limits.newNamesMax) + grown, limits.newNamesMax)
    if (names < 1) throw tooMany('this client names too many hosts that were not known before')
    this.#allowances.set(client, { names: names - 1, atMs: nowMs })
  }
}

/** One queue for each key, as long as anything is in it. */
class Queues {
  readonly #placesMax: number
  readonly #waitingMax: number
  readonly #queues = new Map<string, { readonly semaphore: Semaphore; inside: number }>()

  constructor(placesMax: number, waitingMax: number) {
    this.#placesMax = placesMax
    this.#waitingMax = waitingMax
  }

  /**
   * Resolves to the function that gives the place back. Rejects if the queue is full, or with the signal's
   * reason.
   */
  async enter(key: string, signal: AbortSignal): Promise<() => void> {
    const queue = this.#queues.get(key) ?? { semaphore: new Semaphore(this.#placesMax), inside: 0 }
    if (queue.inside >= this.#placesMax + this.#waitingMax) throw new Error('the queue is full')
    this.#queues.set(key, queue)
    queue.inside += 1
    const leave = (): void => {
      queue.inside -= 1
      if (queue.inside === 0) this.#queues.delete(key)
    }
    try {
      const release = await queue.semaphore.enter(signal)
      return () => {
        release()
        leave()
      }
    } catch (error) {
      leave()
      throw error
    }
  }
}

function asTrouble(error: unknown): Trouble {
  return error instanceof Trouble ? error : new Trouble('dns', 'cannot be found in the DNS', { cause: error })
}
