import { type Digest, parseDigest } from '../oci/digest.ts'
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

/** Where Distribution keeps everything, below its root directory. */
const ROOT = 'docker/registry/v2/'
/** A link is a digest. */
const LINK_SIZE_MAX = 1024
/** The digest is the last part of a path, in two directories. */
const REVISION = /^revisions\/(sha256|sha512)\/([0-9a-f]+)\/link$/
const TAG = /^tags\/([^/]+)\/current\/link$/

/**
 * The storage of a Distribution registry (`registry:2`, `registry:3`, and others built on it); `undefined` if
 * the tree is not one. The path may be the registry's root directory, or the directory `v2` in it.
 */
export async function findDistribution(tree: SourceTree): Promise<MigrationSource | undefined> {
  for (const root of [ROOT, ''])
    if (await tree.has(`${root}repositories`)) return new DistributionSource(tree, root)
  return undefined
}

/**
 * A revision counts as there if it has a link: the bytes of the manifest prove the digest, so that a link
 * which a power cut has emptied does no harm. A tag without its digest is lost.
 */
class DistributionSource implements MigrationSource {
  readonly title: string
  readonly isCache = false
  readonly #tree: SourceTree
  readonly #root: string

  constructor(tree: SourceTree, root: string) {
    this.title = `${tree.name}, the storage of a Distribution registry`
    this.#tree = tree
    this.#root = root
  }

  async *repositories(): AsyncGenerator<FoundRepository | (SourceEntry & { readonly kind: 'trouble' })> {
    const top = `${this.#root}repositories`
    let current: Gathered | undefined
    for await (const entry of this.#tree.walk(top, isOfManifests)) {
      const [name = '', rest] = entry.path.slice(top.length + 1).split('/_manifests/', 2)
      if (entry.kind === 'trouble' && rest === undefined) {
        yield entry
        continue
      }
      if (rest === undefined) continue
      if (current?.name !== name) {
        if (current !== undefined) yield await this.#found(current)
        current = { name, manifests: [], tagLinks: [], troubles: [] }
      }
      gather(current, entry, rest)
    }
    if (current !== undefined) yield await this.#found(current)
  }

  async openBlob(digest: Digest): ReturnType<MigrationSource['openBlob']> {
    return await this.#tree.open(this.#blobPath(digest))
  }

  #blobPath(digest: Digest): string {
    const [algorithm = '', hex = ''] = digest.split(':')
    return `${this.#root}blobs/${algorithm}/${hex.slice(0, 2)}/${hex}/data`
  }

  async #found({ name, manifests, tagLinks, troubles }: Gathered): Promise<FoundRepository> {
    const tags: FoundTag[] = []
    for (const { tag: text, path } of tagLinks) {
      const found = await this.#readTag(text, path)
      if (typeof found === 'string') troubles.push(`tag ${text}: ${found}`)
      else tags.push(found)
    }
    return { name, manifests, tags, troubles, readManifest: async digest => await this.#readManifest(digest) }
  }

  async #readTag(text: string, path: string): Promise<FoundTag | string> {
    const tag = parseTag(text)
    if (tag === undefined) return 'it is not a valid tag'
    try {
      const link = await readSmall(this.#tree, path, LINK_SIZE_MAX)
      if (link === undefined) return 'its link is gone'
      const digest = parseDigest(link.bytes.toString('utf8').trim())
      return digest === undefined ? 'its link has no digest' : { tag, digest, setAtMs: link.modifiedAtMs }
    } catch (error) {
      if (error instanceof SourceError && !error.isPassing) return error.message
      throw error
    }
  }

  async #readManifest(digest: Digest): Promise<Uint8Array | undefined> {
    return (await readSmall(this.#tree, this.#blobPath(digest), MANIFEST_SIZE_MAX))?.bytes
  }
}

/** A repository while its files are walked. */
interface Gathered {
  readonly name: string
  readonly manifests: Digest[]
  readonly tagLinks: { readonly tag: string; readonly path: string }[]
  readonly troubles: string[]
}

function gather({ manifests, tagLinks, troubles }: Gathered, entry: SourceEntry, rest: string): void {
  if (entry.kind === 'trouble') {
    troubles.push(`${rest}: ${entry.why}`)
    return
  }
  const [, algorithm, hex] = REVISION.exec(rest) ?? []
  const digest = parseDigest(`${algorithm}:${hex}`)
  if (digest !== undefined) manifests.push(digest)
  const [, tag] = TAG.exec(rest) ?? []
  if (tag !== undefined) tagLinks.push({ tag, path: entry.path })
}

/** Names of repositories have no component that begins with `_`. Earlier digests of a tag do not count. */
function isOfManifests(directory: string): boolean {
  return !/\/(?:_layers|_uploads)$|\/_manifests\/tags\/[^/]+\/index$/.test(directory)
}
