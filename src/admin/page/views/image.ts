import { agoText, digestText, sizeText, spanText } from '../../../lib/words/amounts.ts'
import { OciError } from '../../../oci/error.ts'
import type { ExplainedManifest, Explanation, TagReport } from '../../contract.ts'
import { extentOf } from '../../explain.ts'
import { namedImage } from '../../query.ts'
import { explainImage } from '../../routes.ts'
import { tagHistory } from '../../tags.ts'
import { type Html, html } from '../html.ts'
import type { AdminPageParts, View, ViewContext } from '../page-parts.ts'
import { type Referrer, referrersOf } from '../referrer-list.ts'
import { pinForm } from './images.ts'
import { formToken, section, table } from './layout.ts'
import { imageLink, warming } from './now.ts'

const DONE: ReadonlyMap<string, string> = new Map([
  ['pinned', 'Pinned: it is not evicted.'],
  ['unpinned', 'Unpinned: it may be evicted again.'],
  ['warming', 'It is being pulled into the cache.'],
  ['moved', 'The tag has another digest now.'],
  ['following', 'The tag follows its upstream again.'],
])

/** Manifests and layers shown, and moves of a tag. */
const SHOWN_MAX = 200

interface ImageFacts {
  readonly explanation: Explanation
  readonly manifest: ExplainedManifest | undefined
  readonly history: TagReport | undefined
  readonly referrers: readonly Referrer[]
  readonly isHosted: boolean
}

/** The page of one image. */
export async function imageView({ parts, viewer, query, jobs }: ViewContext): Promise<View> {
  const asked = new URLSearchParams({ image: query.get('name') ?? '' })
  const facts = await factsOf(parts, asked)
  const name = facts.explanation.image
  const done = DONE.get(query.get('done') ?? '')
  const own = jobs.all.filter(({ image }) => image === name)
  const body = html`${done !== undefined && html`<p class="good" role="status">${done}</p>`}
${viewer.session !== undefined && actions(facts, viewer.session.formToken)}
${section('pulls', 'Pulls', pulls(parts, facts))}
${own.length > 0 && section('warming', 'Warming', warming(jobs.all, true))}
${section('content', 'Content', content(facts))}
${facts.history !== undefined && section('history', 'History of the tag', history(facts, viewer.session?.formToken))}
${section('referrers', 'Signatures and other referrers', referrers(facts.referrers))}`
  return { title: name, body, isLive: own.some(({ state }) => state === 'running') }
}

async function factsOf(parts: AdminPageParts, asked: URLSearchParams): Promise<ImageFacts> {
  const { source, reference } = await namedImage(parts, asked)
  const explanation = await explainImage(parts, asked)
  const history = reference.kind === 'tag' ? await tagHistory(parts, asked) : undefined
  const isHosted = parts.hosting.isClaimed(source)
  const digest = explanation.manifest?.digest ?? history?.digest
  const manifest =
    explanation.manifest ??
    (digest === undefined ? undefined : await parts.mirror.inspection.manifest(digest))
  const referring = digest === undefined ? [] : await referrersOf(parts, source, digest)
  return { explanation, manifest, history, referrers: referring, isHosted }
}

function actions({ explanation, isHosted, manifest }: ImageFacts, token: string): Html {
  const { image, isPinned } = explanation
  const field = html`${formToken(token)}<input type="hidden" name="image" value="${image}">`
  return html`<div class="acts">
${!isHosted && pinForm(image, { isPinned, token })}
${!isHosted && html`<form method="post" action="warm" class="line">${field}<div><label for="platform">Platform, empty for all</label><input id="platform" name="platform" placeholder="linux/amd64" maxlength="100"></div><button>Warm</button></form>`}
${!isHosted && manifest !== undefined && html`<p><a href="confirm?${new URLSearchParams({ image }).toString()}">Remove…</a></p>`}
</div>`
}

function pulls(parts: AdminPageParts, { explanation }: ImageFacts): Html {
  const { lastPull, nextPull, trouble, tag, lastUse, hits, claim } = explanation
  const nowMs = Date.now()
  const pullers = parts.recentPulls.pullersOf(explanation.image)
  return html`<dl>
<dt>Last pull</dt><dd>${lastPull === undefined ? 'none since the daemon started' : html`${agoText(lastPull.at, nowMs)}: <b>${lastPull.outcome ?? `failed (${lastPull.status})`}</b>${lastPull.why !== undefined && `, because ${lastPull.why}`}`}</dd>
<dt>Next pull</dt><dd><b>${nextPull.outcome}</b>, because ${nextPull.why}</dd>
${trouble !== undefined && html`<dt>Upstream</dt><dd class="bad">${trouble}</dd>`}
${tag !== undefined && html`<dt>Tag</dt><dd>${tag.freshness}, confirmed ${spanText(tag.ageMs)} ago${tag.freshForMs > 0 && `, not asked for again for ${spanText(tag.freshForMs)}`}</dd>`}
${claim !== undefined && html`<dt>Hosted</dt><dd>its name falls to ${claim.names}${claim.isHere ? ', and it was pushed here' : ''}</dd>`}
<dt>Last use</dt><dd>${agoText(lastUse, nowMs)}${hits !== undefined && `, ${hits} answered from the cache`}</dd>
<dt>Lately pulled by</dt><dd>${pullers.length === 0 ? 'nobody known' : pullers.map(({ client, atMs }, index) => html`${index > 0 && ', '}<code>${client}</code> (${agoText(new Date(atMs).toISOString(), nowMs)})`)}</dd>
</dl>`
}

function content({ manifest }: ImageFacts): Html {
  if (manifest === undefined) return html`<p>Nothing of it is cached.</p>`
  const { cachedBytes, missingBytes, isWhole } = extentOf(manifest as Parameters<typeof extentOf>[0])
  const sum = isWhole
    ? `${sizeText(cachedBytes)}, whole`
    : `${sizeText(cachedBytes)} cached, ${sizeText(missingBytes)} known to be missing`
  const children = manifest.manifests.slice(0, SHOWN_MAX)
  return html`<p>${sum}. Digest <code>${manifest.digest}</code></p>
${manifest.mediaType !== undefined && html`<p class="dim">${manifest.mediaType}</p>`}
${children.length > 0 ? children.map(platform) : layers('Layers and configuration', manifest)}`
}

function platform(child: ExplainedManifest): Html {
  const title = `${child.platform || 'no platform'}, ${digestText(child.digest)}`
  if (!child.isCached) return html`<h3>${title}</h3><p class="dim">Its manifest is not cached.</p>`
  return html`<h3>${title}</h3>${layers(`Layers and configuration of ${title}`, child)}`
}

function layers(caption: string, { blobs }: ExplainedManifest): Html {
  if (blobs.length === 0) return html`<p>It names no layers.</p>`
  const rows = blobs
    .slice(0, SHOWN_MAX)
    .map(
      ({ digest, sizeBytes, isCached }) =>
        html`<tr><th scope="row"><code>${digestText(digest)}</code></th><td>${sizeText(sizeBytes)}</td><td>${isCached ? 'cached' : html`<span class="dim">missing</span>`}</td></tr>`,
    )
  return html`${table(caption, ['Digest', 'Size', 'State'], rows)}${blobs.length > SHOWN_MAX && html`<p>And ${blobs.length - SHOWN_MAX} more.</p>`}`
}

function history({ explanation, history: report, isHosted }: ImageFacts, token: string | undefined): Html {
  const { image } = explanation
  const { digest: now, heldBy, moves = [] } = report ?? {}
  const nowMs = Date.now()
  const rows = moves.slice(0, SHOWN_MAX).map(({ at, digest, by }) => {
    const mayMove = token !== undefined && digest !== undefined && digest !== now
    const name = digest === undefined ? 'deleted' : digestText(digest)
    return html`<tr><th scope="row"><code>${name}</code>${digest === now && ' (now)'}</th><td>${agoText(at, nowMs)}</td><td>${by}</td><td>${mayMove && rollBack(image, digest, token)}</td></tr>`
  })
  const held =
    heldBy !== undefined && html`<p>Fixed to its digest by ${heldBy}: the upstream does not move it.</p>`
  const follow =
    heldBy !== undefined &&
    token !== undefined &&
    !isHosted &&
    html`<form method="post" action="follow">${formToken(token)}<input type="hidden" name="image" value="${image}"><button class="quiet">Follow the upstream again</button></form>`
  return html`${held}${follow}${rows.length === 0 ? html`<p>No move of this tag is known.</p>` : table('What the tag named', ['Digest', 'Since', 'By', 'Change'], rows)}`
}

function rollBack(image: string, digest: string, token: string): Html {
  return html`<form method="post" action="roll-back">${formToken(token)}<input type="hidden" name="image" value="${image}"><input type="hidden" name="digest" value="${digest}"><button class="quiet" aria-label="Roll back to ${digestText(digest)}">Roll back to this</button></form>`
}

function referrers(list: readonly Referrer[]): Html {
  if (list.length === 0) return html`<p>None are here. Upstreams are not asked.</p>`
  return html`<ul>${list.map(({ image, what }) => html`<li>${what}: <a href="${imageLink(image)}">${image}</a></li>`)}</ul>`
}

/** The page that asks before an image is removed. It says what would go. */
export async function confirmView(
  { parts, viewer, query }: ViewContext,
  plan: (
    parts: AdminPageParts,
    asked: URLSearchParams,
  ) => Promise<{
    readonly image: string
    readonly objects: number
    readonly bytes: number
    readonly tags: readonly string[]
    readonly keptObjects: number
  }>,
): Promise<View> {
  const { session } = viewer
  if (session === undefined) throw new OciError('UNAUTHORIZED', 'log in first')
  const asked = new URLSearchParams({ image: query.get('image') ?? '', 'dry-run': 'true' })
  const { image, objects, bytes, tags, keptObjects } = await plan(parts, asked)
  const body = html`<p>This removes ${image} from the cache: ${tags.length} tags, ${objects} objects, ${sizeText(bytes)}.
${keptObjects > 0 && `${keptObjects} objects stay, because other images need them or they are not cached.`}
The next pull fetches it from its registry again.</p>
<form method="post" action="remove" class="acts">${formToken(session.formToken)}<input type="hidden" name="image" value="${image}"><button class="danger">Remove it</button> <a href="${imageLink(image)}">Keep it</a></form>`
  return { title: 'Remove an image', body }
}
