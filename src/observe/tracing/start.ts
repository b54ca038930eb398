import type { Events } from '../events.ts'
import type { Tracing, TracingSettings } from './tracing.ts'

/** Begins to trace what this thread does. Only then is OpenTelemetry loaded. */
export async function startTracing(
  events: Pick<Events, 'tracing' | 'spansDropped' | 'warned'>,
  settings: TracingSettings,
): Promise<Tracing> {
  const { OtlpTracing } = await import('./otlp.ts')
  const tracing = new OtlpTracing(settings, {
    dropped: (count, error) => events.spansDropped(count, error),
    warned: message => events.warned(message),
  })
  events.tracing = tracing
  return tracing
}
