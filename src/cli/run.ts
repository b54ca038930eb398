import yargs, { type Argv } from 'yargs'
import { type LoadedConfig, loadConfig } from '../config/load.ts'
import { ConfigError, formatProblem, type Problem } from '../config/problem.ts'
import type { StoreKind } from '../config/store.ts'
import { version } from '../lib/package.ts'
import { nearest } from '../lib/words/nearest.ts'
import { check } from './check.ts'
import { type Environment, EXIT, type ExitCode } from './environment.ts'
import { givenFlags, yargsOptions } from './flags.ts'
import { healthcheck } from './healthcheck.ts'
import { EPILOGUE, helpLine, USAGE } from './help.ts'
import { serve } from './serve.ts'
import { runTool, type Tool } from './tool.ts'

type Command = (environment: Environment, loaded: LoadedConfig) => Promise<ExitCode> | ExitCode

const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['serve', serve],
  ['check', check],
  ['healthcheck', healthcheck],
])
const STORES: ReadonlyMap<string, StoreKind> = new Map([
  ['filesystem', 'filesystem'],
  ['s3', 's3'],
])

/** The code of the tools would stay in the memory of a daemon: 2 MiB were measured. */
async function loadTools(): Promise<ReadonlyMap<string, Tool>> {
  return (await import('./tools.ts')).TOOLS
}

/** True if a first word is none of a tool. */
function isOfDaemon(name: string): boolean {
  return name === '' || name.startsWith('-') || COMMANDS.has(name) || STORES.has(name)
}

/** Runs the command line. Mistakes of the user are reported; everything it throws is a defect or a fault. */
export async function run(environment: Environment): Promise<ExitCode> {
  const [name = '', ...rest] = environment.argv
  try {
    if (name === 'complete') {
      const { complete } = await import('./completion.ts')
      const tools = await loadTools()
      const vocabulary = { tools, commands: [...COMMANDS.keys()], stores: [...STORES.keys()] }
      await complete(environment, vocabulary, rest)
      return EXIT.ok
    }
    const argv =
      name === 'help' ? helpLine(rest, [...(await loadTools()).keys(), ...COMMANDS.keys()]) : environment.argv
    const ran = await runLine({ ...environment, argv })
    if (typeof ran === 'number') return ran
    environment.stdout.write(`${ran.help}\n`)
    return EXIT.ok
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    environment.stderr.write(refusal(error))
    return EXIT.configuration
  }
}

async function runLine(environment: Environment): Promise<{ readonly help: string } | ExitCode> {
  const [name = ''] = environment.argv
  const tool = isOfDaemon(name) ? undefined : (await loadTools()).get(name)
  return tool === undefined ? await runCommand(environment) : await runTool(name, tool, environment)
}

async function runCommand(environment: Environment): Promise<{ readonly help: string } | ExitCode> {
  const { parsed, output } = await parse(environment.argv)
  if (output !== '') return { help: output }
  const flags = givenFlags(parsed, environment.argv)
  const words = await readWords(parsed['_'])
  const problems = [...flags.problems, ...words.problems]
  const { env, cwd } = environment
  const loaded = await loadConfig({ flags: flags.flags, env, cwd, store: words.store, problems })
  return await words.command(environment, loaded)
}

interface Parsed {
  readonly parsed: Readonly<Record<string, unknown>>
  /** The help or the version, if requested; otherwise empty. */
  readonly output: string
}

async function parse(argv: readonly string[]): Promise<Parsed> {
  const output: string[] = []
  const parsed = await parser().parseAsync([...argv], {}, (_error, _parsed, text) => {
    if (text !== '') output.push(text)
  })
  return { parsed, output: output.join('\n') }
}

/**
 * yargs splits the words and writes the help. It validates nothing: `config/` does, for flags, environment
 * and file at once.
 */
function parser(): Argv {
  return yargs([])
    .scriptName('entrepot')
    .locale('en')
    .usage(USAGE)
    .options(yargsOptions())
    .group(['help', 'version'], 'Options:')
    .alias('help', 'h')
    .version(version())
    .wrap(110)
    .exitProcess(false)
    .strict(false)
    .epilogue(EPILOGUE)
    .parserConfiguration({
      'camel-case-expansion': false,
      'dot-notation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
    })
}

interface Words {
  readonly command: Command
  readonly store: StoreKind | undefined
  readonly problems: readonly Problem[]
}

/** Reads `[serve | check | healthcheck] [filesystem | s3]`. */
async function readWords(positional: unknown): Promise<Words> {
  const words = Array.isArray(positional) ? positional.map(String) : []
  const command = COMMANDS.get(words[0] ?? '')
  const rest = command === undefined ? words : words.slice(1)
  const store = STORES.get(rest[0] ?? '')
  const unknown = store === undefined ? rest : rest.slice(1)
  const tools = unknown.length === 0 ? [] : [...(await loadTools()).keys()]
  const problems = unknown.map(word => unknownWord(word, tools))
  return { command: command ?? serve, store, problems }
}

function unknownWord(word: string, tools: readonly string[]): Problem {
  const known = [...COMMANDS.keys(), ...tools, ...STORES.keys(), 'help']
  const meant = nearest(word, known)
  const isShowable = meant !== undefined || /^[a-z]{1,20}$/.test(word)
  return {
    origin: { kind: 'command-line' },
    path: isShowable ? word : '',
    message: isShowable ? 'is not a command' : 'has an unknown command',
    hint:
      meant === undefined || known.includes(word)
        ? 'entrepot --help lists the commands'
        : `did you mean ${meant}?`,
  }
}

function refusal(error: ConfigError): string {
  const [first] = error.problems
  if (error.problems.length === 1 && first !== undefined) return `entrepot: ${formatProblem(first)}\n`
  const lines = error.problems.map(problem => `  ${formatProblem(problem)}\n`)
  return `entrepot: ${lines.length} problems in the configuration, nothing was started:\n${lines.join('')}`
}
