import { createHash } from 'node:crypto'
import { algorithmOf, type Digest, hexOf, parseDigest } from '../oci/digest.ts'
import { parseRepositoryName, parseTag } from '../oci/name.ts'
import { parseConfiguredNamespace } from '../oci/namespace.ts'
import type { Place } from '../oci/place.ts'
import { parseUploadId } from '../oci/upload-id.ts'
import type { RecordGroup, RecordName } from './store.ts'

/**
 * The key of content, for blobs and manifests alike. mcronce/oci-registry 0.4 uses the same key for blobs,
 * below its `--root` and in its bucket, so a cache of that program can be used at once.
 */
export function contentKey(digest: Digest): string {
  const hex = hexOf(digest)
  return `blobs/${algorithmOf(digest)}/${hex.slice(0, 2)}/${hex.slice(2)}`
}

/**
 * The key of a record. Two names never share a key, and no key is a directory of another: a namespace
 * contains no `/`, and no component of a repository name starts with `_`, so the first component that does
 * ends the repository. Keys that differ only in case (tags may) are different keys, so a file system that
 * folds case cannot hold a store.
 */
export function recordKey(name: RecordName): string {
  switch (name.kind) {
    case 'tag':
      return `repositories/${placeKey(name)}/_tags/${name.tag}`
    case 'history':
      return `history/${placeKey(name)}/_tags/${name.tag}`
    case 'move':
    case 'decision':
      return `${groupPrefix(name)}${name.id}`
    case 'link':
      return `repositories/${placeKey(name)}/_links/${digestPath(name.digest)}`
    case 'hosted-repository':
      return `${groupPrefix(name)}${name.namespace}/${name.repository.replaceAll('/', '+')}`
    case 'hosted-upload':
      return `${groupPrefix(name)}${name.id}`
    case 'run':
      return `${groupPrefix(name)}${name.number}`
    case 'hosted-tag':
    case 'hosted-tagged':
      return `${groupPrefix(name)}${name.tag}`
    case 'hosted-manifest':
    case 'hosted-blob':
    case 'hosted-unneeded':
      return `${groupPrefix(name)}${digestPath(name.digest)}`
    case 'hosted-removal':
      return `hosted/removing/${digestPath(name.digest)}`
    case 'hosted-referrer':
      return `${groupPrefix(name)}${digestFileName(name.referrer)}`
    case 'hosted-hold':
      return `${groupPrefix(name)}${holderPath(name, name.by)}`
    case 'pulls':
      return `${HOSTED}/${placeKey(name)}/_pulls/${name.shard}`
    case 'scrub':
    case 'pins-damaged':
    case 'robots-damaged':
    case 'robots-used':
    case 'signing-key':
    case 'traffic':
      return `state/${name.kind}`
    default:
      return name satisfies never
  }
}

/** What the keys of all records of a group begin with: a directory of their own. */
export function groupPrefix(group: RecordGroup): string {
  switch (group.kind) {
    case 'run':
      return `runs/${group.job}/`
    case 'decision':
      return `decisions/${group.about}/`
    case 'move':
      return `history/${placeKey(group)}/_moves/${group.tag === undefined ? '' : `${group.tag}/`}`
    case 'hosted-repository':
      return 'hosted/names/'
    case 'hosted-upload':
      return 'hosted/uploads/'
    case 'hosted-unneeded':
      return 'hosted/unneeded/'
    case 'hosted-tag':
      return `${HOSTED}/${placeKey(group)}/_tags/`
    case 'hosted-manifest':
      return `${HOSTED}/${placeKey(group)}/_manifests/`
    case 'hosted-blob':
      return `${HOSTED}/${placeKey(group)}/_blobs/`
    case 'hosted-referrer':
      return `${HOSTED}/${placeKey(group)}/_referrers/${digestPath(group.digest)}/`
    case 'hosted-tagged':
      return `${HOSTED}/${placeKey(group)}/_tagged/${digestPath(group.digest)}/`
    case 'hosted-hold':
      return group.digest === undefined ? `${HOLDS}/` : `${contentKey(group.digest).replace('blobs', HOLDS)}/`
    default:
      return group satisfies never
  }
}

const HOSTED = 'hosted/repositories'
const HOLDS = 'hosted/holds'
/** The holder of content that a repository holds as its own manifest or blob. */
const ITSELF = 'itself'
/** The most that eCryptfs allows; other file systems allow 255. */
const HOLDER_LENGTH_MAX = 143

function placeKey({ namespace, repository }: Place): string {
  return `${namespace}/${repository}`
}

/**
 * A holder as one file, because each directory of a file system costs a push a write and a sync. Names that
 * are too long for one file have a directory for the namespace and one for the repository.
 */
function holderPath({ namespace, repository }: Place, by: Digest | undefined): string {
  const parts = [namespace, repository.replaceAll('/', '+'), by === undefined ? ITSELF : digestFileName(by)]
  const name = parts.join('+')
  return name.length <= HOLDER_LENGTH_MAX ? name : parts.join('/')
}

function digestPath(digest: Digest): string {
  return `${algorithmOf(digest)}/${hexOf(digest)}`
}

/** The digest of a key made by {@link contentKey}; `undefined` for any other key. */
export function parseContentKey(key: string): Digest | undefined {
  const [root, algorithm, first, rest, ...more] = key.split('/')
  if (root !== 'blobs' || first?.length !== 2 || more.length > 0) return undefined
  return parseDigest(`${algorithm}:${first}${rest}`)
}

/** The name of the record of a key made by {@link recordKey}; `undefined` for any other key. */
export function parseRecordKey(key: string): RecordName | undefined {
  const [root, area, ...rest] = key.split('/')
  if (root === 'repositories') return parseCacheKey(key)
  if (root === 'runs') return parseRunKey(area, rest)
  if (root === 'decisions') return parseDecisionKey(area, rest)
  if (root === 'history') return parseMoveKey(key)
  if (root !== 'hosted') return undefined
  switch (area) {
    case 'names':
      return parseRepositoryKey(rest)
    case 'uploads': {
      const id = rest.length === 1 ? parseUploadId(rest[0] ?? '') : undefined
      return id === undefined ? undefined : { kind: 'hosted-upload', id }
    }
    case 'unneeded': {
      const digest = rest.length === 2 ? parseDigest(rest.join(':')) : undefined
      return digest === undefined ? undefined : { kind: 'hosted-unneeded', digest }
    }
    case 'repositories':
      return parseHostedKey(rest)
    case 'holds':
      return parseHoldKey(rest)
    case undefined:
    default:
      return undefined
  }
}

function parseRunKey(job = '', [number = '', ...more]: readonly string[]): RecordName | undefined {
  const isRun = /^[a-z]+$/.test(job) && /^[1-9][0-9]{0,8}$/.test(number) && more.length === 0
  return isRun ? { kind: 'run', job, number: Number(number) } : undefined
}

function parseDecisionKey(about: string | undefined, parts: readonly string[]): RecordName | undefined {
  const [id = '', ...more] = parts
  const known = SUBJECTS.find(subject => subject === about)
  if (known === undefined || more.length > 0 || !/^[0-9a-f]{12,64}$/.test(id)) return undefined
  return { kind: 'decision', about: known, id }
}

const SUBJECTS = ['pins', 'pins-copy', 'robots', 'robots-copy'] as const

function parseMoveKey(key: string): RecordName | undefined {
  const { place, marker, rest } = splitPlace(key.split('/').slice(1))
  const [tagText = '', id = '', ...more] = rest
  const tag = parseTag(tagText)
  if (place === undefined || marker !== '_moves' || tag === undefined || more.length > 0) return undefined
  return /^[0-9]{15}-[0-9a-f]{12}$/.test(id) ? { kind: 'move', ...place, tag, id } : undefined
}

function parseCacheKey(key: string): RecordName | undefined {
  const { place, marker, rest } = splitPlace(key.split('/').slice(1))
  const [first = '', second, ...more] = rest
  if (place === undefined || more.length > 0) return undefined
  if (marker === '_tags') {
    const tag = second === undefined ? parseTag(first) : undefined
    return tag === undefined ? undefined : { kind: 'tag', ...place, tag }
  }
  const digest = marker === '_links' ? parseDigest(`${first}:${second}`) : undefined
  return digest === undefined ? undefined : { kind: 'link', ...place, digest }
}

function parseRepositoryKey(parts: readonly string[]): RecordName | undefined {
  const [namespace = '', name = '', ...more] = parts
  if (more.length > 0) return undefined
  const place = parsePlace(namespace, name.replaceAll('+', '/'))
  return place === undefined ? undefined : { kind: 'hosted-repository', ...place }
}

function parseHostedKey(parts: readonly string[]): RecordName | undefined {
  const { place, marker, rest } = splitPlace(parts)
  const [first = '', second = '', third = '', ...more] = rest
  if (place === undefined || more.length > 0) return undefined
  if (marker === '_tags') {
    const tag = rest.length === 1 ? parseTag(first) : undefined
    return tag === undefined ? undefined : { kind: 'hosted-tag', ...place, tag }
  }
  const digest = parseDigest(`${first}:${second}`)
  if (digest === undefined) return undefined
  if (marker === '_referrers') {
    const referrer = parseDigestFileName(third)
    return referrer === undefined ? undefined : { kind: 'hosted-referrer', ...place, digest, referrer }
  }
  if (marker === '_tagged') {
    const tag = parseTag(third)
    return tag === undefined ? undefined : { kind: 'hosted-tagged', ...place, digest, tag }
  }
  if (rest.length !== 2) return undefined
  if (marker === '_manifests') return { kind: 'hosted-manifest', ...place, digest }
  return marker === '_blobs' ? { kind: 'hosted-blob', ...place, digest } : undefined
}

function parseHoldKey([algorithm, first, rest, ...parts]: readonly string[]): RecordName | undefined {
  const digest = parseContentKey(`blobs/${algorithm}/${first}/${rest}`)
  // One file or three components: no namespace and no digest has a `+`.
  const [namespace = '', ...names] = parts.join('+').split('+')
  const holder = names.pop() ?? ''
  const place = parsePlace(namespace, names.join('/'))
  if (digest === undefined || place === undefined) return undefined
  if (holder === ITSELF) return { kind: 'hosted-hold', ...place, digest }
  const by = parseDigestFileName(holder)
  return by === undefined ? undefined : { kind: 'hosted-hold', ...place, digest, by }
}

interface SplitKey {
  readonly place: Place | undefined
  readonly marker: string | undefined
  readonly rest: readonly string[]
}

/** Splits the parts of a key at the first component that no repository name can have. */
function splitPlace([namespace = '', ...parts]: readonly string[]): SplitKey {
  const end = parts.findIndex(part => part.startsWith('_'))
  const place = end === -1 ? undefined : parsePlace(namespace, parts.slice(0, end).join('/'))
  return { place, marker: parts[end], rest: parts.slice(end + 1) }
}

function parsePlace(namespaceText: string, repositoryText: string): Place | undefined {
  const namespace = parseConfiguredNamespace(namespaceText)
  const repository = parseRepositoryName(repositoryText)
  if (namespace !== namespaceText || repository === undefined) return undefined
  return { namespace, repository }
}

/** A digest as one component of a file name: `<algorithm>-<hex>`. */
export function digestFileName(digest: Digest): string {
  return `${algorithmOf(digest)}-${hexOf(digest)}`
}

/** The inverse of {@link digestFileName}; `undefined` for any other name. */
function parseDigestFileName(name: string): Digest | undefined {
  return parseDigest(name.replace('-', ':'))
}

/** The name of a local copy's file: its digest and its size. */
export function copyFileName(digest: Digest, sizeBytes: number): string {
  return `${digestFileName(digest)}.${sizeBytes}`
}

/** The inverse of {@link copyFileName}; `undefined` for any other name. */
export function parseCopyFileName(
  name: string,
): { readonly digest: Digest; readonly sizeBytes: number } | undefined {
  const [digestText = '', sizeText = '', ...more] = name.split('.')
  const digest = parseDigestFileName(digestText)
  if (digest === undefined || more.length > 0 || !/^(?:0|[1-9][0-9]{0,14})$/.test(sizeText)) return undefined
  return { digest, sizeBytes: Number(sizeText) }
}

/**
 * The name of a leftover: its digest and, for a claimant, a mark of that claimant which no other can make.
 */
export function leftoverFileName(digest: Digest, claimant: string | undefined): string {
  if (claimant === undefined) return digestFileName(digest)
  const mark = createHash('sha256').update(claimant).digest('hex').slice(0, CLAIMANT_HEX)
  return `${digestFileName(digest)}.${mark}`
}

const CLAIMANT_HEX = 32

/** The name of a leftover at the start of a file name, followed by a dot. */
const LEFTOVER_NAME = new RegExp(
  `^((?:sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(?:\\.[0-9a-f]{${CLAIMANT_HEX}})?)\\.`,
)

/**
 * The {@link leftoverFileName} at the start of a spool's name; `undefined` if the name is not that of a
 * spool.
 */
export function parseLeftoverName(name: string): string | undefined {
  return LEFTOVER_NAME.exec(name)?.[1]
}

/** Largest size of a record, in bytes; a larger one is broken. */
export const RECORD_BYTES_MAX = 64 * 1024

/** Throws if the bytes are too many for a record. */
export function requireRecordSize(bytes: Uint8Array): void {
  if (bytes.length > RECORD_BYTES_MAX) throw new RangeError(`a record of ${bytes.length} bytes is too large`)
}
