import { DamagedRecordError, openRecord, sealRecord } from '../../content/sealed-record.ts'
import type { Events } from '../../observe/events.ts'
import type { KeptTraffic, TrafficSpan } from '../../observe/traffic-history.ts'

interface TrafficRecordParts {
  /** The record in the store. */
  readonly stored: {
    read(): Promise<Uint8Array | undefined>
    write(bytes: Uint8Array): Promise<void>
  }
  readonly events: Pick<Events, 'recordDamaged' | 'storageFailed'>
}

/**
 * Keeps the traffic of the last days over a restart. The record is that of one process: of two on one
 * directory, the one that writes last replaces the figures of the other.
 */
export class TrafficRecord {
  readonly #parts: TrafficRecordParts

  constructor(parts: TrafficRecordParts) {
    this.#parts = parts
  }

  /** `undefined` if there is none, or if it cannot be read: then counting begins anew. */
  async read(): Promise<KeptTraffic | undefined> {
    const { stored, events } = this.#parts
    try {
      const bytes = await stored.read()
      return bytes === undefined ? undefined : parseTraffic(openRecord(bytes).value)
    } catch (error) {
      if (error instanceof DamagedRecordError) events.recordDamaged('traffic', 'forgotten', error)
      else events.storageFailed('traffic', error)
      return undefined
    }
  }

  /** Never rejects: losing the record costs only figures. */
  async write(traffic: KeptTraffic): Promise<void> {
    const { stored, events } = this.#parts
    try {
      await stored.write(sealRecord(traffic))
    } catch (error) {
      events.storageFailed('traffic', error)
    }
  }
}

function parseTraffic(value: unknown): KeptTraffic {
  const { sinceMs, minutes, days } = (value ?? {}) as Record<string, unknown>
  if (!isCount(sinceMs) || !isSpans(minutes) || !isSpans(days))
    throw new DamagedRecordError('it is not a record of traffic')
  return { sinceMs, minutes, days }
}

const FIELDS = [
  'startMs',
  'requests',
  'hits',
  'sentBytes',
  'receivedBytes',
] as const satisfies readonly (keyof TrafficSpan)[]

/** True for spans in the order of their time. */
function isSpans(value: unknown): value is readonly TrafficSpan[] {
  if (!Array.isArray(value)) return false
  const spans = value as readonly (Readonly<Record<string, unknown>> | null)[]
  return spans.every(
    (span, index) =>
      FIELDS.every(field => isCount(span?.[field])) &&
      (index === 0 || Number(spans[index - 1]?.['startMs']) < Number(span?.['startMs'])),
  )
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0
}
