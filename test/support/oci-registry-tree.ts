import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OCI_MANIFEST } from '../../src/oci/media-type.ts'
import { contentKey } from '../../src/storage/layout.ts'

/** The cache of a mcronce/oci-registry 0.4, as that program lays it out. */
export class OciRegistryTree implements AsyncDisposable {
  readonly root: string

  private constructor(root: string) {
    this.root = root
  }

  static async make(): Promise<OciRegistryTree> {
    return new OciRegistryTree(await mkdtemp(join(tmpdir(), 'entrepot-oci-registry-')))
  }

  async blob(bytes: Uint8Array): Promise<Digest> {
    const digest = digestOf(bytes)
    await this.write(contentKey(digest), bytes)
    return digest
  }

  /** Caches an image under references of a repository, by digest if none is given. */
  async image(
    name: string,
    layers: readonly Uint8Array[],
    references: readonly string[] = [],
  ): Promise<{ readonly digest: Digest; readonly bytes: Uint8Array }> {
    const described = layers.map(layer => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest: digestOf(layer),
      size: layer.byteLength,
    }))
    for (const layer of layers) await this.blob(layer)
    const [config] = described
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: described }),
    )
    const digest = digestOf(bytes)
    for (const reference of references.length === 0 ? [digest] : references)
      await this.manifest(`${name}/${reference}`, { manifest: [...bytes], media_type: OCI_MANIFEST, digest })
    return { digest, bytes }
  }

  async manifest(path: string, document: object, atSeconds = 1_700_000_000): Promise<void> {
    await this.write(`manifests/${path}`, JSON.stringify(document))
    await utimes(join(this.root, 'manifests', path), atSeconds, atSeconds)
  }

  async write(name: string, bytes: Uint8Array | string): Promise<void> {
    await mkdir(dirname(join(this.root, name)), { recursive: true })
    await writeFile(join(this.root, name), bytes)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true, force: true })
  }
}
