import { systemClock } from '../../src/lib/clock.ts'
import type { EventSink } from '../../src/observe/event.ts'
import { Events } from '../../src/observe/events.ts'
import type { Log } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'

export interface SeenLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly fields: Record<string, unknown>
}

/** Real events whose log lines a test can read. */
export interface SeenEvents {
  readonly events: Events
  readonly lines: SeenLine[]
  /** Fields of all lines with this message. */
  readonly of: (message: string) => Record<string, unknown>[]
}

const metrics = createMetrics()

/** Makes events that log into a list. All tests of a file share the metrics, so no test may count in them. */
export function seeEvents(sinks: readonly EventSink[] = []): SeenEvents {
  const lines: SeenLine[] = []
  const at =
    (level: SeenLine['level']) =>
    (fields: object, message: string): void =>
      void lines.push({ level, message, fields: { ...fields } })
  const log: Log = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
  return {
    events: new Events(log, metrics, systemClock, sinks),
    lines,
    of: message => lines.filter(line => line.message === message).map(line => line.fields),
  }
}
