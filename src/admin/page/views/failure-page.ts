import { html } from '../html.ts'
import type { View } from '../page-parts.ts'

/** Says why a request was refused. */
export function failureView({
  status,
  message,
}: {
  readonly status: number
  readonly message: string
}): View {
  const title = status === 404 ? 'Not here' : status < 500 ? 'Not possible' : 'Something failed'
  const body = html`<p class="bad" role="alert">${message}</p>
<p><a href="./">Back to the first page</a></p>`
  return { title, body }
}
