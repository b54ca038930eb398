import type { Options } from 'yargs'
import { flagProblem, type Problem } from '../config/problem.ts'
import { FLAGS, type Flag, isFlag, SETTINGS, type SettingSource } from '../config/settings.ts'
import { nearest } from '../lib/words/nearest.ts'

/** Headings of the flags in the help. */
const HEADINGS: Readonly<Record<SettingSource['group'], string>> = {
  general: 'Options:',
  filesystem: 'With filesystem:',
  s3: 'With s3:',
  compatibility: 'For compatibility with oci-registry:',
}

/** Options of yargs for every flag. They have no defaults, so that a given flag can be recognized. */
export function yargsOptions(): Record<Flag, Options> {
  const entries = FLAGS.map(flag => [flag, yargsOption(SETTINGS[flag])] as const)
  return Object.fromEntries(entries) as Record<Flag, Options>
}

function yargsOption(source: SettingSource): Options {
  const fallback = source.default === undefined ? '' : `, default ${source.default}`
  return {
    ...(source.type === 'boolean' ? { type: 'boolean' } : {}),
    group: HEADINGS[source.group],
    describe: `${source.description} [${source.environment}${fallback}]`,
  }
}

/** Flags on the command line, and problems with them. */
export interface GivenFlags {
  readonly flags: ReadonlyMap<Flag, string>
  readonly problems: readonly Problem[]
}

const NOT_SETTINGS: ReadonlySet<string> = new Set(['_', '$0', '--', 'help', 'h', 'version', 'store'])

/** Extracts the settings from the result of yargs. Unknown and repeated flags are problems. */
export function givenFlags(parsed: Readonly<Record<string, unknown>>, argv: readonly string[]): GivenFlags {
  const flags = new Map<Flag, string>()
  const problems: Problem[] = []
  for (const [name, value] of Object.entries(parsed)) {
    if (NOT_SETTINGS.has(name)) continue
    if (!isFlag(name)) problems.push(unknownFlag(name))
    else if (Array.isArray(value) && SETTINGS[name].type === 'list')
      flags.set(name, value.map(text).join(','))
    else if (Array.isArray(value)) problems.push(flagProblem(name, 'is given more than once', 'keep one'))
    else flags.set(name, SETTINGS[name].type === 'boolean' ? booleanText(name, value, argv) : text(value))
  }
  return { flags, problems }
}

/** yargs returns `true` for a flag without a value. Here it is empty, which the setting's parser refuses. */
function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** yargs turns `--flag=nonsense` into `false`, so this reads the text from the command line. */
function booleanText(flag: Flag, value: unknown, argv: readonly string[]): string {
  const prefix = `--${flag}=`
  const written = argv.find(word => word.startsWith(prefix))
  return written === undefined ? String(value) : written.slice(prefix.length)
}

function unknownFlag(name: string): Problem {
  const meant = nearest(name, [...FLAGS, 'help', 'version'])
  const hint = meant === undefined ? 'entrepot --help lists the flags' : `did you mean --${meant}?`
  return flagProblem(name, 'is not a known flag', hint)
}
