import { type Digest, parseDigest } from './digest.ts'
import {
  DOCKER_LIST,
  DOCKER_MANIFEST,
  essenceOf,
  isBlobOfIndex,
  OCI_INDEX,
  OCI_MANIFEST,
} from './media-type.ts'

/** The part of an OCI content descriptor that this program uses. */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly sizeBytes: number
}

/** The largest manifest that is accepted, in bytes: 4 MiB, as the OCI distribution specification advises. */
export const MANIFEST_SIZE_MAX = 4 * 1024 * 1024

const DEPTH_MAX = 32
const DESCRIPTORS_MAX = 10_000

/** Type of a manifest and the content that it names. */
export interface Manifest {
  /** The only type these bytes are served as. It depends on the bytes alone, so it never changes. */
  readonly mediaType: string
  /** An image manifest names blobs, an index names manifests, and that of a build cache names blobs too. */
  readonly kind: 'image' | 'index'
  /**
   * Configuration and layers of an image, or of a build cache, that a registry stores, without layers that
   * have foreign `urls`.
   */
  readonly blobs: readonly Descriptor[]
  /** The manifests of an index. */
  readonly manifests: readonly Descriptor[]
}

/** The document cannot be served as a manifest; the message says why. */
export class ManifestError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ManifestError'
  }
}

/**
 * Reads a manifest. Throws a {@link ManifestError} if it is too large, is not JSON, is nested deeper than 32,
 * names more than 10,000 descriptors, has an unknown type, is both an index and an image (CVE-2021-41190), or
 * is of another type than its `Content-Type`.
 */
export function parseManifest(bytes: Uint8Array, contentType?: string): Manifest {
  if (bytes.byteLength > MANIFEST_SIZE_MAX)
    throw new ManifestError(`manifest is larger than ${MANIFEST_SIZE_MAX} bytes`)
  requireShallow(bytes)
  const document = parseObject(bytes)
  const manifest = readDocument(document)
  requireSameType(manifest, contentType)
  return manifest
}

function parseObject(bytes: Uint8Array): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes))
  } catch (cause) {
    throw new ManifestError('manifest is not JSON in UTF-8', { cause })
  }
  if (!isObject(value)) throw new ManifestError('manifest is not a JSON object')
  return value
}

function readDocument(document: Record<string, unknown>): Manifest {
  const hasLayers = isPresent(document['layers']) || isPresent(document['config'])
  // Go writes an empty list as null, so a `manifests` of null still makes an index.
  const hasManifests = isPresent(document['manifests']) || ('manifests' in document && !hasLayers)
  if (hasManifests && hasLayers) throw new ManifestError('manifest is an index and an image at once')
  if (document['fsLayers'] !== undefined || document['schemaVersion'] === 1) {
    throw new ManifestError('manifest uses the retired schema 1')
  }
  if (!hasManifests && !hasLayers) throw new ManifestError('manifest has neither "manifests" nor "layers"')
  const kind = hasManifests ? 'index' : 'image'
  const listed = hasManifests ? descriptors(document['manifests'] ?? [], 'manifests') : []
  return {
    mediaType: declaredType(document, kind),
    kind,
    blobs: hasManifests ? listed.filter(entry => isBlobOfIndex(entry.mediaType)) : imageBlobs(document),
    manifests: listed.filter(entry => !isBlobOfIndex(entry.mediaType)),
  }
}

function imageBlobs(document: Record<string, unknown>): readonly Descriptor[] {
  const config = isPresent(document['config']) ? descriptors([document['config']], 'config') : []
  const layers = isPresent(document['layers']) ? descriptors(document['layers'], 'layers') : []
  return [...config, ...layers]
}

/** Allowed values of `mediaType` for each shape of document. The first is used if the document has none. */
const TYPES = {
  index: [OCI_INDEX, DOCKER_LIST],
  image: [OCI_MANIFEST, DOCKER_MANIFEST],
} as const satisfies Record<Manifest['kind'], readonly string[]>

function declaredType(document: Record<string, unknown>, kind: Manifest['kind']): string {
  const declared = document['mediaType']
  if (declared === undefined || declared === '') return TYPES[kind][0]
  const known: readonly string[] = TYPES[kind]
  if (typeof declared !== 'string' || !known.includes(declared)) {
    throw new ManifestError(`manifest has the shape of an ${kind} but another "mediaType"`)
  }
  return declared
}

/** A generic Content-Type is ignored. A manifest type other than the document's own is an attack or a bug. */
function requireSameType(manifest: Manifest, contentType: string | undefined): void {
  const essence = essenceOf(contentType)
  const known: readonly string[] = [...TYPES.index, ...TYPES.image]
  if (!known.includes(essence) || essence === manifest.mediaType) return
  throw new ManifestError(`manifest was sent as ${essence} but is ${manifest.mediaType}`)
}

function descriptors(value: unknown, where: string): readonly Descriptor[] {
  if (!Array.isArray(value)) throw new ManifestError(`"${where}" of the manifest is not a list`)
  if (value.length > DESCRIPTORS_MAX)
    throw new ManifestError(`"${where}" of the manifest has over ${DESCRIPTORS_MAX} entries`)
  return value.flatMap(entry => {
    const descriptor = readDescriptor(entry, where)
    return descriptor === undefined ? [] : [descriptor]
  })
}

/**
 * `undefined` for content that registries do not store: foreign layers, and digests of algorithms that we
 * cannot verify.
 */
function readDescriptor(entry: unknown, where: string): Descriptor | undefined {
  if (!isObject(entry))
    throw new ManifestError(`"${where}" of the manifest has an entry that is not an object`)
  const {
    digest: text,
    mediaType,
    size,
    urls,
  } = entry as { digest?: unknown; mediaType?: unknown; size?: unknown; urls?: unknown }
  if (typeof text !== 'string')
    throw new ManifestError(`"${where}" of the manifest has an entry without a digest`)
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw new ManifestError(`"${where}" of the manifest has an entry without a size`)
  }
  const digest = parseDigest(text)
  if (digest === undefined || (Array.isArray(urls) && urls.length > 0)) return undefined
  return { digest, sizeBytes: size, mediaType: typeof mediaType === 'string' ? mediaType : '' }
}

/** Scans before parsing: a document of a million brackets costs the parser most of a second. */
export function requireShallow(bytes: Uint8Array): void {
  let depth = 0
  let inString = false
  for (let index = 0; index < bytes.length; index += 1) {
    const byte = bytes[index]
    if (inString) {
      if (byte === BACKSLASH) index += 1
      else if (byte === QUOTE) inString = false
    } else if (byte === QUOTE) inString = true
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth += 1
      if (depth > DEPTH_MAX) throw new ManifestError(`manifest is nested deeper than ${DEPTH_MAX}`)
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth -= 1
  }
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
