import { isatty } from 'node:tty'
import { pino } from 'pino'
import type { LogFormat } from '../lib/log-level.ts'
import { prettyLines } from './pretty.ts'

const STANDARD_OUTPUT = 1

/** Buffered characters that force a flush. */
const WAITING_MAX = 16_000
/** Lines of this pino level (warn) and above are flushed at once. */
const URGENT = 40

/** Destination of log lines. */
export interface Output {
  write(lines: string): void
}

const METADATA: unique symbol = Symbol.for('pino.metadata')

/**
 * Batches the lines of one turn of the event loop into one call of `handOn`. Under load, one call per line
 * would cost more than serving the request. Warnings and errors flush the batch at once.
 */
export function batchOutput(handOn: (lines: string) => void): Output {
  let waiting = ''
  let isFlushComing = false
  const flush = (): void => {
    isFlushComing = false
    if (waiting === '') return
    const lines = waiting
    waiting = ''
    handOn(lines)
  }
  const output = {
    // Makes pino set `lastLevel` before each write.
    [METADATA]: true,
    lastLevel: 0,
    write(lines: string) {
      waiting += lines
      const isUrgent = output.lastLevel >= URGENT
      // Lines that do not come from pino set no level.
      output.lastLevel = 0
      if (isUrgent || waiting.length >= WAITING_MAX) flush()
      else if (!isFlushComing) {
        isFlushComing = true
        setImmediate(flush)
      }
    },
  }
  return output
}

let standardOutput: Output | undefined

/**
 * Opens standard output once for all logs of the process. Other threads send their lines to the first thread,
 * because two writers could interleave within a line. The first call decides the format: `auto` is for people
 * on a terminal, and JSON otherwise.
 */
export function openStandardOutput(format: LogFormat = 'auto'): Output {
  if (standardOutput !== undefined) return standardOutput
  const destination = pino.destination({ fd: STANDARD_OUTPUT, sync: true })
  const isPretty = format === 'pretty' || (format === 'auto' && isatty(STANDARD_OUTPUT))
  standardOutput = batchOutput(lines => void destination.write(isPretty ? prettyLines(lines) : lines))
  return standardOutput
}
