import { type Problem, quotedEnd, type ValueOrigin } from './problem.ts'
import { FLAGS, type Flag, SETTINGS, type SettingSource } from './settings.ts'

/** The sources of settings. */
export interface SettingTexts {
  /** Values on the command line, by flag. */
  readonly flags: ReadonlyMap<Flag, string>
  readonly env: Readonly<Record<string, string | undefined>>
}

/** The text of a setting that the user gave. */
export interface Given {
  readonly flag: Flag
  readonly text: string
  readonly origin: ValueOrigin
}

/** Reads settings: flags win over the environment. It collects all problems instead of stopping at one. */
export class SettingsReader {
  readonly problems: Problem[]
  readonly #texts: SettingTexts

  constructor(texts: SettingTexts, problems: readonly Problem[]) {
    this.#texts = texts
    this.problems = [...problems]
  }

  /**
   * The first of these settings that is given: all flags come before all environment variables. An empty
   * variable counts as not given.
   */
  find(...flags: readonly Flag[]): Given | undefined {
    for (const flag of flags) {
      const text = this.#texts.flags.get(flag)
      if (text !== undefined) return { flag, text, origin: { kind: 'flag', name: `--${flag}` } }
    }
    for (const name of flags.flatMap(variablesOf)) {
      const text = this.#texts.env[name.variable]
      if (text === undefined || text === '') continue
      return { flag: name.flag, text, origin: { kind: 'environment', name: name.variable } }
    }
    return undefined
  }

  /** Parses a given text. Returns `undefined` if there is none, or after noting a problem. */
  parse<T>(given: Given | undefined, parse: (text: string) => T | undefined): T | undefined {
    if (given === undefined) return undefined
    const value = given.text === '' ? undefined : parse(given.text)
    if (value !== undefined) return value
    const { noun, hint, type }: SettingSource = SETTINGS[given.flag]
    const quoted = type === 'secret' ? '' : quotedEnd(given.text)
    this.refuse(given, given.text === '' ? 'needs a value' : `is not ${noun}${quoted}`, hint)
    return undefined
  }

  /** Parses each part of a given list. Returns `undefined` like {@link parse}. */
  parseList<T>(given: Given | undefined, parse: (text: string) => T | undefined): readonly T[] | undefined {
    return this.parse(given, text => {
      const values = text.split(',').map(part => parse(part.trim()))
      return values.every(value => value !== undefined) ? values : undefined
    })
  }

  refuse(given: Given, message: string, hint: string | undefined): void {
    this.problems.push({ origin: given.origin, path: given.flag, message, hint })
  }

  /** Flags of a group that are on the command line. */
  flagsOf(group: SettingSource['group']): readonly Given[] {
    return FLAGS.filter(flag => SETTINGS[flag].group === group && this.#texts.flags.has(flag)).map(flag => ({
      flag,
      text: this.#texts.flags.get(flag) ?? '',
      origin: { kind: 'flag', name: `--${flag}` },
    }))
  }
}

/** Half of all programs read the variables of a proxy in small letters, so they are set in either form. */
const ANY_CASE: ReadonlySet<Flag> = new Set(['https-proxy', 'http-proxy', 'proxy-bypass'])

function variablesOf(flag: Flag): readonly { readonly flag: Flag; readonly variable: string }[] {
  const variable = SETTINGS[flag].environment
  const names = ANY_CASE.has(flag) ? [variable, variable.toLowerCase()] : [variable]
  return names.map(name => ({ flag, variable: name }))
}

const BOOLEANS: ReadonlyMap<string, boolean> = new Map(
  (
    [
      [true, 'true t yes y on 1'],
      [false, 'false f no n off 0'],
    ] as const
  ).flatMap(([value, words]) => words.split(' ').map(word => [word, value] as const)),
)

/** Parses a boolean, in any of the spellings that oci-registry accepts. */
export function parseBoolean(text: string): boolean | undefined {
  return BOOLEANS.get(text.toLowerCase())
}
