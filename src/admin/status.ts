import type { Directory } from '../mirror/sources.ts'
import { DESCRIPTORS_REMEDY } from '../observe/descriptors.ts'
import type { Health, RegistryHealth } from '../observe/health.ts'
import type { Traffic } from '../observe/traffic.ts'
import type { Namespace } from '../oci/namespace.ts'
import type { Desk } from '../space/desk.ts'
import type { DaemonReport, RegistryReport, SpaceReport, TrafficReport } from './contract.ts'
import type { AdminRoutesParts } from './parts.ts'
import { isoOf } from './times.ts'

/** The state of the daemon, of its store and of its registries. */
export async function reportStatus(parts: AdminRoutesParts): Promise<DaemonReport> {
  const { clock, mirror, desk, about, health } = parts
  const { version, startedAtMs, store } = about
  const nowMs = clock.wallMs()
  const space = (await desk?.status()) ?? null
  const registries = await registryReports(parts, nowMs)
  const { lastReload } = health
  const report = {
    version,
    startedAt: isoOf(startedAtMs),
    store,
    traffic: trafficReport(await parts.traffic()),
    registries,
    warming: parts.warming.report,
    lastReload:
      lastReload === undefined ? undefined : { at: isoOf(lastReload.atMs), failure: lastReload.message },
    replicas: parts.replicas(),
    flows: mirror.flows.length,
    lostTags: mirror.lostTags.map(({ namespace, repository, tag, lostForMs }) => ({
      image: `${namespace}/${repository}:${tag}`,
      lostForMs: Math.round(lostForMs),
    })),
    jobs: await jobReports(parts, nowMs),
    damagedRecords: parts.damagedRecords(),
    lostContent: await lostContent(parts),
    storeTrouble: parts.storeTrouble(),
    space,
    copies: parts.copies(),
  }
  return { ...report, degraded: reasonsOf(report, health, nowMs) }
}

/** Lost content that is looked for again with one report. */
const LOOKED_FOR_MAX = 20

/** Content that was pushed again since, or that no repository has any more, is forgotten. */
async function lostContent({
  health,
  hosting,
  mirror,
}: AdminRoutesParts): Promise<DaemonReport['lostContent']> {
  for (const digest of [...health.lostContent.keys()].slice(0, LOOKED_FOR_MAX)) {
    const [holder] = await Array.fromAsync(hosting.hosted.shelf.holds(digest))
    if (holder === undefined || (await mirror.inspection.isStored(digest))) health.foundContent(digest)
  }
  const [first] = health.lostContent
  if (first === undefined) return undefined
  const [digest, { namespace, repository }] = first
  return { count: health.lostContent.size, example: `${namespace}/${repository}@${digest}` }
}

/** A store that does not answer is reported elsewhere. */
async function jobReports(parts: AdminRoutesParts, nowMs: number): Promise<DaemonReport['jobs']> {
  const latest = await parts.jobs().catch(() => [])
  return latest.map(({ job, state, by, ageMs }) => ({ job, state, by, at: isoOf(nowMs - ageMs) }))
}

function trafficReport({ requests, hits, sentBytes, receivedBytes }: Traffic): TrafficReport {
  return { requests, hits, sentBytes, receivedBytes, savedBytes: Math.max(0, sentBytes - receivedBytes) }
}

/** Time for which trouble that is over by itself still counts, in milliseconds: somebody has to see it. */
const LATELY_MS = 10 * 60_000

/** What is not as it should be. Registries that are not configured do not count. */
function reasonsOf(
  {
    registries,
    damagedRecords,
    space,
    lastReload,
    storeTrouble,
    lostContent: lost,
    copies,
  }: Omit<DaemonReport, 'degraded'>,
  { roomRefusedAtMs, descriptorsLackedAtMs, indexFailure }: Health,
  nowMs: number,
): readonly string[] {
  const reasons: string[] = []
  if (storeTrouble !== undefined) reasons.push(`nothing is cached, pulls pass through: ${storeTrouble}`)
  else if (descriptorsLackedAtMs !== undefined && nowMs - descriptorsLackedAtMs < LATELY_MS)
    reasons.push(`this process had too many files open lately: ${DESCRIPTORS_REMEDY}`)
  if (roomRefusedAtMs !== undefined && nowMs - roomRefusedAtMs < LATELY_MS)
    reasons.push(
      'downloads are not cached for want of room: they are larger than the cache can grow (see used and free), or everything in it is pinned or in use',
    )
  if (lost !== undefined)
    reasons.push(
      `hosted content is damaged or gone, ${lost.count} in all, such as ${lost.example}: the next push of it heals it`,
    )
  if (copies?.isPaused === true)
    reasons.push('the local copies of --s3-cache are not used, because their disk failed: see the log')
  if (space !== null) reasons.push(...indexReasons(space, indexFailure))
  if (lastReload?.failure !== undefined)
    reasons.push(
      `the last reload of the upstream file was refused, and the one before it is in force: ${lastReload.failure}`,
    )
  for (const { record, count, outcome } of damagedRecords)
    if (outcome === 'lost') reasons.push(`${count} damaged records of kind ${record} were lost: see the log`)
  for (const registry of registries) {
    const why = registry.isConfigured ? registryReason(registry) : undefined
    if (why !== undefined) reasons.push(`${registry.registry} ${why}`)
  }
  return reasons
}

function indexReasons({ indexState }: SpaceReport, failure: string | undefined): readonly string[] {
  if (indexState === 'failed')
    return [
      `the index cannot be opened, so that the limits of the cache are not enforced: ${failure ?? 'see the log'}`,
    ]
  if (indexState === 'locked')
    return ['another process uses this cache directory; it enforces the limits, and has the lists']
  return []
}

function registryReason({ state, lastError, budget }: RegistryReport): string | undefined {
  const error = lastError === undefined ? '' : `: ${lastError.message}`
  if (state === 'unreachable') return `cannot be reached${error}`
  if (state === 'refused') return `cannot be pulled from${error}`
  if (state === 'paused') return `is not asked for now${error}`
  if (budget?.remaining === 0) return 'allows no more pulls for now: its budget is used up'
  return undefined
}

async function registryReports(
  { directory, desk, health }: AdminRoutesParts,
  nowMs: number,
): Promise<readonly RegistryReport[]> {
  const known = health.registries
  const shares: Awaited<ReturnType<Desk['shares']>> = (await desk?.shares()) ?? new Map()
  const names = namesOf(directory(), known)
  return names.map(([name, isConfigured]) => {
    const { bytes: cachedBytes, sharedBytes } = shares.get(name) ?? { bytes: 0, sharedBytes: 0 }
    return {
      registry: name,
      isConfigured,
      ...stateOf(known.get(name) ?? {}, nowMs),
      cachedBytes,
      sharedBytes,
    }
  })
}

/** The default registry counts as configured: it is what the mirror is for. */
function namesOf(
  { terms, defaultNamespace }: Directory,
  known: ReadonlyMap<Namespace, RegistryHealth>,
): readonly (readonly [Namespace, boolean])[] {
  const configured = new Set([...terms.keys(), defaultNamespace])
  const others = [...known.keys()].filter(name => !configured.has(name))
  return [
    ...[...configured].map(name => [name, true] as const),
    ...others.map(name => [name, false] as const),
  ]
}

function stateOf(
  { answeredAtMs, failure, quietUntilMs = 0, budget }: RegistryHealth,
  nowMs: number,
): Pick<RegistryReport, 'state' | 'pausedForMs' | 'lastAnswerAt' | 'lastError' | 'budget'> {
  const isLast = failure !== undefined && failure.atMs >= (answeredAtMs ?? 0)
  const isFailing = isLast && failure.isContact
  const isRefused = isLast && failure.isLogin
  const isPaused = quietUntilMs > nowMs
  const isKnown = answeredAtMs !== undefined || failure !== undefined
  return {
    state: isPaused
      ? 'paused'
      : isFailing
        ? 'unreachable'
        : isRefused
          ? 'refused'
          : isKnown
            ? 'reachable'
            : 'unknown',
    pausedForMs: isPaused ? Math.round(quietUntilMs - nowMs) : undefined,
    lastAnswerAt: answeredAtMs === undefined ? undefined : isoOf(answeredAtMs),
    lastError: failure === undefined ? undefined : { at: isoOf(failure.atMs), message: failure.message },
    budget:
      budget === undefined
        ? undefined
        : {
            remaining: budget.remaining,
            limit: budget.limit,
            resetsAt: budget.resetsAtMs === undefined ? undefined : isoOf(budget.resetsAtMs),
          },
  }
}
