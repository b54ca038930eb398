import { randomBytes } from 'node:crypto'
import type { Access } from '../access/access.ts'
import type { Config } from '../config/config.ts'
import type { ShownValue } from '../config/file/section.ts'
import { Epoch } from '../content/epoch.ts'
import { Runs } from '../content/jobs/runs.ts'
import { type Ledger, NO_LEDGER } from '../content/ledger.ts'
import { Scrub } from '../content/scrub.ts'
import { ConnectionCounts } from '../http/connection-counts.ts'
import { Dispatch } from '../http/dispatch.ts'
import { type FileSender, openFileSender } from '../http/file-sender.ts'
import type { ListenerTls } from '../http/tls/listener-tls.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { BufferPool } from '../lib/reader-buffers.ts'
import { SharedCount } from '../lib/shared-count.ts'
import { Turns } from '../lib/turns.ts'
import { Mirror } from '../mirror/mirror.ts'
import type { Events } from '../observe/events.ts'
import { type Log, openLog } from '../observe/log.ts'
import { createMetrics } from '../observe/metrics.ts'
import { Notifications } from '../observe/notifications/notifications.ts'
import { type Output, openStandardOutput } from '../observe/output.ts'
import { RecentPulls } from '../observe/recent-pulls.ts'
import { Telling } from '../peers/telling.ts'
import type { Space } from '../space/space.ts'
import type { Store } from '../storage/store.ts'
import type { RegistriesOptions } from '../upstream/registries.ts'
import { Identities } from './access.ts'
import { openEvents } from './audit.ts'
import { loadListenerTls, reloadCertificate, watchCertificate } from './certificate.ts'
import { ClientServers } from './client-servers.ts'
import { warnOfClosedNames } from './closed-names.ts'
import { Current } from './current.ts'
import { type HostingRooms, hostingOf } from './hosting.ts'
import { requireImmutableTags } from './immutable-tags.ts'
import {
  cutNow,
  flushRepeatedLines,
  reload,
  stop,
  warnOfRisks,
  watchStore,
  watchUpstreamFile,
} from './lifecycle.ts'
import { listenForAdministration } from './listeners.ts'
import { notifyEndpoints } from './notifications.ts'
import {
  clientLimitsOf,
  type DaemonParts,
  inForceOf,
  openStore,
  registriesOf,
  spaceOf,
  storeName,
  threadsOf,
  warmingOf,
} from './parts.ts'
import { listenForPeers, peeringOf } from './peering.ts'
import { answerBy, traceBy } from './tracing.ts'

/** A daemon that listens. */
export interface Daemon {
  /** As clients write them: `host:port`, or `unix:/path`. */
  readonly addresses: {
    /** The address of `--listen`. */
    readonly client: string
    /** The addresses that use TLS. */
    readonly tls: readonly string[]
    readonly admin: string | undefined
    /** The address for other replicas. */
    readonly peer: string | undefined
  }
  /** Reads the upstream file and the certificate again, each all or nothing. Logs the result. */
  reload(): Promise<void>
  /**
   * Stops new work, lets running transfers and uploads end up to the drain limit, and resolves when
   * everything is closed, at most a few seconds after that limit. May be called once.
   */
  stop(): Promise<void>
  /** Cuts everything that still runs, so that {@link stop} resolves. */
  stopNow(): void
}

/** Grace period for uploads that have not ended by the drain limit, in milliseconds. */
const UPLOADS_MS = 5000

/** What surrounds the daemon, and replacements for tests. */
export interface DaemonOverrides {
  readonly clock?: Clock
  readonly log?: Log
  /** Destination of the log lines of further threads. */
  readonly output?: Output
  readonly store?: Store
  readonly access?: Access
  readonly firstHeaderMs?: number
  readonly uploadsMs?: number
  readonly probeEveryMs?: number
  /** The settings in force, to be shown to administrators. */
  readonly settings?: readonly ShownValue[]
  /** Environment, name resolution, limits for public registries, and timings of the upstreams. */
  readonly upstream?: Pick<RegistriesOptions, 'environment' | 'resolve' | 'strangerLimits' | 'timings'>
}

/**
 * Builds the daemon and listens. If the store cannot be opened or an address is not available, it undoes
 * everything and rejects.
 */
export async function startDaemon(config: Config, overrides: DaemonOverrides = {}): Promise<Daemon> {
  await using undo = new AsyncDisposableStack()
  const loadedAtMs = performance.now()
  const built = await compose(config, overrides, undo)
  const parts = { ...built, warming: undo.use(warmingOf(built)) }
  const openedAtMs = performance.now()
  const admin = await listenForAdministration(parts, undo, overrides.settings)
  const peer = await listenForPeers(parts, undo)
  undo.defer(() => parts.clientServer.destroy())
  const served = await parts.clientServer.listen(parts.threads)
  const client = served[0]?.text ?? ''
  const tls = served.flatMap(({ text, isTls }) => (isTls ? [text] : []))
  undo.use(await watchUpstreamFile(parts))
  undo.use(await watchCertificate(parts))
  undo.use(flushRepeatedLines(parts))
  undo.use(watchStore(parts, overrides.probeEveryMs))
  if (config.isReadOnly !== true) parts.scrub.start()
  warnOfRisks(parts, config.upstreams)
  void warnOfClosedNames(parts)
  const [loadMs, openMs] = [Math.round(loadedAtMs), Math.round(openedAtMs - loadedAtMs)]
  const took = { loadMs, openMs, listenMs: Math.round(performance.now() - openedAtMs) }
  parts.events.started({ listen: client, listenTls: tls, adminListen: admin, store: storeName(config), took })
  const owned = undo.move()
  return {
    addresses: { client, tls, admin, peer },
    reload: async () => {
      await Promise.all([reload(parts), reloadCertificate(parts)])
    },
    stop: async () => await stop(parts, owned),
    stopNow: () => cutNow(parts),
  }
}

/** Builds every part from finished ones; `undo` disposes of them in reverse order. */
async function compose(
  config: Config,
  overrides: DaemonOverrides,
  undo: AsyncDisposableStack,
): Promise<Omit<DaemonParts, 'warming'>> {
  const { clock = systemClock, log = logOf(config), uploadsMs = UPLOADS_MS } = overrides
  const [metrics, epoch, buffers] = [createMetrics(), new Epoch(), new BufferPool()]
  const [draining, leaving, running] = [new AbortController(), new AbortController(), new SharedCount()]
  const notifications = undo.use(new Notifications())
  const telling = undo.use(new Telling())
  const events = openEvents(config, { log, metrics, clock, sinks: [notifications, telling] }, undo)
  const tls = await loadListenerTls(config, { clock, events })
  const instance = `entrepot-${randomBytes(6).toString('hex')}`
  await traceBy(config, { events, instance, ...overrides.upstream }, undo)
  const registries = undo.use(registriesOf(config, { events, clock, instance, epoch }, overrides.upstream))
  const { resolve } = overrides.upstream ?? {}
  const reporting = { config, clock, events, metrics, instance, draining, leaving }
  const peering = undo.use(peeringOf({ ...reporting, telling, resolve }))
  const inForce = new Current(inForceOf(config, config, peering?.over(registries) ?? registries))
  events.nameNamespaces(inForce.current.directory.terms.keys())
  const bareStore = undo.use(overrides.store ?? (await openStore(config, events, buffers)))
  await requireImmutableTags({ config, store: bareStore }, config.sections.policies)
  const notifying = { notifications, clock, events, instance, resolve }
  await notifyEndpoints(config, config.sections.notifications, notifying)
  const isBounded = overrides.store === undefined
  const space = isBounded ? spaceOf(config, { bare: bareStore, events, clock }, inForce) : undefined
  if (space !== undefined) undo.use(space)
  const [store, ledger] = [space?.store ?? bareStore, space ?? NO_LEDGER]
  const { checkCacheDigest, provesRanges = false } = config
  const mirror = undo.use(
    new Mirror({ store, events, clock, checkCacheDigest, provesRanges, ledger, epoch, buffers }),
  )
  const identityParts = { config, store, events, clock, instance, resolve, clientCa: tls?.clients?.ca }
  const identities = undo.use(
    await Identities.start(identityParts, { ...inForce.current, directory: inForce.current.names }),
  )
  const leads = (): boolean => config.isSingleWriter === true || (peering?.members.isFirst ?? true)
  const runs = new Runs({ store: bareStore, events, clock, instance, leads })
  const isBusy = (): boolean => running.value > 0
  const scrub = undo.use(new Scrub({ ...config.scrub, store, events, clock, isBusy, turns: runs }))
  const base = {
    ...reporting,
    registries,
    peering,
    epoch,
    inForce,
    mirror,
    identities,
    scrub,
    runs,
    notifications,
  }
  const sender = config.usesSendfile === false ? undefined : await openFileSender()
  const hosting = hostingOf({ ...base, store, space }, undo)
  const serving = serve({ ...base, tls, store, ledger, running, sender, hosting, overrides })
  undo.use(serving.threads)
  await startSpace(space, mirror)
  const cut = new AbortController()
  return { ...base, ...serving, sender, hosting, bareStore, space, cut, uploadsMs, reloads: new Turns() }
}

/** Rejects if the store cannot take a few KiB now, or did not take the last blob or manifest. */
async function probe(events: Events, store: Pick<Store, 'probe'>): Promise<void> {
  await store.probe()
  if (events.storeTrouble !== undefined) throw new Error(events.storeTrouble)
}

async function startSpace(space: Space | undefined, mirror: Mirror): Promise<void> {
  await space?.start({
    refreshPins: async () => await mirror.pins.refresh(),
    isPinned: digest => mirror.pins.has(digest),
    evicted: async (digest, places) => await mirror.forgetEvicted(digest, places),
  })
}

function logOf({ logLevel, logFormat }: Config): Log {
  return openLog(logLevel, openStandardOutput(logFormat))
}

interface ServingParts
  extends Pick<
    DaemonParts,
    | 'config'
    | 'events'
    | 'metrics'
    | 'epoch'
    | 'inForce'
    | 'mirror'
    | 'identities'
    | 'instance'
    | 'draining'
    | 'leaving'
  > {
  readonly store: Store
  readonly ledger: Ledger
  readonly clock: Clock
  readonly running: SharedCount
  readonly sender: FileSender | undefined
  readonly tls: ListenerTls | undefined
  readonly hosting: HostingRooms
  readonly overrides: DaemonOverrides
}

/** Pulls count for the cache, and for the retention of hosted tags. */
function recentPullsOf({ ledger, hosting }: Pick<ServingParts, 'ledger' | 'hosting'>): RecentPulls {
  return new RecentPulls((place, reference, pulled) => {
    ledger.pulled(place, reference, pulled)
    if (reference.kind === 'tag') hosting.pulls.note(place, reference.tag, pulled.hits)
  })
}

/** Builds the parts that serve clients, in this thread and in the further ones. */
function serve({
  config,
  overrides,
  tls,
  hosting,
  ...parts
}: ServingParts): Pick<DaemonParts, 'recentPulls' | 'dispatch' | 'clientServer' | 'threads' | 'claimed'> {
  const { events, epoch, inForce, mirror, identities, instance, draining } = parts
  const { store, ledger, clock, running, sender } = parts
  const { firstHeaderMs, output = openStandardOutput() } = overrides
  const recentPulls = recentPullsOf({ ledger, hosting })
  const connections = new ConnectionCounts()
  parts.metrics.countConnections(() => connections.total)
  const clientLimits = clientLimitsOf(config)
  const dispatch = new Dispatch({
    ...hosting.entrance,
    access: overrides.access ?? identities.access,
    chain: identities.chain,
    realm: () => identities.realm,
    events,
    instance,
    names: () => inForce.current.names,
    ledger,
    recentPulls,
    servesSetup: config.servesSetup ?? false,
    running,
    remembering: { epoch, clock },
    sender,
    clientLimits,
    readiness: {
      isDraining: () => draining.signal.aborted,
      isLeaving: () => parts.leaving.signal.aborted,
      probeStore: async () => await probe(events, store),
    },
    ...(firstHeaderMs === undefined ? {} : { firstHeaderMs }),
  })
  const handler = answerBy(dispatch, events)
  const clientServer = new ClientServers(config, { handler, connections, tls })
  const counted = { epoch, running, connections, clientLimits }
  const content = { answering: hosting.entrance.answering, mirror, ledger, identities }
  const threads = threadsOf(config, {
    ...counted,
    ...content,
    tls,
    instance,
    firstHeaderMs,
    recentPulls,
    recentClients: events.recentClients,
    events,
    output,
    names: inForce.current.names,
    usesSendfile: sender !== undefined,
    identifier: identities.chain,
    handle: handler,
  })
  return { recentPulls, dispatch, clientServer, threads, claimed: hosting.entrance.answering }
}
