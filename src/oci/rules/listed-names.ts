import { DOCKER_HUB } from '../namespace.ts'
import { parseRuleNames, qualifyNames, type RuleNames } from './rule-names.ts'

/**
 * Names of images that one entry of an allow or deny list stands for, in the spelling of the mirror. There
 * are two for `docker.io/name`, which is an official image and the beginning of other names.
 */
export type ListedNames = readonly RuleNames[]

const NOT_CONFIGURED = { defaultNamespace: DOCKER_HUB, terms: { has: (): boolean => false } }

/**
 * The only way to make an {@link ListedNames}. A plain name is that repository, or registry, and all below
 * it, as in the lists of Trow, with or without a slash at the end; but it ends where a component does. With
 * `*`, a tag or a digest it is read like the names of rules. Names without a registry are those of Docker
 * Hub. `undefined` means that the text is not an entry.
 */
export function parseListedNames(text: string): ListedNames | undefined {
  const isOpen = text.endsWith('/')
  const name = isOpen ? text.slice(0, -1) : text
  const texts = withRegistry(name, isOpen)
  if (texts === undefined) return undefined
  const names = texts.map(parseRuleNames)
  if (!names.every(each => each !== undefined)) return undefined
  return names.map(each => qualifyNames(each, NOT_CONFIGURED))
}

/** Names of rules for a name; `undefined` for one that means two things. */
function withRegistry(name: string, isOpen: boolean): readonly string[] | undefined {
  const [first = '', ...rest] = name.split('/')
  const isExact = /[*@]/.test(name)
  if (first === '**') return [name]
  if (rest.length === 0) return isExact ? [`${OFFICIAL}${name}`] : oneComponent(first, isOpen)
  const full = first.includes('*') || isHost(first) ? name : `${DOCKER_HUB}/${name}`
  if (isExact || hasTag(full)) return [full]
  const below = `${full}/**`
  const isOfHub = full.split('/').length === 2 && qualifies(full)
  return isOfHub && !isOpen ? [full, below] : [below]
}

const OFFICIAL = `${DOCKER_HUB}/library/`

function oneComponent(name: string, isOpen: boolean): readonly string[] | undefined {
  if (isOpen) return [isHost(name) || name.includes(':') ? `${name}/**` : `${DOCKER_HUB}/${name}/**`]
  if (isRegistry(name)) return [`${name}/**`]
  // `registry:5000` may be a registry, or a tag of an official image.
  if (/:[0-9]{1,5}$/.test(name)) return undefined
  return [hasTag(`/${name}`) ? `${OFFICIAL}${name}` : `${OFFICIAL}${name}/**`]
}

/** True for a registry alone, which has a dot before its port. */
function isRegistry(name: string): boolean {
  return /^(?:localhost|[^:]*\.[^:]*|\[.*\])(?::[0-9]+)?$/.test(name)
}

function isHost(component: string): boolean {
  return /[.:]/.test(component) || component === 'localhost'
}

function hasTag(name: string): boolean {
  return name.includes(':', name.lastIndexOf('/') + 1)
}

/** True if the name is one of Docker Hub, in any spelling of that registry. */
function qualifies(name: string): boolean {
  const names = parseRuleNames(name)
  return names !== undefined && qualifyNames(names, NOT_CONFIGURED).pattern.components[0] === DOCKER_HUB
}
