import { countText, sizeText } from '../../../lib/words/amounts.ts'
import type { DaemonReport } from '../../contract.ts'
import { type Html, html } from '../html.ts'
import { table } from './layout.ts'

type ReplicasReport = NonNullable<DaemonReport['replicas']>

/** Replicas shown; the others are counted. */
const SHOWN_MAX = 50

/** The replicas of this mirror, as this one sees them. */
export function replicas({ cluster, following, members }: ReplicasReport, mayName: boolean): Html {
  const here = members.filter(isHere).length
  const sum = html`<p>${here} of ${members.length} are here; ${countText(following, 'download')} from others now.</p>`
  if (!mayName) return sum
  const heads = ['Replica', 'State', 'Version', 'Owns', 'Asked', 'Received', 'Failures']
  const rest = members.length - SHOWN_MAX
  return html`${sum}${table(`Replicas of ${cluster}`, heads, members.slice(0, SHOWN_MAX).map(row))}
${rest > 0 && html`<p>And ${rest} more.</p>`}`
}

function isHere({ state }: ReplicasReport['members'][number]): boolean {
  return state === 'self' || state === 'alive'
}

function row(member: ReplicasReport['members'][number]): Html {
  const { address, state, version = '–', owns, asked, receivedBytes, failures, trouble } = member
  const share = owns === undefined ? '–' : `${Math.round(owns * 100)} %`
  const word = state === 'self' ? 'this one' : state
  return html`<tr><th scope="row">${address}</th><td${!isHere(member) && BAD}>${word}${trouble !== undefined && `: ${trouble}`}</td>
<td>${version}</td><td>${share}</td><td>${asked}</td><td>${sizeText(receivedBytes)}</td><td${failures > 0 && BAD}>${failures}</td></tr>`
}

const BAD = html` class="bad"`
