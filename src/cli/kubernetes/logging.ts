import { flagProblem, type Problem } from '../../config/problem.ts'
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from '../../lib/log-level.ts'
import { type Log, openLog } from '../../observe/log.ts'
import { prettyLines } from '../../observe/pretty.ts'
import type { Environment } from '../environment.ts'
import type { ToolFlag, ToolWords } from '../tool.ts'

/** Level and format of the log of a command that runs for long. */
export interface Logging {
  readonly format: LogFormat
  readonly level: LogLevel
}

/** Flags of such a command. */
export const LOGGING_FLAGS = {
  'log-format': {
    type: 'text',
    value: 'FORMAT',
    description: 'json, pretty, or auto: pretty on a terminal',
    values: LOG_FORMATS,
  },
  'log-level': {
    type: 'text',
    value: 'LEVEL',
    description: `one of ${LOG_LEVELS.join(', ')}; info by default`,
    values: LOG_LEVELS,
  },
} as const satisfies Readonly<Record<string, ToolFlag>>

/** Reads {@link LOGGING_FLAGS}, and adds problems with them. */
export function readLogging(words: ToolWords, problems: Problem[]): Logging {
  const [format, level] = [words.text('log-format') ?? 'auto', words.text('log-level') ?? 'info']
  const knownFormat = LOG_FORMATS.find(known => known === format)
  if (knownFormat === undefined)
    problems.push(flagProblem('log-format', 'is not a format', LOG_FORMATS.join(', ')))
  const knownLevel = LOG_LEVELS.find(known => known === level)
  if (knownLevel === undefined)
    problems.push(flagProblem('log-level', 'is not a level', LOG_LEVELS.join(', ')))
  return { format: knownFormat ?? 'auto', level: knownLevel ?? 'info' }
}

/** Opens the log, which goes to standard output. */
export function openCommandLog({ stdout }: Environment, { format, level }: Logging): Log {
  const isPretty = format === 'pretty' || (format === 'auto' && stdout.isTTY === true)
  return openLog(level, { write: lines => void stdout.write(isPretty ? prettyLines(lines) : lines) })
}
