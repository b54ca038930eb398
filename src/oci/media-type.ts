/** Media types of the documents that are manifests. */
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'

/** What a blob is served as when nothing better is known. */
export const OCTET_STREAM = 'application/octet-stream'

/**
 * The one `Accept` value sent upstream, whatever the client sent: an upstream that sees less may convert the image
 * (docker-registry 2.8 answers with signed schema 1, another digest each time) or deny that an index exists.
 */
export const MANIFEST_ACCEPT = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, '*/*'].join(', ')

/** The type without its parameters, lower-cased; empty when there is none. */
export function essenceOf(contentType: string | undefined): string {
  return (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
}
