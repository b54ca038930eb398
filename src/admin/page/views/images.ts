import type { ShelvedImage } from '../../../content/index/change.ts'
import { agoText, countText, sizeText } from '../../../lib/words/amounts.ts'
import { type Html, html } from '../html.ts'
import type { View, ViewContext } from '../page-parts.ts'
import { type FoundPage, findImages } from '../shelf.ts'
import { formToken, table } from './layout.ts'
import { imageLink, REBUILDING } from './now.ts'

const ORDERS = [
  ['name', 'Name'],
  ['last-use', 'Last use'],
  ['size', 'Size'],
] as const
const WHOLE = [
  ['', 'Whole or partial'],
  ['whole', 'Whole'],
  ['partial', 'Partial'],
] as const
const KINDS = [
  ['', 'Cached and hosted'],
  ['cached', 'Cached'],
  ['hosted', 'Hosted'],
] as const
const UNUSED = [
  ['', 'Used at any time'],
  ['7', 'Not used for 7 days'],
  ['30', 'Not used for 30 days'],
  ['90', 'Not used for 90 days'],
] as const

/** The page of the images. */
export async function imagesView({ parts, viewer, query }: ViewContext): Promise<View> {
  const found = await findImages(parts, query)
  const registries = [...new Set([parts.directory().defaultNamespace, ...parts.directory().terms.keys()])]
  const body = html`${removed(query)}
${filterForm(query, registries)}
<div id="list">${!found.isComplete && REBUILDING}${list(found, viewer, query)}</div>`
  return { title: 'Images', body }
}

function removed(query: URLSearchParams): Html {
  const image = query.get('removed')
  if (image === null) return html``
  const [objects, bytes] = [Number(query.get('objects')) || 0, Number(query.get('bytes')) || 0]
  return html`<p class="good" role="status">Removed ${image}: ${countText(objects, 'object')}, ${sizeText(bytes)}.</p>`
}

function filterForm(query: URLSearchParams, registries: readonly string[]): Html {
  const names = registries.map(name => [name, name] as const)
  return html`<form method="get" action="images" class="line" data-filter role="search">
<div><label for="q">Search</label><input id="q" name="q" type="search" value="${query.get('q') ?? ''}" placeholder="alpine:3" maxlength="300"></div>
${choice('registry', 'Registry', [['', 'Every registry'], ...names], query)}
${choice('sort', 'Sorted by', ORDERS, query)}
${choice('cached', 'Cached', WHOLE, query)}
${choice('unused', 'Use', UNUSED, query)}
${choice('kind', 'Kind', KINDS, query)}
<button>Show</button>
</form>`
}

function choice(
  name: string,
  label: string,
  options: readonly (readonly [value: string, text: string])[],
  query: URLSearchParams,
): Html {
  const chosen = query.get(name) ?? ''
  const shown = options.map(
    ([value, text]) => html`<option value="${value}"${value === chosen && html` selected`}>${text}</option>`,
  )
  return html`<div><label for="${name}">${label}</label><select id="${name}" name="${name}">${shown}</select></div>`
}

function list(found: FoundPage, viewer: ViewContext['viewer'], query: URLSearchParams): Html {
  const { images, next, pinned } = found
  const rows = images.map(image => row(image, pinned, viewer))
  const heads = [
    'Image',
    'Cached',
    'Last use',
    'Hits',
    'Pinned',
    ...(viewer.session === undefined ? [] : ['Change']),
  ]
  const more =
    next !== undefined &&
    html`<p><a href="${nextLink(query, next)}" rel="next">${rows.length === 0 ? 'Nothing among the images looked at so far. Go on' : 'Next page'}</a></p>`
  if (rows.length === 0 && next === undefined) return html`<p>No image matches.</p>`
  return html`${rows.length > 0 && table('Images', heads, rows)}${more}`
}

function nextLink(query: URLSearchParams, after: string): string {
  const next = new URLSearchParams(query)
  for (const name of ['removed', 'objects', 'bytes']) next.delete(name)
  next.set('after', after)
  return `images?${next.toString()}`
}

function row(image: ShelvedImage, pinned: ReadonlySet<string>, viewer: ViewContext['viewer']): Html {
  const { namespace, repository, tag, digest, lastUseMs, hits, otherNames, isHosted } = image
  const name = `${namespace}/${repository}${tag === undefined ? `@${digest}` : `:${tag}`}`
  const used = lastUseMs === undefined ? undefined : new Date(lastUseMs).toISOString()
  const others = otherNames > 0 && html` <span class="dim">and ${countText(otherNames, 'other name')}</span>`
  const isPinned = pinned.has(name)
  return html`<tr><th scope="row"><a href="${imageLink(name)}">${name}</a>${others}</th><td>${extent(image)}</td>
<td>${agoText(used, Date.now())}</td><td>${hits}</td><td>${isHosted ? 'hosted' : isPinned ? 'pinned' : 'no'}</td>${viewer.session !== undefined && html`<td>${!isHosted && pinForm(name, { isPinned, token: viewer.session.formToken })}</td>`}</tr>`
}

function extent({ extent: stored }: ShelvedImage): Html {
  if (stored === undefined) return html`–`
  const { cachedBytes, missingBytes, lacks } = stored
  if (lacks === 0) return html`${sizeText(cachedBytes)}, whole`
  return html`${sizeText(cachedBytes)}, <span class="dim">partial${missingBytes > 0 && `, ${sizeText(missingBytes)} missing`}</span>`
}

/** The button that pins or unpins an image. */
export function pinForm(
  image: string,
  { isPinned, token }: { readonly isPinned: boolean; readonly token: string },
): Html {
  return html`<form method="post" action="${isPinned ? 'unpin' : 'pin'}">${formToken(token)}<input type="hidden" name="image" value="${image}"><button class="quiet" aria-label="${isPinned ? 'Unpin' : 'Pin'} ${image}">${isPinned ? 'Unpin' : 'Pin'}</button></form>`
}
