import { setTimeout as wait } from 'node:timers/promises'
import type { UpstreamConfig } from '../config/config.ts'
import { FileWatch, loadSettledUpstreams } from '../config/file/watch.ts'
import { riskNotices } from '../config/notices.ts'
import { warnOfClosedNames } from './closed-names.ts'
import { requireImmutableTags } from './immutable-tags.ts'
import { notifyEndpoints } from './notifications.ts'
import { type DaemonParts, directoryText, inForceOf } from './parts.ts'

const FLUSH_EVERY_MS = 60_000

/** Reads the upstream file again, all or nothing; logs the result and never rejects. */
export async function reload(parts: DaemonParts): Promise<void> {
  // Reloads run one after another, so that the last one read is in force.
  await parts.reloads.take('upstream file', async () => await reloadOnce(parts))
}

async function reloadOnce(parts: DaemonParts): Promise<void> {
  const {
    config,
    clock,
    registries,
    hosting,
    inForce,
    epoch,
    threads,
    space,
    events,
    identities,
    bareStore,
  } = parts
  const asked = parts.peering?.over(registries) ?? registries
  const { upstreamConfigFile, upstreamCredentials } = config
  if (upstreamConfigFile === undefined) return
  try {
    const loaded = await loadSettledUpstreams(
      {
        file: upstreamConfigFile,
        credentials: upstreamCredentials ?? new Map(),
        inForce: inForce.current.directory.terms.size,
        rulesInForce: inForce.current.sections.rules.length,
      },
      clock,
    )
    const { upstreams, sections } = loaded
    await requireImmutableTags({ config, store: bareStore }, sections.policies)
    await notifyEndpoints(config, sections.notifications, parts)
    const next = inForceOf(config, loaded, asked)
    const commit = identities.prepare({ ...next, directory: next.names })
    registries.replace(upstreams)
    inForce.replace(next)
    commit()
    const { directory, names } = inForce.current
    // Answers remembered under the old names end now. They end again once every thread uses the new names.
    epoch.bump()
    await threads?.direct(directoryText(names, identities.policy))
    epoch.bump()
    await space?.reconfigure()
    hosting.upkeep.start()
    events.nameNamespaces(directory.terms.keys())
    parts.warming.changed()
    events.reloaded({ upstreams: upstreams.length })
    warnOfRisks(parts, upstreams)
    void warnOfClosedNames(parts)
  } catch (error) {
    events.reloadFailed(error)
  }
}

/** Logs what the configuration allows strangers to do, because operators read the log. */
export function warnOfRisks(
  { config, events }: Pick<DaemonParts, 'config' | 'events'>,
  upstreams: readonly UpstreamConfig[],
): void {
  for (const risk of riskNotices({ ...config, upstreams })) events.warned(risk)
}

/** Reloads whenever the upstream file or that of users changes; `undefined` if there is no such file. */
export async function watchUpstreamFile(parts: DaemonParts): Promise<Disposable | undefined> {
  const { config, events } = parts
  if (config.upstreamConfigFile === undefined) return undefined
  const watch = new FileWatch(config.upstreamConfigFile, {
    changed: () => void reload(parts),
    failed: error =>
      events.warned('upstream file is not watched any more; SIGHUP still reloads it', { err: error }),
  })
  await watch.start()
  await parts.identities.watchUsers({
    changed: () => void reload(parts),
    failed: error =>
      events.warned('the file of users is not watched any more; SIGHUP still reloads it', { err: error }),
  })
  return watch
}

/** Writes the counts of repeated log lines once a minute. */
export function flushRepeatedLines({ events }: Pick<DaemonParts, 'events'>): Disposable {
  const timer = setInterval(() => events.flushRepeated(), FLUSH_EVERY_MS)
  timer.unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

const PROBE_EVERY_MS = 5000
/** A probe of a bucket is a request that costs money. */
const PROBE_BUCKET_EVERY_MS = 60_000

/** Probes the store now and regularly, so that trouble shows without a pull that meets it. */
export function watchStore(
  { config, bareStore, events }: DaemonParts,
  probeEveryMs: number | undefined,
): Disposable {
  let isProbing = false
  const probe = async (): Promise<void> => {
    if (isProbing) return
    isProbing = true
    try {
      await bareStore.probe()
      events.bypassChanged(false, 'probe')
    } catch (error) {
      events.bypassChanged(true, 'probe', error)
    } finally {
      isProbing = false
    }
  }
  void probe()
  const defaultMs = config.store.kind === 's3' ? PROBE_BUCKET_EVERY_MS : PROBE_EVERY_MS
  const timer = setInterval(() => void probe(), probeEveryMs ?? defaultMs)
  timer.unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

/**
 * Serves on for the drain delay, drains up to the limit, then disposes of everything; see
 * {@link Daemon.stop}.
 */
export async function stop(parts: DaemonParts, owned: AsyncDisposable): Promise<void> {
  const { config, events, dispatch, bareStore, uploadsMs, draining } = parts
  const { drainMs } = config
  await leave(parts)
  draining.abort()
  events.draining({ requests: dispatch.running, limitMs: drainMs })
  const startedAtMs = performance.now()
  await drain(parts)
  const cutRequests = dispatch.running
  const leftMs = Math.max(uploadsMs, startedAtMs + drainMs - performance.now())
  const lastLimit = setTimeout(() => bareStore.remote?.cut(), leftMs)
  using _ = { [Symbol.dispose]: () => clearTimeout(lastLimit) }
  await owned[Symbol.asyncDispose]()
  events.stopped({ cutRequests })
}

/**
 * Load balancers need time to notice that the mirror leaves. Until then it listens and serves, and only
 * `/readyz` says so. Ends early if everything is cut.
 */
async function leave({ config, events, leaving, cut }: DaemonParts): Promise<void> {
  const { drainDelayMs = 0 } = config
  if (drainDelayMs === 0 || cut.signal.aborted) return
  leaving.abort()
  events.leaving({ delayMs: drainDelayMs })
  await wait(drainDelayMs, undefined, { signal: cut.signal }).catch(() => undefined)
}

/** Resolves when all transfers have ended, at the drain limit, or when they are cut. */
async function drain({ config, clientServer, peering, threads, cut }: DaemonParts): Promise<void> {
  const limit = setTimeout(() => cut.abort(), config.drainMs)
  const { promise: wasCut, resolve } = Promise.withResolvers<void>()
  if (cut.signal.aborted) resolve()
  cut.signal.addEventListener('abort', () => resolve(), { once: true })
  await Promise.race([Promise.all([clientServer.close(), threads?.drain(), peering?.close()]), wasCut])
  clearTimeout(limit)
}

/** Cuts everything that still runs, so that {@link stop} resolves. */
export function cutNow({ cut, bareStore }: Pick<DaemonParts, 'cut' | 'bareStore'>): void {
  cut.abort()
  bareStore.remote?.cut()
}
