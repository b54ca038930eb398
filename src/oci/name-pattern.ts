import type { Place } from './place.ts'

/**
 * A pattern of repositories: a namespace, then a repository name, such as `docker.io/acme/**`. `*` stands for
 * any characters within a component, and `**` for any number of components. Plain data, so that it can cross
 * threads.
 */
export interface NamePattern {
  readonly text: string
  readonly components: readonly string[]
}

const LENGTH_MAX = 512
const COMPONENT = /^[a-z0-9._:*[\]-]+$/
const ANY_COMPONENTS = '**'

/**
 * The only way to make a {@link NamePattern}: lower-case components, separated by slashes, of which the first
 * is the namespace. A pattern of one component names all repositories of a namespace only as `namespace/**`,
 * and `**` alone names everything. `undefined` means that the text is not a pattern.
 */
export function parseNamePattern(text: string): NamePattern | undefined {
  const components = text.split('/')
  const isWhole = text === ANY_COMPONENTS || components.length > 1
  const isSound = components.every(
    part => COMPONENT.test(part) && (part === ANY_COMPONENTS || !part.includes(ANY_COMPONENTS)),
  )
  return isWhole && isSound && text.length <= LENGTH_MAX ? { text, components } : undefined
}

/** True if the pattern names the repository. */
export function matchesName({ components }: NamePattern, { namespace, repository }: Place): boolean {
  return matchesComponents(components, [namespace, ...repository.split('/')])
}

/** True if the components fit those of a pattern, in which `**` stands for any number of them. */
export function matchesComponents(pattern: readonly string[], components: readonly string[]): boolean {
  return matches(pattern, components, {
    isMany: part => part === ANY_COMPONENTS,
    fits: (part, component) => matchesGlob(part, component),
  })
}

/** True if the text fits a glob in which `*` stands for any characters. */
export function matchesGlob(glob: string, text: string): boolean {
  return matches(glob, text, { isMany: part => part === '*', fits: (part, character) => part === character })
}

interface Matching {
  /** True for the part that stands for any number of items. */
  readonly isMany: (part: string) => boolean
  readonly fits: (part: string, item: string) => boolean
}

/**
 * Matches items against parts in at most `parts × items` steps, whatever the pattern: after a mismatch only
 * the last part that stands for many takes one item more.
 */
function matches(parts: ArrayLike<string>, items: ArrayLike<string>, { isMany, fits }: Matching): boolean {
  let [part, item] = [0, 0]
  let [many, taken] = [-1, 0]
  while (item < items.length) {
    const wanted = parts[part]
    if (wanted !== undefined && isMany(wanted)) {
      ;[many, taken] = [part, item]
      part += 1
    } else if (wanted !== undefined && fits(wanted, items[item] ?? '')) {
      part += 1
      item += 1
    } else if (many === -1) {
      return false
    } else {
      taken += 1
      ;[part, item] = [many + 1, taken]
    }
  }
  while (part < parts.length && isMany(parts[part] ?? '')) part += 1
  return part === parts.length
}
