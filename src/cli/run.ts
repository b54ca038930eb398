import yargs, { type Argv } from 'yargs'
import { type LoadedConfig, loadConfig } from '../config/load.ts'
import { ConfigError, formatProblem, type Problem } from '../config/problem.ts'
import type { StoreKind } from '../config/store.ts'
import { nearest } from '../lib/nearest.ts'
import { version } from '../lib/version.ts'
import { cancel } from './admin/cancel.ts'
import { events } from './admin/events.ts'
import { explain } from './admin/explain.ts'
import { gc } from './admin/gc.ts'
import { ls } from './admin/ls.ts'
import { pin, unpin } from './admin/pin.ts'
import { rm } from './admin/rm.ts'
import { status } from './admin/status.ts'
import { tag, tags } from './admin/tags.ts'
import { verify } from './admin/verify.ts'
import { warm } from './admin/warm.ts'
import { who } from './admin/who.ts'
import { check } from './check.ts'
import { doctor } from './doctor.ts'
import { type Environment, EXIT, type ExitCode } from './environment.ts'
import { givenFlags, yargsOptions } from './flags.ts'
import { healthcheck } from './healthcheck.ts'
import { serve } from './serve.ts'
import { setup } from './setup.ts'
import { runTool, type Tool } from './tool.ts'

type Command = (environment: Environment, loaded: LoadedConfig) => Promise<ExitCode> | ExitCode

const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['serve', serve],
  ['check', check],
  ['healthcheck', healthcheck],
])
/** Commands with flags of their own that do not need the configuration of a mirror, by their first word. */
const TOOLS: ReadonlyMap<string, Tool> = new Map<string, Tool>([
  ['setup', setup],
  ['doctor', doctor],
  ['status', status],
  ['ls', ls],
  ['explain', explain],
  ['rm', rm],
  ['pin', pin],
  ['unpin', unpin],
  ['warm', warm],
  ['verify', verify],
  ['gc', gc],
  ['events', events],
  ['tags', tags],
  ['tag', tag],
  ['who', who],
  ['cancel', cancel],
])
const STORES: ReadonlyMap<string, StoreKind> = new Map([
  ['filesystem', 'filesystem'],
  ['s3', 's3'],
])

/** Runs the command line. Mistakes of the user are reported; everything it throws is a defect or a fault. */
export async function run(environment: Environment): Promise<ExitCode> {
  const name = environment.argv[0] ?? ''
  const tool = TOOLS.get(name)
  try {
    const ran = tool === undefined ? await runCommand(environment) : await runTool(name, tool, environment)
    if (typeof ran === 'number') return ran
    environment.stdout.write(`${ran.help}\n`)
    return EXIT.ok
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    environment.stderr.write(refusal(error))
    return EXIT.configuration
  }
}

async function runCommand(environment: Environment): Promise<{ readonly help: string } | ExitCode> {
  const { parsed, output } = await parse(environment.argv)
  if (output !== '') return { help: output }
  const flags = givenFlags(parsed, environment.argv)
  const words = readWords(parsed['_'])
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

const USAGE = `A pull-through caching mirror for OCI registries.

  entrepot [serve] [filesystem | s3] [options]   run the mirror, with its cache in a directory or in a bucket
  entrepot check [filesystem | s3] [options]     print the effective configuration, or all its problems
  entrepot healthcheck [options]                 check that the mirror with these options is alive
  entrepot setup <client> --mirror URL           print or write the configuration of a client; see entrepot setup --help
  entrepot doctor [options]                      report which registries this machine's clients pull through the mirror

  Commands for a running daemon (each has --json and its own --help):
  entrepot status                                show the size of the cache and current downloads
  entrepot ls [--blobs]                          list cached images or blobs
  entrepot explain <image>                       explain how much of an image is cached, and why it was a hit or a miss
  entrepot rm <image>…                           remove images from the cache
  entrepot pin [image]…, unpin <image>…          protect images from eviction, or stop protecting them
  entrepot warm <image>… [--platform OS/ARCH]    pull images into the cache
  entrepot verify                                verify everything in the cache
  entrepot gc [--free SIZE]                      evict now
  entrepot tags <image> --history                show every digest that a tag had, since when and by whom
  entrepot tag <image> <digest>                  roll a tag back, or fix a mirrored one to a digest
  entrepot events ls | replay                    show what endpoints were told, or tell them again`

const EPILOGUE = `In brackets: the environment variable (a flag wins over it) and the default.
Exit codes: 0 success, 1 failure, 2 the configuration is invalid and nothing was started.`

interface Words {
  readonly command: Command
  readonly store: StoreKind | undefined
  readonly problems: readonly Problem[]
}

/** Reads `[serve | check | healthcheck] [filesystem | s3]`. */
function readWords(positional: unknown): Words {
  const words = Array.isArray(positional) ? positional.map(String) : []
  const command = COMMANDS.get(words[0] ?? '')
  const rest = command === undefined ? words : words.slice(1)
  const store = STORES.get(rest[0] ?? '')
  const problems = (store === undefined ? rest : rest.slice(1)).map(unknownWord)
  return { command: command ?? serve, store, problems }
}

function unknownWord(word: string): Problem {
  const known = [...COMMANDS.keys(), ...TOOLS.keys(), ...STORES.keys()]
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
