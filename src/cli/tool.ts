import yargs, { type Options } from 'yargs'
import { ConfigError, flagProblem, type Problem } from '../config/problem.ts'
import { nearest } from '../lib/words/nearest.ts'
import type { Environment, ExitCode } from './environment.ts'

/** A flag of a {@link Tool}: a `list` may be given more than once, the others once. */
export interface ToolFlag {
  readonly type: 'text' | 'boolean' | 'list'
  /** Name of the value in the help, such as `URL`. */
  readonly value?: string
  readonly description: string
  /** All values that it may have, for completion. */
  readonly values?: readonly string[]
}

/** A command line and what it does, for the help. */
export type Example = readonly [line: string, what: string]

/** A command with flags of its own, which does not need the configuration of a mirror. */
export interface Tool {
  /** Text after the name in the help, such as `<client> [options]`. */
  readonly usage: string
  readonly description: string
  readonly flags: Readonly<Record<string, ToolFlag>>
  /** At least one; the line is without the program's name. */
  readonly examples: readonly [Example, ...Example[]]
  /** What its words are, for completion: names of cached images, or one of these. */
  readonly completes?: 'images' | readonly string[]
  /** True if its flags may have one dash, as programs in Go have. */
  readonly hasGoFlags?: boolean
  /** Throws a {@link ConfigError} for mistakes of the user. */
  run(environment: Environment, words: ToolWords): Promise<ExitCode>
}

/** Words and flags of a tool's command line. */
export interface ToolWords {
  /** The words after the tool's name. */
  readonly words: readonly string[]
  text(flag: string): string | undefined
  list(flag: string): readonly string[]
  isOn(flag: string): boolean
}

/** Runs a tool with the words after its name; returns its help if that is requested. */
export async function runTool(
  name: string,
  tool: Tool,
  environment: Environment,
): Promise<{ readonly help: string } | ExitCode> {
  const words = environment.argv.slice(1)
  const argv = tool.hasGoFlags === true ? words.map(word => word.replace(/^-(?=[a-z]{2})/, '--')) : words
  const { parsed, help } = await parse(name, tool, argv)
  if (help !== '') return { help }
  return await tool.run(environment, readWords(tool, parsed))
}

type Parsed = Readonly<Record<string, unknown>>

async function parse(
  name: string,
  tool: Tool,
  argv: readonly string[],
): Promise<{ readonly parsed: Parsed; readonly help: string }> {
  const help: string[] = []
  const options = Object.entries(tool.flags).map(([flag, given]) => [flag, yargsOption(given)] as const)
  const parser = yargs([])
    .scriptName('entrepot')
    .locale('en')
    .usage(`${tool.description}\n\n  entrepot ${name} ${tool.usage}`)
    .epilogue(examplesText(tool.examples))
    .options(Object.fromEntries(options))
    .alias('help', 'h')
    .version(false)
    .wrap(110)
    .exitProcess(false)
    .strict(false)
    .parserConfiguration({
      'camel-case-expansion': false,
      'dot-notation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'boolean-negation': false,
    })
  const parsed = await parser.parseAsync([...argv], {}, (_error, _parsed, text) => {
    if (text !== '') help.push(text)
  })
  return { parsed, help: help.join('\n') }
}

/** Examples as the end of a help. */
export function examplesText(examples: readonly Example[]): string {
  const width = Math.max(...examples.map(([line]) => line.length))
  const lines = examples.map(([line, what]) => `  entrepot ${line.padEnd(width)}   ${what}`)
  return ['Examples:', ...lines].join('\n')
}

function yargsOption({ type, value, description }: ToolFlag): Options {
  const describe = value === undefined ? description : `${value}: ${description}`
  return type === 'boolean' ? { type: 'boolean', describe } : { type: 'string', requiresArg: false, describe }
}

const NOT_FLAGS: ReadonlySet<string> = new Set(['_', '$0', '--', 'help', 'h'])

function readWords({ flags }: Tool, parsed: Parsed): ToolWords {
  const values = new Map<string, readonly string[]>()
  const problems: Problem[] = []
  for (const [flag, value] of Object.entries(parsed)) {
    if (NOT_FLAGS.has(flag)) continue
    const known = flags[flag]
    const texts = (Array.isArray(value) ? value : [value]).map(String)
    if (known === undefined) problems.push(unknown(flag, Object.keys(flags)))
    else if (known.type !== 'list' && texts.length > 1)
      problems.push(flagProblem(flag, 'is given more than once', 'keep one'))
    else if (known.type !== 'boolean' && texts.includes(''))
      problems.push(flagProblem(flag, 'needs a value', known.value))
    else values.set(flag, texts)
  }
  if (problems.length > 0) throw new ConfigError(problems)
  const words = parsed['_']
  return {
    words: Array.isArray(words) ? words.map(String) : [],
    text: flag => values.get(flag)?.[0],
    list: flag => values.get(flag) ?? [],
    isOn: flag => values.get(flag)?.[0] === 'true',
  }
}

function unknown(flag: string, known: readonly string[]): Problem {
  const meant = nearest(flag, [...known, 'help'])
  return flagProblem(
    flag,
    'is not a flag of this command',
    meant === undefined ? undefined : `did you mean --${meant}?`,
  )
}
