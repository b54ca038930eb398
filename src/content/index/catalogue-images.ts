import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'
import type { Digest } from '../../oci/digest.ts'
import { imageMatcher } from '../../oci/image-pattern.ts'
import {
  digestBytes,
  digestOfBytes,
  IS_NO_CHILD,
  IS_PUBLISHED,
  isOfKind,
  kindNumber,
} from './catalogue-schema.ts'
import type { ImageEntry, ImageKind, ImagePage, ImageQuery, PlaceName } from './change.ts'

type Row = Record<string, SQLOutputValue>

/** The images of the catalogue: tags, and manifests that were asked for by digest. */
export class CatalogueImages {
  readonly #statements

  constructor(database: DatabaseSync) {
    this.#statements = prepare(database)
  }

  /** A page of images that match, in the order of the query. */
  list(query: ImageQuery): ImagePage {
    return query.order === 'name' ? this.#listByName(query) : this.#listSorted(query)
  }

  /** All images of one repository. */
  ofPlace({ namespace, repository }: PlaceName): readonly ImageEntry[] {
    const place = this.#statements.place.get(namespace, repository)
    return place === undefined ? [] : this.#imagesOf(place, undefined)
  }

  /** Records which manifests an index names, so that they do not count as images of their own. */
  nameChildren(parent: Digest, children: readonly Digest[]): void {
    const key = digestBytes(parent)
    for (const child of children) this.#statements.addChild.run(digestBytes(child), key)
  }

  /** Records requests for a tag of a place. */
  pulledTag(place: number, tag: string, use: { readonly atMs: number; readonly hits: number }): void {
    this.#statements.useTag.run(use.atMs, use.hits, place, tag)
  }

  /** Records requests for a manifest of a place by its digest. */
  pulledDigest(
    place: number,
    digest: Uint8Array,
    use: { readonly atMs: number; readonly hits: number },
  ): void {
    this.#statements.useDigest.run({ place, digest, at: use.atMs, hits: use.hits })
  }

  /** Records that a place may be shown a manifest by its digest. */
  show(place: number, digest: Uint8Array): void {
    this.#statements.show.run(place, digest)
  }

  /** Forgets that a place was shown a manifest. */
  unshow(place: number, digest: Uint8Array): void {
    this.#statements.unshow.run(place, digest)
  }

  /** Forgets that any place was shown a manifest. The links of the digest must still be there. */
  unshowAll(digest: Uint8Array): void {
    this.#statements.unshowAll.run(digest, digest)
  }

  /**
   * Adds the manifests that places may see, as a walk of the store found them, and drops what concerns
   * content that is not stored.
   */
  settle(): void {
    this.#statements.showLinked.run()
    this.#statements.dropShown.run()
    this.#statements.dropChildren.run()
  }

  #listByName(query: ImageQuery): ImagePage {
    const { after, limit } = query
    const [namespace = '', repository = '', reference = ''] = after?.split(' ') ?? []
    const images: ImageEntry[] = []
    let total = 0
    for (const image of this.#matching(query, { namespace, repository })) {
      const isBefore = image.namespace === namespace && image.repository === repository
      if (isBefore && referenceOf(image) <= reference) continue
      total += 1
      if (images.length < limit) images.push(image)
      // Only the first page has to count the others.
      else if (after !== undefined) break
    }
    const last = images.at(-1)
    return {
      images,
      next: last === undefined || total <= images.length ? undefined : cursorOf(last),
      total: after === undefined ? total : undefined,
    }
  }

  /** Reads all images before it sorts them. The cursor is the number of images before the page. */
  #listSorted(query: ImageQuery): ImagePage {
    const { order, after, limit } = query
    const all = [...this.#matching(query, { namespace: '', repository: '' })]
    const sorted = all.toSorted((one, other) =>
      order === 'hits' ? other.hits - one.hits : (other.lastUseMs ?? 0) - (one.lastUseMs ?? 0),
    )
    const offset = Number(after ?? 0)
    const images = sorted.slice(offset, offset + limit)
    const end = offset + images.length
    return {
      images,
      next: end < sorted.length ? String(end) : undefined,
      total: after === undefined ? sorted.length : undefined,
    }
  }

  *#matching(
    { kind, patterns, namespace: only, isUntagged, usedBeforeMs }: ImageQuery,
    from: PlaceName,
  ): Generator<ImageEntry> {
    const matchers = patterns.map(pattern => imageMatcher(pattern) ?? (() => false))
    const places = kind === 'hosted' ? this.#statements.hostedPlacesFrom : this.#statements.placesFrom
    for (const place of places.iterate(from.namespace, from.repository)) {
      if (only !== undefined && place['namespace'] !== only) continue
      for (const image of this.#imagesOf(place, kind)) {
        if (isUntagged && image.tag !== undefined) continue
        const named = { ...image, reference: referenceOf(image) }
        if (matchers.length > 0 && !matchers.some(isMatch => isMatch(named))) continue
        if (usedBeforeMs === undefined || (image.lastUseMs ?? 0) < usedBeforeMs) yield image
      }
    }
  }

  /** The images of a place in the order of their references. */
  #imagesOf(place: Row, kind: ImageKind): readonly ImageEntry[] {
    const [id, wanted] = [Number(place['id']), kindNumber(kind)]
    const rows = [...this.#statements.tags.all(id, wanted), ...this.#statements.untagged.all(id, wanted)]
    const name = { namespace: String(place['namespace']), repository: String(place['repository']) }
    return rows
      .map(row => ({ ...name, ...imageFields(row) }))
      .toSorted((one, other) => (referenceOf(one) < referenceOf(other) ? -1 : 1))
  }
}

function imageFields(row: Row): Omit<ImageEntry, keyof PlaceName> {
  const [isTag, isHosted] = [row['tag'] !== null, row['is_hosted'] === 1]
  return {
    isHosted,
    tag: isTag ? String(row['tag']) : undefined,
    digest: digestOfBytes(row['digest']),
    checkedAtMs: isTag && !isHosted ? Number(row['checked_at']) : undefined,
    lastUseMs: row['last_use'] === null ? undefined : Number(row['last_use']),
    hits: Number(row['hits']),
  }
}

function referenceOf({ tag, digest }: ImageEntry): string {
  return tag ?? digest
}

function cursorOf(image: ImageEntry): string {
  return `${image.namespace} ${image.repository} ${referenceOf(image)}`
}

/** A manifest by digest counts as an image unless a tag of its repository means it, or an index names it. */
const UNTAGGED = `SELECT NULL AS tag, shown.digest AS digest, NULL AS checked_at, ${IS_PUBLISHED} AS is_hosted,
    coalesce(shown.last_use, object.last_use) AS last_use, shown.hits AS hits
  FROM shown JOIN object ON object.digest = shown.digest
  WHERE shown.place = ?1 AND object.is_manifest = 1
    AND (?2 IS NULL OR ${IS_PUBLISHED} = ?2)
    AND NOT EXISTS (SELECT 1 FROM tag WHERE tag.place = ?1 AND tag.digest = shown.digest)
    AND ${IS_NO_CHILD}`

// oxlint-disable-next-line typescript/explicit-function-return-type
function prepare(database: DatabaseSync) {
  const sql = (text: string): ReturnType<DatabaseSync['prepare']> => database.prepare(text)
  return {
    place: sql(
      `SELECT place.id, namespace.name AS namespace, place.repository FROM place
       JOIN namespace ON namespace.id = place.namespace WHERE namespace.name = ? AND place.repository = ?`,
    ),
    placesFrom: sql(
      `SELECT place.id, namespace.name AS namespace, place.repository FROM namespace
       JOIN place ON place.namespace = namespace.id WHERE (namespace.name, place.repository) >= (?, ?)
       ORDER BY namespace.name, place.repository`,
    ),
    hostedPlacesFrom: sql(
      `SELECT place.id, namespace.name AS namespace, place.repository FROM namespace
       JOIN place ON place.namespace = namespace.id AND place.is_hosted = 1
       WHERE (namespace.name, place.repository) >= (?, ?) ORDER BY namespace.name, place.repository`,
    ),
    tags: sql(
      `SELECT tag.tag, tag.digest, tag.checked_at, tag.is_hosted, tag.hits,
         coalesce(tag.last_use, object.last_use) AS last_use
       FROM tag LEFT JOIN object ON object.digest = tag.digest WHERE tag.place = ?1 AND ${isOfKind('?2')}`,
    ),
    untagged: sql(UNTAGGED),
    useTag: sql(
      'UPDATE tag SET last_use = max(coalesce(last_use, 0), ?), hits = hits + ? WHERE place = ? AND tag = ?',
    ),
    useDigest: sql(
      `INSERT INTO shown (place, digest, last_use, hits) VALUES (:place, :digest, :at, :hits)
       ON CONFLICT DO UPDATE SET last_use = max(coalesce(last_use, 0), :at), hits = hits + :hits`,
    ),
    show: sql('INSERT OR IGNORE INTO shown (place, digest) VALUES (?, ?)'),
    addChild: sql('INSERT OR IGNORE INTO child (digest, parent) VALUES (?, ?)'),
    unshow: sql('DELETE FROM shown WHERE place = ? AND digest = ?'),
    unshowAll: sql(
      'DELETE FROM shown WHERE digest = ? AND place IN (SELECT place FROM link WHERE link.digest = ?)',
    ),
    showLinked: sql(
      `INSERT OR IGNORE INTO shown (place, digest) SELECT link.place, object.digest FROM object
       JOIN link ON link.digest = object.digest WHERE object.is_manifest = 1`,
    ),
    dropShown: sql(
      'DELETE FROM shown WHERE NOT EXISTS (SELECT 1 FROM object WHERE object.digest = shown.digest)',
    ),
    dropChildren: sql(
      'DELETE FROM child WHERE NOT EXISTS (SELECT 1 FROM object WHERE object.digest = child.parent)',
    ),
  }
}
