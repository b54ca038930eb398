import { type Digest, digestOf, parseDigest } from '../oci/digest.ts'
import { MANIFEST_SIZE_MAX } from '../oci/manifest.ts'
import { parseTag } from '../oci/name.ts'
import {
  type FoundRepository,
  type FoundTag,
  type MigrationSource,
  readSmall,
  type SourceEntry,
  SourceError,
  type SourceTree,
} from './source.ts'

const MANIFESTS = 'manifests'
/** Each byte of a manifest is a number and a comma in its file. */
const FILE_SIZE_MAX = 4 * MANIFEST_SIZE_MAX + 64 * 1024

/**
 * The cache of mcronce/oci-registry, a directory or a bucket; `undefined` if the tree is not one. It may also
 * be the store of this program, which was put in its place: the blobs are where they were.
 */
export async function findOciRegistry(tree: SourceTree): Promise<MigrationSource | undefined> {
  return (await tree.has(MANIFESTS)) ? new OciRegistrySource(tree) : undefined
}

/** Manifests by tag and by digest are in `manifests/<registry>/<repository>/<reference>`. */
class OciRegistrySource implements MigrationSource {
  readonly title: string
  readonly isCache = true
  readonly #tree: SourceTree

  constructor(tree: SourceTree) {
    this.title = `${tree.name}, the cache of an oci-registry`
    this.#tree = tree
  }

  async *repositories(): AsyncGenerator<FoundRepository | (SourceEntry & { readonly kind: 'trouble' })> {
    const files = new Map<string, string[]>()
    for await (const entry of this.#tree.walk(MANIFESTS, () => true)) {
      if (entry.kind === 'trouble') {
        yield entry
        continue
      }
      const path = entry.path.slice(MANIFESTS.length + 1)
      const slash = path.lastIndexOf('/')
      const name = path.slice(0, Math.max(0, slash))
      const references = files.get(name)
      if (references === undefined) files.set(name, [path.slice(slash + 1)])
      else references.push(path.slice(slash + 1))
    }
    for (const [name, references] of files) yield await this.#read(name, references)
  }

  async openBlob(digest: Digest): ReturnType<MigrationSource['openBlob']> {
    const [algorithm = '', hex = ''] = digest.split(':')
    return await this.#tree.open(`blobs/${algorithm}/${hex.slice(0, 2)}/${hex.slice(2)}`)
  }

  async #read(name: string, references: readonly string[]): Promise<FoundRepository> {
    const paths = new Map<Digest, string>()
    const tags: FoundTag[] = []
    const troubles: string[] = []
    for (const reference of references) {
      const path = `${MANIFESTS}/${name}/${reference}`
      const read = await this.#tryFile(path)
      if (typeof read === 'string') {
        troubles.push(`${reference}: ${read}`)
        continue
      }
      const digest = digestOf(read.bytes)
      const [tag, asked] = [parseTag(reference), parseDigest(reference)]
      if (asked !== undefined && asked !== digest)
        troubles.push(`${reference}: it is damaged: its bytes hash to ${digest}`)
      else if (asked === undefined && tag === undefined)
        troubles.push(`${reference}: it is neither a tag nor a digest`)
      else paths.set(digest, path)
      if (tag !== undefined) tags.push({ tag, digest, setAtMs: read.modifiedAtMs })
    }
    const readManifest = async (digest: Digest): Promise<Uint8Array | undefined> => {
      const path = paths.get(digest)
      return path === undefined ? undefined : (await this.#file(path)).bytes
    }
    return { name, manifests: [...paths.keys()], tags, troubles, readManifest }
  }

  async #tryFile(path: string): Promise<ReadManifest | string> {
    try {
      return await this.#file(path)
    } catch (error) {
      if (error instanceof SourceError && !error.isPassing) return error.message
      throw error
    }
  }

  async #file(path: string): Promise<ReadManifest> {
    const file = await readSmall(this.#tree, path, FILE_SIZE_MAX)
    if (file === undefined) throw new SourceError('it was removed meanwhile')
    return { bytes: manifestIn(file.bytes), modifiedAtMs: file.modifiedAtMs }
  }
}

interface ReadManifest {
  readonly bytes: Uint8Array
  readonly modifiedAtMs: number
}

/** A file is the JSON of `{manifest, media_type, digest}`, the first of which is a list of bytes. */
function manifestIn(text: Buffer): Uint8Array {
  const { manifest, digest } = parsed(text)
  const isBytes =
    Array.isArray(manifest) &&
    manifest.every(byte => Number.isInteger(byte) && Number(byte) >= 0 && Number(byte) < 256)
  if (!isBytes) throw new SourceError('it is damaged: it is not the file of a manifest')
  const bytes = Uint8Array.from(manifest as readonly number[])
  const stated = typeof digest === 'string' ? parseDigest(digest) : undefined
  if (stated?.startsWith('sha256:') === true && stated !== digestOf(bytes))
    throw new SourceError(`it is damaged: its bytes do not hash to ${stated}`)
  return bytes
}

function parsed(text: Buffer): { readonly manifest?: unknown; readonly digest?: unknown } {
  try {
    return (JSON.parse(text.toString('utf8')) ?? {}) as object
  } catch {
    throw new SourceError('it is damaged: it is not JSON')
  }
}
