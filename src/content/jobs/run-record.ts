import { DamagedRecordError, openRecord, sealRecord } from '../sealed-record.ts'

/**
 * State of a run. `stopped`: its process was shut down in the middle. `failed`: it ended with an error.
 */
type RunState = 'running' | 'ended' | 'stopped' | 'failed'

const STATES: ReadonlyMap<unknown, RunState> = new Map(
  (['running', 'ended', 'stopped', 'failed'] as const).map(state => [state, state]),
)

/** One run of a job. */
export interface Run {
  readonly state: RunState
  /** Name of the process. */
  readonly by: string
  /** By the clock of that process, for people only. */
  readonly startedAtMs: number
}

export function writeRun({ state, by, startedAtMs }: Run): Uint8Array {
  return sealRecord({ state, by, startedAt: new Date(startedAtMs).toISOString() })
}

/** A damaged record counts as one of a process that is not known: it may be running. */
export function readRun(bytes: Uint8Array): Run {
  try {
    const { value } = openRecord(bytes)
    const fields = (value ?? {}) as Record<string, unknown>
    const state = STATES.get(fields['state'])
    const startedAtMs = Date.parse(String(fields['startedAt']))
    if (state === undefined || Number.isNaN(startedAtMs)) throw new DamagedRecordError('it is not a run')
    return { state, by: String(fields['by']), startedAtMs }
  } catch (error) {
    if (!(error instanceof DamagedRecordError)) throw error
    return { state: 'running', by: 'unknown', startedAtMs: 0 }
  }
}
