import { DOCKER_HUB } from './namespace.ts'

/** An image as a pattern sees it. */
export interface MatchedImage {
  readonly namespace: string
  readonly repository: string
  /** A tag or a digest. */
  readonly reference: string
}

const LENGTH_MAX = 1024

/**
 * Compiles a pattern of image names. Without a wildcard it is a registry (`ghcr.io`), the beginning of a
 * repository up to a slash (`ghcr.io/owner`), a repository, or an image. `*` stands for any characters, also
 * slashes, and `?` for one. Images of Docker Hub may be written as Docker does: `alpine:3.*`. The empty
 * pattern matches everything. `undefined` means that the text is not a pattern.
 */
export function imageMatcher(pattern: string): ((image: MatchedImage) => boolean) | undefined {
  if (pattern === '') return () => true
  if (pattern.length > LENGTH_MAX || /[^\x21-\x7e]/.test(pattern)) return undefined
  const hasWildcard = /[*?]/.test(pattern)
  const form = expressionOf(pattern, hasWildcard)
  return ({ namespace, repository, reference }) => {
    const tail = reference.includes(':') ? `@${reference}` : `:${reference}`
    return namesOf(namespace, repository).some(
      name => form.test(`${name}${tail}`) || (hasWildcard && form.test(name)),
    )
  }
}

/** All spellings of a repository's name, such as `alpine` for `docker.io/library/alpine`. */
function namesOf(namespace: string, repository: string): readonly string[] {
  const full = `${namespace}/${repository}`
  if (namespace !== DOCKER_HUB) return [full]
  return repository.startsWith('library/')
    ? [full, repository, repository.slice('library/'.length)]
    : [full, repository]
}

function expressionOf(pattern: string, hasWildcard: boolean): RegExp {
  const literal = pattern
    .replaceAll(/[.+^${}()|[\]\\/]/g, String.raw`\$&`)
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  // A plain name also stands for everything below it, and for all its tags and digests.
  return new RegExp(hasWildcard ? `^${literal}$` : `^${literal}(?:$|[/:@])`)
}
