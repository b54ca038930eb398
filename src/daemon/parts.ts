import { platform } from 'node:os'
import type { AccessPolicy } from '../access/ruled-access.ts'
import type { HostingDesk } from '../admin/tags.ts'
import { WarmSchedule } from '../admin/warm-schedule.ts'
import { type Config, type FileSections, UPSTREAM_DEFAULTS, type UpstreamConfig } from '../config/config.ts'
import type { FileConfig } from '../config/file/upstreams.ts'
import { clientListeners } from '../config/listen.ts'
import type { Epoch } from '../content/epoch.ts'
import type { Runs } from '../content/jobs/runs.ts'
import type { Scrub } from '../content/scrub.ts'
import type { Claimed } from '../hosted/claimed.ts'
import { CollectionMarks } from '../hosted/collection-marks.ts'
import { ClientLimits } from '../http/client-limits.ts'
import type { ConnectionCounts } from '../http/connection-counts.ts'
import type { Dispatch } from '../http/dispatch.ts'
import type { FileSender } from '../http/file-sender.ts'
import type { DirectoryText } from '../http/threads/protocol.ts'
import { Threads, type ThreadsParts } from '../http/threads/threads.ts'
import type { ListenerTls } from '../http/tls/listener-tls.ts'
import type { Clock } from '../lib/clock.ts'
import { version } from '../lib/package.ts'
import type { BufferPool } from '../lib/reader-buffers.ts'
import { SharedCount } from '../lib/shared-count.ts'
import type { Turns } from '../lib/turns.ts'
import type { Terms } from '../mirror/freshness.ts'
import type { Mirror } from '../mirror/mirror.ts'
import type { Directory } from '../mirror/sources.ts'
import type { Events } from '../observe/events.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Notifications } from '../observe/notifications/notifications.ts'
import type { RecentPulls } from '../observe/recent-pulls.ts'
import { type Namespace, parseConfiguredNamespace } from '../oci/namespace.ts'
import type { NameRules } from '../oci/place.ts'
import { Space } from '../space/space.ts'
import type { BucketTerms } from '../space/space-terms.ts'
import type { NamespaceTerms } from '../space/victims.ts'
import { openReadOnlyStore } from '../storage/filesystem/read-only.ts'
import { openFilesystemStore } from '../storage/filesystem/store.ts'
import type { Store } from '../storage/store.ts'
import { OfflineRegistries } from '../upstream/offline.ts'
import { type RegistriesOptions, UpstreamRegistries } from '../upstream/registries.ts'
import type { Registries } from '../upstream/registry.ts'
import type { Identities } from './access.ts'
import { type BucketConfig, bucketMark, openBucket } from './bucket.ts'
import type { ClientServers } from './client-servers.ts'
import type { Current } from './current.ts'
import type { Peering } from './peering.ts'

export interface RegistriesParts {
  readonly events: Events
  readonly clock: Clock
  readonly instance: string
  readonly epoch: Epoch
}

/** The upstreams. The trouble of one bumps the epoch of its namespace, so that during it every
 * request is answered anew. */
export function registriesOf(
  { namespaces, nat64Prefix, egress, upstreams, defaultNamespace }: Config,
  { events, clock, instance, epoch }: RegistriesParts,
  overrides: Pick<RegistriesOptions, 'environment' | 'resolve' | 'strangerLimits' | 'timings'> = {},
): UpstreamRegistries {
  return new UpstreamRegistries({
    namespaces,
    nat64Prefix,
    egress,
    upstreams,
    defaultNamespace,
    events,
    clock,
    instance,
    version: version(),
    onTrouble: namespace => epoch.bump({ kind: 'namespace', namespace }),
    ...overrides,
  })
}

/** Limits for each client, if there are any. */
export function clientLimitsOf({ clientLimits }: Config): ClientLimits | undefined {
  const { requestsPerSecond, downloads } = clientLimits ?? {}
  if (requestsPerSecond === undefined && downloads === undefined) return undefined
  return new ClientLimits({ requestsPerSecond, downloads })
}

/** All parts of the daemon, built; the listeners and the shutdown work on them. */
export interface DaemonParts {
  readonly config: Config
  readonly clock: Clock
  readonly events: Events
  readonly metrics: Metrics
  /** The store without the watch of {@link Space}. */
  readonly bareStore: Store
  readonly space: Space | undefined
  readonly registries: UpstreamRegistries
  /** The other replicas, if any are configured. */
  readonly peering: Peering | undefined
  readonly epoch: Epoch
  /** A reload replaces it. */
  readonly inForce: Current<InForce>
  readonly reloads: Turns<'upstream file' | 'certificate'>
  readonly mirror: Mirror
  readonly claimed: Claimed
  readonly identities: Identities
  readonly scrub: Scrub
  readonly runs: Runs
  readonly recentPulls: RecentPulls
  readonly warming: WarmSchedule
  readonly notifications: Notifications
  readonly hosting: HostingDesk
  readonly dispatch: Dispatch
  readonly clientServer: ClientServers
  readonly sender: FileSender | undefined
  readonly threads: Threads | undefined
  /** Aborts when the daemon is told to stop; it serves on for the drain delay. */
  readonly leaving: AbortController
  /** Aborts when the daemon stops taking new work. */
  readonly draining: AbortController
  /** Aborts when the daemon stops waiting for running transfers. */
  readonly cut: AbortController
  readonly uploadsMs: number
  readonly instance: string
}

/** Opens the store that is configured. */
export async function openStore(config: Config, events: Events, buffers: BufferPool): Promise<Store> {
  const { store, passesThrough: mayBeUnwritable = false } = config
  if (store.kind === 'filesystem' && config.isReadOnly === true)
    return await openReadOnlyStore(store.root, buffers)
  if (store.kind === 'filesystem')
    return await openFilesystemStore({ root: store.root, events, buffers, mayBeUnwritable })
  return await openBucket(store, { events, buffers, mayBeUnwritable })
}

const UNBOUNDED = { maxSize: undefined, minFree: undefined, dynamicShare: 1 } as const

/** Keeps a directory or a bucket within bounds. */
export function spaceOf(
  config: Config,
  { bare, events, clock }: { readonly bare: Store; readonly events: Events; readonly clock: Clock },
  inForce: Current<InForce>,
): Space | undefined {
  const { store, space = UNBOUNDED } = config
  // The index cannot be written in a read-only store.
  if (config.isReadOnly === true) return undefined
  const marks = new CollectionMarks({ store: bare, clock })
  return new Space({
    store: bare,
    root: store.kind === 'filesystem' ? store.root : store.spoolDirectory,
    bucket: store.kind === 'filesystem' ? undefined : bucketTerms(config, store),
    bounds: space,
    clock,
    events,
    terms: () => inForce.current.terms,
    notices: () => (mayOthersPush(config, inForce.current) ? marks : undefined),
  })
}

/** True if another process on the store may take cached content for a hosted repository. */
function mayOthersPush({ isSingleWriter }: Config, { sections }: InForce): boolean {
  return isSingleWriter !== true && sections.hosted.length > 0
}

/** Objects that a bucket is asked to delete in a second, unless `--evict-rate` says otherwise. */
const EVICTIONS_PER_SECOND = 500

function bucketTerms({ space, upstreams }: Config, bucket: BucketConfig): BucketTerms {
  const isBounded = space?.maxSize !== undefined
  const expires = upstreams.some(({ blobInvalidationMs }) => blobInvalidationMs !== undefined)
  return {
    indexName: `index-${bucketMark(bucket)}.sqlite`,
    isLazy: !isBounded && !expires,
    evictionsPerSecond: space?.evictionsPerSecond ?? EVICTIONS_PER_SECOND,
  }
}

/** Everything that a reload replaces, all at once. */
export interface InForce {
  /** The registries behind the names, and the terms on which each is cached. */
  readonly directory: Directory
  /** The rules for resolving names, of registries and of what is hosted. */
  readonly names: HouseNames
  /** The other sections of the upstream file. */
  readonly sections: FileSections
  /** Retention of the content of each namespace. */
  readonly terms: NamespaceTerms
}

export function inForceOf(
  config: Config,
  { upstreams, sections }: FileConfig,
  registries: Registries,
): InForce {
  const directory = directoryOf(config, upstreams, registries)
  const hosted = sections.hosted.flatMap(
    ({ names }) => parseConfiguredNamespace(names.components[0] ?? '') ?? [],
  )
  const names = {
    defaultNamespace: directory.defaultNamespace,
    terms: new Set([...directory.terms.keys(), ...hosted]),
  }
  return { sections, directory, names, terms: namespaceTerms(config, upstreams) }
}

/** Rules for resolving names, with a list of the namespaces that are configured. */
type HouseNames = NameRules & { readonly terms: ReadonlySet<Namespace> }

/** Warms what the section `warm` says. It starts by itself, unless this mirror must not fetch or store. */
export function warmingOf(parts: Omit<DaemonParts, 'warming'>): WarmSchedule {
  const { config, mirror, inForce, clock, events, hosting } = parts
  const warming = new WarmSchedule({
    mirror,
    clock,
    events,
    directory: () => inForce.current.directory,
    isClaimed: hosting.isClaimed,
    plans: () => inForce.current.sections.warm,
    storeTrouble: () => events.storeTrouble,
  })
  if (config.isReadOnly !== true && config.isOffline !== true) warming.start()
  return warming
}

/** The default namespace counts as configured, because it is what the mirror is for. */
function namespaceTerms(config: Config, upstreams: readonly UpstreamConfig[]): NamespaceTerms {
  const limits = upstreams.flatMap(({ namespace, blobInvalidationMs }) =>
    blobInvalidationMs === undefined ? [] : [[namespace, blobInvalidationMs] as const],
  )
  const configured = new Set<string>([
    config.defaultNamespace,
    ...upstreams.map(({ namespace }) => namespace),
  ])
  return { configured, invalidationMs: new Map(limits) }
}

const CENTURY_MS = 100 * 365 * 24 * 3_600_000
/** Tags are served at any age, without waiting for an upstream. */
const OFFLINE_TERMS = { manifestInvalidationMs: CENTURY_MS, staleIfErrorMs: CENTURY_MS } as const

/** The rules for resolving names, and those of access, for another thread. */
export function directoryText({ defaultNamespace, terms }: HouseNames, policy: AccessPolicy): DirectoryText {
  return { defaultNamespace, configured: [...terms], policy }
}

/** Name of the store in the log. */
export function storeName({ store }: Config): string {
  return store.kind === 'filesystem' ? `filesystem ${store.root}` : `s3 ${store.bucket}`
}

function directoryOf(
  config: Config,
  upstreams: readonly UpstreamConfig[],
  registries: Registries,
): Directory {
  const { defaultNamespace, isOffline = false } = config
  const termsOf = (upstream: Terms): Terms => (isOffline ? { ...upstream, ...OFFLINE_TERMS } : upstream)
  const terms = new Map<Namespace, Terms>(
    upstreams.map(upstream => [upstream.namespace, termsOf(upstream)] as const),
  )
  return {
    registries: isOffline ? new OfflineRegistries() : registries,
    terms,
    defaultNamespace,
    defaultTerms: termsOf(UPSTREAM_DEFAULTS),
  }
}

/** Parts of the further threads: those that answer them, and those that all threads share. */
export interface ThreadParts extends Omit<ThreadsParts, 'waitingLog'> {
  readonly instance: string
  readonly tls: ListenerTls | undefined
  readonly clientLimits: ClientLimits | undefined
  readonly firstHeaderMs: number | undefined
  readonly epoch: Epoch
  readonly running: SharedCount
  readonly connections: ConnectionCounts
  readonly names: HouseNames
  readonly usesSendfile: boolean
  readonly identities: Pick<Identities, 'policy' | 'changes'>
}

/**
 * The further threads, if any are configured. They share a TCP port, so they do not exist with a unix socket,
 * or outside Linux.
 */
export function threadsOf(
  config: Config,
  { instance, tls, clientLimits, firstHeaderMs, epoch, running, connections, names, ...rest }: ThreadParts,
): Threads | undefined {
  const { workers = 1, logLevel, clientLimits: limits } = config
  const isShared = clientListeners(config).some(({ address }) => address.kind === 'tcp')
  if (workers === 1 || !isShared || platform() !== 'linux') return undefined
  const { usesSendfile, identities, ...parts } = rest
  const waitingLog = new SharedCount()
  const settings = {
    instance,
    tls,
    clientLimits:
      limits === undefined || clientLimits === undefined
        ? undefined
        : { options: limits, memory: clientLimits.memory },
    logLevel,
    firstHeaderMs,
    epoch: epoch.memory,
    running: running.memory,
    waitingLog: waitingLog.memory,
    connections: connections.memory,
    usesSendfile,
    growsNursery: config.store.kind !== 's3',
    tracing: rest.events.tracing?.settings,
    directory: directoryText(names, identities.policy),
    identityChanges: identities.changes.memory,
  }
  return new Threads(workers - 1, settings, { ...parts, waitingLog })
}
