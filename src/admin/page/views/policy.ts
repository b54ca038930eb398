import { OciError } from '../../../oci/error.ts'
import { namedImage } from '../../query.ts'
import { explainAccess } from '../../robot-tokens.ts'
import { type Html, html } from '../html.ts'
import type { AdminPageParts, View, ViewContext } from '../page-parts.ts'
import { table } from './layout.ts'

/** Rows of the rules that are shown. */
const ROWS_MAX = 500

/** The page that says which rule decides for an image and an identity. */
export async function policyView({ parts, query }: ViewContext): Promise<View> {
  const [image, as] = [query.get('image') ?? '', query.get('as') ?? '']
  const body = html`<form method="get" action="policy" class="line">
<div><label for="image">Image</label><input id="image" name="image" value="${image}" placeholder="docker.io/library/alpine:3.20" maxlength="1024" required></div>
<div><label for="as">Identity</label><input id="as" name="as" value="${as}" placeholder="anonymous" maxlength="512"></div>
<button>Which rule decides?</button>
</form>
${image !== '' && (await decision(parts, image, as || 'anonymous'))}
${rules(parts)}`
  return { title: 'Policy', body }
}

async function decision(parts: AdminPageParts, image: string, as: string): Promise<Html> {
  try {
    const { source, reference, name } = await namedImage(parts, new URLSearchParams({ image }))
    const answer = explainAccess(parts, as, { place: source, reference })
    const rows = answer.decisions.map(
      ({ right, isAllowed, row, reason }) =>
        html`<tr><th scope="row">${right}</th><td${!isAllowed && html` class="bad"`}>${isAllowed ? 'allowed' : 'refused'}</td><td>${row === 'default' ? 'no row: the default' : row}</td><td>${reason}</td></tr>`,
    )
    const groups = answer.groups.length > 0 && html`<p>Groups: ${answer.groups.join(', ')}</p>`
    return html`<h2>${answer.as} and ${name}</h2>${groups}${table('Decisions', ['Right', 'Decision', 'Decided by', 'Reason'], rows)}`
  } catch (error) {
    if (error instanceof OciError) return html`<p class="bad" role="alert">${error.message}</p>`
    throw error
  }
}

function rules({ access }: AdminPageParts): Html {
  const { rows } = access.rules
  if (rows.length === 0)
    return html`<p>There are no rules: everybody may pull, and nobody may push, delete or administer by a rule.</p>`
  const shown = rows
    .slice(0, ROWS_MAX)
    .map(
      ({ line, rights, isAllowed, reason }) =>
        html`<tr><th scope="row">line ${line}</th><td>${isAllowed ? 'may' : 'may not'} ${rights.join(', ')}</td><td>${reason}</td></tr>`,
    )
  return html`<h2>Rules</h2><p>From the top, the first row about the sender, the right and the name decides.</p>
${table('Rules in force', ['Row', 'Says', 'Reason'], shown)}`
}
