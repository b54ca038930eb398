import { closeSync, fchmodSync, openSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { type Digest, parseDigest } from '../../oci/digest.ts'
import { MANIFEST_SIZE_MAX } from '../../oci/manifest.ts'
import { CatalogueExtents } from './catalogue-extents.ts'
import { CatalogueImages } from './catalogue-images.ts'
import { CatalogueQueries, type DigestSlice } from './catalogue-queries.ts'
import { digestBytes, HOSTED_OWNER, requireSchema } from './catalogue-schema.ts'
import { CatalogueShares } from './catalogue-shares.ts'
import { CatalogueShelves } from './catalogue-shelves.ts'
import { prepareStatements } from './catalogue-statements.ts'
import type { Change, PlaceName, Totals } from './change.ts'

/** State of a {@link Catalogue} after opening. */
export interface CatalogueState {
  /**
   * True if changes are missing: the file is new, or its process did not close it. Only a walk of the store
   * can add them.
   */
  readonly isStale: boolean
  /** True if the previous file was damaged and has been deleted. */
  readonly wasDamaged: boolean
  readonly totals: Totals
}

/**
 * Contents of the store by last use, repository and tag, in a SQLite file. The file is derived from the store
 * and may be deleted at any time. It is not synced: after a crash it is stale, and a walk of the store
 * updates it. The methods are synchronous, so the catalogue runs in its own thread, where a slow disk blocks
 * no request.
 */
export class Catalogue {
  readonly #database: DatabaseSync
  readonly #queries: CatalogueQueries
  readonly images: CatalogueImages
  readonly shares: CatalogueShares
  readonly shelves: CatalogueShelves
  readonly #extents: CatalogueExtents
  readonly #wasStale: boolean
  readonly #statements
  #walk: number
  #objects = 0
  /** Bytes by the id of the namespace; 0 stands for no namespace. */
  readonly #bytesByOwner = new Map<number, number>()
  readonly #places = new Map<string, { readonly id: number; readonly owner: number }>()
  #configured: ReadonlySet<number> = new Set()
  #configuredNames: readonly string[] = []

  /** Opens the file and locks it for this process. Throws if it is damaged, or if another process uses it. */
  constructor(path: string) {
    requirePrivateFile(path)
    this.#database = new DatabaseSync(path)
    try {
      this.#wasStale = requireSchema(this.#database)
      this.#statements = prepareStatements(this.#database)
      this.#queries = new CatalogueQueries(this.#database)
      this.images = new CatalogueImages(this.#database)
      this.shares = new CatalogueShares(this.#database)
      this.shelves = new CatalogueShelves(this.#database)
      this.#extents = new CatalogueExtents(this.#database)
      this.#walk = Number(this.#statements.readMeta.get('walk')?.['value'] ?? 0)
      this.#statements.writeMeta.run('is_stale', 1)
      this.#sumUp()
    } catch (error) {
      this.#database.close()
      throw error
    }
  }

  get queries(): CatalogueQueries {
    return this.#queries
  }

  get state(): Omit<CatalogueState, 'wasDamaged'> {
    return { isStale: this.#wasStale, totals: this.totals }
  }

  get totals(): Totals {
    const names = this.#queries.namespaceNames()
    const entries = [...this.#bytesByOwner].filter(([, bytes]) => bytes > 0)
    return {
      objects: this.#objects,
      bytes: entries.reduce(
        (sum, [owner, bytes]) => sum + (names.get(owner) === HOSTED_OWNER ? 0 : bytes),
        0,
      ),
      bytesByNamespace: new Map(entries.map(([owner, bytes]) => [names.get(owner) ?? '', bytes])),
    }
  }

  /**
   * Sets the configured namespaces. Content that a configured namespace shares with others counts for the
   * configured one.
   */
  configure(namespaces: readonly string[]): void {
    this.#configuredNames = namespaces
    this.#configured = new Set(namespaces.map(name => this.#ownerOf(name)))
  }

  /** Writes all of the changes or none, and returns the totals afterwards. */
  apply(changes: readonly Change[]): Totals {
    this.#database.exec('BEGIN')
    try {
      for (const change of changes) this.#apply(change)
      this.#extents.settle()
      this.#database.exec('COMMIT')
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      this.#places.clear()
      this.#sumUp()
      throw error
    }
    return this.totals
  }

  /** Begins a walk of the store. Whatever is stored or found from now on counts as seen by it. */
  beginWalk(): void {
    this.#walk += 1
    this.#statements.writeMeta.run('walk', this.#walk)
  }

  /** Objects that the walk has not seen, stored or not, in slices. */
  unseen(after: number, limit: number): DigestSlice {
    return this.#queries.unseen(this.#walk, after, limit)
  }

  /** Removes all links of a digest and returns their repositories. */
  takeLinks(digest: Digest): readonly PlaceName[] {
    this.images.unshowAll(digestBytes(digest))
    return this.#queries.takeLinks(digest)
  }

  /** Brings what is known of images up to date at the end of a walk. */
  settleImages(): void {
    this.images.settle()
    this.#extents.dropGone()
  }

  /** Closes the file properly, so that the next process can use it without a walk. */
  close(end: { readonly isStale: boolean }): void {
    if (!end.isStale) this.#statements.writeMeta.run('is_stale', 0)
    this.#database.close()
  }

  #apply(change: Change): void {
    switch (change.kind) {
      case 'stored':
        return this.#store(change, 'replace')
      case 'found':
        return this.#store(change, 'keep')
      case 'removed':
        return this.#remove(change.digest)
      case 'used': {
        const { atMs, hits, servedBytes, isManifest, digest } = change
        this.#statements.use.run(atMs, hits, servedBytes, isManifest ? 1 : 0, digestBytes(digest))
        return this.#nameParts(change)
      }
      case 'read':
        this.#statements.markRead.run(change.manifests === undefined ? 0 : 1, digestBytes(change.digest))
        return this.#nameParts(change)
      case 'pulled':
        return this.#pull(change)
      case 'linked':
        return this.#link(change.place, change.digest)
      case 'unlinked':
        return this.#unlink(this.#placeOf(change.place).id, digestBytes(change.digest))
      case 'tagged':
        return this.#tag(change)
      case 'published':
      case 'withdrawn':
        return this.#publish(change)
      case 'held':
        return this.#hold(change.digest)
      case 'released':
        return this.#release(change.digest)
      case 'untagged':
        this.#statements.untag.run(
          this.#placeOf(change.place).id,
          change.tag,
          change.isHosted === true ? 1 : 0,
        )
        return undefined
      default:
        return change satisfies never
    }
  }

  #nameParts({ digest, manifests = [], blobs }: Change & { readonly kind: 'used' | 'read' }): void {
    this.images.nameChildren(digest, manifests)
    if (blobs !== undefined) this.#extents.named(digest, blobs)
  }

  #store(
    {
      digest,
      sizeBytes,
      atMs,
      namespace,
    }: {
      readonly digest: Digest
      readonly sizeBytes: number
      readonly atMs: number
      readonly namespace?: string | undefined
    },
    lastUse: 'replace' | 'keep',
  ): void {
    const key = digestBytes(digest)
    const known = this.#statements.read.get(key)
    if (known === undefined) {
      this.#extents.stored(key)
      const owner = this.#ownerOfNew(key, namespace)
      // Manifests that come from an upstream are noted when they are shown, so only finds have to be read.
      const isRead = lastUse === 'replace' || sizeBytes > MANIFEST_SIZE_MAX ? 1 : 0
      this.#statements.insert.run({ key, size: sizeBytes, at: atMs, owner, walk: this.#walk, isRead })
      this.#objects += 1
      this.#add(owner, sizeBytes)
      return
    }
    this.#add(Number(known['owner']), sizeBytes - Number(known['size']))
    const at = lastUse === 'replace' ? atMs : 0
    this.#statements.update.run({ key, size: sizeBytes, at, walk: this.#walk })
  }

  #remove(digest: Digest): void {
    const removed = this.#statements.remove.get(digestBytes(digest))
    if (removed === undefined) return
    this.#extents.removed(digestBytes(digest))
    this.#objects -= 1
    this.#add(Number(removed['owner']), -Number(removed['size']))
  }

  #link(place: PlaceName, digest: Digest): void {
    const { id, owner } = this.#placeOf(place)
    const key = digestBytes(digest)
    if (this.#statements.link.run(key, id).changes === 0) return
    const known = this.#statements.read.get(key)
    const current = Number(known?.['owner'])
    if (known === undefined || current === owner || !this.#outranks(owner, current)) return
    this.#statements.own.run(owner, key)
    this.#add(current, -Number(known['size']))
    this.#add(owner, Number(known['size']))
  }

  #unlink(place: number, digest: Uint8Array): void {
    this.#statements.unlink.run(digest, place)
    this.images.unshow(place, digest)
  }

  #pull({ place, reference, ...use }: Change & { readonly kind: 'pulled' }): void {
    const { id } = this.#placeOf(place)
    const digest = parseDigest(reference)
    if (digest === undefined) this.images.pulledTag(id, reference, use)
    else this.images.pulledDigest(id, digestBytes(digest), use)
  }

  #tag({ place, tag, digest, atMs, isHosted }: Change & { readonly kind: 'tagged' }): void {
    const { id } = this.#placeOf(place)
    const key = digestBytes(digest)
    this.#statements.tag.run(id, tag, key, atMs, isHosted === true ? 1 : 0)
    this.#statements.use.run(0, 0, 0, 1, key)
    if (isHosted === true) this.#statements.markHosted.run(id)
    else this.images.show(id, key)
  }

  #publish({ kind, place, digest }: Change & { readonly kind: 'published' | 'withdrawn' }): void {
    const { id } = this.#placeOf(place)
    const key = digestBytes(digest)
    if (kind === 'withdrawn') {
      this.#statements.withdraw.run(id, key)
      this.images.unshow(id, key)
      return
    }
    this.#statements.publish.run(id, key)
    this.#statements.markHosted.run(id)
    this.#statements.use.run(0, 0, 0, 1, key)
    this.images.show(id, key)
  }

  #hold(digest: Digest): void {
    const key = digestBytes(digest)
    if (this.#statements.hold.run(key).changes > 0) this.#disown(key, this.#ownerOf(HOSTED_OWNER))
  }

  #release(digest: Digest): void {
    const key = digestBytes(digest)
    if (this.#statements.release.run(key).changes > 0) this.#disown(key, this.#ownerOfNew(key, undefined))
  }

  #disown(key: Uint8Array, owner: number): void {
    const known = this.#statements.read.get(key)
    if (known === undefined) return
    this.#statements.own.run(owner, key)
    this.#add(Number(known['owner']), -Number(known['size']))
    this.#add(owner, Number(known['size']))
  }

  #outranks(owner: number, current: number): boolean {
    if (current === this.#ownerOf(HOSTED_OWNER)) return false
    return current === 0 || (this.#configured.has(owner) && !this.#configured.has(current))
  }

  /**
   * The namespace charged for new content: a configured one that may see it, otherwise the one that fetched
   * it.
   */
  #ownerOfNew(key: Uint8Array, namespace: string | undefined): number {
    if (this.#statements.isHeld.get(key) !== undefined) return this.#ownerOf(HOSTED_OWNER)
    let best = namespace === undefined ? 0 : this.#ownerOf(namespace)
    for (const { namespace: linked } of this.#statements.owners.all(key)) {
      if (this.#outranks(Number(linked), best)) best = Number(linked)
    }
    return best
  }

  #placeOf({ namespace, repository }: PlaceName): { readonly id: number; readonly owner: number } {
    const name = `${namespace}/${repository}`
    const remembered = this.#places.get(name)
    if (remembered !== undefined) return remembered
    const owner = this.#ownerOf(namespace)
    const { changes, lastInsertRowid } = this.#statements.addPlace.run(owner, repository)
    if (changes > 0) this.#statements.namePlace.run(lastInsertRowid, name)
    const place = { id: Number(this.#statements.place.get(owner, repository)?.['id']), owner }
    if (this.#places.size >= PLACES_MAX) this.#places.clear()
    this.#places.set(name, place)
    return place
  }

  #ownerOf(namespace: string): number {
    this.#statements.addNamespace.run(namespace)
    return Number(this.#statements.namespace.get(namespace)?.['id'])
  }

  #add(owner: number, bytes: number): void {
    this.#bytesByOwner.set(owner, (this.#bytesByOwner.get(owner) ?? 0) + bytes)
  }

  #sumUp(): void {
    this.#objects = 0
    this.#bytesByOwner.clear()
    for (const { owner, bytes, objects, smallest, largest } of this.#statements.sums.all()) {
      // A flipped bit in a size must not evict the whole cache.
      if (Number(smallest) < 0 || Number(largest) > SIZE_MAX)
        throw new Error('the index has an impossible size')
      this.#bytesByOwner.set(Number(owner), Number(bytes))
      this.#objects += Number(objects)
    }
    this.configure(this.#configuredNames)
  }
}

/** Makes the file private, since it names what clients pull. SQLite gives its log the same mode. */
function requirePrivateFile(path: string): void {
  const file = openSync(path, 'a', PRIVATE_MODE)
  try {
    fchmodSync(file, PRIVATE_MODE)
  } finally {
    closeSync(file)
  }
}

const PRIVATE_MODE = 0o600
const PLACES_MAX = 10_000
/** No blob is larger than 2 TiB. */
const SIZE_MAX = 2 ** 41
