/** Media types of manifests. */
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'

/**
 * Types of layers that a registry may lack: their bytes may be elsewhere, so it does not check for them when
 * a manifest names them.
 */
const FOREIGN_LAYERS = [
  'application/vnd.docker.image.rootfs.foreign.',
  'application/vnd.oci.image.layer.nondistributable.',
] as const

/**
 * Types of blobs that an index may list. BuildKit exports its cache as an index of layers and of the cache's
 * configuration, unless `image-manifest=true` is set, as it is by default in newer releases.
 */
const BLOBS_OF_INDEX = [
  'application/vnd.oci.image.layer.',
  'application/vnd.docker.image.rootfs.',
  'application/vnd.buildkit.cacheconfig.',
] as const

/** Type of a blob if no better one is known. */
export const OCTET_STREAM = 'application/octet-stream'

/**
 * The only `Accept` value sent upstream, whatever the client sent. An upstream that gets fewer types may
 * convert the image (docker-registry 2.8 answers with signed schema 1, with a new digest each time) or deny
 * that an index exists.
 */
export const MANIFEST_ACCEPT = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, '*/*'].join(', ')

const MANIFEST_TYPES: ReadonlySet<string> = new Set([OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST])

/** True for the types of manifests that we serve. A generic type and schema 1 do not count. */
export function isManifestType(contentType: string | undefined): boolean {
  return MANIFEST_TYPES.has(essenceOf(contentType))
}

/** The type in lower case, without its parameters; empty if there is none. */
export function essenceOf(contentType: string | undefined): string {
  return (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
}

/**
 * True if a manifest may name a blob of this type that its registry does not have (image specification,
 * "Non-Distributable Layers").
 */
export function isForeignLayer(mediaType: string): boolean {
  const essence = essenceOf(mediaType)
  return FOREIGN_LAYERS.some(prefix => essence.startsWith(prefix))
}

/** True if an index that lists content of this type means a blob and not a manifest. */
export function isBlobOfIndex(mediaType: string): boolean {
  const essence = essenceOf(mediaType)
  return BLOBS_OF_INDEX.some(prefix => essence.startsWith(prefix))
}
