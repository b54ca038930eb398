import { LRUCache } from 'lru-cache'
import { lruCache } from '../lib/lru.ts'
import type { Events } from '../observe/events.ts'
import { traced } from '../observe/tracing/span.ts'
import { type Digest, matchesDigest } from '../oci/digest.ts'
import { MANIFEST_SIZE_MAX, type Manifest, ManifestError, parseManifest } from '../oci/manifest.ts'
import type { Store, StoredObject } from '../storage/store.ts'
import { isDamage, isObstacle, openToServe, quarantine } from './damage.ts'
import { type Ledger, NO_LEDGER } from './ledger.ts'

const REMEMBERED_BYTES = 64 * 1024 * 1024
const UNSTORED_MAX = 10_000

/** A manifest whose bytes match its digest. */
export interface StoredManifest extends Manifest {
  readonly digest: Digest
  readonly bytes: Uint8Array
}

export interface StoredManifestsParts {
  readonly store: Store
  readonly events: Events
  readonly ledger?: Pick<Ledger, 'makeRoom'>
}

/** Proved and parsed manifests by digest, in memory and in the store, from any source. */
export class StoredManifests {
  readonly #parts: StoredManifestsParts
  readonly #remembered = new LRUCache<Digest, StoredManifest>({
    maxSize: REMEMBERED_BYTES,
    sizeCalculation: ({ bytes }) => bytes.byteLength + 1024,
  })
  /**
   * Manifests that the store could not take, with the namespace charged for each. Each is offered to the
   * store again whenever it is requested.
   */
  readonly #unstored = lruCache<Digest, string>(UNSTORED_MAX)

  constructor(parts: StoredManifestsParts) {
    this.#parts = parts
  }

  /**
   * The manifest if it is stored here; does not check permissions. A damaged manifest is quarantined and
   * counts as absent. So does one in a store that cannot be read.
   */
  async find(digest: Digest): Promise<StoredManifest | undefined> {
    const remembered = this.#remembered.get(digest)
    if (remembered !== undefined) {
      const namespace = this.#unstored.get(digest)
      if (namespace !== undefined) await this.#write(remembered, namespace)
      return remembered
    }
    const bytes = await this.#read(digest)
    if (bytes === undefined) return undefined
    try {
      const manifest = { ...parseManifest(bytes), digest, bytes }
      this.#remembered.set(digest, manifest)
      return manifest
    } catch (error) {
      if (error instanceof ManifestError) return undefined
      throw error
    }
  }

  /**
   * Stores a proved manifest and charges it to a namespace; `false` if only memory could take it. `isKept`
   * says that another replica has stored it in the same store.
   */
  async store(manifest: StoredManifest, namespace: string, isKept = false): Promise<boolean> {
    this.#remembered.set(manifest.digest, manifest)
    if (isKept && (await this.#isThere(manifest.digest))) return true
    return await this.#write(manifest, namespace)
  }

  /** True if the manifest outlives this process. A tag must not point at one that does not. */
  isStored(digest: Digest): boolean {
    return !this.#unstored.has(digest)
  }

  /** Drops the manifest from memory, for example when it is deleted. */
  forget(digest: Digest): void {
    this.#remembered.delete(digest)
  }

  async #isThere(digest: Digest): Promise<boolean> {
    try {
      await using object = await this.#parts.store.open(digest)
      return object !== undefined
    } catch {
      return false
    }
  }

  async #write({ digest, bytes }: StoredManifest, namespace: string): Promise<boolean> {
    const { store, events, ledger = NO_LEDGER } = this.#parts
    try {
      await using spool = await store.createSpool(digest)
      await spool.clear()
      if (!(await ledger.makeRoom(spool, { namespace, sizeBytes: bytes.byteLength }))) {
        this.#unstored.set(digest, namespace)
        return false
      }
      await spool.append(bytes)
      await traced('store', () => store.adopt(spool, digest, bytes.byteLength))
      events.bypassChanged(false, 'manifests')
      this.#unstored.delete(digest)
      return true
    } catch (error) {
      events.storageFailed('store-manifest', error)
      events.bypassChanged(true, 'manifests', error)
      this.#unstored.set(digest, namespace)
      return false
    }
  }

  async #read(digest: Digest): Promise<Uint8Array | undefined> {
    let version: string | undefined
    try {
      await using object = await openToServe(this.#parts.store, digest)
      if (object === undefined || object.sizeBytes > MANIFEST_SIZE_MAX) return undefined
      version = object.version
      const bytes = await readObject(object)
      if (matchesDigest(bytes, digest)) return bytes
      throw new Error('stored manifest does not match its digest')
    } catch (error) {
      const isBroken = version === undefined ? isObstacle(error) : isDamage(error)
      if (!isBroken) this.#parts.events.storageFailed('read-manifest', error)
      else if (await quarantine(this.#parts, { digest, version }, error)) return await this.#read(digest)
      return undefined
    }
  }
}

async function readObject(object: StoredObject): Promise<Uint8Array> {
  const bytes = new Uint8Array(object.sizeBytes)
  let filled = 0
  for await (const piece of object.read(0, object.sizeBytes)) {
    bytes.set(piece, filled)
    filled += piece.byteLength
  }
  return bytes
}
