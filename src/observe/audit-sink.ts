import type { AuditEntry, Event, EventSink } from './event.ts'
import { clip, type Log } from './log.ts'

/** Writes the audit log: one line for each entry, to the daemon's log or to one of its own. */
export class AuditSink implements EventSink {
  readonly #log: Pick<Log, 'info'>

  constructor(log: Pick<Log, 'info'>) {
    this.#log = log
  }

  take(event: Event): void {
    if (event.kind === 'audited') this.#log.info(auditLine(event.details), 'audit')
  }
}

/** Clients choose most of these texts, so they are clipped. */
function auditLine({ action, who, what, from, row, reason }: AuditEntry): object {
  const clipped = (text: string | undefined): string | undefined =>
    text === undefined ? undefined : clip(text)
  return { action, who: clip(who), what: clipped(what), from, row: clipped(row), reason: clipped(reason) }
}
