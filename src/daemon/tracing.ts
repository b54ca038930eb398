import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Peer } from '../access/peer.ts'
import type { Config } from '../config/config.ts'
import type { Dispatch } from '../http/dispatch.ts'
import { tracedHandler } from '../http/traced-handler.ts'
import { version } from '../lib/package.ts'
import type { Events } from '../observe/events.ts'
import { startTracing } from '../observe/tracing/start.ts'

interface TracingParts {
  readonly events: Events
  readonly environment?: Readonly<Record<string, string | undefined>>
  readonly instance: string
}

/** Begins to trace if that is configured; `undo` sends the last spans. */
export async function traceBy(
  { traces = false }: Pick<Config, 'traces'>,
  { events, environment = {}, instance }: TracingParts,
  undo: AsyncDisposableStack,
): Promise<void> {
  const isDisabled = environment['OTEL_SDK_DISABLED']?.trim().toLowerCase() === 'true'
  if (!traces || isDisabled) return
  const { OTEL_TRACES_SAMPLER: sampler, OTEL_TRACES_SAMPLER_ARG: samplerArgument } = environment
  // A thread gets these, and no variable that may hold a secret.
  const batches = Object.fromEntries(
    Object.entries(environment).filter(([name]) => name.startsWith('OTEL_BSP_')),
  )
  const settings = { sampler, samplerArgument, batches, version: version(), instance }
  undo.use(await startTracing(events, settings))
}

/** The handler of requests, also of those that another thread passes on for a client. */
export function answerBy(
  dispatch: Dispatch,
  { tracing }: Pick<Events, 'tracing'>,
): (request: IncomingMessage, response: ServerResponse, peer?: Peer) => Promise<void> {
  return tracedHandler(
    tracing,
    async (request, response: ServerResponse, peer?: Peer) => await dispatch.handle(request, response, peer),
  )
}
