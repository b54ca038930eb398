import type { IncomingMessage } from 'node:http'
import { OciError } from '../../oci/error.ts'
import { type GuardOptions, requireKnownHost } from '../guard.ts'

type BrowserRequest = Pick<IncomingMessage, 'headers'>

/**
 * Refuses to show a page to another one. Browsers say on https and on this machine who sends a request
 * (`Sec-Fetch-Site`). A link from anywhere may lead to a page; everything else must come from here.
 */
export function requireOwnReading(request: BrowserRequest, options: GuardOptions): void {
  requireKnownHost(request, options)
  const { headers } = request
  const site = headers['sec-fetch-site'] ?? 'none'
  const isLink = headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document'
  if (site !== 'none' && site !== 'same-origin' && !isLink) throw foreign()
  if (headers.origin !== undefined && !isOwnOrigin(request)) throw foreign()
}

/**
 * Refuses a form that was not sent by a page of this listener. Every browser states one of the two fields
 * with a form; clients without a browser have the API.
 */
export function requireOwnForm(request: BrowserRequest, options: GuardOptions): void {
  requireKnownHost(request, options)
  const { headers } = request
  const site = headers['sec-fetch-site']
  if (site !== undefined && site !== 'same-origin') throw foreign()
  if (site === undefined && headers.origin === undefined)
    throw new OciError(
      'DENIED',
      'forms are for browsers; docs/admin.md lists the endpoints for other clients',
    )
  if (headers.origin !== undefined && !isOwnOrigin(request)) throw foreign()
}

/** A proxy in front may have put its own name in `Host`; it says the one that the browser used beside it. */
function isOwnOrigin({ headers }: BrowserRequest): boolean {
  const { origin = '', host } = headers
  const stated = URL.canParse(origin) ? new URL(origin).host : undefined
  const forwarded = headers['x-forwarded-host']
  return stated !== undefined && (stated === host?.toLowerCase() || stated === forwarded)
}

function foreign(): OciError {
  return new OciError('DENIED', 'the admin page does not answer other web pages')
}
