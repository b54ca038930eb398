import { LRUCache } from 'lru-cache'
import type { Digest } from '../oci/digest.ts'
import { UpstreamError, type UpstreamErrorKind } from '../oci/error.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'
import { lacksDescriptors } from './descriptors.ts'
import { type Event, type EventDetails, type EventHandlers, type EventSink, handleEvent } from './event.ts'

/** What is known of a registry from the last exchanges with it. Times are wall-clock milliseconds. */
export interface RegistryHealth {
  readonly answeredAtMs?: number | undefined
  readonly failure?:
    | {
        readonly atMs: number
        readonly message: string
        readonly isContact: boolean
        readonly isLogin: boolean
      }
    | undefined
  /** It is not asked until this time, after several failures in a row or because it asked for a pause. */
  readonly quietUntilMs?: number | undefined
  readonly budget?: PullBudget | undefined
}

/** Pulls that a registry still allows. */
interface PullBudget {
  readonly remaining: number
  readonly limit: number | undefined
  /** Latest time at which the budget is full again; `undefined` if the registry does not state its window. */
  readonly resetsAtMs: number | undefined
}

/** The result of the last reload. */
export interface LastReload {
  readonly atMs: number
  /** `undefined` if it succeeded. */
  readonly message: string | undefined
}

const REGISTRIES_MAX = 500
const LOST_MAX = 10_000

/** Kinds of failure after which it is not known whether the registry can be reached at all. */
const CONTACT: ReadonlySet<string> = new Set<UpstreamErrorKind>([
  'connect',
  'dns',
  'tls',
  'timeout',
  'not-public',
])
/** Kinds that repeat what is known already: nothing was asked. */
const ECHOES: ReadonlySet<string> = new Set<UpstreamErrorKind>(['breaker', 'offline', 'too-many'])

/** Keeps the state of the daemon and of its registries, as an operator wants to see it. */
export class Health implements EventSink {
  readonly #now: () => number
  readonly #registries = new LRUCache<Namespace, RegistryHealth>({ max: REGISTRIES_MAX })
  readonly #lost = new Map<Digest, Place>()
  #reload: LastReload | undefined
  #roomRefusedAtMs: number | undefined
  #descriptorsLackedAtMs: number | undefined
  #indexFailure: string | undefined
  readonly #handlers: Partial<EventHandlers> = {
    reloaded: () => {
      this.#reload = { atMs: this.#now(), message: undefined }
    },
    'reload-failed': ({ error }) => {
      this.#reload = { atMs: this.#now(), message: messageOf(error) }
    },
    'upstream-answered': ({ namespace }) => this.#note(namespace, { answeredAtMs: this.#now() }),
    'upstream-failed': failure => this.#failed(failure),
    'fill-finished': ({ namespace, result, error }) => {
      if (result === 'mismatch') this.#failed({ namespace, kind: 'mismatch', verb: 'get-blob', error })
    },
    'breaker-changed': ({ namespace, isOpen, forMs }) =>
      this.#note(namespace, { quietUntilMs: isOpen ? this.#now() + forMs : undefined }),
    'hosted-content-lost': ({ digest, ...place }) => {
      if (this.#lost.size < LOST_MAX) this.#lost.set(digest, place)
    },
    'rate-limit-seen': seen => this.#budgeted(seen),
    'storage-failed': ({ operation, error }) => {
      if (operation === 'index') this.#indexFailure = messageOf(error)
      if (lacksDescriptors(error)) this.#descriptorsLackedAtMs = this.#now()
    },
    'bypass-changed': ({ error }) => {
      if (lacksDescriptors(error)) this.#descriptorsLackedAtMs = this.#now()
    },
    'room-refused': () => {
      this.#roomRefusedAtMs = this.#now()
    },
  }

  /** @param now wall clock, in milliseconds. */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  take(event: Event): void {
    handleEvent(this.#handlers, event)
  }

  /** The registries that were asked recently. */
  get registries(): ReadonlyMap<Namespace, RegistryHealth> {
    return new Map(this.#registries.entries())
  }

  get lastReload(): LastReload | undefined {
    return this.#reload
  }

  /** Hosted content that was met damaged or gone, each with a repository that has it; at most 10,000. */
  get lostContent(): ReadonlyMap<Digest, Place> {
    return this.#lost
  }

  /** Notes that content is not lost any more. */
  foundContent(digest: Digest): void {
    this.#lost.delete(digest)
  }

  /** When a download was last not cached for want of room. */
  get roomRefusedAtMs(): number | undefined {
    return this.#roomRefusedAtMs
  }

  /** When the process was last seen without a free file descriptor. */
  get descriptorsLackedAtMs(): number | undefined {
    return this.#descriptorsLackedAtMs
  }

  /** Why the index last failed. It may have recovered since. */
  get indexFailure(): string | undefined {
    return this.#indexFailure
  }

  #failed({ namespace, kind, error }: EventDetails['upstream-failed']): void {
    if (ECHOES.has(kind)) return
    const failure = {
      atMs: this.#now(),
      message: messageOf(error),
      isContact: CONTACT.has(kind),
      isLogin: error instanceof UpstreamError && error.refusesLogin,
    }
    this.#note(namespace, { failure })
  }

  /** A window that was seen to begin ends after its length, and one that was met halfway ends earlier. */
  #budgeted({ namespace, remaining, limit, windowMs }: EventDetails['rate-limit-seen']): void {
    const before = this.#registries.peek(namespace)?.budget
    const isSameWindow = before?.resetsAtMs !== undefined && remaining <= before.remaining
    const endMs = windowMs === undefined ? undefined : this.#now() + windowMs
    const resetsAtMs = isSameWindow ? before.resetsAtMs : endMs
    this.#note(namespace, { budget: { remaining, limit, resetsAtMs } })
  }

  #note(namespace: Namespace, news: RegistryHealth): void {
    this.#registries.set(namespace, { ...this.#registries.get(namespace), ...news })
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
