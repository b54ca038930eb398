import { currentSpan, within } from '../observe/tracing/span.ts'
import { headerOf, type UpstreamAnswer } from './answer.ts'
import type { Origin } from './dial/target.ts'

/**
 * Traces an exchange until its body has ended, if what it is for is traced. The path and the query are left
 * out: those of a redirect may be signed. Nothing of the trace is sent to the registry.
 */
export async function traceExchange(
  { method, hostname, port }: Pick<Origin, 'hostname' | 'port'> & { readonly method: string },
  send: () => Promise<UpstreamAnswer>,
): Promise<UpstreamAnswer> {
  const attributes = { 'http.request.method': method, 'server.address': hostname, 'server.port': port }
  const span = currentSpan()?.begin(method, attributes)
  if (span === undefined) return await send()
  try {
    const answer = await within(span, send)
    const length = headerOf(answer.headers, 'content-length')
    span.note('first byte')
    span.set({
      'http.response.status_code': answer.status,
      'http.response.body.size': length === undefined ? undefined : Number(length),
    })
    if (answer.status >= 400) span.fail(undefined)
    answer.body.once('error', (error: unknown) => span.fail(error))
    answer.body.once('close', () => span.end())
    return answer
  } catch (error) {
    span.fail(error)
    span.end()
    throw error
  }
}
