import type { DatabaseSync } from 'node:sqlite'
import type { Digest } from '../../oci/digest.ts'
import { digestBytes } from './catalogue-schema.ts'
import type { NamedBlob } from './change.ts'

/** Manifests brought up to date for one object. Of a layer that more share, the others stay as they were. */
const PARENTS_MAX = 2000

/**
 * How much of each stored manifest is stored: its own bytes, its blobs, and for an index those of its
 * manifests. Sums are kept up to date, so that lists can be sorted by them.
 */
export class CatalogueExtents {
  readonly #statements
  /** Digests, in hexadecimal, whose manifests are to be summed up again. */
  readonly #changed = new Set<string>()

  constructor(database: DatabaseSync) {
    this.#statements = prepare(database)
  }

  /** Records what a manifest names. It never changes, so that this is done once. */
  named(manifest: Digest, blobs: readonly NamedBlob[]): void {
    const key = digestBytes(manifest)
    if (this.#statements.isKnown.get(key) !== undefined) return
    for (const { digest, sizeBytes } of blobs)
      this.#statements.addPart.run(key, digestBytes(digest), sizeBytes)
    this.#changed.add(hexText(key))
  }

  /** Records that an object was stored. */
  stored(digest: Uint8Array): void {
    this.#changed.add(hexText(digest))
  }

  /** Records that an object was removed, and forgets what it named. */
  removed(digest: Uint8Array): void {
    this.#statements.removeParts.run(digest)
    this.#changed.add(hexText(digest))
  }

  /** Sums up the manifests that have changed, then those above them. */
  settle(): void {
    const own = [...this.#changed]
    this.#changed.clear()
    const changed = new Set(own)
    for (const hex of own) {
      for (const parent of this.#parentsOf(hex)) changed.add(parent)
    }
    for (const hex of changed) this.#sumUp(hex)
    const above = new Set([...changed].flatMap(hex => this.#indexesOf(hex)))
    for (const hex of above) this.#sumUp(hex)
  }

  /** Drops what is known of manifests that are not stored. */
  dropGone(): void {
    this.#statements.dropParts.run()
  }

  #parentsOf(hex: string): readonly string[] {
    return this.#statements.parents.all(bytesOf(hex), PARENTS_MAX).map(row => hexText(row['parent']))
  }

  #indexesOf(hex: string): readonly string[] {
    return this.#statements.indexes.all(bytesOf(hex), PARENTS_MAX).map(row => hexText(row['parent']))
  }

  #sumUp(hex: string): void {
    this.#statements.sumUp.run({ digest: bytesOf(hex) })
  }
}

function hexText(bytes: unknown): string {
  return Buffer.from(bytes as Uint8Array).toString('hex')
}

function bytesOf(hex: string): Uint8Array {
  return Buffer.from(hex, 'hex')
}

/** Only of objects that are manifests. Blobs that are not stored count as missing, with their stated size. */
const SUM_UP = `
  UPDATE object SET cached = object.size + blobs.cached + children.cached,
    missing = blobs.missing + children.missing, lacks = blobs.lacks + children.lacks
  FROM
    (SELECT coalesce(sum(CASE WHEN o.id IS NULL THEN 0 ELSE part.size END), 0) AS cached,
       coalesce(sum(CASE WHEN o.id IS NULL THEN part.size ELSE 0 END), 0) AS missing,
       coalesce(sum(o.id IS NULL), 0) AS lacks
     FROM part LEFT JOIN object AS o ON o.digest = part.digest WHERE part.parent = :digest) AS blobs,
    (SELECT coalesce(sum(o.cached), 0) AS cached, coalesce(sum(o.missing), 0) AS missing,
       coalesce(sum(coalesce(o.lacks, o.id IS NULL)), 0) AS lacks
     FROM child LEFT JOIN object AS o ON o.digest = child.digest WHERE child.parent = :digest) AS children
  WHERE object.digest = :digest AND object.is_manifest = 1`

// oxlint-disable-next-line typescript/explicit-function-return-type
function prepare(database: DatabaseSync) {
  const sql = (text: string): ReturnType<DatabaseSync['prepare']> => database.prepare(text)
  return {
    isKnown: sql('SELECT 1 FROM object WHERE digest = ? AND cached IS NOT NULL'),
    addPart: sql('INSERT OR IGNORE INTO part (parent, digest, size) VALUES (?, ?, ?)'),
    parents: sql(
      `SELECT parent FROM part WHERE digest = ?1 UNION SELECT parent FROM child WHERE digest = ?1 LIMIT ?2`,
    ),
    indexes: sql('SELECT parent FROM child WHERE digest = ? LIMIT ?'),
    removeParts: sql('DELETE FROM part WHERE parent = ?'),
    sumUp: sql(SUM_UP),
    dropParts: sql(
      'DELETE FROM part WHERE NOT EXISTS (SELECT 1 FROM object WHERE object.digest = part.parent)',
    ),
  }
}
