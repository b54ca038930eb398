import type { Environment, ExitCode } from '../../../src/cli/environment.ts'
import { run } from '../../../src/cli/run.ts'
import { FakeSignals } from '../rig.ts'

/** A command that runs until a signal ends it. */
export interface RunningCommand {
  readonly signals: FakeSignals
  readonly code: Promise<ExitCode>
  /** Resolves to the fields of the next line of the log with this message; one line is seen once. */
  line(message: string): Promise<Readonly<Record<string, unknown>>>
}

/** Starts a command within this process. */
export function startCommand(argv: readonly string[]): RunningCommand {
  const signals = new FakeSignals()
  const lines: Readonly<Record<string, unknown>>[] = []
  const errors: string[] = []
  let changed = Promise.withResolvers<void>()
  const environment: Environment = {
    argv,
    env: {},
    cwd: '/srv',
    stdout: {
      write: text => {
        for (const line of text.split('\n').filter(each => each !== ''))
          lines.push(JSON.parse(line) as Readonly<Record<string, unknown>>)
        changed.resolve()
        changed = Promise.withResolvers()
      },
    },
    stderr: { write: text => errors.push(text) },
    signals,
    startDaemon: async () => await Promise.reject(new Error('no daemon is wanted')),
    openBucket: async () => await Promise.reject(new Error('no bucket is wanted')),
  }
  const code = run(environment)
  const ended = code.then(
    () => 'ended' as const,
    () => 'ended' as const,
  )
  return {
    signals,
    code,
    line: async message => {
      for (;;) {
        const at = lines.findIndex(({ msg }) => msg === message)
        const [found] = at === -1 ? [] : lines.splice(at, 1)
        if (found !== undefined) return found
        if ((await Promise.race([changed.promise, ended])) === 'ended')
          throw new Error(`the command ended without "${message}": ${errors.join('')}`)
      }
    },
  }
}
