import { pino } from 'pino'

/** Lines are written at the latest when so many characters wait. */
const WAITING_MAX = 16_000
/** From this level on, as pino counts, a line waits for nothing. */
const URGENT = 40

/** Where log lines go. */
export interface Output {
  write(line: string): void
}

let standardOutput: Output | undefined

/**
 * Standard output, for all logs of a thread. The lines of one turn of the event loop are written together, in one call: under load a call
 * for each line costs more than the request that it tells of. Warnings and errors are written at once, with all that waits.
 */
export function openStandardOutput(): Output {
  standardOutput ??= batch(pino.destination({ fd: 1, sync: true, minLength: WAITING_MAX }))
  return standardOutput
}

interface Destination {
  write(line: string): unknown
  flushSync(): void
}

const METADATA: unique symbol = Symbol.for('pino.metadata')

function batch(destination: Destination): Output & { readonly [METADATA]: true } {
  let isFlushComing = false
  const flush = (): void => {
    isFlushComing = false
    destination.flushSync()
  }
  return {
    // pino tells the level of each line to a destination that asks for it.
    [METADATA]: true,
    write(this: { readonly lastLevel?: number }, line: string) {
      destination.write(line)
      if ((this.lastLevel ?? 0) >= URGENT) destination.flushSync()
      else if (!isFlushComing) {
        isFlushComing = true
        setImmediate(flush)
      }
    },
  }
}
