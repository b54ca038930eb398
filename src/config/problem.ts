/** The source of a value or of a problem. */
export type ValueOrigin =
  | { readonly kind: 'flag'; readonly name: string }
  | { readonly kind: 'environment'; readonly name: string }
  | { readonly kind: 'file'; readonly file: string; readonly line: number | undefined }
  | { readonly kind: 'command-line' }
  | { readonly kind: 'default' }

/** One mistake in the configuration. Its texts never repeat a value that could be a secret. */
export interface Problem {
  readonly origin: ValueOrigin
  /** The setting, or the place in the file or JSON text, such as `[0].tls`; empty for all of it. */
  readonly path: string
  /** The mistake, as the end of a sentence that begins with the path. */
  readonly message: string
  /** A correct value, or how to find one. */
  readonly hint: string | undefined
}

/** The configuration is refused; the error lists all its problems. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[]) {
    super(problems.map(formatProblem).join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** Longest part of a wrong value that a message quotes, in characters. */
const QUOTED_MAX = 64

/**
 * A wrong value as the end of a message, such as `: "loud"`. Empty for a text with an `@`, which may hold a
 * password. Never pass a value of a setting that is a secret.
 */
export function quotedEnd(text: string): string {
  if (text.includes('@')) return ''
  return `: ${JSON.stringify(text.length > QUOTED_MAX ? `${text.slice(0, QUOTED_MAX)}…` : text)}`
}

/** An origin in words: `upstreams.yaml:3`, `--listen`, `default`. */
export function formatOrigin(origin: ValueOrigin): string {
  switch (origin.kind) {
    case 'flag':
    case 'environment':
      return origin.name
    case 'file':
      return origin.line === undefined ? origin.file : `${origin.file}:${origin.line}`
    case 'command-line':
      return 'command line'
    case 'default':
      return 'default'
    default:
      return origin satisfies never
  }
}

/** One line: origin, path if it adds something to the origin, message and hint. */
export function formatProblem(problem: Problem): string {
  const isNamed = problem.origin.kind === 'flag' || problem.origin.kind === 'environment'
  const path = problem.path === '' || (isNamed && !problem.path.startsWith('[')) ? '' : ` ${problem.path}`
  const hint = problem.hint === undefined ? '' : ` (${problem.hint})`
  return `${formatOrigin(problem.origin)}:${path} ${problem.message}${hint}`
}

/** A problem of the command line; `path` is a flag without its dashes, or a word. */
export function wordProblem(path: string, message: string, hint: string | undefined): Problem {
  return { origin: { kind: 'command-line' }, path, message, hint }
}

/** A problem of a flag. */
export function flagProblem(flag: string, message: string, hint: string | undefined): Problem {
  const name = flag.length === 1 ? `-${flag}` : `--${flag}`
  return { origin: { kind: 'flag', name }, path: flag, message, hint }
}
