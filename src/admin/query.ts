import type { ImageKind, ObjectEntry } from '../content/index/change.ts'
import { type Directory, resolveSource, type Source } from '../mirror/sources.ts'
import { OciError } from '../oci/error.ts'
import { formatImage, type ImageName, parseImageName, splitShortDigest } from '../oci/image-name.ts'
import { imageMatcher } from '../oci/image-pattern.ts'
import { canonicalText, DOCKER_HUB, parseConfiguredNamespace } from '../oci/namespace.ts'
import { type Platform, parsePlatform } from '../oci/platform.ts'
import type { Reference } from '../oci/reference.ts'
import type { Desk } from '../space/desk.ts'

const LIMIT_MAX = 1000
const LIMIT_DEFAULT = 100
/** Longest part of a wrong value that an error message quotes, in characters. */
const QUOTED_MAX = 64

const BLOB_ORDERS = ['last-use', 'size', 'hits'] as const
const IMAGE_ORDERS = ['name', 'last-use', 'size', 'hits'] as const

/** An image that an administrator named, with its upstream. */
export interface NamedImage {
  readonly source: Source
  readonly reference: Reference
  /** Its full name. */
  readonly name: string
}

/** Images shown by an ambiguous name, at most. */
const AMBIGUOUS_SHOWN_MAX = 5

export interface NamingParts {
  readonly directory: () => Directory
  /** Finds what a short digest means; `undefined` if the store has no index. */
  readonly desk: Pick<Desk, 'objectsByPrefix'> | undefined
}

/**
 * Reads `image`, named as clients name it: without a registry it is an image of Docker Hub. A digest may be
 * shortened as lists print it, and may stand without a name if it means one cached image.
 */
export async function namedImage(parts: NamingParts, query: URLSearchParams): Promise<NamedImage> {
  return await imageNamed(parts, query.get('image') ?? '')
}

/** Reads the name of an image; see {@link namedImage}. */
export async function imageNamed(parts: NamingParts, text: string): Promise<NamedImage> {
  const { name, hex } = splitShortDigest(text) ?? {}
  const full = hex === undefined ? text : await completed(parts, { name, hex, text })
  const parsed = parseImageName(full)
  if (parsed === undefined)
    throw new OciError(
      'NAME_INVALID',
      `image ${quoted(text)} is not an image name such as docker.io/library/alpine:3.20`,
    )
  return imageAt(parts.directory(), parsed)
}

function imageAt(directory: Directory, { host, path, reference }: ImageName): NamedImage {
  const [first = ''] = path.split('/')
  const isNamespace = host === undefined && path !== first && directory.terms.has(canonicalText(first))
  const ns = isNamespace ? first : (host ?? DOCKER_HUB)
  const rest = isNamespace ? path.slice(first.length + 1) : path
  const source = resolveSource(directory, { ns: [ns], prefix: undefined, path: rest })
  return { source, reference, name: formatImage(source.namespace, source.repository, reference) }
}

/** Replaces a short digest by the one cached digest that it means. Throws if there is none, or several. */
async function completed(
  parts: NamingParts,
  { name, hex, text }: { readonly name: string | undefined; readonly hex: string; readonly text: string },
): Promise<string> {
  const found = (await parts.desk?.objectsByPrefix(hex, AMBIGUOUS_SHOWN_MAX + 1)) ?? []
  const manifests = found.filter(({ isManifest }) => isManifest)
  const wanted = name === undefined ? undefined : await imageNamed(parts, name)
  const images = manifests.flatMap(({ digest, repositories }) =>
    repositories.filter(place => isWanted(place, wanted)).map(place => `${place}@${digest}`),
  )
  const [image] = images
  if (image !== undefined && images.length === 1) return image
  if (image === undefined) {
    // A word of hexadecimal digits may also be the name of a repository.
    if (name === undefined && parseImageName(text) !== undefined && !text.includes(':')) return text
    throw new OciError('MANIFEST_UNKNOWN', absence(quoted(text), found))
  }
  const shown = images.slice(0, AMBIGUOUS_SHOWN_MAX).join(', ')
  throw new OciError('NAME_INVALID', `image ${quoted(text)} means more than one: ${shown}`)
}

function isWanted(place: string, wanted: NamedImage | undefined): boolean {
  return wanted === undefined || place === `${wanted.source.namespace}/${wanted.source.repository}`
}

function absence(text: string, found: readonly ObjectEntry[]): string {
  const [blob] = found.filter(({ isManifest }) => !isManifest)
  return blob === undefined
    ? `no cached image has a digest that begins as ${text} does`
    : `${text} is no image but a blob of ${blob.repositories.slice(0, AMBIGUOUS_SHOWN_MAX).join(', ')}`
}

export function limitOf(query: URLSearchParams): number {
  const text = query.get('limit') ?? String(LIMIT_DEFAULT)
  const limit = Number(text)
  if (/^[0-9]+$/.test(text) && limit >= 1 && limit <= LIMIT_MAX) return limit
  throw invalid('limit', text, `a whole number from 1 to ${LIMIT_MAX}`)
}

/** The order of a list of blobs. */
export function blobOrderOf(query: URLSearchParams): (typeof BLOB_ORDERS)[number] {
  return orderOf(query, BLOB_ORDERS, 'last-use')
}

/** The order of a list of images. */
export function imageOrderOf(query: URLSearchParams): (typeof IMAGE_ORDERS)[number] {
  return orderOf(query, IMAGE_ORDERS, 'name')
}

function orderOf<Order extends string>(
  query: URLSearchParams,
  orders: readonly Order[],
  fallback: Order,
): Order {
  const text = query.get('sort') ?? fallback
  const order = orders.find(known => known === text)
  if (order !== undefined) return order
  throw invalid('sort', text, `one of ${orders.join(', ')}`)
}

/** Reads the patterns of images; none selects all of them. */
export function patternsOf(query: URLSearchParams): readonly string[] {
  const patterns = query.getAll('pattern')
  for (const pattern of patterns) {
    if (imageMatcher(pattern) === undefined)
      throw invalid('pattern', pattern, 'a pattern of image names such as docker.io/library/*')
  }
  return patterns
}

/** Reads `registry`; `undefined` if the parameter is missing. */
export function registryOf(query: URLSearchParams): string | undefined {
  const text = query.get('registry')
  if (text === null) return undefined
  const namespace = parseConfiguredNamespace(text)
  if (namespace !== undefined) return namespace
  throw invalid('registry', text, 'the name of a registry such as ghcr.io')
}

/** Reads `kind`; both kinds if the parameter is missing. */
export function kindOf(query: URLSearchParams): ImageKind {
  const text = query.get('kind') || undefined
  if (text === undefined || text === 'cached' || text === 'hosted') return text
  throw invalid('kind', text, 'cached or hosted')
}

/** Reads `unused`, a duration in milliseconds; `undefined` if the parameter is missing. */
export function unusedMsOf(query: URLSearchParams): number | undefined {
  const text = query.get('unused')
  if (text === null) return undefined
  if (/^[0-9]{1,15}$/.test(text)) return Number(text)
  throw invalid('unused', text, 'a number of milliseconds')
}

/** Reads a switch, which is off if the parameter is missing. */
export function isOn(query: URLSearchParams, name: string): boolean {
  const text = query.get(name) ?? 'false'
  if (text === 'true' || text === 'false') return text === 'true'
  throw invalid(name, text, 'true or false')
}

/** Reads `after` of a list whose cursors have this form. */
export function cursorOf(query: URLSearchParams, form: RegExp): string | undefined {
  const text = query.get('after')
  if (text === null) return undefined
  if (form.test(text)) return text
  throw invalid('after', text, 'the "next" of the page before')
}

/** A cursor of the list of blobs: the number of blobs before it. */
export const BLOB_CURSOR = /^[0-9]{1,15}$/
/** A cursor of the list of events: the sequence number of the last one. */
export const EVENT_CURSOR = /^[0-9]{1,15}$/
/**
 * A cursor of the list of images: the namespace, repository and reference of the last one, or the number of
 * images before the page if it is not sorted by name.
 */
export const IMAGE_CURSOR =
  /^(?:[a-z0-9._:[\]-]{1,253} [a-z0-9._/-]{1,255} [A-Za-z0-9_][A-Za-z0-9._:-]{0,135}|[0-9]{1,15})$/

export function platformsIn(query: URLSearchParams): readonly Platform[] {
  return query.getAll('platform').map(text => {
    const platform = parsePlatform(text)
    if (platform !== undefined) return platform
    throw invalid('platform', text, 'a platform such as linux/amd64')
  })
}

/** Reads `bytes`; `undefined` if the parameter is missing. */
export function sizeIn(query: URLSearchParams): number | undefined {
  const text = query.get('bytes')
  if (text === null) return undefined
  const bytes = Number(text)
  if (/^[0-9]+$/.test(text) && Number.isSafeInteger(bytes) && bytes > 0) return bytes
  throw invalid('bytes', text, 'a whole number above 0')
}

/** Reads a time in ISO 8601, in milliseconds since 1970. */
export function timeIn(query: URLSearchParams, name: string, absentMs: number): number {
  const text = query.get(name)
  if (text === null) return absentMs
  const atMs = Date.parse(text)
  if (!Number.isNaN(atMs)) return atMs
  throw invalid(name, text, 'a time such as 2026-11-21T03:00:00Z')
}

function invalid(name: string, value: string, accepted: string): OciError {
  return new OciError('REQUEST_INVALID', `${name} ${quoted(value)} is not ${accepted}`)
}

function quoted(value: string): string {
  return JSON.stringify(value.length > QUOTED_MAX ? `${value.slice(0, QUOTED_MAX)}…` : value)
}
