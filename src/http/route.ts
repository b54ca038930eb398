import { type Digest, parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { RequestedName } from '../oci/place.ts'
import { parseReference, type Reference } from '../oci/reference.ts'
import type { TagsPageRequest } from '../oci/tags-page.ts'

/** The resource that a request names. */
export type Route =
  | { readonly kind: 'base' }
  | { readonly kind: 'live' }
  | { readonly kind: 'ready' }
  | { readonly kind: 'token' }
  | { readonly kind: 'setup'; readonly client: string | undefined }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'manifest'; readonly name: RequestedName; readonly reference: Reference }
  | { readonly kind: 'blob'; readonly name: RequestedName; readonly digest: Digest }
  | { readonly kind: 'tags'; readonly name: RequestedName; readonly page: TagsPageRequest }
  | {
      readonly kind: 'referrers'
      readonly name: RequestedName
      readonly digest: Digest
      readonly artifactType: string | undefined
    }

/** Routes of content, which name a repository. */
export type NamedRoute = Extract<Route, { name: RequestedName }>

/** Longest request target, in characters. */
export const TARGET_LENGTH_MAX = 8 * 1024

/** Path of the token endpoint. */
export const TOKEN_PATH = '/token'

/**
 * Reads the request target without a URL object, whose parser is too lenient for untrusted text. Throws an
 * {@link OciError}: REQUEST_INVALID for a path that could mean two things, UNSUPPORTED for verbs and
 * resources of push, and DIGEST_INVALID or TAG_INVALID.
 */
export function parseRoute(method: string, target: string): Route {
  if (target.length > TARGET_LENGTH_MAX)
    throw new OciError('URI_TOO_LONG', `the request target is over ${TARGET_LENGTH_MAX} characters`)
  const { path, query } = splitTarget(target)
  const segments = splitPath(path)
  if (method === 'POST' && path === TOKEN_PATH) return { kind: 'token' }
  if (method !== 'GET' && method !== 'HEAD') {
    throw new OciError(
      'UNSUPPORTED',
      `${method.slice(0, 16)} is not supported: this is a pull-through mirror`,
    )
  }
  return PLAIN.get(path) ?? parseSetup(path) ?? parseNamed(segments, query)
}

const PLAIN: ReadonlyMap<string, Route> = new Map<string, Route>([
  ['/', { kind: 'live' }],
  ['/livez', { kind: 'live' }],
  ['/readyz', { kind: 'ready' }],
  [TOKEN_PATH, { kind: 'token' }],
  ['/v2', { kind: 'base' }],
  ['/v2/', { kind: 'base' }],
])

const SETUP_SCRIPT = /^\/setup\/([a-z]{1,20})\.sh$/

/** `/setup/` and `/setup/<client>.sh`, which no registry has: its name would have a dot. */
function parseSetup(path: string): Route | undefined {
  if (path === '/setup' || path === '/setup/') return { kind: 'setup', client: undefined }
  const [, client] = SETUP_SCRIPT.exec(path) ?? []
  return client === undefined ? undefined : { kind: 'setup', client }
}

function splitTarget(target: string): { readonly path: string; readonly query: URLSearchParams } {
  const origin = originForm(target)
  const mark = origin.indexOf('?')
  const path = mark === -1 ? origin : origin.slice(0, mark)
  return { path, query: new URLSearchParams(mark === -1 ? '' : origin.slice(mark + 1)) }
}

/** The authority of an absolute-form target is ignored (RFC 9112, section 3.2.2). */
function originForm(target: string): string {
  if (target.startsWith('/')) return target
  const scheme = /^https?:\/\//i.exec(target)
  if (scheme === null) throw new OciError('REQUEST_INVALID', 'the request target is not a path')
  const slash = target.indexOf('/', scheme[0].length)
  return slash === -1 ? '/' : target.slice(slash)
}

function splitPath(path: string): readonly string[] {
  const decoded = path.replace(DIGEST_COLON, '$1:')
  if (!PATH.test(decoded))
    throw new OciError('REQUEST_INVALID', 'the path has a character that no name can have')
  const segments = decoded.slice(1).split('/')
  const isOdd = segments.some(
    (segment, index) =>
      segment === '.' || segment === '..' || (segment === '' && index < segments.length - 1),
  )
  if (isOdd && decoded !== '/')
    throw new OciError('REQUEST_INVALID', 'the path has an empty or a dot segment')
  return segments
}

/** The only escape that clients use: the colon of a digest. */
const DIGEST_COLON = /(\/sha(?:256|512))%3[Aa]/g
const PATH = /^[A-Za-z0-9._~:/@+=-]*$/

function parseNamed(segments: readonly string[], query: URLSearchParams): Route {
  const [first, second] = segments
  const isPrefixed = first !== 'v2' && second === 'v2'
  if (first !== 'v2' && !isPrefixed) return { kind: 'unknown' }
  const rest = segments.slice(isPrefixed ? 2 : 1)
  if (isPrefixed && (rest.length === 0 || (rest.length === 1 && rest[0] === ''))) return { kind: 'base' }
  const named = (count: number): RequestedName => ({
    ns: query.getAll('ns'),
    prefix: isPrefixed ? first : undefined,
    path: rest.slice(0, -count).join('/'),
  })
  const last = rest.at(-1) ?? ''
  const resource = rest.length > 2 ? rest.at(-2) : undefined
  if (rest.at(-3) === 'blobs' && rest.at(-2) === 'uploads')
    throw new OciError('UNSUPPORTED', 'push is not supported: this is a pull-through mirror')
  if (resource === 'manifests') return { kind: 'manifest', name: named(2), reference: requireReference(last) }
  if (resource === 'blobs') return { kind: 'blob', name: named(2), digest: requireDigest(last) }
  if (resource === 'tags' && last === 'list') return { kind: 'tags', name: named(2), page: parsePage(query) }
  if (resource === 'referrers') {
    return {
      kind: 'referrers',
      name: named(2),
      digest: requireDigest(last),
      artifactType: query.get('artifactType') ?? undefined,
    }
  }
  if (last === '_catalog') throw new OciError('UNSUPPORTED', 'a mirror of every registry has no catalogue')
  return { kind: 'unknown' }
}

function requireReference(text: string): Reference {
  const reference = parseReference(text)
  if (reference !== undefined) return reference
  if (text.includes(':')) throw invalidDigest()
  throw new OciError('TAG_INVALID', 'this is not a valid tag')
}

function requireDigest(text: string): Digest {
  const digest = parseDigest(text)
  if (digest === undefined) throw invalidDigest()
  return digest
}

function invalidDigest(): OciError {
  return new OciError(
    'DIGEST_INVALID',
    'this is not a digest: sha256 or sha512 in lower-case hex is understood',
  )
}

function parsePage(query: URLSearchParams): TagsPageRequest {
  const n = query.get('n') ?? undefined
  if (n !== undefined && !/^[0-9]{1,9}$/.test(n))
    throw new OciError('REQUEST_INVALID', 'n must be a whole number')
  return { n: n === undefined ? undefined : Number(n), last: query.get('last') ?? undefined }
}
