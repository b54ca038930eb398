import type { IncomingMessage } from 'node:http'
import type { Tracing } from '../observe/tracing/tracing.ts'

/** The handler with a span around each request; the handler itself if nothing is traced. */
export function tracedHandler<Rest extends readonly unknown[]>(
  tracing: Tracing | undefined,
  handle: (request: IncomingMessage, ...rest: Rest) => Promise<void>,
): (request: IncomingMessage, ...rest: Rest) => Promise<void> {
  if (tracing === undefined) return handle
  return async (request, ...rest) => await tracing.follow(request, async () => await handle(request, ...rest))
}
