import { type Html, html } from '../html.ts'
import type { View, ViewContext } from '../page-parts.ts'

/** The pages, in the order of the menu; the addresses are relative, so that they hold below any path. */
const MENU = [
  ['./', 'Now'],
  ['images', 'Images'],
  ['clients', 'Clients'],
  ['setup', 'Set up a client'],
  ['settings', 'Settings'],
  ['policy', 'Policy'],
  ['events', 'Events'],
] as const

type Frame = Pick<ViewContext, 'assets' | 'viewer'> & {
  /** The page that is shown, as the menu writes it. */
  readonly here: string
  readonly version: string
}

/** A whole page. */
export function framed({ title, body, isLive = false }: View, frame: Frame): Html {
  const { assets, here, viewer, version } = frame
  const links = MENU.map(
    ([path, text]) => html`<li><a href="${path}"${here === path && CURRENT}>${text}</a></li>`,
  )
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>${title} – Entrepot</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<link rel="icon" href="${assets.nameOf('icon.svg')}" type="image/svg+xml">
<link rel="stylesheet" href="${assets.nameOf('page.css')}">
<script type="module" src="${assets.nameOf('page.js')}"></script>
</head>
<body${isLive && LIVE}>
<a class="skip" href="#main">Skip to the content</a>
<header>
<a class="brand" href="./"><img src="${assets.nameOf('icon.svg')}" alt="" width="20" height="20">Entrepot</a>
<nav aria-label="Pages"><ul>${links}</ul></nav>
${session(viewer)}
</header>
<main id="main">
<h1>${title}</h1>
${body}
</main>
<footer><p>Entrepot ${version}${isLive && STATE}</p></footer>
</body>
</html>
`
}

const CURRENT = html` aria-current="page"`
const LIVE = html` data-live="live"`
const STATE = html` · <span id="live-state" role="status"></span>`

function session({ session, who, sees }: ViewContext['viewer']): Html {
  if (session === undefined)
    return html`<p class="who">${sees === 'names' && 'reading · '}<a href="login">Log in</a></p>`
  return html`<form class="who" method="post" action="logout">
${formToken(session.formToken)}${who} <button class="quiet">Log out</button></form>`
}

/** The field that shows that a form comes from a page of this session. */
export function formToken(token: string): Html {
  return html`<input type="hidden" name="form" value="${token}">`
}

/** A section with a heading. */
export function section(id: string, heading: string, body: Html): Html {
  return html`<section id="${id}" aria-labelledby="${id}-heading">
<h2 id="${id}-heading">${heading}</h2>
<div id="${id}-live">${body}</div>
</section>`
}

/** A table that scrolls by itself where the screen is narrow; the keyboard can scroll it, too. */
export function table(caption: string, heads: readonly (string | Html)[], rows: readonly Html[]): Html {
  const cells = heads.map(head => html`<th scope="col">${head}</th>`)
  return html`<div class="scroll" role="region" aria-label="Table: ${caption}" tabindex="0"><table>
<caption>${caption}</caption>
<thead><tr>${cells}</tr></thead>
<tbody>${rows}</tbody>
</table></div>`
}
