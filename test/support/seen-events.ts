import { Events } from '../../src/observe/events.ts'
import type { Log } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'

/** One line of a log that a test looks at. */
export interface SeenLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly fields: Record<string, unknown>
}

/** Real events, whose log lines a test can look at afterwards. */
export interface SeenEvents {
  readonly events: Events
  readonly lines: SeenLine[]
  /** The fields of all lines with this message. */
  readonly of: (message: string) => Record<string, unknown>[]
}

const metrics = createMetrics()

/** Makes events that log into a list; the metrics of one test file are shared, so no test counts in them. */
export function seeEvents(): SeenEvents {
  const lines: SeenLine[] = []
  const at =
    (level: SeenLine['level']) =>
    (fields: object, message: string): void =>
      void lines.push({ level, message, fields: { ...fields } })
  const log: Log = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
  return {
    events: new Events(log, metrics),
    lines,
    of: message => lines.filter(line => line.message === message).map(line => line.fields),
  }
}
