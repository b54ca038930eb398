import {
  agoText,
  countText,
  digestText,
  leftText,
  sizeText,
  spanText,
  speedText,
} from '../../../lib/words/amounts.ts'
import type { DaemonReport, RegistryReport, RunningDownload } from '../../contract.ts'
import { type Html, html } from '../html.ts'
import type { LivePart } from '../live-feed.ts'
import type { View, ViewContext, Viewer } from '../page-parts.ts'
import type { Snapshot } from '../snapshot.ts'
import type { WarmJob } from '../warm-jobs.ts'
import { formToken, section, table } from './layout.ts'
import { replicas } from './replicas.ts'
import { sparkline } from './sparkline.ts'

/** Downloads shown; the others are counted. */
const FLOWS_MAX = 50

interface Now {
  readonly snapshot: Snapshot
  readonly jobs: readonly WarmJob[]
  readonly sees: Viewer['sees']
}

type Part = readonly [id: string, heading: string, body: Html]

/** The page Now. */
export async function nowView({ snapshots, jobs, viewer }: ViewContext): Promise<View> {
  const now = { snapshot: await snapshots.take(), jobs: jobs.all, sees: viewer.sees }
  const parts = partsOf(now).map(([id, heading, body]) => section(id, heading, body))
  return { title: 'Now', body: html`<div class="cards">${parts}</div>${cancelForm(viewer)}`, isLive: true }
}

/**
 * The form that the buttons at the downloads belong to. They come with the feed, which is the same for all
 * sessions, and its token is of this one.
 */
function cancelForm({ session }: Viewer): Html {
  if (session === undefined) return html``
  return html`<form id="${CANCEL}" method="post" action="cancel">${formToken(session.formToken)}</form>`
}

const CANCEL = 'cancel-form'

/** The parts of the page Now that change while it is open. */
export function liveNow(now: Now): readonly LivePart[] {
  return partsOf(now).map(([id, , body]) => ({ id: `${id}-live`, html: body.text }))
}

function partsOf({ snapshot, jobs, sees }: Now): readonly Part[] {
  const mayName = sees !== 'numbers'
  const { status, flows } = snapshot
  return [
    ['state', 'State', html`${state(status, mayName)}${nextSteps(snapshot)}`],
    ['disk', 'Disk', disk(status)],
    ['traffic', 'Traffic', traffic(snapshot)],
    [
      'downloads',
      'Running downloads',
      mayName ? downloads(flows, sees === 'admin') : downloadCount(flows.length),
    ],
    ['registries', 'Registries', registries(snapshot, mayName)],
    ['warming', 'Warming', warming(jobs, mayName)],
    ...(status.replicas === undefined
      ? []
      : [['replicas', 'Replicas', replicas(status.replicas, mayName)] as const]),
  ]
}

function state({ degraded, startedAt }: DaemonReport, mayName: boolean): Html {
  const up = html`<p>Started ${agoText(startedAt, Date.now())}.</p>`
  if (degraded.length === 0) return html`<p class="good">All is well.</p>${up}`
  // The reasons name images and addresses.
  if (!mayName)
    return html`<p class="bad">${countText(degraded.length, 'thing')} not as it should be: log in to see it.</p>${up}`
  return html`<p class="bad">Not as it should be:</p>
<ul>${degraded.map(reason => html`<li>${reason}</li>`)}</ul>${up}`
}

function nextSteps({ status: { traffic, space } }: Snapshot): Html {
  if (traffic.requests > 0 || (space?.objects ?? 0) > 0)
    return html`<p><a href="images">See what is cached</a>, or <a href="setup">set up another client</a>.</p>`
  return html`<h3>What to do next</h3>
<p>The cache is empty, and nothing has been pulled yet.</p>
<ol>
<li><a href="setup">Point a client at this mirror</a>: the page has the configuration for Docker, containerd,
Podman and others, ready to copy.</li>
<li>Pull something, such as <code>docker pull alpine</code>. The download shows up here.</li>
<li>Pull it again from another machine: it comes from the cache, and this page counts what that saved.</li>
</ol>`
}

function traffic({ today, week, status, minutes, sinceMs }: Snapshot): Html {
  const since = status.traffic
  const rows = [
    trafficRow('Today (UTC)', today),
    trafficRow('Last 7 days', week),
    trafficRow('Since the start', since),
  ]
  const requests = minutes.map(minute => minute.requests)
  const bytes = minutes.map(minute => minute.sentBytes)
  const saved = minutes.map(minute => Math.max(0, minute.sentBytes - minute.receivedBytes))
  return html`${table('Traffic through this mirror', ['When', 'Requests', 'From the cache', 'Served', 'Saved'], rows)}
<p>Counted since ${minuteText(sinceMs)}.</p>
<ul class="sparks">
<li>${sparkline(`Requests in each minute of the last hour, at most ${Math.max(...requests)}`, requests)}Requests, last hour</li>
<li>${sparkline(`Bytes served in each minute of the last hour, at most ${sizeText(Math.max(...bytes))}`, bytes)}Served, last hour</li>
<li>${sparkline(`Bytes saved in each minute of the last hour, at most ${sizeText(Math.max(...saved))}`, saved)}Saved, last hour</li>
</ul>`
}

function trafficRow(when: string, sums: Omit<Snapshot['today'], 'startMs'>): Html {
  const { requests, hits, sentBytes, receivedBytes } = sums
  const saved = Math.max(0, sentBytes - receivedBytes)
  return html`<tr><th scope="row">${when}</th><td>${requests}</td><td>${share(hits, requests)}</td><td>${sizeText(sentBytes)}</td><td>${sizeText(saved)}</td></tr>`
}

/** A time as people write it, to the minute. */
function minuteText(atMs: number): string {
  return `${new Date(atMs).toISOString().slice(0, 16).replace('T', ' ')} UTC`
}

/** A part of a whole in percent; a dash if there is no whole. */
function share(part: number, whole: number): string {
  return whole === 0 ? '–' : `${Math.floor((part * 1000) / whole) / 10} %`
}

function downloadCount(count: number): Html {
  return html`<p>${countText(count, 'download')} from registries.${count > 0 && ' Log in to see which.'}</p>`
}

function downloads(flows: readonly RunningDownload[], mayCancel: boolean): Html {
  if (flows.length === 0) return html`<p>Nothing is being downloaded from a registry.</p>`
  const rows = flows.slice(0, FLOWS_MAX).map(flow => downloadRow(flow, mayCancel))
  const rest = flows.length - rows.length
  const heads = ['Repository', 'Digest', 'Progress', 'Speed', 'Left', 'Readers']
  return html`${table('Downloads from registries', [...heads, ...(mayCancel ? ['Change'] : [])], rows)}
${rest > 0 && html`<p>And ${rest} more.</p>`}`
}

function downloadRow(flow: RunningDownload, mayCancel: boolean): Html {
  const { namespace, repository, digest, writtenBytes, sizeBytes, readers, bytesPerSecond, leftMs } = flow
  const name = `${namespace}/${repository}`
  return html`<tr><th scope="row">${name}</th><td><code>${digestText(digest)}</code></td>
<td>${bar(`${name} ${digestText(digest)}`, writtenBytes, sizeBytes)}</td><td>${speedText(bytesPerSecond)}</td><td>${leftText(leftMs)}</td><td>${readers}</td>${mayCancel && cancelButton(name, digest)}</tr>`
}

function cancelButton(name: string, digest: string): Html {
  return html`<td><button class="quiet" form="${CANCEL}" name="digest" value="${digest}" aria-label="Cancel the download of ${name} ${digestText(digest)}">Cancel</button></td>`
}

/** A progress bar with its numbers. */
function bar(label: string, done: number, whole: number | undefined): Html {
  if (whole === undefined || whole === 0)
    return html`<progress aria-label="${label}"></progress> ${sizeText(done)}`
  const percent = Math.min(100, Math.floor((done * 100) / whole))
  return html`<progress aria-label="${label}" max="100" value="${percent}"></progress> ${percent} % of ${sizeText(whole)}`
}

/** The images that pages asked to warm. */
export function warming(jobs: readonly WarmJob[], mayName: boolean): Html {
  if (jobs.length === 0) return html`<p>No page has asked to warm an image.</p>`
  if (!mayName) return html`<p>${countText(jobs.length, 'image')}. Log in to see which.</p>`
  return table('Images that a page asked to warm', ['Image', 'Progress', 'State', 'By'], jobs.map(jobRow))
}

function jobRow({ image, layers, state, message, failed, by, startedAtMs }: WarmJob): Html {
  const all = [...layers.values()]
  const done = all.reduce((sum, { doneBytes }) => sum + doneBytes, 0)
  const whole = all.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  const started = spanText(Date.now() - startedAtMs)
  const failure = message ?? `${countText(failed, 'layer')} failed`
  const words = { running: 'running', done: 'done', failed: `failed: ${failure}` }[state]
  return html`<tr><th scope="row"><a href="${imageLink(image)}">${image}</a></th><td>${bar(image, done, whole)}</td>
<td${state === 'failed' && BAD}>${words}</td><td>${by}, ${started === 'now' ? started : `${started} ago`}</td></tr>`
}

const BAD = html` class="bad"`

/** The address of the page of an image. */
export function imageLink(image: string): string {
  return `image?name=${encodeURIComponent(image)}`
}

const STATES = {
  reachable: 'answers',
  refused: 'refuses the password of this mirror',
  unreachable: 'cannot be reached',
  paused: 'is not asked for now',
  unknown: 'was not asked since the start',
} as const satisfies Record<RegistryReport['state'], string>

function registries({ status, registries: traffic }: Snapshot, mayName: boolean): Html {
  // Names that are not configured come from clients.
  const shown = status.registries.filter(({ isConfigured }) => mayName || isConfigured)
  const rows = shown.map(report => {
    const counts = report.isConfigured ? traffic.get(report.registry) : undefined
    const { requests, failures = 0, asked, askedInVain = 0 } = counts ?? {}
    return html`<tr><th scope="row">${report.registry}</th><td>${registryState(report, mayName)}</td><td>${requests ?? '–'}</td>
<td>${asked ?? '–'}</td><td${failures + askedInVain > 0 && BAD}>${counts === undefined ? '–' : failures + askedInVain}</td><td>${budget(report)}</td><td>${sizeText(report.cachedBytes)}</td></tr>`
  })
  const heads = ['Registry', 'State', 'Requests', 'Asked', 'Errors', 'Pulls left', 'Cached']
  return table('Registries behind this mirror', heads, rows)
}

function registryState(
  { state, pausedForMs, lastError, lastAnswerAt }: RegistryReport,
  mayName: boolean,
): Html {
  const isBad = state !== 'reachable' && state !== 'unknown'
  const pause = pausedForMs === undefined ? '' : ` for ${spanText(pausedForMs)}`
  const answered = state === 'reachable' ? `, ${agoText(lastAnswerAt, Date.now())}` : ''
  const trouble = lastError !== undefined && mayName && isBad ? `: ${lastError.message}` : ''
  return html`<span${isBad && BAD}>${STATES[state]}${pause}${answered}${trouble}</span>`
}

function budget({ registry, budget: left }: RegistryReport): Html {
  if (left === undefined) return html`–`
  const { remaining, limit, resetsAt } = left
  if (limit === undefined || limit === 0) return html`${remaining}`
  const resets = resetsAt === undefined ? '' : `, full again by ${resetsAt.slice(11, 16)} UTC`
  return html`<meter aria-label="Pulls that ${registry} still allows" min="0" max="${limit}" low="${limit / 5}" value="${remaining}"></meter> ${remaining} of ${limit}${resets}`
}

const INDEX = {
  absent: 'The index is not open yet.',
  open: undefined,
  locked: 'Another process uses this cache directory and has its index: its page has the lists.',
  failed: 'The index cannot be opened, so that the limits are not enforced: see the log.',
} as const

/** Says that the index is being rebuilt. */
export const REBUILDING = html`<p class="bad" role="status">The index is being rebuilt from the store: lists and sums lack content until it is done.</p>`

function disk({ space, store, storeTrouble }: DaemonReport): Html {
  const trouble =
    storeTrouble !== undefined && html`<p class="bad">Nothing is cached now, pulls pass through.</p>`
  if (space === null)
    return html`${trouble}<p>This store (${store.split(' ')[0] ?? ''}) keeps no count of its size.</p>`
  const { usedBytes, maxBytes, freeBytes, totalBytes, minFreeBytes, objects, isComplete, indexState } = space
  const isRebuilding = !isComplete && (indexState === 'open' || indexState === 'absent')
  return html`${trouble}${isRebuilding ? REBUILDING : html`<p>${INDEX[indexState]}</p>`}
<dl>
<dt>Cache</dt><dd>${fill('What the cache takes up', usedBytes, maxBytes)}${maxBytes === undefined && ', without a limit of its own'}, ${countText(objects, 'object')}</dd>
${freeBytes !== undefined && html`<dt>File system</dt><dd>${fill('What is used of the file system', (totalBytes ?? freeBytes) - freeBytes, totalBytes)}, ${sizeText(freeBytes)} free, of which ${sizeText(minFreeBytes)} must stay free</dd>`}
</dl>`
}

function fill(label: string, used: number, max: number | undefined): Html {
  if (max === undefined || max === 0) return html`${sizeText(used)}`
  return html`<meter aria-label="${label}" min="0" max="${max}" high="${max * 0.9}" value="${Math.min(used, max)}"></meter> ${sizeText(used)} of ${sizeText(max)}, ${share(used, max)}`
}
