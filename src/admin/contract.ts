import type { TakenManifest } from '../mirror/intake.ts'
import type { DamagedRecord } from '../observe/events.ts'
import type { RecentClient } from '../observe/recent-clients.ts'
import type { Outcome } from '../oci/content.ts'
import type { Digest } from '../oci/digest.ts'
import type { Platform } from '../oci/platform.ts'
import type { ExplainedClaim, ExplainedPull, ExplainedTag } from './explained.ts'
import type { ReplicasReport } from './replicas-report.ts'

/**
 * The answer of each endpoint below `/_admin/v1/`, by method and path. Sizes are in bytes, names that end in
 * `Ms` are durations in milliseconds, and times are ISO 8601. A field that is `undefined` is left out of the
 * JSON.
 */
export interface AdminAnswers {
  readonly 'GET status': DaemonReport
  readonly 'GET clients': { readonly clients: readonly ClientReport[] }
  readonly 'GET images': ImageList
  /** Takes content into the cache that is the body of the request. */
  readonly 'PUT cached-manifests': TakenManifest
  readonly 'PUT cached-blobs': { readonly digest: Digest }
  readonly 'GET blobs': BlobList
  readonly 'GET flows': { readonly flows: readonly RunningDownload[] }
  /** Cancels the downloads of a digest, which may be shortened. */
  readonly 'DELETE flows': { readonly digest: Digest; readonly cancelled: number }
  readonly 'GET explain': Explanation
  /** The robot tokens, without their secrets. */
  readonly 'GET tokens': { readonly tokens: readonly TokenReport[] }
  readonly 'POST tokens': CreatedToken
  readonly 'DELETE tokens': { readonly revoked: readonly TokenReport[] }
  readonly 'GET pins': { readonly pins: readonly PinnedImage[] }
  /** `isNew` is false if the image was pinned before. */
  readonly 'PUT pins': { readonly image: string; readonly isNew: boolean }
  readonly 'DELETE pins': { readonly image: string }
  readonly 'DELETE images': RemovedImage
  readonly 'GET history': TagReport
  readonly 'PUT tags': MovedTagReport
  /** Lets a mirrored tag follow its upstream again. */
  readonly 'DELETE tags': { readonly image: string }
  readonly 'GET events': EventList
  /** Number of deliveries that are due again. */
  readonly 'POST events': { readonly deliveries: number }
  readonly 'POST evict': { readonly objects: number; readonly bytes: number }
}

/** One line of each endpoint that answers with a stream of JSON lines. */
export interface AdminStreams {
  readonly 'POST warm': WarmLine
  readonly 'POST verify': VerifyLine
  /** Retention and collection of hosted repositories; with `dry-run`, only what would go. */
  readonly 'POST collect': CollectLine
  readonly 'POST remove': RemoveLine
}

/** The last line of a stream that failed. */
export interface StreamFailure {
  readonly event: 'error'
  readonly code: string
  readonly message: string
}

export interface DaemonReport extends Record<'version' | 'startedAt', string> {
  /** Everything that is not as it should be, each as a sentence. Empty if the mirror is healthy. */
  readonly degraded: readonly string[]
  readonly traffic: TrafficReport
  /** Configured registries, then others that were asked recently. */
  readonly registries: readonly RegistryReport[]
  /** Images that are pulled at intervals, as the section `warm` of the upstream file says. */
  readonly warming: readonly WarmingReport[]
  /** The last reload of the upstream file; absent if there was none. */
  readonly lastReload?: { readonly at: string; readonly failure?: string | undefined } | undefined
  readonly store: string
  /** The replicas of this mirror, itself included; absent if it works alone. */
  readonly replicas?: ReplicasReport | undefined
  /** Number of running downloads from upstreams. */
  readonly flows: number
  /**
   * Tags still served although their upstreams have deleted them. Counts only tags that this process has met.
   */
  readonly lostTags: readonly { readonly image: string; readonly lostForMs: number }[]
  /**
   * The latest run of each job that is done once for all mirrors on the store; none if the store does not
   * answer. `state`: running, ended, failed (see the log of that mirror), or stopped in the middle. `by`: the
   * mirror that does it or did it. `at`: its end, or its last sign of life.
   */
  readonly jobs: readonly Record<'job' | 'state' | 'by' | 'at', string>[]
  /** Records of the mirror itself found damaged since its start. */
  readonly damagedRecords: readonly DamagedRecord[]
  /**
   * Content of hosted repositories that was met damaged or gone and has not been pushed again; absent if
   * there is none. `example` is a repository and a digest, with `@` between them.
   */
  readonly lostContent?: { readonly count: number; readonly example: string } | undefined
  /** Why nothing is stored at present: pulls pass through uncached. Absent if all is well. */
  readonly storeTrouble?: string | undefined
  /** `null` with a store that has no index, such as a bucket. */
  readonly space: SpaceReport | null
  /** Absent without `--s3-cache`. */
  readonly copies?: CopiesReport | undefined
}

/** Local copies of small objects of a bucket. */
export interface CopiesReport {
  readonly objects: number
  /** Room on the disk. */
  readonly bytes: number
  readonly maxBytes: number
  /** Reads of objects with a copy, and of those that had to be copied first. */
  readonly hits: number
  readonly misses: number
  /** True while there are no copies because the disk failed a moment ago. */
  readonly isPaused: boolean
}

/** Traffic since the start. */
export interface TrafficReport {
  /** Requests for manifests and blobs that were answered with content, and those answered from the cache. */
  readonly requests: number
  readonly hits: number
  /** Bytes sent to clients, received from registries, and sent without having been received. */
  readonly sentBytes: number
  readonly receivedBytes: number
  readonly savedBytes: number
}

/** A registry behind the mirror. */
export interface RegistryReport {
  readonly registry: string
  readonly isConfigured: boolean
  /**
   * `reachable`: it answered last time. `refused`: it last refused our user name and password. `unreachable`:
   * the last attempt failed before an answer. `paused`: it is not asked for now, after several failures in a
   * row or because it asked for that. `unknown`: it was not asked since the start.
   */
  readonly state: 'reachable' | 'refused' | 'unreachable' | 'paused' | 'unknown'
  /** Rest of the pause. */
  readonly pausedForMs?: number | undefined
  readonly lastAnswerAt?: string | undefined
  readonly lastError?: { readonly at: string; readonly message: string } | undefined
  readonly budget?: BudgetReport | undefined
  /** Bytes in the cache that it may see, and those of them that another registry may see, too. */
  readonly cachedBytes: number
  readonly sharedBytes: number
}

/** Progress of one entry of scheduled warming. */
export interface WarmingReport {
  readonly image: string
  /** The chosen tags, as text. */
  readonly tags: string
  readonly isRunning: boolean
  /** End of the last run. */
  readonly lastAt?: string | undefined
  readonly nextAt: string
  /** Images of the run that is under way, or of the last one. */
  readonly images: number
  readonly doneImages: number
  readonly failedImages: number
  /** The last failure, or why the run ended early. */
  readonly message?: string | undefined
}

/** Pulls that a registry still allows, as it states them. */
export interface BudgetReport {
  readonly remaining: number
  readonly limit?: number | undefined
  /** Latest time at which the budget is full again. */
  readonly resetsAt?: string | undefined
}

/** Size of the cache, and its bounds. */
export interface SpaceReport {
  /** Records that let a repository see a digest; `undefined` while the index is not open. */
  readonly links?: number | undefined
  readonly indexState: 'absent' | 'open' | 'locked' | 'failed'
  /** False while the index is being rebuilt from the store; the numbers may then be too small. */
  readonly isComplete: boolean
  readonly objects: number
  readonly storedBytes: number
  /** Running downloads, leftovers of earlier ones, and damaged objects in quarantine. */
  readonly scratchBytes: number
  readonly usedBytes: number
  readonly maxBytes?: number | undefined
  readonly freeBytes?: number | undefined
  readonly totalBytes?: number | undefined
  readonly minFreeBytes: number
  /** Bytes from registries that are not configured, and the share of the cache that they may use. */
  readonly dynamicBytes: number
  readonly dynamicShare: number
  readonly bytesByNamespace: Readonly<Record<string, number>>
}

/** A client that pulled recently: an address with a user agent. */
export type ClientReport = RecentClient

export interface ImageList extends Listed {
  readonly images: readonly ListedImage[]
  /** Number of images on all pages; on the first page only. */
  readonly total?: number | undefined
  /** The `after` of the next page; absent on the last one. */
  readonly next?: string | undefined
}

/** Properties of every list. */
export interface Listed {
  /** False while the index is being rebuilt from the store: the list lacks content then. */
  readonly isComplete: boolean
}

/** A tag, or a manifest that no tag leads to: a cached one that was asked for by digest, or a hosted one. */
export interface ListedImage extends Extent {
  /** Its name, with a tag or with `@` and a digest. */
  readonly image: string
  readonly digest: Digest
  /** When the upstream last confirmed the tag; absent without a tag. */
  readonly checkedAt?: string | undefined
  readonly lastUse?: string | undefined
  readonly hits: number
  readonly isPinned: boolean
  /** True for what was pushed here, false for what is cached. */
  readonly isHosted: boolean
}

export interface BlobList extends Listed {
  readonly blobs: readonly ListedBlob[]
  /** The `after` of the next page; absent on the last one. */
  readonly next?: string | undefined
}

/** A blob or manifest in the store. */
export interface ListedBlob {
  readonly digest: Digest
  readonly sizeBytes: number
  readonly storedAt: string
  readonly lastUse: string
  readonly hits: number
  readonly servedBytes: number
  readonly isManifest: boolean
  readonly isPinned: boolean
  /** As `namespace/repository`. */
  readonly repositories: readonly string[]
}

export interface RunningDownload {
  readonly namespace: string
  readonly repository: string
  readonly digest: Digest
  readonly writtenBytes: number
  readonly sizeBytes?: number | undefined
  /** Number of clients that are reading it. */
  readonly readers: number
  readonly forMs: number
  /** Speed over the last seconds. */
  readonly bytesPerSecond: number
  /** Time left at this speed; absent if the size is unknown or nothing arrives. */
  readonly leftMs?: number | undefined
}

/** The cached part of an image, and the outcomes of its last and next pull. */
export interface TokenReport {
  readonly id: string
  /** The identity, as rules write it. */
  readonly name: string
  /** Its rights, such as `push:docker.io/acme/**`. */
  readonly may: readonly string[]
  readonly createdAt: string
  readonly createdBy: string
  readonly expiresAt?: string | undefined
  readonly lastUsedAt?: string | undefined
}

/** A token that was just created, with its secret. */
export interface CreatedToken extends TokenReport {
  readonly token: string
}

/** What an identity may do to an image. */
export interface ExplainedAccess {
  readonly as: string
  readonly groups: readonly string[]
  readonly decisions: readonly {
    readonly right: string
    readonly isAllowed: boolean
    /** The row of the rules, `token` for a right of a robot token, or `default`. */
    readonly row: string
    readonly reason?: string | undefined
  }[]
}

export interface Explanation {
  readonly image: string
  /** Only if an identity was asked about. */
  readonly access?: ExplainedAccess | undefined
  readonly tag?: ExplainedTag | undefined
  /** True if the registry is configured, or is the default one. */
  readonly isTrusted: boolean
  /** True if the repository may see the manifest without asking the upstream. */
  readonly isLinked: boolean
  readonly manifest?: ExplainedManifest | undefined
  readonly extent?: Extent | undefined
  /** The current trouble of the upstream. */
  readonly trouble?: string | undefined
  readonly isPinned: boolean
  readonly lastUse?: string | undefined
  readonly hits?: number | undefined
  readonly lastPull?: ExplainedPull | undefined
  readonly nextPull: { readonly outcome: Outcome | 'failure'; readonly why: string }
  /** The claim of hosted names that the image falls to; left out if it is mirrored. */
  readonly claim?: ExplainedClaim | undefined
}

export interface ExplainedManifest {
  readonly digest: Digest
  readonly platform?: Platform | undefined
  readonly isCached: boolean
  readonly mediaType?: string | undefined
  readonly sizeBytes?: number | undefined
  readonly blobs: readonly ExplainedBlob[]
  /** The manifests of an index. */
  readonly manifests: readonly ExplainedManifest[]
}

export interface ExplainedBlob {
  readonly digest: Digest
  readonly sizeBytes: number
  readonly isCached: boolean
}

/** Size of an image, and its cached part. */
export interface Extent {
  readonly cachedBytes: number
  /** Bytes known to be missing. The contents of a manifest that is not cached are unknown and not counted. */
  readonly missingBytes: number
  readonly isWhole: boolean
}

export interface PinnedImage {
  readonly image: string
  readonly pinnedAt: string
}

/** What was removed, or would be in a dry run. */
export interface RemovedImage {
  readonly image: string
  readonly tags: readonly string[]
  readonly objects: number
  readonly bytes: number
  /** Objects of the image that stay because other images need them, and objects that were not cached. */
  readonly keptObjects: number
}

/** One image of a removal by pattern. */
export type RemoveLine = RemovedImage | { readonly image: string; readonly failure: string }

export type WarmLine =
  | (WarmedManifest & { readonly image: string })
  | (WarmedLayer & { readonly image: string })
  | { readonly event: 'done'; readonly image: string; readonly failed: number }

export interface WarmedManifest {
  readonly event: 'manifest'
  readonly digest: Digest
  readonly platform?: Platform | undefined
  readonly outcome: Outcome
}

export interface WarmedLayer {
  readonly event: 'layer'
  readonly digest: Digest
  readonly sizeBytes: number
  readonly doneBytes: number
  readonly state: 'pulling' | 'cached' | 'pulled' | 'failed'
  readonly message?: string
}

/** Progress of a verification. */
export interface VerifyLine {
  readonly objects: number
  readonly bytes: number
  /** Number of objects stored when the verification began. */
  readonly totalObjects: number
  readonly totalBytes: number
  /** Damaged objects, moved to quarantine. */
  readonly damaged: number
  /** Objects that could not be read, so that their state is unknown. */
  readonly unreadable: number
}

export interface EventList {
  readonly events: readonly ListedEvent[]
  readonly endpoints: readonly EndpointReport[]
  /** The `after` of the next page; absent on the last one. */
  readonly next?: string | undefined
}

/** A notification, with its state for each endpoint that it is for. */
export interface ListedEvent {
  readonly id: string
  readonly at: string
  readonly type: string
  readonly subject?: string | undefined
  readonly data: Readonly<Record<string, unknown>>
  readonly deliveries: readonly {
    readonly endpoint: string
    readonly state: 'pending' | 'delivered' | 'dropped'
    readonly attempts: number
    readonly error?: string | undefined
  }[]
}

/** An endpoint of notifications. */
export interface EndpointReport {
  readonly endpoint: string
  readonly pending: number
  /** True if the endpoint answered 410 and gets nothing until a replay. */
  readonly isDisabled: boolean
}

/** What a tag names, and every digest that it named before. */
export interface TagReport {
  readonly image: string
  /** `undefined` if the tag is not known here. */
  readonly digest?: Digest | undefined
  /** The administrator who fixed a mirrored tag to its digest. */
  readonly heldBy?: string | undefined
  /** The newest first. `by` is `upstream` or an identity; a move without a digest is a deletion. */
  readonly moves: readonly {
    readonly at: string
    readonly digest?: Digest | undefined
    readonly by: string
  }[]
}

/** A tag that an administrator gave a digest. */
export interface MovedTagReport {
  readonly image: string
  readonly digest: Digest
  readonly before?: Digest | undefined
}

/** One decision about a tag, or about content, of hosted repositories; the last line has the sums. */
export type CollectLine =
  | {
      readonly event: 'tag'
      readonly image: string
      readonly digest: Digest
      readonly isKept: boolean
      readonly why: string
    }
  | {
      readonly event: 'content'
      readonly digest: Digest
      readonly sizeBytes: number
      /** Bytes that the store gets back: 0 where another repository, or the cache, still has the content. */
      readonly freedBytes: number
      readonly action: 'keep' | 'mark' | 'remove'
      readonly repositories: readonly string[]
      readonly why: string
    }
  | { readonly event: 'done'; readonly tags: number; readonly objects: number; readonly bytes: number }
