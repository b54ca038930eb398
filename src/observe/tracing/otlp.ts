import {
  type Attributes,
  type Context,
  defaultTextMapGetter,
  type Span as OtelSpan,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  type TimeInput,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { ExportResultCode, W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources'
import {
  AlwaysOnSampler,
  BatchSpanProcessor,
  type ReadableSpan,
  type Sampler,
  type SpanExporter,
  type SpanProcessor,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import type { FinishedFill, FinishedRequest } from '../event.ts'
import { batchesOf } from './batches.ts'
import { samplerOf } from './sampler.ts'
import { currentSpan, type Span, type SpanAttributes, within } from './span.ts'
import type { Tracing, TracingSettings } from './tracing.ts'

/** Longest wait for the collector when the mirror stops, in milliseconds. */
const LAST_MS = 2000

const PROBES: ReadonlySet<string> = new Set(['live', 'ready'])

interface TracingReports {
  /** Spans that were not delivered, with the reason if the collector or the way to it gave one. */
  readonly dropped: (count: number, error?: unknown) => void
  readonly warned: (message: string) => void
}

/**
 * Traces by OpenTelemetry, sent to a collector by OTLP over HTTP in JSON. The exporter reads the usual
 * variables itself (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS` and so on).
 */
export class OtlpTracing implements Tracing {
  readonly settings: TracingSettings
  readonly #propagator = new W3CTraceContextPropagator()
  readonly #processor: SpanProcessor
  /** Begins the spans of requests, of which the sampler chooses. */
  readonly #requests: Tracer
  /** Begins spans of work for requests that were chosen. */
  readonly #work: Tracer

  constructor(settings: TracingSettings, { dropped, warned }: TracingReports) {
    const { version, instance } = settings
    this.settings = settings
    this.#processor = new CountedProcessor(
      new OTLPTraceExporter(),
      batchesOf(settings.batches, warned),
      dropped,
    )
    const own = {
      'service.name': 'entrepot',
      'service.instance.id': instance,
      ...(version === undefined ? {} : { 'service.version': version }),
    }
    const resource = resourceFromAttributes(own).merge(detectResources({ detectors: [envDetector] }))
    const tracer = (sampler: Sampler): Tracer =>
      new TracerProvider({ resource, sampler, spanProcessors: [this.#processor] }).getTracer(
        'entrepot',
        version,
      )
    this.#requests = tracer(samplerOf(settings, warned))
    this.#work = tracer(new AlwaysOnSampler())
  }

  async follow(
    { headers, url = '' }: Parameters<Tracing['follow']>[0],
    answer: () => Promise<void>,
  ): Promise<void> {
    const parent = this.#propagator.extract(ROOT_CONTEXT, headers, defaultTextMapGetter)
    const [path = ''] = url.split('?', 1)
    const span = this.#requests.startSpan(
      'request',
      { kind: SpanKind.SERVER, attributes: { 'url.path': path } },
      parent,
    )
    // A request that the sampler did not choose costs nothing further.
    if (span.isRecording()) await within(new OtlpSpan(span, this.#work), answer)
    else await answer()
  }

  async resume<T>(traceparent: string | undefined, work: () => Promise<T>): Promise<T> {
    if (traceparent === undefined) return await work()
    const parent = this.#propagator.extract(ROOT_CONTEXT, { traceparent }, defaultTextMapGetter)
    const span = trace.getSpan(parent)
    return span === undefined ? await work() : await within(new OtlpSpan(span, this.#work), work)
  }

  requestFinished(request: FinishedRequest): void {
    const span = currentSpan()
    if (!(span instanceof OtlpSpan) || PROBES.has(request.resource)) return
    span.rename(`${request.method} ${request.resource}`)
    span.set(requestAttributes(request))
    // Semantic conventions: a server's span fails by a 5xx, and not by what the client did wrong.
    if (request.status >= 500) span.fail(request.error)
    span.end()
  }

  fillFinished({ result, sizeBytes, resumes, error }: FinishedFill): void {
    const span = currentSpan()
    span?.set({ 'entrepot.result': result, 'entrepot.bytes': sizeBytes, 'entrepot.resumes': resumes })
    if (error !== undefined) span?.fail(error)
  }

  /** Delivers what waits, as far as that succeeds soon. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, LAST_MS)
    await Promise.race([this.#processor.shutdown().catch(() => undefined), late])
    clearTimeout(timer)
  }
}

/** `http.*`, `url.*` and so on are of the semantic conventions; the rest is ours. */
function requestAttributes(request: FinishedRequest): SpanAttributes {
  return {
    'http.request.method': request.method === 'other' ? '_OTHER' : request.method,
    'http.response.status_code': request.status,
    'http.response.body.size': request.sentBytes,
    'client.address': request.client,
    'user_agent.original': request.userAgent,
    'entrepot.request_id': request.id,
    'entrepot.outcome': request.outcome,
    'entrepot.namespace': request.namespace,
    'entrepot.repository': request.repository,
    'entrepot.reference': request.reference,
    'entrepot.aborted': request.isAborted,
  }
}

class OtlpSpan implements Span {
  readonly #span: OtelSpan
  readonly #tracer: Tracer

  constructor(span: OtelSpan, tracer: Tracer) {
    this.#span = span
    this.#tracer = tracer
  }

  get traceparent(): string {
    const { traceId, spanId } = this.#span.spanContext()
    return `00-${traceId}-${spanId}-01`
  }

  rename(name: string): void {
    this.#span.updateName(name)
  }

  begin(name: string, attributes: SpanAttributes = {}): OtlpSpan {
    const parent: Context = trace.setSpan(ROOT_CONTEXT, this.#span)
    return this.#started(name, attributes, { parent })
  }

  beginApart(name: string, attributes: SpanAttributes = {}): OtlpSpan {
    const apart = this.#started(name, attributes, { parent: ROOT_CONTEXT })
    apart.link(this)
    this.link(apart)
    return apart
  }

  link(other: Span): void {
    if (other instanceof OtlpSpan) this.#span.addLink({ context: other.#span.spanContext() })
  }

  set(attributes: SpanAttributes): void {
    this.#span.setAttributes(known(attributes))
  }

  note(moment: string): void {
    this.#span.addEvent(moment)
  }

  fail(error: unknown): void {
    const message = error instanceof Error ? error.message : undefined
    this.#span.setStatus({ code: SpanStatusCode.ERROR, ...(message === undefined ? {} : { message }) })
    this.#span.setAttribute('error.type', error instanceof Error ? error.name : 'error')
  }

  end(endTime?: TimeInput): void {
    this.#span.end(endTime)
  }

  #started(name: string, attributes: SpanAttributes, { parent }: { readonly parent: Context }): OtlpSpan {
    const isOutbound = attributes['server.address'] !== undefined
    const kind = isOutbound ? SpanKind.CLIENT : SpanKind.INTERNAL
    const span = this.#tracer.startSpan(name, { kind, attributes: known(attributes) }, parent)
    return new OtlpSpan(span, this.#tracer)
  }
}

function known(attributes: SpanAttributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined))
}

/** Passes on spans as far as they may wait for the collector, and counts those that never arrive. */
class CountedProcessor implements SpanProcessor {
  readonly #batches: BatchSpanProcessor
  readonly #dropped: TracingReports['dropped']
  readonly #waitingMax: number
  #waiting = 0

  constructor(
    exporter: SpanExporter,
    batches: ReturnType<typeof batchesOf>,
    dropped: TracingReports['dropped'],
  ) {
    this.#dropped = dropped
    this.#waitingMax = batches.maxQueueSize
    const counted: SpanExporter = {
      export: (spans, done) =>
        exporter.export(spans, result => {
          this.#waiting -= spans.length
          if (result.code !== ExportResultCode.SUCCESS) dropped(spans.length, result.error)
          done(result)
        }),
      shutdown: async () => await exporter.shutdown(),
    }
    this.#batches = new BatchSpanProcessor({ ...batches, exporter: counted })
  }

  onStart(): void {
    // Only finished spans are sent.
  }

  onEnd(span: ReadableSpan): void {
    if (this.#waiting >= this.#waitingMax) {
      this.#dropped(1)
      return
    }
    this.#waiting += 1
    this.#batches.onEnd(span)
  }

  async forceFlush(): Promise<void> {
    await this.#batches.forceFlush()
  }

  async shutdown(): Promise<void> {
    await this.#batches.shutdown()
  }
}
