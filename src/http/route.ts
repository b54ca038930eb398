import { type Digest, type DigestAlgorithm, parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import type { Right } from '../oci/identity.ts'
import { parseTag, type Tag } from '../oci/name.ts'
import type { RequestedName } from '../oci/place.ts'
import { parseReference, type Reference } from '../oci/reference.ts'
import type { TagsPageRequest } from '../oci/tags-page.ts'
import { parseUploadId, type UploadId } from '../oci/upload-id.ts'

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
      readonly last: Digest | undefined
    }
  | { readonly kind: 'catalog'; readonly page: TagsPageRequest }
  | PushRoute

/** A request that changes a hosted repository, or asks for the state of an upload. */
export type PushRoute =
  | {
      readonly kind: 'begin-upload'
      readonly name: RequestedName
      readonly mount: string | undefined
      readonly from: string | undefined
      readonly digests: readonly string[]
      readonly algorithm: DigestAlgorithm | undefined
    }
  | {
      readonly kind: 'upload-state' | 'append-upload' | 'cancel-upload'
      readonly name: RequestedName
      readonly id: UploadId
    }
  | {
      readonly kind: 'finish-upload'
      readonly name: RequestedName
      readonly id: UploadId
      readonly digests: readonly string[]
    }
  | {
      readonly kind: 'push-manifest'
      readonly name: RequestedName
      readonly reference: Reference
      /** Tags to set besides the one of the reference. */
      readonly tags: readonly Tag[]
    }
  | { readonly kind: 'delete-manifest'; readonly name: RequestedName; readonly reference: Reference }
  | { readonly kind: 'delete-blob'; readonly name: RequestedName; readonly digest: Digest }

/** Routes of content, which name a repository. */
export type NamedRoute = Extract<Route, { name: RequestedName }>

/** Routes that read a repository. */
export type PullRoute = Exclude<NamedRoute, PushRoute>

/** True for requests that change a hosted repository, or ask for the state of an upload. */
export function isPush(route: Route): route is PushRoute {
  return PUSHES.has(route.kind)
}

/** The right that a request needs. */
export function rightOf(route: NamedRoute): Right {
  if (!isPush(route)) return 'pull'
  return route.kind === 'delete-manifest' || route.kind === 'delete-blob' ? 'delete' : 'push'
}

const PUSHES: ReadonlySet<Route['kind']> = new Set<PushRoute['kind']>([
  'begin-upload',
  'upload-state',
  'append-upload',
  'finish-upload',
  'cancel-upload',
  'push-manifest',
  'delete-manifest',
  'delete-blob',
])

/** Longest request target, in characters. */
export const TARGET_LENGTH_MAX = 8 * 1024

/** Path of the token endpoint. */
export const TOKEN_PATH = '/token'

/**
 * Reads the request target without a URL object, whose parser is too lenient for untrusted text. Throws an
 * {@link OciError}: REQUEST_INVALID for a path that could mean two things, UNSUPPORTED for a verb that the
 * resource does not have, and DIGEST_INVALID or TAG_INVALID.
 */
export function parseRoute(method: string, target: string): Route {
  if (target.length > TARGET_LENGTH_MAX)
    throw new OciError('URI_TOO_LONG', `the request target is over ${TARGET_LENGTH_MAX} characters`)
  const { path, query } = splitTarget(target)
  const segments = splitPath(path)
  if (method === 'POST' && path === TOKEN_PATH) return { kind: 'token' }
  const isReading = method === 'GET' || method === 'HEAD'
  const plain = isReading ? (PLAIN.get(path) ?? parseSetup(path)) : undefined
  const route = plain ?? parseNamed(isReading ? 'GET' : method, segments, query)
  if (route !== undefined) return route
  throw new OciError('UNSUPPORTED', `${method.slice(0, 16)} is not supported here`)
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

/** `undefined` if the resource does not have the verb. */
function parseNamed(method: string, segments: readonly string[], query: URLSearchParams): Route | undefined {
  const [first, second] = segments
  const isPrefixed = first !== 'v2' && second === 'v2'
  const unknown = method === 'GET' ? ({ kind: 'unknown' } as const) : undefined
  if (first !== 'v2' && !isPrefixed) return unknown
  const rest = segments.slice(isPrefixed ? 2 : 1)
  const isBase = rest.length === 0 || (rest.length === 1 && rest[0] === '')
  if (isBase) return isPrefixed && method === 'GET' ? { kind: 'base' } : unknown
  const named = (count: number): RequestedName => ({
    ns: query.getAll('ns'),
    prefix: isPrefixed ? first : undefined,
    path: rest.slice(0, -count).join('/'),
  })
  const last = rest.at(-1) ?? ''
  const resource = rest.length > 2 ? rest.at(-2) : undefined
  if (resource === 'uploads' && rest.at(-3) === 'blobs')
    return parseUpload(method, { name: named(3), last, query })
  if (resource === 'blobs' && last === 'uploads' && method === 'POST') return beginUpload(named(2), query)
  if (resource === 'manifests') return parseManifestRoute(method, { name: named(2), last, query })
  if (resource === 'blobs') {
    if (method !== 'GET' && method !== 'DELETE') return undefined
    return { kind: method === 'GET' ? 'blob' : 'delete-blob', name: named(2), digest: requireDigest(last) }
  }
  if (method !== 'GET') return undefined
  if (resource === 'tags' && last === 'list') return { kind: 'tags', name: named(2), page: parsePage(query) }
  if (resource === 'referrers') {
    return {
      kind: 'referrers',
      name: named(2),
      digest: requireDigest(last),
      artifactType: query.get('artifactType') ?? undefined,
      last: parseDigest(query.get('last') ?? ''),
    }
  }
  if (rest.length === 1 && last === '_catalog') return { kind: 'catalog', page: parsePage(query) }
  return unknown
}

interface NamedParts {
  readonly name: RequestedName
  /** The last segment of the path. */
  readonly last: string
  readonly query: URLSearchParams
}

function parseManifestRoute(method: string, { name, last, query }: NamedParts): Route | undefined {
  switch (method) {
    case 'GET':
      return { kind: 'manifest', name, reference: requireReference(last) }
    case 'PUT':
      return { kind: 'push-manifest', name, reference: requireReference(last), tags: requireTags(query) }
    case 'DELETE':
      return { kind: 'delete-manifest', name, reference: requireReference(last) }
    default:
      return undefined
  }
}

function parseUpload(method: string, { name, last, query }: NamedParts): Route | undefined {
  if (last === '') return method === 'POST' ? beginUpload(name, query) : undefined
  const id = parseUploadId(last)
  if (id === undefined) throw new OciError('BLOB_UPLOAD_UNKNOWN', 'this repository has no such upload')
  switch (method) {
    case 'GET':
      return { kind: 'upload-state', name, id }
    case 'PATCH':
      return { kind: 'append-upload', name, id }
    case 'PUT':
      return { kind: 'finish-upload', name, id, digests: query.getAll('digest') }
    case 'DELETE':
      return { kind: 'cancel-upload', name, id }
    default:
      return undefined
  }
}

function beginUpload(name: RequestedName, query: URLSearchParams): Route {
  const wanted = query.get('digest-algorithm')
  if (wanted !== null && wanted !== 'sha256' && wanted !== 'sha512')
    throw new OciError('DIGEST_INVALID', 'the digest algorithms understood are sha256 and sha512')
  return {
    kind: 'begin-upload',
    name,
    mount: query.get('mount') ?? undefined,
    from: query.get('from') ?? undefined,
    digests: query.getAll('digest'),
    algorithm: wanted ?? undefined,
  }
}

/** Most tags that one request may set. */
const TAGS_MAX = 100

function requireTags(query: URLSearchParams): readonly Tag[] {
  const texts = query.getAll('tag')
  if (texts.length > TAGS_MAX) throw new OciError('TAG_INVALID', `more than ${TAGS_MAX} tags in one request`)
  return texts.map(text => {
    const tag = parseTag(text)
    if (tag === undefined) throw new OciError('TAG_INVALID', 'this is not a valid tag')
    return tag
  })
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
