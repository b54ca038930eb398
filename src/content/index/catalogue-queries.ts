import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'
import type { Digest } from '../../oci/digest.ts'
import { digestBytes, digestOfBytes, HOSTED_OWNER } from './catalogue-schema.ts'
import type {
  Candidate,
  CandidateQuery,
  CandidateSlice,
  ObjectEntry,
  ObjectPage,
  PlaceName,
} from './change.ts'

type Row = Record<string, SQLOutputValue>

/** Digits of the longest digest. */
const DIGITS_MAX = 128
/** Most rows read for one slice, matching or not. */
const SCANNED_MAX = 20_000

/** Digests from a walk over rows. `next` is where the following slice starts, and negative at the end. */
export interface DigestSlice {
  readonly digests: readonly Digest[]
  readonly next: number
}

/** Sort order of a listing of objects. */
export type ObjectOrder = 'last-use' | 'size' | 'hits'

/** Queries of the catalogue. */
export class CatalogueQueries {
  readonly #statements

  constructor(database: DatabaseSync) {
    database.exec('PRAGMA temp_store = MEMORY')
    database.exec('CREATE TEMP TABLE named (digest BLOB PRIMARY KEY) STRICT, WITHOUT ROWID')
    this.#statements = prepare(database)
  }

  /** The names of all namespaces by their id. */
  namespaceNames(): ReadonlyMap<number, string> {
    const rows = this.#statements.namespaces.all()
    return new Map(rows.map(({ id, name }) => [Number(id), String(name)]))
  }

  /** The next slice of eviction candidates, by last use. */
  candidates({ isManifest, usedBeforeMs, only, after, limit }: CandidateQuery): CandidateSlice {
    const names = this.namespaceNames()
    const wanted = only === undefined ? undefined : new Set(only.namespaces)
    const rows = this.#statements.candidates.iterate({
      isManifest: isManifest ? 1 : 0,
      before: usedBeforeMs,
      lastUse: after?.lastUseMs ?? -1,
      id: after?.row ?? -1,
      scanned: SCANNED_MAX,
    })
    const found: Row[] = []
    let last: Row | undefined
    let scanned = 0
    for (const row of rows) {
      last = row
      scanned += 1
      const name = names.get(Number(row['owner'])) ?? ''
      const isWanted = wanted === undefined || wanted.has(name) === only?.isOneOf
      if (isWanted && name !== HOSTED_OWNER) found.push(row)
      if (found.length >= limit) break
    }
    const isEnd = last === undefined || (scanned < SCANNED_MAX && found.length < limit)
    return {
      candidates: found.map(row => this.#candidate(row, names)),
      next: isEnd ? undefined : { lastUseMs: Number(last?.['last_use']), row: Number(last?.['id']) },
    }
  }

  /** Sets times of last use in the future, left by a wrong clock, to now. */
  pullBack(nowMs: number): void {
    this.#statements.pullBack.run(nowMs, nowMs)
  }

  /** Removes all links of a digest and returns their repositories. */
  takeLinks(digest: Digest): readonly PlaceName[] {
    const key = digestBytes(digest)
    const places = this.#statements.places.all(key).map(placeName)
    this.#statements.unlinkAll.run(key)
    return places
  }

  countLinks(): number {
    return Number(this.#statements.countLinks.get()?.['count'])
  }

  /** Stored manifests, in slices. */
  manifests(after: number, limit: number): DigestSlice {
    const rows = this.#statements.manifests.all(after, limit)
    return {
      digests: rows.map(row => digestOfBytes(row['digest'])),
      next: rows.length < limit ? -1 : Number(rows.at(-1)?.['id']),
    }
  }

  /** Marks digests that stored manifests name, until {@link clearNamed}. */
  markNamed(digests: readonly Digest[]): void {
    for (const digest of digests) this.#statements.markNamed.run(digestBytes(digest))
  }

  clearNamed(): void {
    this.#statements.clearNamed.run()
  }

  /** Digests after `after` that have links but are neither stored nor marked, in their order. */
  deadLinks(after: Digest | undefined, limit: number): readonly Digest[] {
    const start = after === undefined ? new Uint8Array(0) : digestBytes(after)
    return this.#statements.deadLinks.all(start, limit).map(row => digestOfBytes(row['digest']))
  }

  object(digest: Digest): ObjectEntry | undefined {
    const row = this.#statements.object.get(digestBytes(digest))
    return row === undefined ? undefined : this.#objectEntry(row)
  }

  /** Data of several objects, in the order of the request; unknown ones are left out. */
  objects(digests: readonly Digest[]): readonly ObjectEntry[] {
    return digests.flatMap(digest => this.object(digest) ?? [])
  }

  listObjects(order: ObjectOrder, after: string | undefined, limit: number): ObjectPage {
    const offset = Number(after ?? 0)
    const rows = this.#statements.listings[order].all(limit, offset)
    return {
      objects: rows.map(row => this.#objectEntry(row)),
      next: rows.length < limit ? undefined : String(offset + rows.length),
    }
  }

  /** Objects whose digest begins with these hexadecimal digits, at most `limit`. */
  objectsByPrefix(hex: string, limit: number): readonly ObjectEntry[] {
    const [first, last] = ['0', 'f'].map(digit => Buffer.from(hex.padEnd(DIGITS_MAX, digit), 'hex'))
    // A shorter digest sorts before a longer one with the same beginning.
    const start = first?.subarray(0, Math.ceil(hex.length / 2)) ?? null
    return this.#statements.range.all(start, last ?? null, limit).map(row => this.#objectEntry(row))
  }

  cachedPlaces(): readonly PlaceName[] {
    return this.#statements.cachedPlaces.all().map(placeName)
  }

  /** Objects that a walk has found but not read yet, in slices. */
  unread(after: number, limit: number): DigestSlice {
    const rows = this.#statements.unread.all(after, limit)
    return {
      digests: rows.map(row => digestOfBytes(row['digest'])),
      next: rows.length < limit ? -1 : Number(rows.at(-1)?.['id']),
    }
  }

  unseen(walk: number, after: number, limit: number): DigestSlice {
    const rows = this.#statements.unseen.all(after, limit)
    const digests = rows.filter(row => row['walk'] !== walk).map(row => digestOfBytes(row['digest']))
    return { digests, next: rows.length < limit ? -1 : Number(rows.at(-1)?.['id']) }
  }

  #candidate(row: Row, names: ReadonlyMap<number, string>): Candidate {
    const places = this.#statements.places.all(row['digest'] as Uint8Array)
    return {
      digest: digestOfBytes(row['digest']),
      sizeBytes: Number(row['size']),
      lastUseMs: Number(row['last_use']),
      isManifest: row['is_manifest'] === 1,
      namespace: names.get(Number(row['owner'])) ?? '',
      linkedNamespaces: [...new Set(places.map(place => String(place['namespace'])))],
    }
  }

  #objectEntry(row: Row): ObjectEntry {
    const places = this.#statements.places.all(row['digest'] as Uint8Array).map(placeName)
    return {
      digest: digestOfBytes(row['digest']),
      sizeBytes: Number(row['size']),
      storedAtMs: Number(row['stored_at']),
      lastUseMs: Number(row['last_use']),
      hits: Number(row['hits']),
      servedBytes: Number(row['served']),
      isManifest: row['is_manifest'] === 1,
      repositories: places.map(({ namespace, repository }) => `${namespace}/${repository}`),
    }
  }
}

function placeName(row: Row): PlaceName {
  return { namespace: String(row['namespace']), repository: String(row['repository']) }
}

// oxlint-disable-next-line typescript/explicit-function-return-type
function prepare(database: DatabaseSync) {
  const sql = (text: string): ReturnType<DatabaseSync['prepare']> => database.prepare(text)
  return {
    namespaces: sql('SELECT id, name FROM namespace'),
    candidates: sql(
      `SELECT id, digest, size, last_use, is_manifest, owner FROM object
       WHERE is_manifest = :isManifest AND last_use < :before AND (last_use, id) > (:lastUse, :id)
       ORDER BY last_use, id LIMIT :scanned`,
    ),
    pullBack: sql('UPDATE object SET last_use = ? WHERE is_manifest IN (0, 1) AND last_use > ?'),
    places: sql(
      `SELECT namespace.name AS namespace, place.repository FROM link JOIN place ON place.id = link.place
       JOIN namespace ON namespace.id = place.namespace WHERE link.digest = ?`,
    ),
    unlinkAll: sql('DELETE FROM link WHERE digest = ?'),
    countLinks: sql('SELECT count(*) AS count FROM link'),
    manifests: sql('SELECT id, digest FROM object WHERE is_manifest = 1 AND id > ? ORDER BY id LIMIT ?'),
    markNamed: sql('INSERT OR IGNORE INTO named (digest) VALUES (?)'),
    clearNamed: sql('DELETE FROM named'),
    deadLinks: sql(
      `SELECT DISTINCT link.digest AS digest FROM link WHERE link.digest > ?
       AND NOT EXISTS (SELECT 1 FROM object WHERE object.digest = link.digest)
       AND NOT EXISTS (SELECT 1 FROM named WHERE named.digest = link.digest)
       ORDER BY link.digest LIMIT ?`,
    ),
    object: sql('SELECT * FROM object WHERE digest = ?'),
    listings: {
      'last-use': sql('SELECT * FROM object ORDER BY last_use DESC LIMIT ? OFFSET ?'),
      size: sql('SELECT * FROM object ORDER BY size DESC LIMIT ? OFFSET ?'),
      hits: sql('SELECT * FROM object ORDER BY hits DESC LIMIT ? OFFSET ?'),
    },
    range: sql('SELECT * FROM object WHERE digest BETWEEN ? AND ? ORDER BY digest LIMIT ?'),
    cachedPlaces: sql(
      `SELECT DISTINCT namespace.name AS namespace, place.repository AS repository FROM tag
       JOIN place ON place.id = tag.place JOIN namespace ON namespace.id = place.namespace
       WHERE tag.is_hosted = 0`,
    ),
    unread: sql('SELECT id, digest FROM object WHERE is_read = 0 AND id > ? ORDER BY id LIMIT ?'),
    unseen: sql('SELECT id, digest, walk FROM object WHERE id > ? ORDER BY id LIMIT ?'),
  }
}
