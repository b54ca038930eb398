import type { IncomingHttpHeaders } from 'node:http'
import type { FinishedFill, FinishedRequest } from '../event.ts'
import type { BatchTexts } from './batches.ts'

/** What the span of a request is begun with. */
interface TracedRequest {
  readonly headers: IncomingHttpHeaders
  readonly url?: string | undefined
}

/**
 * How to trace, in a form that can be sent to another thread. The exporter reads the rest from the
 * environment.
 */
export interface TracingSettings {
  /** `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`. */
  readonly sampler: string | undefined
  readonly samplerArgument: string | undefined
  /** `OTEL_BSP_*`. */
  readonly batches: BatchTexts
  readonly version: string | undefined
  /** Name of this process. */
  readonly instance: string
}

/** Traces what one thread does. If it is left out, nothing is traced, and nothing is loaded for it. */
export interface Tracing extends AsyncDisposable {
  readonly settings: TracingSettings
  /** Answers a request below a span of its own, which is part of the client's trace if it has sent one. */
  follow(request: TracedRequest, answer: () => Promise<void>): Promise<void>
  /** Does work for a request that another thread answers. */
  resume<T>(traceparent: string | undefined, work: () => Promise<T>): Promise<T>
  /** Ends the span of the running request. */
  requestFinished(request: FinishedRequest): void
  /** Says what came of the running fill. */
  fillFinished(fill: FinishedFill): void
}
