import { pino } from 'pino'
import type { LogLevel } from '../lib/log-level.ts'
import { OciError, UpstreamError } from '../oci/error.ts'
import { type Output, openStandardOutput } from './output.ts'

/** Writes log lines, each with structured fields and a message. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  /**
   * Writes an info line whose fields are JSON already, without secrets. For lines that are written once per
   * request. A log without it gets them by {@link info}.
   */
  infoJson?(fields: string, message: string): void
}

/** Names of fields whose values are never logged, at any depth. */
const SECRET: ReadonlySet<string> = new Set([
  'authorization',
  'cookie',
  'password',
  'token',
  'secretKey',
  'accessKey',
])

/** Opens a log that writes one JSON object per line, with ISO times, to standard output by default. */
export function openLog(level: LogLevel, destination: Output = openStandardOutput()): Log {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string): object => ({ level: label }), log: redacted },
    serializers: { err: causeChain },
  }
  const log = pino(options, destination)
  if (!log.isLevelEnabled('info')) return Object.assign(log, { infoJson: () => undefined })
  const time = isoTimes()
  const infoJson = (fields: string, message: string): void =>
    destination.write(
      `{"level":"info","time":"${time()}",${fields.slice(1, -1)},"msg":${JSON.stringify(message)}}\n`,
    )
  return Object.assign(log, { infoJson })
}

/**
 * The current time as ISO 8601. Many lines share one millisecond, and making the text costs more than they.
 */
function isoTimes(): () => string {
  let [atMs, text] = [0, '']
  return () => {
    const nowMs = Date.now()
    if (nowMs !== atMs) [atMs, text] = [nowMs, new Date(nowMs).toISOString()]
    return text
  }
}

/** Replaces secrets. pino's own redaction by paths costs more than the rest of the line. */
function redacted(fields: Record<string, unknown>): Record<string, unknown> {
  let copy: Record<string, unknown> | undefined
  for (const [name, value] of Object.entries(fields)) {
    const shown = SECRET.has(name) ? '[redacted]' : isPlain(value) ? redacted(value) : value
    if (shown === value) continue
    copy ??= { ...fields }
    copy[name] = shown
  }
  return copy ?? fields
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
}

const TEXT_LENGTH_MAX = 256

/** Cuts text from outside to 256 characters, so that a client cannot write long log lines. */
export function clip(text: string): string {
  return text.length <= TEXT_LENGTH_MAX ? text : `${text.slice(0, TEXT_LENGTH_MAX)}…`
}

const CAUSES_MAX = 8

/**
 * Log form of an error: the messages of the error and its causes, outermost first. A bug also gets the stack
 * of the innermost cause; for refusals, upstream errors and failures of the system the messages are enough.
 */
function causeChain(error: unknown): object {
  const messages: string[] = []
  let stack: string | undefined
  let current: unknown = error
  let innermost: unknown
  for (let depth = 0; depth < CAUSES_MAX && current instanceof Error; depth += 1) {
    const code = (current as NodeJS.ErrnoException).code
    messages.push(
      clip(
        code === undefined
          ? `${current.name}: ${current.message}`
          : `${current.name} [${code}]: ${current.message}`,
      ),
    )
    stack = current.stack
    innermost = current
    current = current.cause
  }
  if (messages.length === 0) return { messages: [clip(String(error))] }
  const isPlain = error instanceof OciError || error instanceof UpstreamError || isSystemError(innermost)
  return isPlain ? { messages } : { messages, stack }
}

/** True for a failure of the operating system, such as a full disk. It says all by its code and its path. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && 'code' in error
}
