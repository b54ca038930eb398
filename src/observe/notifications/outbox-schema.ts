import type { DatabaseSync } from 'node:sqlite'

const VERSION = 2

const SCHEMA = `
  CREATE TABLE notice (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL,
    announced INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE delivery (
    endpoint TEXT NOT NULL, seq INTEGER NOT NULL, subject TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT, PRIMARY KEY (endpoint, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX delivery_pending ON delivery (endpoint, subject, seq) WHERE state = 'pending';
  CREATE INDEX delivery_by_notice ON delivery (seq);
  CREATE TABLE disabled (endpoint TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`

/**
 * Makes the tables of a new outbox, and locks the file. Throws if the file is damaged, locked by another
 * process, or of another version.
 */
export function requireOutboxSchema(database: DatabaseSync): void {
  database.exec('PRAGMA locking_mode = EXCLUSIVE')
  database.exec('PRAGMA journal_mode = WAL')
  database.exec('PRAGMA synchronous = FULL')
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'])
  if (version === 0) database.exec(`BEGIN; ${SCHEMA} PRAGMA user_version = ${VERSION}; COMMIT`)
  else if (version !== VERSION) throw new Error(`the outbox has version ${version}`)
  // The lock is taken by the first write.
  database.exec('BEGIN IMMEDIATE; COMMIT')
}
