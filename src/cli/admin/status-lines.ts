import type {
  BudgetReport,
  DaemonReport,
  RegistryReport,
  RunningDownload,
  SpaceReport,
} from '../../admin/contract.ts'
import {
  agoText,
  countText,
  digestText,
  leftText,
  sizeText,
  spanText,
  speedText,
} from '../../lib/words/amounts.ts'
import type { Paint, Style } from '../style.ts'
import { barText, tableText } from './text.ts'

/** How a status is shown. */
export interface StatusLook {
  readonly nowMs: number
  readonly paint: Paint
}

/** The report of `entrepot status`, for people. */
export function statusLines(
  report: DaemonReport,
  flows: readonly RunningDownload[],
  look: StatusLook,
): readonly string[] {
  const { version, startedAt, store, space } = report
  return [
    `entrepot ${version}, up ${spanText(look.nowMs - Date.parse(startedAt))}, ${store}`,
    ...healthLines(report, look),
    ...(space === null ? ['space     not counted: this mirror is read-only'] : spaceLines(space)),
    ...copiesLines(report),
    ...trafficLines(report),
    ...reloadLines(report, look),
    ...report.damagedRecords.map(
      ({ record, count, outcome }) => `damaged   ${count} of ${record}, ${outcome}: see the log`,
    ),
    ...jobLines(report.jobs, look),
    ...lostLines(report.lostTags),
    ...warmingLines(report.warming, look),
    ...registryLines(report.registries, look),
    ...replicaLines(report.replicas, look),
    ...flowLines(flows),
  ]
}

function jobLines(jobs: DaemonReport['jobs'], { nowMs }: StatusLook): readonly string[] {
  return jobs.map(({ job, state, by, at }) =>
    state === 'running'
      ? `job       ${job} runs on ${by}`
      : `job       ${job} ${state} ${spanText(nowMs - Date.parse(at))} ago on ${by}`,
  )
}

function healthLines({ degraded }: DaemonReport, { paint }: StatusLook): readonly string[] {
  if (degraded.length === 0) return [`health    ${paint('good', 'healthy')}`]
  return [`health    ${paint('bad', 'degraded')}`, ...degraded.map(reason => `  ${paint('bad', reason)}`)]
}

/** The other replicas, and what came from them. */
function replicaLines(replicas: DaemonReport['replicas'], { paint }: StatusLook): readonly string[] {
  if (replicas === undefined) return []
  const { cluster, following, members } = replicas
  const here = members.filter(({ state }) => state === 'self' || state === 'alive').length
  const rows = members
    .slice(0, REPLICAS_SHOWN_MAX)
    .map(({ address, state, version = '–', owns, asked, receivedBytes, failures, trouble = '' }) => [
      address,
      paint(state === 'self' || state === 'alive' ? 'good' : 'bad', state),
      version,
      owns === undefined ? '–' : `${Math.round(owns * 100)} %`,
      String(asked),
      sizeText(receivedBytes),
      String(failures),
      trouble,
    ])
  return [
    `replicas  ${here} of ${members.length} of ${cluster} are here, ${countText(following, 'download')} from others now`,
    tableText([REPLICA_HEADING.map(text => paint('heading', text)), ...rows], new Set([3, 4, 5, 6])),
  ]
}

const REPLICAS_SHOWN_MAX = 20
const REPLICA_HEADING = ['REPLICA', 'STATE', 'VERSION', 'OWNS', 'ASKED', 'RECEIVED', 'FAILURES', ''] as const

const INDEX_TEXT = {
  absent: 'not opened yet',
  open: 'complete',
  locked: 'in use by another process, which enforces the limits',
  failed: 'cannot be opened: see the log',
} as const satisfies Record<SpaceReport['indexState'], string>

function spaceLines(space: SpaceReport): readonly string[] {
  const { usedBytes, maxBytes, freeBytes, minFreeBytes, objects, storedBytes, scratchBytes } = space
  const bound =
    maxBytes === undefined ? 'no maximum' : `${barText(usedBytes / maxBytes, 20)} of ${sizeText(maxBytes)}`
  const isRebuilding = space.indexState === 'open' && !space.isComplete
  const state = isRebuilding
    ? 'being rebuilt from the store: numbers and lists are not complete yet'
    : INDEX_TEXT[space.indexState]
  const counts =
    space.indexState === 'open'
      ? [
          `used      ${sizeText(usedBytes)}  ${bound}`,
          `content   ${countText(objects, 'object')}, ${sizeText(storedBytes)}; downloads and leftovers ${sizeText(scratchBytes)}`,
        ]
      : ['used      not known while the index is not open']
  return [
    ...counts,
    ...(space.links === undefined ? [] : [`links     ${space.links}`]),
    ...(freeBytes === undefined
      ? []
      : [`free      ${sizeText(freeBytes)}, at least ${sizeText(minFreeBytes)} is left`]),
    `index     ${state}`,
    ...(space.dynamicShare < 1
      ? [
          `share     ${sizeText(space.dynamicBytes)} of registries that are not configured, at most ${Math.round(space.dynamicShare * 100)} %`,
        ]
      : []),
  ]
}

function copiesLines({ copies }: DaemonReport): readonly string[] {
  if (copies === undefined) return []
  const { objects, bytes, maxBytes, hits, misses } = copies
  const reads = hits + misses
  const ratio = reads === 0 ? '' : `; ${Math.floor((hits * 100) / reads)} % of ${countText(reads, 'read')}`
  return [`s3 cache  ${countText(objects, 'object')}, ${sizeText(bytes)} of ${sizeText(maxBytes)}${ratio}`]
}

function trafficLines({ traffic }: DaemonReport): readonly string[] {
  const { requests, hits, sentBytes, receivedBytes, savedBytes } = traffic
  if (requests === 0) return ['traffic   none since the start']
  const ratio = `${Math.floor((hits * 100) / requests)} % from the cache`
  const bytes = `${sizeText(sentBytes)} sent, ${sizeText(receivedBytes)} fetched, ${sizeText(savedBytes)} saved`
  return [`traffic   ${countText(requests, 'request')}, ${ratio}; ${bytes}`]
}

function reloadLines({ lastReload }: DaemonReport, { nowMs, paint }: StatusLook): readonly string[] {
  if (lastReload === undefined) return []
  const ago = agoText(lastReload.at, nowMs)
  return lastReload.failure === undefined
    ? [`reload    ${ago}: in force`]
    : [`reload    ${ago}: ${paint('bad', 'refused')}, ${lastReload.failure}`]
}

const LOST_SHOWN_MAX = 10

function lostLines(lostTags: DaemonReport['lostTags']): readonly string[] {
  if (lostTags.length === 0) return []
  const shown = lostTags.slice(0, LOST_SHOWN_MAX)
  return [
    `lost      ${countText(lostTags.length, 'tag')} deleted upstream, still served`,
    ...shown.map(({ image, lostForMs }) => `  ${image}  since ${spanText(lostForMs)}`),
    ...(shown.length < lostTags.length ? [`  and ${lostTags.length - shown.length} more`] : []),
  ]
}

function warmingLines(warming: DaemonReport['warming'], { nowMs, paint }: StatusLook): readonly string[] {
  if (warming.length === 0) return []
  const lines = warming.map(
    ({ image, tags, isRunning, nextAt, lastAt, images, doneImages, failedImages, message }) => {
      const counts = lastAt === undefined && !isRunning ? '' : `${doneImages} of ${images}, `
      const failed = failedImages === 0 ? '' : paint('bad', `${failedImages} failed, `)
      const when = isRunning ? 'running' : `next in ${spanText(Math.max(1000, Date.parse(nextAt) - nowMs))}`
      return `  ${image}: ${tags}  ${counts}${failed}${when}${message === undefined ? '' : ` (${message})`}`
    },
  )
  return [`warming   ${warming.length}`, ...lines]
}

const STATE_STYLES = {
  reachable: 'good',
  refused: 'bad',
  unreachable: 'bad',
  paused: 'bad',
  unknown: 'faint',
} as const satisfies Record<RegistryReport['state'], Style>

const OTHERS_SHOWN_MAX = 10

/** A table of the configured registries, and of the first others. */
function registryLines(registries: readonly RegistryReport[], look: StatusLook): readonly string[] {
  const configured = registries.filter(({ isConfigured }) => isConfigured)
  const others = registries.filter(({ isConfigured }) => !isConfigured)
  const shown = [...configured, ...others.slice(0, OTHERS_SHOWN_MAX)]
  if (shown.length === 0) return []
  const heading = ['REGISTRY', 'STATE', 'CACHED', 'SHARED', 'PULLS LEFT', 'LAST ERROR']
  const rows = shown.map(registry => registryRow(registry, look))
  const more = registries.length - shown.length
  return [
    '',
    ...tableText([heading.map(text => look.paint('heading', text)), ...rows], new Set([2, 3])).split('\n'),
    ...(more === 0 ? [] : [`and ${more} more that are not configured`]),
    '',
  ]
}

function registryRow(registry: RegistryReport, { nowMs, paint }: StatusLook): string[] {
  const { state, pausedForMs, lastError, budget, cachedBytes, sharedBytes, isConfigured } = registry
  const rest = pausedForMs === undefined ? '' : ` for ${spanText(pausedForMs + 1000)}`
  const error = lastError === undefined ? '' : `${agoText(lastError.at, nowMs)}: ${lastError.message}`
  return [
    isConfigured ? registry.registry : `${registry.registry} ${paint('faint', '(not configured)')}`,
    paint(STATE_STYLES[state], `${state === 'unknown' ? 'not asked yet' : state}${rest}`),
    sizeText(cachedBytes),
    sizeText(sharedBytes),
    budget === undefined ? '' : budgetText(budget, nowMs),
    error,
  ]
}

function budgetText({ remaining, limit, resetsAt }: BudgetReport, nowMs: number): string {
  const of = limit === undefined ? '' : ` of ${limit}`
  const resetMs = resetsAt === undefined ? 0 : Date.parse(resetsAt) - nowMs
  return `${remaining}${of}${resetMs > 0 ? `, reset within ${spanText(resetMs + 1000)}` : ''}`
}

function flowLines(flows: readonly RunningDownload[]): readonly string[] {
  if (flows.length === 0) return ['downloads none']
  return [`downloads ${flows.length}`, ...flows.map(flowLine)]
}

function flowLine(flow: RunningDownload): string {
  const { namespace, repository, digest, writtenBytes, sizeBytes, readers, bytesPerSecond, leftMs } = flow
  const part = sizeBytes === undefined ? 0 : writtenBytes / sizeBytes
  const of = sizeBytes === undefined ? '' : ` of ${sizeText(sizeBytes)}`
  const pace = [speedText(bytesPerSecond), leftText(leftMs)].filter(text => text !== '').join(', ')
  return `  ${digestText(digest)}  ${barText(part, 20)}  ${sizeText(writtenBytes)}${of}, ${pace}  ${namespace}/${repository}, ${readers} waiting`
}
