import { closeSync, fchmodSync, openSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import type { Notice } from './notice.ts'

const VERSION = 1

const SCHEMA = `
  CREATE TABLE notice (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL
  ) STRICT;
  CREATE TABLE delivery (
    endpoint TEXT NOT NULL, seq INTEGER NOT NULL, subject TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT, PRIMARY KEY (endpoint, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX delivery_pending ON delivery (endpoint, subject, seq) WHERE state = 'pending';
  CREATE INDEX delivery_by_notice ON delivery (seq);
  CREATE TABLE disabled (endpoint TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`

/** Bounds of an outbox. */
export interface OutboxBounds {
  readonly noticesMax: number
  readonly ageMsMax: number
}

/** A notice to keep, and the endpoints that get it. */
export interface Addressed {
  readonly notice: Notice
  readonly endpoints: readonly string[]
}

/** State of a notice for one endpoint. */
type DeliveryState = 'pending' | 'delivered' | 'dropped'

/** A notice whose turn it is. */
export interface DueNotice {
  readonly seq: number
  readonly notice: Notice
  /** Attempts so far. */
  readonly attempts: number
}

/** End of one attempt; `error` says why it failed. */
export interface Attempted {
  readonly seq: number
  readonly state: DeliveryState
  readonly error: string | undefined
}

/** One notice in the outbox, with its state for each endpoint. */
export interface ListedNotice {
  readonly seq: number
  readonly notice: Notice
  readonly deliveries: readonly ListedDelivery[]
}

export interface ListedDelivery {
  readonly endpoint: string
  readonly state: DeliveryState
  readonly attempts: number
  readonly error: string | undefined
}

/** Selects the notices to send again. */
export interface ReplayQuery {
  /** Only to this endpoint. */
  readonly endpoint: string | undefined
  /** Only this notice. */
  readonly id: string | undefined
  readonly sinceMs: number
}

/**
 * Notices that wait for their endpoints, in a SQLite file that is synced with every change: a notice that is
 * here survives a crash. Bounded: the oldest are dropped. The methods are synchronous, so the outbox runs in
 * its own thread.
 */
export class Outbox {
  readonly #database: DatabaseSync
  readonly #bounds: OutboxBounds

  /** Opens the file and locks it for this process. Throws if it is damaged, or if another process uses it. */
  constructor(path: string, bounds: OutboxBounds) {
    // The file names repositories and users.
    const fd = openSync(path, 'a', 0o600)
    fchmodSync(fd, 0o600)
    closeSync(fd)
    this.#bounds = bounds
    this.#database = new DatabaseSync(path)
    try {
      this.#requireSchema()
    } catch (error) {
      this.#database.close()
      throw error
    }
  }

  /**
   * Forgets what waits for endpoints that are not configured any more. Returns the endpoints that are
   * disabled.
   */
  configure(endpoints: readonly string[]): readonly string[] {
    const names = JSON.stringify(endpoints)
    const others = 'endpoint NOT IN (SELECT value FROM json_each(?))'
    this.#run(`DELETE FROM delivery WHERE ${others}`, names)
    this.#run(`DELETE FROM disabled WHERE ${others}`, names)
    return this.#all('SELECT endpoint FROM disabled').map(row => String(row['endpoint']))
  }

  /** Keeps all of the notices or none, durably. Returns how many undelivered older ones were dropped. */
  add(addressed: readonly Addressed[], nowMs: number): number {
    return this.#atOnce(() => {
      for (const { notice, endpoints } of addressed) {
        const subject = notice.subject ?? ''
        const { lastInsertRowid: seq } = this.#run(
          'INSERT INTO notice (id, at, subject, body) VALUES (?, ?, ?, ?)',
          notice.id,
          notice.atMs,
          subject,
          JSON.stringify(notice),
        )
        for (const endpoint of endpoints) {
          this.#run(
            "INSERT INTO delivery (endpoint, seq, subject, state) VALUES (?, ?, ?, 'pending')",
            endpoint,
            seq,
            subject,
          )
        }
      }
      return this.#trim(nowMs)
    })
  }

  /** The oldest pending notice of each subject, without those subjects that have to wait. */
  due(endpoint: string, waitingSubjects: readonly string[], limit: number): readonly DueNotice[] {
    const rows = this.#all(
      `SELECT notice.seq AS seq, body, attempts FROM (
         SELECT MIN(seq) AS seq, attempts FROM delivery
         WHERE endpoint = ? AND state = 'pending' AND subject NOT IN (SELECT value FROM json_each(?))
         GROUP BY subject
       ) AS head JOIN notice ON notice.seq = head.seq ORDER BY seq LIMIT ?`,
      endpoint,
      JSON.stringify(waitingSubjects),
      limit,
    )
    return rows.map(row => ({
      seq: Number(row['seq']),
      notice: noticeOf(row['body']),
      attempts: Number(row['attempts']),
    }))
  }

  /** Records the ends of attempts. */
  settle(endpoint: string, attempts: readonly Attempted[]): void {
    this.#atOnce(() => {
      for (const { seq, state, error } of attempts) {
        this.#run(
          'UPDATE delivery SET state = ?, error = ?, attempts = attempts + 1 WHERE endpoint = ? AND seq = ?',
          state,
          error ?? null,
          endpoint,
          seq,
        )
      }
    })
  }

  /** Keeps an endpoint from getting anything, over restarts too, until a replay. */
  disable(endpoint: string, nowMs: number): void {
    this.#run('INSERT OR REPLACE INTO disabled (endpoint, at) VALUES (?, ?)', endpoint, nowMs)
  }

  /** The newest notices before a sequence number, the newest first. */
  list(before: number, limit: number): readonly ListedNotice[] {
    const rows = this.#all(
      'SELECT seq, body FROM notice WHERE seq < ? ORDER BY seq DESC LIMIT ?',
      before,
      limit,
    )
    return rows.map(row => {
      const seq = Number(row['seq'])
      return { seq, notice: noticeOf(row['body']), deliveries: this.#deliveriesOf(seq) }
    })
  }

  /**
   * Makes notices pending again for the endpoints that they were for, and enables these endpoints. Returns
   * the number of notices.
   */
  replay({ endpoint, id, sinceMs }: ReplayQuery): number {
    return this.#atOnce(() => {
      const { changes } = this.#run(
        `UPDATE delivery SET state = 'pending', attempts = 0, error = NULL
         WHERE (?1 IS NULL OR endpoint = ?1)
           AND seq IN (SELECT seq FROM notice WHERE at >= ?2 AND (?3 IS NULL OR id = ?3))`,
        endpoint ?? null,
        sinceMs,
        id ?? null,
      )
      this.#run('DELETE FROM disabled WHERE ?1 IS NULL OR endpoint = ?1', endpoint ?? null)
      return Number(changes)
    })
  }

  /** Number of notices that wait, by endpoint. */
  pending(): Readonly<Record<string, number>> {
    const rows = this.#all(
      "SELECT endpoint, COUNT(*) AS count FROM delivery WHERE state = 'pending' GROUP BY endpoint",
    )
    return Object.fromEntries(rows.map(row => [String(row['endpoint']), Number(row['count'])]))
  }

  close(): void {
    this.#database.close()
  }

  #deliveriesOf(seq: number): readonly ListedDelivery[] {
    const rows = this.#all('SELECT endpoint, state, attempts, error FROM delivery WHERE seq = ?', seq)
    return rows.map(row => ({
      endpoint: String(row['endpoint']),
      state: row['state'] as DeliveryState,
      attempts: Number(row['attempts']),
      error: (row['error'] as string | null) ?? undefined,
    }))
  }

  /** Removes the oldest notices beyond the bounds. Returns how many deliveries were still pending. */
  #trim(nowMs: number): number {
    const [row] = this.#all(
      `SELECT MAX(
         COALESCE((SELECT seq FROM notice ORDER BY seq DESC LIMIT 1 OFFSET ?), 0),
         COALESCE((SELECT MAX(seq) FROM notice WHERE at < ?), 0)
       ) AS last`,
      this.#bounds.noticesMax,
      nowMs - this.#bounds.ageMsMax,
    )
    const last = Number(row?.['last'] ?? 0)
    if (last === 0) return 0
    const [lost] = this.#all(
      "SELECT COUNT(*) AS count FROM delivery WHERE seq <= ? AND state = 'pending'",
      last,
    )
    this.#run('DELETE FROM delivery WHERE seq <= ?', last)
    this.#run('DELETE FROM notice WHERE seq <= ?', last)
    return Number(lost?.['count'] ?? 0)
  }

  #requireSchema(): void {
    this.#database.exec('PRAGMA locking_mode = EXCLUSIVE')
    this.#database.exec('PRAGMA journal_mode = WAL')
    this.#database.exec('PRAGMA synchronous = FULL')
    const version = Number(this.#database.prepare('PRAGMA user_version').get()?.['user_version'])
    if (version === 0) this.#database.exec(`BEGIN; ${SCHEMA} PRAGMA user_version = ${VERSION}; COMMIT`)
    else if (version !== VERSION) throw new Error(`the outbox has version ${version}`)
    // The lock is taken by the first write.
    this.#database.exec('BEGIN IMMEDIATE; COMMIT')
  }

  #atOnce<T>(action: () => T): T {
    this.#database.exec('BEGIN')
    try {
      const result = action()
      this.#database.exec('COMMIT')
      return result
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  #run(
    sql: string,
    ...values: readonly SQLInputValue[]
  ): { changes: number | bigint; lastInsertRowid: number | bigint } {
    return this.#database.prepare(sql).run(...values)
  }

  #all(sql: string, ...values: readonly SQLInputValue[]): readonly Readonly<Record<string, unknown>>[] {
    return this.#database.prepare(sql).all(...values)
  }
}

function noticeOf(body: unknown): Notice {
  return JSON.parse(String(body)) as Notice
}
