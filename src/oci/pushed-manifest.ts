import { type Digest, parseDigest } from './digest.ts'
import { type Manifest, ManifestError, parseManifest } from './manifest.ts'
import { isForeignLayer } from './media-type.ts'

/** A manifest as it is pushed, with what a list of referrers says of it. */
export interface PushedManifest extends Manifest {
  /** The manifest that this one refers to. */
  readonly subject: Digest | undefined
  /** Its own artifact type, or that of an image's configuration. */
  readonly artifactType: string | undefined
  readonly annotations: Readonly<Record<string, string>> | undefined
}

/** Reads a manifest that is pushed; throws a {@link ManifestError} as `parseManifest` does. */
export function parsePushedManifest(bytes: Uint8Array, contentType?: string): PushedManifest {
  const manifest = parseManifest(bytes, contentType)
  const document = JSON.parse(Buffer.from(bytes).toString('utf8')) as Record<string, unknown>
  return {
    ...manifest,
    subject: subjectOf(document['subject']),
    artifactType: textOf(document['artifactType']) ?? textOf(memberOf(document['config'], 'mediaType')),
    annotations: annotationsOf(document['annotations']),
  }
}

/**
 * Digests that a registry must have before it takes the manifest: all but layers whose bytes may be
 * elsewhere. The subject is not among them: it may be pushed later.
 */
export function requiredBy({ blobs, manifests }: Manifest): {
  readonly blobs: readonly Digest[]
  readonly manifests: readonly Digest[]
} {
  return {
    blobs: blobs.filter(blob => !isForeignLayer(blob.mediaType)).map(({ digest }) => digest),
    manifests: manifests.map(({ digest }) => digest),
  }
}

function subjectOf(value: unknown): Digest | undefined {
  if (value === undefined || value === null) return undefined
  const digest = parseDigest(String(memberOf(value, 'digest')))
  if (digest === undefined) throw new ManifestError('"subject" of the manifest has no valid digest')
  return digest
}

function annotationsOf(value: unknown): Readonly<Record<string, string>> | undefined {
  if (value === undefined || value === null) return undefined
  const isText = typeof value === 'object' && Object.values(value).every(text => typeof text === 'string')
  if (!isText || Array.isArray(value)) throw new ManifestError('"annotations" of the manifest are not texts')
  return value as Record<string, string>
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
