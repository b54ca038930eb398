import { type Environment, EXIT, type ExitCode } from '../environment.ts'
import { type Paint, paintFor } from '../style.ts'
import type { Tool, ToolFlag, ToolWords } from '../tool.ts'
import { ADMIN_FLAGS, type AdminConnection, AdminError, connect } from './connection.ts'

/** A command that talks to a running daemon. */
export interface AdminCommand {
  readonly usage: string
  readonly description: string
  readonly flags?: Readonly<Record<string, ToolFlag>>
  readonly examples: Tool['examples']
  readonly completes?: Tool['completes']
  run(call: AdminCall): Promise<ExitCode>
}

/** One run of an {@link AdminCommand}. */
export interface AdminCall {
  readonly environment: Environment
  readonly words: ToolWords
  readonly connection: AdminConnection
  readonly isJson: boolean
  /** Colours for the standard output, if it has any. */
  readonly paint: Paint
  /** Prints a line. */
  readonly print: (line: string) => void
}

/** Makes a tool of a command: connects, and turns errors of the daemon into one line and an exit code. */
export function adminTool(command: AdminCommand): Tool {
  return {
    usage: command.usage,
    description: command.description,
    flags: { ...command.flags, ...ADMIN_FLAGS },
    examples: command.examples,
    ...(command.completes === undefined ? {} : { completes: command.completes }),
    run: async (environment, words) => {
      const connection = await connect(environment, words)
      const print = (line: string): void => void environment.stdout.write(`${line}\n`)
      try {
        const paint = paintFor(environment.stdout, environment)
        const isJson = words.isOn('json')
        return await command.run({ environment, words, connection, isJson, print, paint })
      } catch (error) {
        if (!(error instanceof AdminError)) throw error
        environment.stderr.write(`entrepot: ${error.message}\n`)
        return EXIT.failure
      }
    },
  }
}

/** Acts on each word, also after one of them has failed. Reports failures, and returns the exit code. */
export async function forEachWord(
  { environment }: AdminCall,
  words: readonly string[],
  act: (word: string) => Promise<void>,
): Promise<ExitCode> {
  let code: ExitCode = EXIT.ok
  for (const word of words) {
    try {
      await act(word)
    } catch (error) {
      if (!(error instanceof AdminError)) throw error
      environment.stderr.write(`entrepot: ${word}: ${error.message}\n`)
      code = EXIT.failure
    }
  }
  return code
}
