import type { AccessPolicy } from '../../access/ruled-access.ts'
import type { Asked, Head } from '../../content/answering.ts'
import type { Repeatable } from '../../content/epoch.ts'
import type { LogLevel } from '../../lib/log-level.ts'
import type { AuditEntry } from '../../observe/event.ts'
import type { ThreadMetrics } from '../../observe/metrics.ts'
import type { SeenClient } from '../../observe/recent-clients.ts'
import type { TracingSettings } from '../../observe/tracing/tracing.ts'
import type { ByteRange, Outcome } from '../../oci/content.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Identity } from '../../oci/identity.ts'
import type { Namespace } from '../../oci/namespace.ts'
import type { Place } from '../../oci/place.ts'
import type { Reference } from '../../oci/reference.ts'
import type { ClientLimitsMemory, ClientLimitsOptions } from '../client-limits.ts'
import type { ListenerTls } from '../tls/listener-tls.ts'
import type { PrivateSocket } from './forward.ts'

/** Settings that a further thread starts with. */
export interface ThreadSettings {
  readonly instance: string
  readonly logLevel: LogLevel
  readonly firstHeaderMs: number | undefined
  /** Terms of the TLS listeners; `undefined` if there are none. */
  readonly tls: ListenerTls | undefined
  /** Limits for each client; `undefined` if there are none. */
  readonly clientLimits:
    | { readonly options: ClientLimitsOptions; readonly memory: ClientLimitsMemory }
    | undefined
  readonly epoch: SharedArrayBuffer
  readonly running: SharedArrayBuffer
  readonly waitingLog: SharedArrayBuffer
  readonly connections: SharedArrayBuffer
  readonly directory: DirectoryText
  /** True if the thread sends files inside the kernel. */
  readonly usesSendfile: boolean
  /** True if the thread gets more memory for new objects once it is busy: see `growNurseryWhenBusy`. */
  readonly growsNursery: boolean
  /** Set if requests are traced. */
  readonly tracing: TracingSettings | undefined
  /** See `RememberedIdentities`. */
  readonly identityChanges: SharedArrayBuffer
  /** Path to the first thread, which answers everything but content. */
  readonly socket: PrivateSocket
}

/** An address at which several threads listen. */
export interface SharedAddress {
  readonly host: string
  readonly port: number
  readonly isTls: boolean
}

/** The rules for resolving names, without the registries behind them. */
/** The rules for resolving names, without the registries behind them, and those of access. */
export interface DirectoryText {
  readonly defaultNamespace: Namespace
  readonly configured: readonly Namespace[]
  readonly policy: AccessPolicy
}

/** Terms under which an answer may be given again. If `isShown` is true, each repetition must be reported. */
type RepeatableText = Pick<Repeatable, 'epoch' | 'forMs'> & { readonly isShown: boolean }

/**
 * An answer with its bytes, or with the place where they are. Content with an `id` is held until it is
 * released.
 */
export interface AnswerText {
  readonly digest: Digest
  readonly mediaType: string
  readonly sizeBytes: number | undefined
  readonly outcome: Outcome
  readonly repeatable: RepeatableText | undefined
  readonly content:
    | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
    | {
        readonly kind: 'held'
        readonly id: number
        readonly file: FileText | undefined
        /** True if the content has a {@link Content.redirect}. */
        readonly canRedirect: boolean
      }
}

/** A file that another thread can read; `progress` is shared memory. */
export type FileText =
  | { readonly kind: 'whole'; readonly fd: number }
  | { readonly kind: 'growing'; readonly fd: number; readonly progress: SharedArrayBuffer }

export type HeadText = Omit<Head, 'repeatable'> & { readonly repeatable: RepeatableText | undefined }

/** Report of a further thread, sent at intervals. */
export interface Account {
  readonly used: readonly {
    readonly digest: Digest
    readonly hits: number
    readonly servedBytes: number
  }[]
  readonly shown: readonly Digest[]
  readonly pulls: readonly NotedPull[]
  readonly clients: readonly SeenClient[]
}

/** Outcome of a request for a manifest. */
export interface NotedPull {
  readonly place: Place
  readonly reference: Reference
  readonly outcome: Outcome | undefined
  readonly status: number
  /** The reason of a failure. */
  readonly message: string | undefined
  /** Requests answered from the cache since the last report. */
  readonly hits: number
  /** Address of the last client. */
  readonly client?: string | undefined
}

/** A request for content that a further thread passes to the first one. */
export type ContentRequest = {
  readonly method: 'GET' | 'HEAD'
  readonly asked: Asked
  /** Names the span of the request, if it is traced. */
  readonly traceparent?: string | undefined
} & (
  | { readonly kind: 'manifest'; readonly reference: Reference }
  | { readonly kind: 'blob'; readonly digest: Digest }
)

/** An identity, and until when its credentials prove it, in milliseconds since 1970. */
interface ProvedText {
  readonly identity: Identity
  readonly untilMs: number
}

/** Functions of the first thread, which has the mirror, that a further thread can call. */
export interface MirrorCalls {
  /** Answers a GET with content, and a HEAD without. */
  answer(request: ContentRequest): Promise<AnswerText | HeadText>
  /** Finds out who sends credentials; see `IdentityChain`. */
  identify(authorization: string, client: string | undefined): Promise<ProvedText>
  locate(contentId: number): Promise<string | undefined>
  /**
   * Starts reading held content and returns the id of the stream. {@link nextPiece} returns its pieces,
   * {@link closeStream} ends it.
   */
  openStream(contentId: number, range: ByteRange, isContinued: boolean): number
  /**
   * Fills the memory, which the threads share, with the next bytes and returns their count, 0 at the end. At
   * most one call per stream at a time.
   */
  nextPiece(streamId: number, target: Uint8Array): Promise<number>
  closeStream(streamId: number): void
  release(contentId: number): void
  account(account: Account): void
  audited(entry: AuditEntry): void
  /** Writes lines into the log. */
  log(lines: string): void
}

/** Functions of a further thread that the first one can call. */
export interface ThreadCalls {
  /** Listens at a shared port too; rejects if it cannot. */
  listen(address: SharedAddress): Promise<void>
  /** Uses these terms for further handshakes. */
  secure(tls: ListenerTls): void
  direct(directory: DirectoryText): void
  /** Closes all connections; resolves when all requests are reported. */
  cut(): Promise<void>
  /** Takes no new work; resolves when the last connection is closed. */
  drain(): Promise<void>
  metrics(): Promise<ThreadMetrics>
  /** Reports what has not been reported yet, before it resolves. */
  report(): void
}
