import { agoText } from '../../../lib/words/amounts.ts'
import type { ClientReport } from '../../contract.ts'
import { cut, type Html, html } from '../html.ts'
import type { View, ViewContext } from '../page-parts.ts'
import { table } from './layout.ts'

/** A client that was not seen for this time counts as one that has stopped, in milliseconds. */
const STOPPED_MS = 24 * 3_600_000

/** The page of the clients: which pull through this mirror, and which have stopped. */
export async function clientsView({ parts }: ViewContext): Promise<View> {
  const clients = await parts.recentClients()
  const nowMs = Date.now()
  const isActive = ({ lastSeen }: ClientReport): boolean => nowMs - Date.parse(lastSeen) < STOPPED_MS
  const [active, stopped] = [clients.filter(isActive), clients.filter(client => !isActive(client))]
  if (clients.length === 0)
    return {
      title: 'Clients',
      body: html`<p>No client has come since the mirror started. <a href="setup">Set up a client</a>.</p>`,
    }
  const body = html`<p>The last ${clients.length} clients since the mirror started, at most 500. A client is an address with a
program: behind a proxy or NAT, several machines may share one.</p>
${list('active', 'Pulled in the last day', active, nowMs)}
${list('stopped', 'Not seen for a day', stopped, nowMs)}`
  return { title: 'Clients', body }
}

function list(id: string, heading: string, clients: readonly ClientReport[], nowMs: number): Html {
  const rows = clients.map(
    ({ address, userAgent, requests, namespaces, firstSeen, lastSeen, lastStatus }) => {
      const failed = lastStatus >= 400
      return html`<tr><th scope="row"><code>${address}</code></th><td>${cut(userAgent, 120) || 'unnamed'}</td><td>${agoText(lastSeen, nowMs)}</td>
<td>${agoText(firstSeen, nowMs)}</td><td>${requests}</td><td${failed && BAD}>${lastStatus}</td><td>${namespaces.join(', ')}</td></tr>`
    },
  )
  const heads = ['Address', 'Program', 'Last seen', 'First seen', 'Requests', 'Last answer', 'Registries']
  return html`<section id="${id}" aria-labelledby="${id}-heading"><h2 id="${id}-heading">${heading}</h2>
${rows.length === 0 ? html`<p>None.</p>` : table(heading, heads, rows)}</section>`
}

const BAD = html` class="bad"`
