import type { Config } from '../config/config.ts'
import type { ShownValue } from '../config/file/section.ts'
import type { SourceBucket, SourceTree } from '../migration/source.ts'

/** Surroundings of the program: `main.ts` makes them from the process, tests from fakes. */
export interface Environment {
  /** The command line without the program's own name. */
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  /** Directory at which relative paths start. */
  readonly cwd: string
  /** Standard input, which only `credential-provider` reads. */
  readonly stdin?: AsyncIterable<Uint8Array>
  readonly stdout: TextOutput
  readonly stderr: TextOutput
  readonly signals: Signals
  /** Starts the daemon; rejects if it cannot start. Administrators are shown the settings. */
  readonly startDaemon: (config: Config, settings: readonly ShownValue[]) => Promise<RunningDaemon>
  /** Opens the bucket of another registry. */
  readonly openBucket: (bucket: SourceBucket) => SourceTree | Promise<SourceTree>
}

/** An output stream for text. */
export interface TextOutput {
  write(text: string): unknown
  /** True for a terminal, on which lines can be overwritten. */
  readonly isTTY?: boolean
  readonly columns?: number
}

/** The part of a Node process that receives signals. */
interface Signals {
  on(signal: NodeJS.Signals, listener: () => void): unknown
  off(signal: NodeJS.Signals, listener: () => void): unknown
}

/** A running daemon. */
export interface RunningDaemon {
  /** Reads the upstream file again, and logs the result. */
  reload(): Promise<void>
  /** Drains, and resolves when everything has ended. Call it once. */
  stop(): Promise<void>
  /** Ends running transfers, so that {@link stop} resolves at once. */
  stopNow(): void
}

/** Exit codes of the process. With `configuration` nothing was started. */
export const EXIT = { ok: 0, failure: 1, configuration: 2 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]
