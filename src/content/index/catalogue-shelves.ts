import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'
import { parseDigest } from '../../oci/digest.ts'
import { ManifestShelves } from './catalogue-manifest-shelves.ts'
import { digestBytes, IS_NO_CHILD, IS_PUBLISHED, isOfKind, kindNumber } from './catalogue-schema.ts'
import type { ShelfPage, ShelfQuery, ShelvedImage } from './change.ts'
import { EXTENT, imageOf, isWanted, matches, searchOf } from './shelf-row.ts'

type Row = Record<string, SQLOutputValue>

/** Rows that one page may look at, matching or not: what follows is the next page. */
const SCANNED_MAX = 500
/** Repositories whose names one page may look at. */
const PLACES_MAX = 50_000
/** Repositories that are found by name and then sorted; if there are more, they are met in their order. */
const FOUND_PLACES_MAX = 2000
/** Shortest text that the index of names knows. */
const TRIGRAM = 3
/** The reference in the cursor of a repository that is done. */
const DONE = '~'
/** Images that a search may find to be sorted here. */
const FOUND_MAX = 300

/**
 * Pages of images for people, each from an index of the database: no page counts or sorts all of them, and
 * none looks at more than a few thousand rows. A page may have few images, or none, and still be followed by
 * another one. By name, each image is a row; in the other orders, each manifest is, with its first name.
 */
export class CatalogueShelves {
  readonly #statements
  readonly #manifests: ManifestShelves

  constructor(database: DatabaseSync) {
    this.#statements = { ...preparePlaces(database), ...prepareImages(database) }
    this.#manifests = new ManifestShelves(database)
  }

  page(query: ShelfQuery): ShelfPage {
    const few = this.#manifests.few(query)
    if (few !== undefined) return few
    if (query.order === 'name') return this.#byName(query)
    const mayBeFew = query.search !== '' || query.kind === 'hosted'
    return (mayBeFew ? this.#sorted(query) : undefined) ?? this.#manifests.page(query)
  }

  /** Finds few images by their names and sorts them; `undefined` if there are many. */
  #sorted(query: ShelfQuery): ShelfPage | undefined {
    const { order, after, limit } = query
    const { images, next } = this.#byName({ ...query, after: undefined, limit: FOUND_MAX })
    if (next !== undefined) return undefined
    const value = ({ lastUseMs = 0, extent }: ShelvedImage): number =>
      order === 'size' ? (extent?.cachedBytes ?? 0) : lastUseMs
    const offset = Number(after ?? 0)
    const sorted = images.toSorted((one, other) => value(other) - value(one))
    const end = offset + limit
    return { images: sorted.slice(offset, end), next: end < sorted.length ? String(end) : undefined }
  }

  #byName(query: ShelfQuery): ShelfPage {
    const [namespace = '', repository = '', reference = ''] = query.after?.split(' ') ?? []
    const from = { namespace, repository }
    const images: ShelvedImage[] = []
    const isHosted = query.kind === 'hosted'
    const phrase = this.#rarePhrase(query)
    const places = isHosted ? this.#statements.hostedPlaces : this.#statements.places
    const placeAfter = isHosted ? this.#statements.hostedPlaceAfter : this.#statements.placeAfter
    let scanned = 0
    for (const { id, name } of this.#statements.namespaces.all()) {
      const own = String(name)
      if (own < namespace || (query.namespace !== undefined && own !== query.namespace)) continue
      const start = own === from.namespace ? repository : ''
      const wanted = placesWanted(query, { id, own, start })
      const found =
        phrase === undefined
          ? places.iterate(wanted)
          : this.#statements.foundPlaces.iterate({ namespace: id ?? null, start, phrase })
      for (const place of found) {
        scanned += 1
        const isSame = own === namespace && place['repository'] === repository
        for (const row of this.#imagesOf(place, isSame ? reference : '', query)) {
          scanned += 1
          const image = imageOf({ ...row, ...place, namespace: own })
          if (isWanted(query, row) && matches(query, image)) images.push(image)
          if (images.length >= query.limit || scanned >= SCANNED_MAX)
            return { images, next: `${own} ${image.repository} ${image.tag ?? image.digest}` }
        }
        if (scanned >= SCANNED_MAX) return { images, next: `${own} ${String(place['repository'])} ${DONE}` }
      }
      const end = phrase === undefined ? placeAfter.get(id ?? null, start, PLACES_MAX) : undefined
      if (end !== undefined) return { images, next: `${own} ${String(end['repository'])} ` }
    }
    return { images, next: undefined }
  }

  /** What to ask the index of names for; `undefined` if many names have it, or if it is too short. */
  #rarePhrase({ search }: ShelfQuery): string | undefined {
    const { name } = searchOf(search)
    if (name.length < TRIGRAM) return undefined
    const phrase = `"${name.replaceAll('"', '""')}"`
    const count = Number(this.#statements.countNames.get(phrase, FOUND_PLACES_MAX + 1)?.['count'])
    return count <= FOUND_PLACES_MAX ? phrase : undefined
  }

  /** The tags of a repository, then its manifests that no tag leads to. */
  *#imagesOf(place: Row, after: string, { kind }: ShelfQuery): Generator<Row> {
    if (after === DONE) return
    const wanted = kindNumber(kind)
    const digest = parseDigest(after)
    if (digest === undefined) yield* this.#statements.tags.iterate(place['place'] ?? null, after, wanted)
    const start = digest === undefined ? new Uint8Array(0) : digestBytes(digest)
    yield* this.#statements.untagged.iterate(place['place'] ?? null, start, wanted)
  }
}

function placesWanted(
  { search }: ShelfQuery,
  {
    id,
    own,
    start,
  }: { readonly id: SQLOutputValue | undefined; readonly own: string; readonly start: string },
): Record<string, SQLOutputValue> {
  const { name } = searchOf(search)
  return { namespace: id ?? null, start, prefix: `${own}/`, search: name, max: PLACES_MAX }
}

// oxlint-disable-next-line typescript/explicit-function-return-type
function preparePlaces(database: DatabaseSync) {
  const sql = (text: string): ReturnType<DatabaseSync['prepare']> => database.prepare(text)
  return {
    namespaces: sql('SELECT id, name FROM namespace ORDER BY name'),
    places: sql(
      `SELECT id AS place, repository FROM
         (SELECT id, repository FROM place WHERE namespace = :namespace AND repository >= :start
          ORDER BY repository LIMIT :max)
       WHERE instr(:prefix || repository, :search) > 0`,
    ),
    placeAfter: sql(
      'SELECT repository FROM place WHERE namespace = ? AND repository >= ? ORDER BY repository LIMIT 1 OFFSET ?',
    ),
    hostedPlaces: sql(
      `SELECT id AS place, repository FROM
         (SELECT id, repository FROM place WHERE is_hosted = 1 AND namespace = :namespace AND repository >= :start
          ORDER BY repository LIMIT :max)
       WHERE instr(:prefix || repository, :search) > 0`,
    ),
    hostedPlaceAfter: sql(
      `SELECT repository FROM place WHERE is_hosted = 1 AND namespace = ? AND repository >= ?
       ORDER BY repository LIMIT 1 OFFSET ?`,
    ),
    countNames: sql(
      'SELECT count(*) AS count FROM (SELECT rowid FROM place_name WHERE place_name MATCH ? LIMIT ?)',
    ),
    foundPlaces: sql(
      `SELECT place.id AS place, place.repository FROM place_name CROSS JOIN place ON place.id = place_name.rowid
       WHERE place_name MATCH :phrase AND place.namespace = :namespace AND place.repository >= :start
       ORDER BY place.repository`,
    ),
  }
}

// oxlint-disable-next-line typescript/explicit-function-return-type
function prepareImages(database: DatabaseSync) {
  const sql = (text: string): ReturnType<DatabaseSync['prepare']> => database.prepare(text)
  return {
    tags: sql(
      `SELECT tag.tag, tag.digest, tag.checked_at, tag.is_hosted, tag.hits,
         coalesce(tag.last_use, object.last_use) AS last_use, object.last_use AS used_at, ${EXTENT}
       FROM tag LEFT JOIN object ON object.digest = tag.digest
       WHERE tag.place = ?1 AND tag.tag > ?2 AND ${isOfKind('?3')} ORDER BY tag.tag`,
    ),
    untagged: sql(
      `SELECT NULL AS tag, shown.digest, ${IS_PUBLISHED} AS is_hosted, shown.hits,
         coalesce(shown.last_use, object.last_use) AS last_use, object.last_use AS used_at, ${EXTENT}
       FROM shown JOIN object ON object.digest = shown.digest
       WHERE shown.place = ?1 AND shown.digest > ?2 AND object.is_manifest = 1
         AND (?3 IS NULL OR ${IS_PUBLISHED} = ?3)
         AND NOT EXISTS (SELECT 1 FROM tag WHERE tag.place = ?1 AND tag.digest = shown.digest)
         AND ${IS_NO_CHILD} ORDER BY shown.digest`,
    ),
  }
}
