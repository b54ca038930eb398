import type { Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'
import type { Tag } from '../oci/name.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'

/** One finished request, with the fields of the access log. */
export interface FinishedRequest {
  /** Id of the request, which its error response has too. */
  readonly id?: string | undefined
  readonly method: string
  readonly resource: string
  readonly status: number
  readonly outcome: Outcome | undefined
  readonly namespace: Namespace | undefined
  readonly repository: string | undefined
  readonly reference: string | undefined
  readonly client: string | undefined
  /** Name of the identity that sent it. */
  readonly identity: string
  readonly userAgent: string | undefined
  readonly sentBytes: number
  readonly durationMs: number
  /** Time until the response began; `undefined` if it was not decided. */
  readonly firstByteMs?: number | undefined
  /** Cause of an error response or of a response that was cut off. */
  readonly error: unknown
  /** True if the client left before the end. */
  readonly isAborted: boolean
}

/** The end of a fill. */
export interface FinishedFill {
  readonly namespace: Namespace
  readonly digest: Digest
  readonly sizeBytes: number
  readonly durationMs: number
  readonly resumes: number
  readonly result: 'stored' | 'not-stored' | 'absent' | 'failed' | 'mismatch' | 'abandoned'
  readonly error: unknown
}

/** State of the index. `absent`: not opened yet. `locked`: another process has it. */
type IndexState = (typeof INDEX_STATES)[number]

export const INDEX_STATES = ['absent', 'open', 'rebuilding', 'locked', 'failed'] as const

/** Records that the mirror keeps for itself. */
export type OwnRecord =
  | 'pins'
  | 'tag'
  | 'scrub'
  | 'index'
  | 'outbox'
  | 'history'
  | 'hosted'
  | 'pulls'
  | 'upload'
  | 'robots'
  | 'signing-key'
  | 'traffic'

/**
 * Fate of a damaged record. `restored`: read from its second copy. `rebuilt`: derived again from its source.
 * `forgotten`: discarded, and written again when its content is next known. `lost`: put aside without a
 * replacement.
 */
export type DamageOutcome = 'restored' | 'rebuilt' | 'forgotten' | 'lost'

/** Author of a change that the registry of a mirrored repository made. */
export const UPSTREAM_ACTOR = 'upstream'

/** A change of a repository. `by` names the identity that made it, or is {@link UPSTREAM_ACTOR}. */
interface RepositoryChange extends Place {
  readonly by: string
}

/** A manifest that was pushed, under these tags or by digest only. */
interface PushedManifest extends RepositoryChange {
  readonly digest: Digest
  readonly tags: readonly Tag[]
  readonly mediaType: string
  readonly sizeBytes: number
}

/** A tag that has a new digest; `before` is `undefined` if the tag is new. */
interface MovedTag extends RepositoryChange {
  readonly tag: Tag
  readonly digest: Digest
  readonly before: Digest | undefined
}

/** Content that was deleted on request: a tag, or a manifest or blob by digest. */
interface DeletedContent extends RepositoryChange {
  readonly what: 'tag' | 'manifest' | 'blob'
  readonly tag: Tag | undefined
  readonly digest: Digest | undefined
}

/** One line of the audit log: who did what to what, from where, and which row of the rules decided it. */
export interface AuditEntry {
  /**
   * `login`: credentials were exchanged for a token. `login-refused`: they were wrong. `refused`: the rules
   * refused a request. `rules`: other rules or identities are in force. `admin`: an administrator changed
   * something.
   */
  readonly action: 'login' | 'login-refused' | 'refused' | 'push' | 'delete' | 'rules' | 'admin'
  /** Name of the identity, or the name that a refused login gave. */
  readonly who: string
  /** An image, a repository, a file or an endpoint. */
  readonly what?: string | undefined
  /** Address of the client; `undefined` for a client on a unix socket. */
  readonly from?: string | undefined
  /** The row of the rules that decided, as `explain` names it. */
  readonly row?: string | undefined
  /** Why it was refused. */
  readonly reason?: string | undefined
}

/** Details of each event, by kind. */
export interface EventDetails {
  readonly started: {
    readonly listen: string
    /** The addresses that use TLS. */
    readonly listenTls: readonly string[]
    readonly adminListen: string | undefined
    readonly store: string
    /**
     * Where the start took its time, in milliseconds: until Node and this program were loaded, until the
     * store and the index were open, and until all listeners were.
     */
    readonly took: { readonly loadMs: number; readonly openMs: number; readonly listenMs: number }
  }
  /** The daemon was told to stop, and serves on for the drain delay. */
  readonly leaving: { readonly delayMs: number }
  readonly draining: { readonly requests: number; readonly limitMs: number }
  readonly stopped: { readonly cutRequests: number }
  readonly warned: { readonly message: string; readonly fields: object }
  readonly reloaded: { readonly upstreams: number }
  readonly 'reload-failed': { readonly error: unknown }
  /** The TLS listeners use this certificate from now on. */
  readonly 'certificate-loaded': {
    readonly file: string
    readonly names: string
    readonly notAfterMs: number
  }
  readonly 'certificate-failed': { readonly error: unknown }
  readonly 'upstream-answered': {
    readonly namespace: Namespace
    readonly verb: string
    readonly status: number
    readonly durationMs: number
  }
  readonly 'spans-dropped': {
    readonly count: number
    /** The reason, if the collector or the way to it gave one; otherwise too many were waiting. */
    readonly error: unknown
  }
  readonly 'upstream-failed': {
    readonly namespace: Namespace
    readonly verb: string
    readonly kind: string
    readonly error: unknown
  }
  readonly 'breaker-changed': {
    readonly namespace: Namespace
    readonly isOpen: boolean
    readonly forMs: number
  }
  readonly 'rate-limit-seen': {
    readonly namespace: Namespace
    readonly remaining: number
    readonly limit: number | undefined
    /** Length of the window for which the limit holds. */
    readonly windowMs: number | undefined
  }
  readonly 'fill-started': undefined
  readonly 'fill-resumed': {
    readonly namespace: Namespace
    readonly digest: Digest
    readonly offset: number
    readonly error: unknown
  }
  readonly 'fill-finished': FinishedFill
  readonly 'stale-served': {
    readonly namespace: Namespace
    readonly repository: string
    readonly tag: string
    readonly error: unknown
  }
  readonly 'tag-lost': Place & { readonly tag: Tag; readonly digest: Digest }
  /** Location of the store and the abilities found when it was opened. */
  readonly 'store-opened': Readonly<Record<string, unknown>>
  readonly 's3-answered': {
    readonly operation: string
    readonly result: 'ok' | 'failed'
    readonly durationMs: number
  }
  readonly 'storage-failed': { readonly operation: string; readonly error: unknown }
  /** The store became unwritable, or writable again. */
  readonly 'bypass-changed': { readonly isBypassing: boolean; readonly error?: unknown }
  /** Content that a client pushed is damaged or gone. */
  readonly 'hosted-content-lost': Place & { readonly digest: Digest }
  readonly quarantined: { readonly digest: Digest; readonly error: unknown }
  readonly 'record-damaged': {
    readonly record: OwnRecord
    readonly outcome: DamageOutcome
    readonly error: unknown
  }
  readonly scrubbed: { readonly result: 'good' | 'damaged' | 'unreadable' | 'gone' }
  readonly 'scrub-ended': {
    readonly good: number
    readonly damaged: number
    readonly unreadable: number
    readonly gone: number
  }
  readonly 'space-measured': {
    /** `undefined` while the index is not open: it knows what is stored. */
    readonly usedBytes: number | undefined
    readonly objects: number | undefined
    readonly maxBytes: number | undefined
    readonly freeBytes: number | undefined
    readonly minFreeBytes: number
    readonly index: IndexState
  }
  readonly evicted: {
    readonly reason: 'expired' | 'share' | 'room'
    readonly objects: number
    readonly bytes: number
  }
  readonly 'room-refused': { readonly bytes: number }
  readonly 'index-walked': {
    readonly objects: number
    readonly records: number
    readonly gone: number
    readonly deadLinks: number
    readonly durationMs: number
  }
  readonly swept: { readonly files: number }
  readonly 'client-limited': undefined
  readonly audited: AuditEntry
  /** Credentials of another registry came with a request that needed none. */
  readonly 'foreign-credentials': undefined
  readonly pushed: PushedManifest
  readonly 'tag-moved': MovedTag
  readonly deleted: DeletedContent
  /** Repositories use most of what a quota grants, or a push would have exceeded it. */
  readonly 'quota-reached': RepositoryChange & {
    readonly quota: string
    readonly usedBytes: number
    readonly limitBytes: number
    readonly isRefused: boolean
  }
  /** Content that no hosted repository needed any more; 0 bytes if mirrored ones still use it. */
  readonly collected: { readonly digest: Digest; readonly bytes: number }
  /** A tag that a retention rule removed. */
  readonly 'retention-removed': Place & {
    readonly tag: Tag
    readonly digest: Digest
    readonly why: string
  }
  /** One attempt to deliver a notification has ended. */
  readonly 'notification-sent': {
    readonly endpoint: string
    readonly result: 'delivered' | 'failed' | 'refused'
    readonly error: unknown
  }
  /** An endpoint asked for no more notifications (410). */
  readonly 'endpoint-disabled': { readonly endpoint: string }
  /** Notifications that were given up before they were delivered. */
  readonly 'notifications-dropped': { readonly count: number; readonly why: string }
}

type EventKind = keyof EventDetails

/** Events of the given kinds. */
type EventOf<Kind extends EventKind> = {
  readonly [K in Kind]: { readonly kind: K; readonly details: EventDetails[K] }
}[Kind]

/** One event in the daemon. */
export type Event = EventOf<EventKind>

/** A receiver of events. It may throw: this affects neither the other sinks nor the reporter of the event. */
export interface EventSink {
  take(event: Event): void
}

/** One handler per kind of event. A sink that ignores a kind says so with `undefined`. */
export type EventHandlers = {
  readonly [Kind in EventKind]: ((details: EventDetails[Kind]) => void) | undefined
}

/** Calls the handler of an event, if it has one. */
export function handleEvent<Kind extends EventKind>(
  handlers: Partial<EventHandlers>,
  event: EventOf<Kind>,
): void {
  handlers[event.kind]?.(event.details)
}
