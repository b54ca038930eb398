import { randomUUID } from 'node:crypto'
import type { LRUCache } from 'lru-cache'
import { untilAborted } from '../../lib/abort.ts'
import { type Attempt, Breaker, type BreakerChange, type Quiet } from '../../lib/breaker.ts'
import type { Clock } from '../../lib/clock.ts'
import { lruCache } from '../../lib/lru.ts'
import { OciError, UpstreamError } from '../../oci/error.ts'

/** Breakers of repositories by upstream and repository, shared by all upstreams so that one bound holds. */
export type RepositoryBreakers = LRUCache<string, Breaker>

const REPOSITORIES_MAX = 10_000

export function createRepositoryBreakers(): RepositoryBreakers {
  return lruCache(REPOSITORIES_MAX)
}

export interface OutagesParts {
  readonly clock: Pick<Clock, 'monotonicMs'>
  readonly repositories: RepositoryBreakers
  /**
   * Asks the registry the one question that every sound registry answers, `GET /v2/`. Resolves to whether it
   * answered, and rejects if it could not be reached. A token service has no such question: there a client's
   * question is the probe.
   */
  readonly ping?: (signal: AbortSignal) => Promise<boolean>
  /** The whole registry is left alone, or asked again. */
  readonly onChange?: (change: BreakerChange) => void
  /** {@link Outages.quiet} may have changed for a repository, or for all of them. */
  readonly onTrouble?: () => void
}

/** One question on its way. The first method called ends it; later calls do nothing. */
export interface Inquiry {
  succeeded(): void
  /** No connection to the registry could be made: that concerns every repository. */
  registryFailed(): void
  /** The registry answered 5xx, was too slow or broke off: that may concern this repository alone. */
  repositoryFailed(): void
  abandoned(): void
}

/** A pause, and whether it concerns the registry or one repository of it. */
export interface Outage extends Quiet {
  readonly scope: 'registry' | 'repository'
}

/** Failures in a row that open the breaker of a repository or of the registry. */
const FAILURES_MAX = 3
const PING_MS = 5000

/**
 * Tells the outage of a registry from the trouble of one repository, so that a broken image which many nodes
 * retry does not cost them all others.
 *
 * Failed connections count for the registry. A 5xx, a timeout and a broken answer count for the repository;
 * three of them in a row, from whichever repositories, are a reason to ask `GET /v2/`, and the registry is
 * left alone if that fails too. After each pause the registry's probe is again `GET /v2/`, because a client's
 * next question may be for the repository that is broken.
 */
export class Outages {
  readonly #parts: OutagesParts
  readonly #id = randomUUID()
  readonly #registry: Breaker
  #suspicions = 0
  #probe: Promise<void> | undefined

  constructor(parts: OutagesParts) {
    this.#parts = parts
    this.#registry = new Breaker({
      clock: parts.clock,
      failuresMax: FAILURES_MAX,
      onChange: change => parts.onChange?.(change),
      onProbe: () => parts.onTrouble?.(),
    })
  }

  /** The pause in force for a repository; `undefined` if it may be asked for. */
  quiet(repository: string): Outage | undefined {
    const registry = this.#registry.quiet()
    if (registry !== undefined) return { ...registry, scope: 'registry' }
    const own = this.#parts.repositories.peek(this.#key(repository))?.quiet()
    return own === undefined ? undefined : { ...own, scope: 'repository' }
  }

  /** Waits for the registry's probe if one is due or running. All waiting requests share it. */
  async probed(signal: AbortSignal): Promise<void> {
    const { ping } = this.#parts
    if (this.#probe === undefined) {
      const isDue = this.#registry.isOpen || this.#suspicions >= FAILURES_MAX
      if (ping === undefined || !isDue || this.#registry.quiet() !== undefined) return
      this.#probe = this.#ask(ping).finally(() => {
        this.#probe = undefined
      })
    }
    await untilAborted(this.#probe, signal)
  }

  /** Begins a question about a repository. The caller has checked {@link quiet}. */
  begin(repository: string): Inquiry {
    const key = this.#key(repository)
    const registry = this.#registry.begin()
    const own = this.#parts.repositories.get(key)?.begin()
    return {
      succeeded: () => {
        registry.succeeded()
        own?.succeeded()
        this.#suspicions = 0
        this.#parts.repositories.delete(key)
      },
      registryFailed: () => {
        registry.failed()
        own?.abandoned()
      },
      repositoryFailed: () => {
        registry.abandoned()
        this.#suspicions += 1
        this.#failRepository(key, own)
      },
      abandoned: () => {
        registry.abandoned()
        own?.abandoned()
      },
    }
  }

  /** Starts a silence that the registry asked for. */
  beQuiet(forMs: number): void {
    this.#registry.beQuiet(forMs)
  }

  #failRepository(key: string, attempt: Attempt | undefined): void {
    if (attempt !== undefined) {
      attempt.failed()
      return
    }
    const { clock, repositories, onTrouble } = this.#parts
    let breaker = repositories.get(key)
    if (breaker === undefined) {
      breaker = new Breaker({ clock, failuresMax: FAILURES_MAX, onChange: () => onTrouble?.() })
      repositories.set(key, breaker)
    }
    // A question that began before the breaker opened tells nothing new.
    if (!breaker.isOpen) breaker.begin().failed()
  }

  async #ask(ping: (signal: AbortSignal) => Promise<boolean>): Promise<void> {
    this.#suspicions = 0
    const attempt = this.#registry.begin()
    try {
      if (await ping(AbortSignal.timeout(PING_MS))) attempt.succeeded()
      else attempt.failedBadly()
    } catch (error) {
      // Our own refusal to connect says nothing about the registry: the question itself meets it too.
      if (error instanceof OciError || !wasAsked(error)) attempt.abandoned()
      else attempt.failedBadly()
    }
  }

  #key(repository: string): string {
    return `${this.#id} ${repository}`
  }
}

/** False if the dialer refused to connect, so that nothing was learned of the upstream. */
export function wasAsked(error: unknown): boolean {
  return !(error instanceof UpstreamError) || (error.kind !== 'not-public' && error.kind !== 'too-many')
}
