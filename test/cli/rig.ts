import type { Environment, ExitCode, RunningDaemon } from '../../src/cli/environment.ts'
import { run } from '../../src/cli/run.ts'
import type { Config } from '../../src/config/config.ts'
import { openSourceBucket } from '../../src/daemon/source-bucket.ts'

/** What a run of the command line left behind. */
export interface Ran {
  readonly code: ExitCode
  readonly stdout: string
  readonly stderr: string
  /** The configuration that a daemon was started with, if one was. */
  readonly config: Config | undefined
}

export interface RunOptions {
  readonly stdin?: string
  readonly env?: Readonly<Record<string, string>>
  readonly startDaemon?: (config: Config, signals: FakeSignals) => Promise<RunningDaemon>
  /** Called for each piece of the output, with the signals that the test may send. */
  readonly onOutput?: (text: string, signals: FakeSignals) => void
}

/** Signals that a test sends. */
export class FakeSignals {
  readonly #listeners = new Map<string, Set<() => void>>()

  on(signal: string, listener: () => void): void {
    this.#listeners.set(signal, (this.#listeners.get(signal) ?? new Set()).add(listener))
  }

  off(signal: string, listener: () => void): void {
    this.#listeners.get(signal)?.delete(listener)
  }

  send(signal: string): void {
    for (const listener of this.#listeners.get(signal) ?? []) listener()
  }

  /** How many listeners there are. */
  get count(): number {
    return [...this.#listeners.values()].reduce((sum, listeners) => sum + listeners.size, 0)
  }
}

/**
 * Runs the command line within this process; a daemon that is started is told to stop at once, unless a test
 * brings its own.
 */
export async function runCommandLine(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const signals = new FakeSignals()
  const stdout: string[] = []
  const stderr: string[] = []
  let config: Config | undefined
  const environment: Environment = {
    argv,
    env: options.env ?? {},
    cwd: '/srv',
    ...(options.stdin === undefined ? {} : { stdin: piecesOf(options.stdin) }),
    stdout: {
      write: text => {
        stdout.push(text)
        options.onOutput?.(text, signals)
      },
    },
    stderr: { write: text => stderr.push(text) },
    signals,
    startDaemon: async given => {
      config = given
      if (options.startDaemon !== undefined) return await options.startDaemon(given, signals)
      signals.send('SIGTERM')
      return { reload: async () => {}, stop: async () => {}, stopNow: () => {} }
    },
    openBucket: openSourceBucket,
  }
  const code = await run(environment)
  if (signals.count > 0) throw new Error('listeners for signals are left over')
  return { code, stdout: stdout.join(''), stderr: stderr.join(''), config }
}

async function* piecesOf(text: string): AsyncGenerator<Uint8Array> {
  await Promise.resolve()
  yield Buffer.from(text)
}
