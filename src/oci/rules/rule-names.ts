import { matchesGlob, matchesName, type NamePattern, parseNamePattern } from '../name-pattern.ts'
import { canonicalText, DOCKER_HUB } from '../namespace.ts'
import { hostOfPath } from '../path-host.ts'
import type { NameRules, Place } from '../place.ts'
import type { Reference } from '../reference.ts'

/** Names that a rule is about: repositories, and if it says so only some of their tags or digests. */
export interface RuleNames {
  readonly text: string
  readonly pattern: NamePattern
  /** A glob of tags, or of digests; both are undefined for whole repositories. */
  readonly tag?: string | undefined
  readonly digest?: string | undefined
}

const TAG_GLOB = /^[A-Za-z0-9_.*-]{1,128}$/
const DIGEST_GLOB = /^[a-z0-9:*]{1,140}$/

/**
 * The only way to make {@link RuleNames}: a {@link NamePattern}, then `:` and a glob of tags, or `@` and a
 * glob of digests. `undefined` means that the text is not one.
 */
export function parseRuleNames(text: string): RuleNames | undefined {
  const at = text.indexOf('@')
  if (at !== -1) {
    const [pattern, digest] = [parseNamePattern(text.slice(0, at)), text.slice(at + 1)]
    return pattern === undefined || !DIGEST_GLOB.test(digest) ? undefined : { text, pattern, digest }
  }
  const colon = text.indexOf(':', text.lastIndexOf('/') + 1)
  const isTagged = colon !== -1 && (text.includes('/') || text.startsWith('**:'))
  const pattern = parseNamePattern(isTagged ? text.slice(0, colon) : text)
  if (pattern === undefined || !isTagged) return pattern === undefined ? undefined : { text, pattern }
  const tag = text.slice(colon + 1)
  return TAG_GLOB.test(tag) ? { text, pattern, tag } : undefined
}

/**
 * True if the names include what a request is about. Names with a tag are about requests that name such a
 * tag, and names with a digest about requests that name such a digest.
 */
export function matchesRuleNames(
  { pattern, tag, digest }: RuleNames,
  place: Place,
  reference: Reference | undefined,
): boolean {
  if (tag !== undefined && (reference?.kind !== 'tag' || !matchesGlob(tag, reference.tag))) return false
  if (digest !== undefined && (reference?.kind !== 'digest' || !matchesGlob(digest, reference.digest)))
    return false
  return matchesName(pattern, place)
}

/**
 * The names as the mirror understands those of a request: a first component that is no host and no configured
 * namespace belongs to the default namespace, so that `acme/**` means what a client means by `acme/app`. All
 * spellings of a registry are the same, and Docker Hub's names of one component are in `library/`: a row that
 * forbids something must not miss it.
 */
export function qualifyNames(
  names: RuleNames,
  rules: Pick<NameRules, 'defaultNamespace' | 'terms'>,
): RuleNames {
  const [first = '', ...rest] = names.pattern.components
  if (first.includes('*')) return names
  const isConfigured = (text: string): boolean => rules.terms.has(canonicalText(text))
  const host = hostOfPath(first, isConfigured)
  const isHost = /[.:[\]]/.test(host) || host === 'localhost' || isConfigured(host)
  const namespace = isHost ? canonicalText(host) : rules.defaultNamespace
  const path = isHost ? rest : [first, ...rest]
  const isOfficial = namespace === DOCKER_HUB && path.length === 1 && path[0] !== '**'
  const components = [namespace, ...(isOfficial ? ['library'] : []), ...path]
  const text = components.join('/')
  // A tag or a digest follows the pattern.
  return {
    ...names,
    text: `${text}${names.text.slice(names.pattern.text.length)}`,
    pattern: { text, components },
  }
}
