import { agoText } from '../../../lib/words/amounts.ts'
import { OciError } from '../../../oci/error.ts'
import type { EventList, ListedEvent } from '../../contract.ts'
import { listEvents } from '../../events.ts'
import { cut, type Html, html } from '../html.ts'
import type { View, ViewContext } from '../page-parts.ts'
import { table } from './layout.ts'

/** The page of the events that endpoints are told. */
export async function eventsView({ parts, query }: ViewContext): Promise<View> {
  const asked = new URLSearchParams({ limit: '50' })
  const after = query.get('after')
  if (after !== null) asked.set('after', after)
  const { events, endpoints, next } = await listed(parts, asked)
  const heads = ['When', 'What', 'Subject', 'Endpoints']
  const body = html`<p>What <a href="policy">policy</a> and clients changed, as endpoints of the section <code>notifications</code> are told.</p>
${endpoints.length === 0 && html`<p>No endpoint is configured, so that no event is kept.</p>`}
${endpoints.length > 0 && html`<ul>${endpoints.map(({ endpoint, pending, isDisabled }) => html`<li>${endpoint}: ${isDisabled ? html`<span class="bad">asked for no more events</span>` : `${pending} wait`}</li>`)}</ul>`}
${events.length > 0 && table('Events, the newest first', heads, events.map(eventRow))}
${next !== undefined && html`<p><a href="events?after=${next}" rel="next">Older</a></p>`}`
  return { title: 'Events', body }
}

async function listed({ notifications }: ViewContext['parts'], asked: URLSearchParams): Promise<EventList> {
  try {
    return await listEvents(notifications, asked)
  } catch (error) {
    if (error instanceof OciError && error.code !== 'REQUEST_INVALID') return { events: [], endpoints: [] }
    throw error
  }
}

function eventRow({ at, type, subject, deliveries }: ListedEvent): Html {
  const told = deliveries.map(
    ({ endpoint, state, error }, index) =>
      html`${index > 0 && ', '}${endpoint}: ${state}${error !== undefined && ` (${cut(error, 100)})`}`,
  )
  return html`<tr><th scope="row">${agoText(at, Date.now())}</th><td>${type}</td><td>${cut(subject ?? '', 300)}</td><td>${told}</td></tr>`
}
