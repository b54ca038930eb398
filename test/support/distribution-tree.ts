import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OCI_INDEX, OCI_MANIFEST } from '../../src/oci/media-type.ts'

interface ImageParts {
  readonly layers: readonly Uint8Array[]
  readonly extra?: object
}

/** The directory of a Distribution registry, as that program lays it out. */
export class DistributionTree implements AsyncDisposable {
  readonly root: string

  constructor(root: string) {
    this.root = root
  }

  static async make(): Promise<DistributionTree> {
    return new DistributionTree(await mkdtemp(join(tmpdir(), 'entrepot-distribution-')))
  }

  async blob(repository: string, bytes: Uint8Array): Promise<Digest> {
    const digest = digestOf(bytes)
    await this.#write(this.dataOf(digest), bytes)
    await this.#write(`repositories/${repository}/_layers/${digest.replace(':', '/')}/link`, digest)
    return digest
  }

  /** Path of the bytes of a digest, below `docker/registry/v2/`. */
  dataOf(digest: Digest): string {
    const [algorithm = '', hex = ''] = digest.split(':')
    return `blobs/${algorithm}/${hex.slice(0, 2)}/${hex}/data`
  }

  async manifest(repository: string, document: object): Promise<Digest> {
    const bytes = Buffer.from(JSON.stringify(document))
    const digest = digestOf(bytes)
    await this.#write(this.dataOf(digest), bytes)
    await this.#write(
      `repositories/${repository}/_manifests/revisions/${digest.replace(':', '/')}/link`,
      digest,
    )
    return digest
  }

  async image(repository: string, { layers, extra = {} }: ImageParts): Promise<Digest> {
    const described = async (bytes: Uint8Array, mediaType: string) => ({
      mediaType,
      digest: await this.blob(repository, bytes),
      size: bytes.byteLength,
    })
    const parts = []
    for (const layer of layers)
      parts.push(await described(layer, 'application/vnd.oci.image.layer.v1.tar+gzip'))
    return await this.manifest(repository, {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: await described(Buffer.from('{}'), 'application/vnd.oci.image.config.v1+json'),
      layers: parts,
      ...extra,
    })
  }

  async index(repository: string, children: readonly Digest[]): Promise<Digest> {
    const manifests = children.map(digest => ({ mediaType: OCI_MANIFEST, digest, size: 1 }))
    return await this.manifest(repository, { schemaVersion: 2, mediaType: OCI_INDEX, manifests })
  }

  /** Sets a tag, with the time at which it was set in seconds since 1970. */
  async tag(repository: string, tag: string, digest: Digest, atSeconds = 1_700_000_000): Promise<void> {
    const at = `repositories/${repository}/_manifests/tags/${tag}`
    await this.#write(`${at}/index/${digest.replace(':', '/')}/link`, digest)
    await this.#write(`${at}/current/link`, digest)
    await utimes(this.path(`${at}/current/link`), atSeconds, atSeconds)
  }

  /** Removes what is below a path. */
  async remove(path: string): Promise<void> {
    await rm(this.path(path), { recursive: true })
  }

  async damage(digest: Digest): Promise<void> {
    await writeFile(this.path(this.dataOf(digest)), 'damaged')
  }

  path(name: string): string {
    return join(this.root, 'docker/registry/v2', name)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true, force: true })
  }

  async #write(name: string, bytes: Uint8Array | string): Promise<void> {
    await mkdir(dirname(this.path(name)), { recursive: true })
    await writeFile(this.path(name), bytes)
  }
}
