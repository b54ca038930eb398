import { LRUCache } from 'lru-cache'
import type { Events } from '../observe/events.ts'
import { type Digest, digestOf, matchesDigest } from '../oci/digest.ts'
import { OciError, UpstreamError } from '../oci/error.ts'
import { MANIFEST_SIZE_MAX, type Manifest, ManifestError, parseManifest } from '../oci/manifest.ts'
import { isForeignLayer } from '../oci/media-type.ts'
import { type Reference, referenceText } from '../oci/reference.ts'
import type { Store, StoredObject } from '../storage/store.ts'
import type { FetchedManifest } from '../upstream/registry.ts'
import { isDamage, isObstacle, quarantine } from './damage.ts'
import { SharedCalls } from './flights.ts'
import type { Ledger } from './ledger.ts'
import type { Links } from './links.ts'
import type { Source } from './sources.ts'
import type { Tags } from './tags.ts'

const REMEMBERED_BYTES = 64 * 1024 * 1024
const FETCHES_MAX = 4096
const UNSTORED_MAX = 10_000

/** A manifest whose bytes match its digest. */
export interface StoredManifest extends Manifest {
  readonly digest: Digest
  readonly bytes: Uint8Array
}

/** What {@link Manifests} works with. */
export interface ManifestParts {
  readonly store: Store
  readonly links: Links
  readonly tags: Tags
  readonly events: Events
  /** Aborts when the daemon ends. */
  readonly lifetime: AbortSignal
  readonly ledger?: Pick<Ledger, 'shown'>
}

/** Manifests by digest: found in memory or in the store, or fetched once for all who wait. Every one was proved and parsed. */
export class Manifests {
  readonly #parts: ManifestParts
  readonly #remembered = new LRUCache<Digest, StoredManifest>({
    maxSize: REMEMBERED_BYTES,
    sizeCalculation: ({ bytes }) => bytes.byteLength + 1024,
  })
  /** Manifests that the store could not take: it is asked again whenever one is wanted. */
  readonly #unstored = new LRUCache<Digest, true>({ max: UNSTORED_MAX })
  readonly #fetches = new SharedCalls<StoredManifest | undefined>(FETCHES_MAX)

  constructor(parts: ManifestParts) {
    this.#parts = parts
  }

  /** The manifest if it is stored here, whoever may see it. A damaged one is quarantined and then absent, as is one of a sick store. */
  async find(digest: Digest): Promise<StoredManifest | undefined> {
    const remembered = this.#remembered.get(digest)
    if (remembered !== undefined) {
      if (this.#unstored.has(digest)) await this.#store(remembered)
      return remembered
    }
    const bytes = await this.#readStored(digest)
    if (bytes === undefined) return undefined
    try {
      return this.#remember({ ...parseManifest(bytes), digest, bytes })
    } catch (error) {
      if (error instanceof ManifestError) return undefined
      throw error
    }
  }

  /** The manifest if it is stored here, and the source's registry is believed or has given it before; what else it says is not asked. */
  async findFor(source: Source, digest: Digest): Promise<StoredManifest | undefined> {
    if (!source.isTrusted && !(await this.#parts.links.has(source, digest))) return undefined
    return await this.find(digest)
  }

  /**
   * Fetches a manifest from the upstream, proves and stores it, and lets the repository see what it names. One fetch serves all who
   * ask while it runs. A store that cannot take it does not matter to the answer.
   */
  async fetch(source: Source, reference: Reference): Promise<StoredManifest | undefined> {
    const key = `${source.namespace}/${source.repository}@${referenceText(reference)}`
    return await this.#fetches.call(key, async () => await this.#fetch(source, reference)).job
  }

  /** Whether a manifest that was found outlives this process: no tag may point at one that does not. */
  isStored(digest: Digest): boolean {
    return !this.#unstored.has(digest)
  }

  /** Lets a repository whose registry has this manifest see it, and all that it names if that registry is believed. */
  admit(source: Source, manifest: StoredManifest): void {
    if (source.isTrusted) this.#parts.links.add(source, digestsOf(manifest))
    else this.#parts.links.prove(source, manifest.digest)
    this.#parts.ledger?.shown(manifest)
  }

  /** Drops the manifest from memory, as when somebody deletes it. */
  forget(digest: Digest): void {
    this.#remembered.delete(digest)
  }

  async #fetch(source: Source, reference: Reference): Promise<StoredManifest | undefined> {
    const { lifetime, tags } = this.#parts
    const fetched = await source.registry.getManifest(source.repository, reference, lifetime)
    if (fetched === undefined) return undefined
    const manifest = this.#remember(proveManifest(fetched, reference))
    const isStored = await this.#store(manifest)
    this.admit(source, manifest)
    if (isStored) await tags.confirm(source, manifest.digest)
    return manifest
  }

  #remember(manifest: StoredManifest): StoredManifest {
    this.#remembered.set(manifest.digest, manifest)
    return manifest
  }

  async #store({ digest, bytes }: StoredManifest): Promise<boolean> {
    const { store, events } = this.#parts
    try {
      await using spool = await store.createSpool(digest)
      await spool.clear()
      await spool.append(bytes)
      await store.adopt(spool, digest, bytes.byteLength)
      events.bypassChanged(false, 'manifests')
      this.#unstored.delete(digest)
      return true
    } catch (error) {
      events.storageFailed('store-manifest', error)
      events.bypassChanged(true, 'manifests')
      this.#unstored.set(digest, true)
      return false
    }
  }

  async #readStored(digest: Digest): Promise<Uint8Array | undefined> {
    let version: string | undefined
    try {
      await using object = await this.#parts.store.open(digest)
      if (object === undefined || object.sizeBytes > MANIFEST_SIZE_MAX) return undefined
      version = object.version
      const bytes = await readObject(object)
      if (matchesDigest(bytes, digest)) return bytes
      throw new Error('stored manifest does not match its digest')
    } catch (error) {
      const isBroken = version === undefined ? isObstacle(error) : isDamage(error)
      if (isBroken) await quarantine(this.#parts, { digest, version }, error)
      else this.#parts.events.storageFailed('read-manifest', error)
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

/** The digest of the manifest itself, and of all that it names and its registry has looked for when it was pushed. */
function digestsOf(manifest: StoredManifest): readonly Digest[] {
  const blobs = manifest.blobs.filter(({ mediaType }) => !isForeignLayer(mediaType))
  return [manifest.digest, ...[...blobs, ...manifest.manifests].map(descriptor => descriptor.digest)]
}

/** Holds the bytes against the digest that was asked for, and against the one that the upstream claims. */
function proveManifest(fetched: FetchedManifest, reference: Reference): StoredManifest {
  const { bytes, claimedDigest, contentType } = fetched
  const asked = reference.kind === 'digest' ? reference.digest : claimedDigest
  if (asked !== undefined && !matchesDigest(bytes, asked)) {
    throw new UpstreamError('invalid', `the upstream sent a manifest that is not ${asked}`)
  }
  if (claimedDigest !== undefined && !matchesDigest(bytes, claimedDigest)) {
    throw new UpstreamError(
      'invalid',
      'the upstream sent a manifest that contradicts its own Docker-Content-Digest',
    )
  }
  try {
    return { ...parseManifest(bytes, contentType), digest: asked ?? digestOf(bytes), bytes }
  } catch (cause) {
    if (!(cause instanceof ManifestError)) throw cause
    throw new UpstreamError('invalid', `the upstream sent no manifest that can be served: ${cause.message}`, {
      cause,
    })
  }
}

/** What a client hears when neither we nor the upstream have the manifest. */
export function manifestUnknown(source: Source, reference: Reference): OciError {
  const name = `${source.namespace}/${source.repository}`
  return new OciError('MANIFEST_UNKNOWN', `${name} has no manifest ${referenceText(reference)}`)
}
