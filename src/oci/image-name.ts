import { parseDigest } from './digest.ts'
import { parseRepositoryName } from './name.ts'
import { parseReference, type Reference } from './reference.ts'

/** An image name as users write it, split into its parts. */
export interface ImageName {
  /** The registry, if the name has one. */
  readonly host: string | undefined
  /** The rest of the name, as written. */
  readonly path: string
  readonly reference: Reference
}

const LENGTH_MAX = 1024
const HOST = /^(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/

/**
 * Splits an image name as Docker does: `alpine`, `ghcr.io/owner/name:1.2`, `name@sha256:…`. The first
 * component is a host if it contains a dot or colon or is `localhost`. A digest wins over a tag; without
 * either the tag is `latest`. `undefined` means that the text is not an image name.
 */
export function parseImageName(text: string): ImageName | undefined {
  if (text.length === 0 || text.length > LENGTH_MAX) return undefined
  const [named = '', digestText, ...more] = text.split('@')
  if (more.length > 0) return undefined
  const colon = named.lastIndexOf(':')
  const hasTag = colon > named.lastIndexOf('/')
  const full = hasTag ? named.slice(0, colon) : named
  const tagText = hasTag ? named.slice(colon + 1) : 'latest'
  const tag = parseReference(tagText)
  const reference = digestText === undefined ? tag : parseReference(digestText)
  if (tag?.kind !== 'tag' || reference === undefined) return undefined
  if (digestText !== undefined && reference.kind !== 'digest') return undefined
  const slash = full.indexOf('/')
  const first = slash === -1 ? '' : full.slice(0, slash)
  const isHost = /[.:]/.test(first) || first === 'localhost'
  const path = isHost ? full.slice(slash + 1) : full
  if (isHost && !HOST.test(first)) return undefined
  return parseRepositoryName(path) === undefined
    ? undefined
    : { host: isHost ? first : undefined, path, reference }
}

/** The full name of an image, such as `docker.io/library/alpine:3.20`, or with `@` and a digest. */
export function formatImage(namespace: string, repository: string, reference: Reference): string {
  const tail = reference.kind === 'tag' ? `:${reference.tag}` : `@${reference.digest}`
  return `${namespace}/${repository}${tail}`
}

/** The digits of a short digest, and the name before it if it has one. */
export interface ShortDigest {
  readonly name: string | undefined
  readonly hex: string
}

/**
 * Splits `name@digest` or a digest alone, if the digest is shortened to its first digits as lists print it:
 * `alpine@3f2a90c1d2e4`, `3f2a90c1d2e4`, `sha256:3f2a90`. A digest alone may also be complete. `undefined`
 * means that the text has no such digest. Twelve digits without a name may be the name of a repository, too.
 */
export function splitShortDigest(text: string): ShortDigest | undefined {
  const [, name, algorithm, hex = ''] = /^(?:([^@]+)@)?(sha256:|sha512:)?([0-9a-f]{4,128})$/.exec(text) ?? []
  if (hex === '') return undefined
  const isComplete = algorithm !== undefined && parseDigest(`${algorithm}${hex}`) !== undefined
  if (name !== undefined) return isComplete ? undefined : { name, hex }
  return algorithm !== undefined || hex.length >= SHOWN_DIGITS ? { name, hex } : undefined
}

/** Digits of a digest that lists print. */
const SHOWN_DIGITS = 12
