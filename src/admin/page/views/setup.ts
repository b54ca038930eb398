import { OciError } from '../../../oci/error.ts'
import { type Html, html, longText } from '../html.ts'
import type { Snippet, View, ViewContext } from '../page-parts.ts'

/** The page with the configuration of each client for the address of this mirror. */
export async function setupView({ parts, query, request }: ViewContext): Promise<View> {
  const own = addressOf(parts.served(), request.headers.host)
  const mirror = query.get('mirror') || own || 'http://mirror.example.com:8080'
  const form = html`<form method="get" action="setup" class="line">
<div><label for="mirror">Address of the mirror, as clients reach it</label><input id="mirror" name="mirror" value="${mirror}" maxlength="300" size="40"></div>
<button>Show</button>
</form>`
  const body = html`<p>The files that make a client pull through this mirror, as <code>entrepot setup</code> prints them. On the client's
machine, <code>entrepot setup CLIENT --mirror ${mirror} --write</code> shows the changes and writes them.</p>
${form}${await snippets(parts, mirror)}`
  return { title: 'Set up a client', body }
}

async function snippets(parts: ViewContext['parts'], mirror: string): Promise<Html> {
  try {
    const found = await parts.snippets(mirror)
    const menu = html`<p>${found.map(({ client }, index) => html`${index > 0 && ' · '}<a href="#${client}">${client}</a>`)}</p>`
    return html`${menu}${found.map(snippet)}`
  } catch (error) {
    if (error instanceof OciError) return html`<p class="bad" role="alert">${error.message}</p>`
    throw error
  }
}

function snippet({ client, files, notes }: Snippet): Html {
  return html`<section id="${client}" aria-labelledby="${client}-heading"><h2 id="${client}-heading">${client}</h2>
${files.map(({ path, text }) => html`<h3><code>${path}</code></h3><pre tabindex="0" role="region" aria-label="${path} for ${client}" data-copy="${path} for ${client}">${longText(text)}</pre>`)}
${notes.length > 0 && html`<ul>${notes.map(note => html`<li>${note}</li>`)}</ul>`}</section>`
}

/** The address of the first listener, under the name by which the browser reached this machine. */
function addressOf(
  served: readonly { readonly text: string; readonly isTls: boolean }[],
  host = '',
): string | undefined {
  const listener = served.find(({ isTls }) => isTls) ?? served[0]
  if (listener === undefined || listener.text.startsWith('unix:')) return undefined
  const port = listener.text.slice(listener.text.lastIndexOf(':'))
  const [, name = ''] = /^(\[[^\]]+\]|[^:]+)/.exec(host) ?? []
  return name === '' ? undefined : `${listener.isTls ? 'https' : 'http'}://${name}${port}`
}
