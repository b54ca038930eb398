import type { DatabaseSync } from 'node:sqlite'
import { type Digest, hexOf } from '../../oci/digest.ts'
import type { ImageKind } from './change.ts'

/** Version of the tables, to be raised with every change. A catalogue of another version is deleted. */
const VERSION = 7

/**
 * The namespace that content of hosted repositories counts for, which no registry can have as its name. It is
 * neither evicted nor counted as cache.
 */
export const HOSTED_OWNER = '(hosted)'

/** The id of {@link HOSTED_OWNER}, for indexes of a part of the rows. */
export const HOSTED_ID = 1

const SCHEMA = `
  CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE namespace (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
  INSERT INTO namespace VALUES (${HOSTED_ID}, '${HOSTED_OWNER}');
  CREATE TABLE place (
    id INTEGER PRIMARY KEY, namespace INTEGER NOT NULL, repository TEXT NOT NULL,
    is_hosted INTEGER NOT NULL DEFAULT 0, UNIQUE (namespace, repository)
  ) STRICT;
  CREATE VIRTUAL TABLE place_name USING fts5 (name, content = '', tokenize = 'trigram case_sensitive 1');
  CREATE INDEX place_hosted ON place (namespace, repository) WHERE is_hosted = 1;
  CREATE TABLE object (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    last_use INTEGER NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0,
    served INTEGER NOT NULL DEFAULT 0,
    is_manifest INTEGER NOT NULL DEFAULT 0,
    owner INTEGER NOT NULL,
    walk INTEGER NOT NULL,
    is_read INTEGER NOT NULL,
    cached INTEGER, missing INTEGER, lacks INTEGER
  ) STRICT;
  CREATE INDEX object_by_use ON object (is_manifest, last_use);
  CREATE INDEX object_by_size ON object (cached) WHERE cached IS NOT NULL;
  CREATE INDEX hosted_by_use ON object (last_use) WHERE owner = ${HOSTED_ID} AND is_manifest = 1;
  CREATE INDEX hosted_by_size ON object (cached) WHERE owner = ${HOSTED_ID} AND cached IS NOT NULL;
  CREATE INDEX hosted_partial ON object (last_use) WHERE owner = ${HOSTED_ID} AND lacks > 0;
  CREATE INDEX partial_by_use ON object (last_use) WHERE lacks > 0;
  CREATE INDEX partial_by_size ON object (cached) WHERE lacks > 0;
  CREATE INDEX object_unread ON object (id) WHERE is_read = 0;
  CREATE TABLE link (digest BLOB NOT NULL, place INTEGER NOT NULL, PRIMARY KEY (digest, place)) STRICT, WITHOUT ROWID;
  CREATE TABLE tag (
    place INTEGER NOT NULL, tag TEXT NOT NULL, digest BLOB NOT NULL, checked_at INTEGER NOT NULL,
    is_hosted INTEGER NOT NULL, last_use INTEGER, hits INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (place, tag, is_hosted)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE published (place INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (place, digest)) STRICT, WITHOUT ROWID;
  CREATE TABLE shown (
    place INTEGER NOT NULL, digest BLOB NOT NULL, last_use INTEGER, hits INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (place, digest)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE child (digest BLOB NOT NULL, parent BLOB NOT NULL, PRIMARY KEY (digest, parent)) STRICT, WITHOUT ROWID;
  CREATE INDEX tag_by_digest ON tag (digest);
  CREATE INDEX shown_by_digest ON shown (digest);
  CREATE INDEX child_by_parent ON child (parent);
  CREATE TABLE part (parent BLOB NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (parent, digest)) STRICT, WITHOUT ROWID;
  CREATE INDEX part_by_digest ON part (digest);
  CREATE TABLE held (digest BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
  INSERT INTO meta VALUES ('is_stale', 1);
`

/** The catalogue was written by another version of this program. */
export class OtherVersionError extends Error {}

/** Creates missing tables and locks the file for this process. Returns true if the data is stale. */
export function requireSchema(database: DatabaseSync): boolean {
  // Exclusive: a second process on the same store would evict by counts of its own. This mode also needs no
  // shared memory.
  database.exec('PRAGMA locking_mode = EXCLUSIVE')
  database.exec('PRAGMA journal_mode = WAL')
  database.exec('PRAGMA synchronous = OFF')
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'])
  if (version === 0) {
    database.exec(`BEGIN; ${SCHEMA} PRAGMA user_version = ${VERSION}; COMMIT`)
    return true
  }
  if (version !== VERSION) throw new OtherVersionError(`the index has version ${version}`)
  const stale = database.prepare("SELECT value FROM meta WHERE name = 'is_stale'").get()
  return stale?.['value'] !== 0
}

/** Of the rows of `shown`: those that a hosted repository has. */
export const IS_PUBLISHED = `EXISTS (
  SELECT 1 FROM published WHERE published.place = shown.place AND published.digest = shown.digest)`

/** Of the rows of `shown`: those that no index names which their repository has or may see. */
export const IS_NO_CHILD = `NOT EXISTS (
    SELECT 1 FROM child JOIN link ON link.digest = child.parent AND link.place = shown.place
    JOIN object AS parent ON parent.digest = child.parent WHERE child.digest = shown.digest)
  AND NOT EXISTS (
    SELECT 1 FROM child JOIN published ON published.digest = child.parent AND published.place = shown.place
    WHERE child.digest = shown.digest)`

/**
 * Of the rows of `tag`: those of the kind in a parameter, 1 for hosted and 0 for cached. For both it is NULL:
 * then a hosted tag stands before a cached one of the same name, which nobody can pull.
 */
export function isOfKind(parameter: string): string {
  return `(tag.is_hosted = ${parameter} OR (${parameter} IS NULL AND (tag.is_hosted = 1 OR NOT EXISTS (
    SELECT 1 FROM tag AS own WHERE own.place = tag.place AND own.tag = tag.tag AND own.is_hosted = 1))))`
}

/** The parameter of {@link isOfKind}. */
export function kindNumber(kind: ImageKind): number | null {
  return kind === undefined ? null : Number(kind === 'hosted')
}

/** A digest as stored in the tables; its length implies the algorithm. */
export function digestBytes(digest: Digest): Uint8Array {
  return Buffer.from(hexOf(digest), 'hex')
}

/** The inverse of {@link digestBytes}. */
export function digestOfBytes(bytes: unknown): Digest {
  const hex = Buffer.from(bytes as Uint8Array).toString('hex')
  return `${hex.length === 64 ? 'sha256' : 'sha512'}:${hex}` as Digest
}
