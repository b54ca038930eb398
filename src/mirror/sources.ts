import { OciError } from '../oci/error.ts'
import { parseRepositoryName, type RepositoryName } from '../oci/name.ts'
import { canonicalText, DOCKER_HUB, type Namespace, parseNamespace } from '../oci/namespace.ts'
import type { Registries, Registry } from '../upstream/registry.ts'
import type { Terms } from './freshness.ts'
import type { Place } from './links.ts'

/** A repository as a client named it, unchecked. */
export interface RequestedName {
  /** All values of the `ns` query parameter. */
  readonly ns: readonly string[]
  /** What stood before `/v2/` in the path. */
  readonly prefix: string | undefined
  /** What stood between `/v2/` and the resource. */
  readonly path: string
}

/** Where a request's content comes from: one repository of one upstream, and the terms on which it is cached. */
export interface Source {
  readonly namespace: Namespace
  readonly repository: RepositoryName
  readonly registry: Registry
  readonly terms: Terms
  /**
   * Whether the operator chose the registry, so that it is believed what it says it has. Any other may be a stranger's, who claims digests that
   * are cached for somebody else: its repositories see only bytes that have come from it.
   */
  readonly isTrusted: boolean
}

/** What names are resolved by. */
export interface NameRules {
  readonly defaultNamespace: Namespace
  /** The configured namespaces. */
  readonly terms: { has(namespace: Namespace): boolean }
}

/** What sources are resolved by; replaced whole when the configuration is read again. */
export interface Directory extends NameRules {
  readonly registries: Registries
  /** The terms of every configured namespace; a namespace is configured if it is here. */
  readonly terms: ReadonlyMap<Namespace, Terms>
  /** The terms of all other namespaces. */
  readonly defaultTerms: Terms
}

/**
 * Resolves a name by the rules of `docs/clients.md`: `ns`, then a path prefix, then a host as first component, then the default
 * namespace. Throws an {@link OciError} NAME_INVALID for what is no name.
 */
export function resolvePlace(rules: NameRules, requested: RequestedName): Place {
  const { namespace, path } = splitName(rules, requested)
  const full = namespace === DOCKER_HUB && !path.includes('/') ? `library/${path}` : path
  const repository = parseRepositoryName(full)
  if (repository === undefined) throw new OciError('NAME_INVALID', 'this is not a valid repository name')
  return { namespace, repository }
}

/** The source of a repository. Throws DENIED where policy forbids the namespace. */
export function sourceAt(directory: Directory, { namespace, repository }: Place): Source {
  const terms = directory.terms.get(namespace)
  return {
    namespace,
    repository,
    registry: directory.registries.get(namespace),
    terms: terms ?? directory.defaultTerms,
    isTrusted: terms !== undefined || namespace === directory.defaultNamespace,
  }
}

/** Resolves a name to its source: {@link resolvePlace}, then {@link sourceAt}. */
export function resolveSource(directory: Directory, requested: RequestedName): Source {
  return sourceAt(directory, resolvePlace(directory, requested))
}

interface SplitName {
  readonly namespace: Namespace
  readonly path: string
}

function splitName(rules: NameRules, { ns, prefix, path }: RequestedName): SplitName {
  const named = explicitNamespace(rules, ns, prefix)
  const slash = path.indexOf('/')
  const first = slash === -1 ? undefined : path.slice(0, slash)
  if (first === undefined || !isHostLike(rules, first))
    return { namespace: named ?? rules.defaultNamespace, path }
  if (named === undefined) return { namespace: requireNamespace(rules, first), path: path.slice(slash + 1) }
  // containerd with `override_path` sends the host in the path and in `ns`: the same host twice means it once.
  if (requireNamespace(rules, first) === named) return { namespace: named, path: path.slice(slash + 1) }
  throw new OciError('NAME_INVALID', `the namespace ${named} and the host ${first} in the path disagree`)
}

function explicitNamespace(
  rules: NameRules,
  ns: readonly string[],
  prefix: string | undefined,
): Namespace | undefined {
  const texts = prefix === undefined ? ns : [...ns, prefix]
  if (ns.length > 1) throw new OciError('NAME_INVALID', 'the parameter ns is given more than once')
  const [named, ...others] = texts.map(text => requireNamespace(rules, text))
  if (others.some(other => other !== named))
    throw new OciError('NAME_INVALID', 'the parameter ns and the path prefix disagree')
  return named
}

function isHostLike(rules: NameRules, component: string): boolean {
  return /[.:]/.test(component) || component === 'localhost' || rules.terms.has(canonicalText(component))
}

function requireNamespace(rules: NameRules, text: string): Namespace {
  const verbatim = canonicalText(text)
  if (rules.terms.has(verbatim)) return verbatim
  const namespace = parseNamespace(text)
  if (namespace === undefined) {
    throw new OciError(
      'NAME_INVALID',
      'this is not the name of a public registry; a private one must be in the upstream file',
    )
  }
  return namespace
}
