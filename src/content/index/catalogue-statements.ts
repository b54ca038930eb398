import type { DatabaseSync } from 'node:sqlite'

/** The statements by which a catalogue is changed. */
// oxlint-disable-next-line typescript/explicit-function-return-type
export function prepareStatements(database: DatabaseSync) {
  const sql = (text: string): ReturnType<DatabaseSync['prepare']> => database.prepare(text)
  return {
    readMeta: sql('SELECT value FROM meta WHERE name = ?'),
    writeMeta: sql(
      'INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value',
    ),
    sums: sql(
      `SELECT owner, sum(size) AS bytes, count(*) AS objects, min(size) AS smallest, max(size) AS largest
       FROM object GROUP BY owner`,
    ),
    read: sql('SELECT owner, size FROM object WHERE digest = ?'),
    insert: sql(
      `INSERT INTO object (digest, size, stored_at, last_use, owner, walk, is_read)
       VALUES (:key, :size, :at, :at, :owner, :walk, :isRead)`,
    ),
    update: sql(
      'UPDATE object SET size = :size, last_use = max(last_use, :at), walk = :walk WHERE digest = :key',
    ),
    remove: sql('DELETE FROM object WHERE digest = ? RETURNING owner, size'),
    use: sql(
      'UPDATE object SET last_use = max(last_use, ?), hits = hits + ?, served = served + ?, is_manifest = max(is_manifest, ?) WHERE digest = ?',
    ),
    markRead: sql('UPDATE object SET is_read = 1, is_manifest = max(is_manifest, ?) WHERE digest = ?'),
    own: sql('UPDATE object SET owner = ? WHERE digest = ?'),
    owners: sql(
      'SELECT DISTINCT place.namespace AS namespace FROM link JOIN place ON place.id = link.place WHERE link.digest = ?',
    ),
    link: sql('INSERT OR IGNORE INTO link (digest, place) VALUES (?, ?)'),
    unlink: sql('DELETE FROM link WHERE digest = ? AND place = ?'),
    tag: sql(
      `INSERT INTO tag (place, tag, digest, checked_at, is_hosted) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET digest = excluded.digest, checked_at = excluded.checked_at`,
    ),
    hold: sql('INSERT OR IGNORE INTO held (digest) VALUES (?)'),
    release: sql('DELETE FROM held WHERE digest = ?'),
    isHeld: sql('SELECT 1 FROM held WHERE digest = ?'),
    untag: sql('DELETE FROM tag WHERE place = ? AND tag = ? AND is_hosted = ?'),
    publish: sql('INSERT OR IGNORE INTO published (place, digest) VALUES (?, ?)'),
    withdraw: sql('DELETE FROM published WHERE place = ? AND digest = ?'),
    markHosted: sql('UPDATE place SET is_hosted = 1 WHERE id = ? AND is_hosted = 0'),
    addNamespace: sql('INSERT OR IGNORE INTO namespace (name) VALUES (?)'),
    namespace: sql('SELECT id FROM namespace WHERE name = ?'),
    addPlace: sql('INSERT OR IGNORE INTO place (namespace, repository) VALUES (?, ?)'),
    place: sql('SELECT id FROM place WHERE namespace = ? AND repository = ?'),
    namePlace: sql('INSERT INTO place_name (rowid, name) VALUES (?, ?)'),
  }
}
