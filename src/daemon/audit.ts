import type { Config } from '../config/config.ts'
import type { Clock } from '../lib/clock.ts'
import { AuditSink } from '../observe/audit-sink.ts'
import type { EventSink } from '../observe/event.ts'
import { Events } from '../observe/events.ts'
import { FileOutput } from '../observe/file-output.ts'
import { type Log, openLog } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'

interface EventsParts {
  readonly log: Log
  readonly metrics: Metrics
  readonly clock: Clock
  /** Sinks besides the log, the metrics and the audit log. */
  readonly sinks: readonly EventSink[]
}

/** Events with the audit log that is configured; `undo` writes its last lines. */
export function openEvents(
  { auditLog = 'log' }: Pick<Config, 'auditLog'>,
  { log, metrics, clock, sinks }: EventsParts,
  undo: AsyncDisposableStack,
): Events {
  const audit =
    auditLog === 'off' ? [] : [new AuditSink(auditLog === 'log' ? log : openFile(auditLog, log, undo))]
  return new Events(log, metrics, clock, [...sinks, ...audit])
}

function openFile({ file }: { readonly file: string }, log: Log, undo: AsyncDisposableStack): Log {
  const failed = (error: unknown): void => log.error({ file, err: error }, 'audit log cannot be written')
  return openLog('info', undo.use(new FileOutput(file, failed)))
}
