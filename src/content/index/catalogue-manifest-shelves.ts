import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite'
import { HOSTED_ID, IS_NO_CHILD, IS_PUBLISHED, isOfKind, kindNumber } from './catalogue-schema.ts'
import type { ShelfPage, ShelfQuery, ShelvedImage } from './change.ts'
import { EXTENT, imageOf, isWanted, matches } from './shelf-row.ts'

type Row = Record<string, SQLOutputValue>

/** Manifests that one page may look at, matching or not, with the names of those that match. */
const NAMED_MAX = 500
const SCANNED_MAX = 5000
/** Names of one manifest that a page looks at. */
const NAMES_MAX = 100
/** Manifests that are found by a filter and then sorted here. */
const FEW_MAX = 2000
/** Tags, and other names, that few manifests may have. */
const FEW_NAMES_MAX = 5000

/**
 * Pages of manifests by their last use or their size, each with its first name; and few manifests, found by a
 * filter, in any order.
 */
export class ManifestShelves {
  readonly #statements

  constructor(database: DatabaseSync) {
    this.#statements = prepare(database)
  }

  /** Reads an index of the database in its order. */
  page(query: ShelfQuery): ShelfPage {
    const images: ShelvedImage[] = []
    const rows = this.#statements[sourceOf(query)][query.order === 'size' ? 'size' : 'use']
    let [scanned, named] = [0, 0]
    for (const row of rows.iterate(...startOf(query))) {
      scanned += 1
      if (isWanted(query, row)) {
        const names = this.#namesOf(row, query)
        named += 1 + names.length
        const image = firstOf(query, row, names)
        if (image !== undefined) images.push(image)
      }
      if (images.length < query.limit && named < NAMED_MAX && scanned < SCANNED_MAX) continue
      return { images, next: `${String(row['value'])} ${String(row['id'])}` }
    }
    return { images, next: undefined }
  }

  /**
   * Finds the manifests that a rare filter leaves, and sorts them. The cursor is the number of them before
   * the page. `undefined` without such a filter.
   */
  few(query: ShelfQuery): ShelfPage | undefined {
    const filtered = this.#fewBy(query)
    if (filtered === undefined) return undefined
    const offset = Number(query.after ?? 0)
    if (query.order === 'name') {
      const images = imagesBy(filtered, query)?.toSorted(byName)
      if (images === undefined) return undefined
      const end = offset + query.limit
      return { images: images.slice(offset, end), next: end < images.length ? String(end) : undefined }
    }
    const rows = filtered.rows.all(valuesOf(filtered, query)).filter(row => isWanted(query, row))
    const value = query.order === 'size' ? 'cached' : 'used_at'
    const sorted = rows.toSorted((one, other) => Number(other[value] ?? 0) - Number(one[value] ?? 0))
    const images: ShelvedImage[] = []
    for (const [index, row] of sorted.entries()) {
      if (images.length >= query.limit) return { images, next: String(index) }
      if (index < offset) continue
      const image = firstOf(query, row, this.#namesOf(row, query))
      if (image !== undefined) images.push(image)
    }
    return { images, next: undefined }
  }

  /** The rarest filter of the query, if it leaves few manifests. */
  #fewBy(query: ShelfQuery): Filtered | undefined {
    const { kind, isWhole, usedBeforeMs } = query
    const { hostedPartial, partial, unused } = this.#statements
    const filters = [
      ...(isWhole === false ? [kind === 'hosted' ? hostedPartial : partial] : []),
      ...(usedBeforeMs === undefined ? [] : [unused]),
    ]
    return filters.find(filter => {
      const counted = filter.count.get({ ...valuesOf(filter, query), limit: FEW_MAX + 1 })
      return Number(counted?.['count']) <= FEW_MAX
    })
  }

  /** The tags that mean a manifest; without any, the repositories that show it by its digest. */
  #namesOf({ digest = null }: Row, { kind }: ShelfQuery): readonly Row[] {
    const tags = this.#statements.tagged.all(digest, NAMES_MAX, kindNumber(kind))
    return tags.length > 0 ? tags : this.#statements.shown.all(digest, NAMES_MAX)
  }
}

/** A filter that may leave few manifests: how many, which, and each with its tags and its other names. */
interface Filtered extends Record<'count' | 'rows' | 'tags' | 'others', StatementSync> {
  readonly isByUse: boolean
}

function valuesOf({ isByUse }: Filtered, { usedBeforeMs = 0 }: ShelfQuery): Record<string, number> {
  return isByUse ? { before: usedBeforeMs } : {}
}

/** Every name of the manifests as an image of its own; `undefined` if they have too many. */
function imagesBy(filtered: Filtered, query: ShelfQuery): readonly ShelvedImage[] | undefined {
  const values = { ...valuesOf(filtered, query), limit: FEW_NAMES_MAX }
  const tags = filtered.tags.all({ ...values, kind: kindNumber(query.kind) })
  const others = filtered.others.all(values)
  if (Math.max(tags.length, others.length) >= FEW_NAMES_MAX) return undefined
  return [...tags, ...others].flatMap(row => {
    if (!isWanted(query, row)) return []
    const image = imageOf(row)
    return matches(query, image) ? [image] : []
  })
}

function sourceOf({ kind, isWhole }: ShelfQuery): 'all' | 'hosted' | 'incomplete' {
  if (isWhole === false) return 'incomplete'
  return kind === 'hosted' ? 'hosted' : 'all'
}

/** Before every row of an order. */
const FIRST = [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER] as const

/** The value and the id that the rows of a page come after. */
function startOf({ order, after, usedBeforeMs }: ShelfQuery): readonly [value: number, id: number] {
  const [value = '', id = ''] = after?.split(' ') ?? []
  const start = after === undefined ? FIRST : ([Number(value), Number(id)] as const)
  if (order === 'size' || usedBeforeMs === undefined || start[0] < usedBeforeMs) return start
  return [usedBeforeMs, 0]
}

/** The first name of a manifest that the query asks for. */
function firstOf(query: ShelfQuery, row: Row, names: readonly Row[]): ShelvedImage | undefined {
  for (const name of names) {
    const image = imageOf({ ...row, ...name, last_use: row['used_at'] ?? null })
    if (matches(query, image)) return { ...image, otherNames: names.length - 1 }
  }
  return undefined
}

/** The order of names, in which the tags of a repository come before its digests. */
function byName(one: ShelvedImage, other: ShelvedImage): number {
  return (
    compare(one.namespace, other.namespace) ||
    compare(one.repository, other.repository) ||
    Number(one.tag === undefined) - Number(other.tag === undefined) ||
    compare(one.tag ?? one.digest, other.tag ?? other.digest)
  )
}

function compare(one: string, other: string): number {
  return Number(one > other) - Number(one < other)
}

// oxlint-disable-next-line typescript/explicit-function-return-type
function prepare(database: DatabaseSync) {
  const sql = (text: string): StatementSync => database.prepare(text)
  const row = `object.id, object.digest, object.last_use AS used_at, ${EXTENT}`
  // oxlint-disable-next-line typescript/explicit-function-return-type
  const ordered = (index: string, where: string) => ({
    use: sql(
      `SELECT ${row}, last_use AS value FROM object INDEXED BY ${index}_by_use
       WHERE ${where} AND (last_use, id) < (?, ?) ORDER BY last_use DESC, id DESC`,
    ),
    size: sql(
      `SELECT ${row}, cached AS value FROM object INDEXED BY ${index}_by_size
       WHERE ${where} AND cached IS NOT NULL AND (cached, id) < (?, ?) ORDER BY cached DESC, id DESC`,
    ),
  })
  const filtered = (index: string, where: string): Filtered => {
    const from = `FROM object INDEXED BY ${index}`
    const name = 'namespace.name AS namespace, place.repository'
    return {
      isByUse: where.includes(':before'),
      count: sql(`SELECT count(*) AS count FROM (SELECT 1 ${from} WHERE ${where} LIMIT :limit)`),
      rows: sql(`SELECT ${row} ${from} WHERE ${where}`),
      tags: sql(
        `SELECT ${row}, ${name}, tag.tag, tag.checked_at, tag.is_hosted, tag.hits,
           coalesce(tag.last_use, object.last_use) AS last_use
         ${from} CROSS JOIN tag ON tag.digest = object.digest
         CROSS JOIN place ON place.id = tag.place JOIN namespace ON namespace.id = place.namespace
         WHERE ${where} AND ${isOfKind(':kind')} LIMIT :limit`,
      ),
      others: sql(
        `SELECT ${row}, ${name}, NULL AS tag, ${IS_PUBLISHED} AS is_hosted, shown.hits,
           coalesce(shown.last_use, object.last_use) AS last_use
         ${from} CROSS JOIN shown ON shown.digest = object.digest
         CROSS JOIN place ON place.id = shown.place JOIN namespace ON namespace.id = place.namespace
         WHERE ${where} AND object.is_manifest = 1
           AND NOT EXISTS (SELECT 1 FROM tag WHERE tag.place = shown.place AND tag.digest = shown.digest)
           AND ${IS_NO_CHILD} LIMIT :limit`,
      ),
    }
  }
  return {
    all: ordered('object', 'is_manifest = 1'),
    hosted: ordered('hosted', `owner = ${HOSTED_ID} AND is_manifest = 1`),
    incomplete: ordered('partial', 'lacks > 0'),
    hostedPartial: filtered('hosted_partial', `object.owner = ${HOSTED_ID} AND object.lacks > 0`),
    partial: filtered('partial_by_use', 'object.lacks > 0'),
    unused: filtered('object_by_use', 'object.is_manifest = 1 AND object.last_use < :before'),
    tagged: sql(
      `SELECT namespace.name AS namespace, place.repository, tag.tag, tag.checked_at, tag.is_hosted, tag.hits FROM tag
       JOIN place ON place.id = tag.place JOIN namespace ON namespace.id = place.namespace
       WHERE tag.digest = ?1 AND ${isOfKind('?3')} LIMIT ?2`,
    ),
    shown: sql(
      `SELECT namespace.name AS namespace, place.repository, NULL AS tag, ${IS_PUBLISHED} AS is_hosted, shown.hits FROM shown
       JOIN place ON place.id = shown.place JOIN namespace ON namespace.id = place.namespace
       WHERE shown.digest = ? AND ${IS_NO_CHILD} LIMIT ?`,
    ),
  }
}
