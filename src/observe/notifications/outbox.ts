import { closeSync, fchmodSync, openSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import type { Notice } from './notice.ts'
import { requireOutboxSchema } from './outbox-schema.ts'

/** The notices whose ids are in a list, as JSON. */
const AMONG = 'id IN (SELECT value FROM json_each(?))'

/** Bounds of an outbox. */
export interface OutboxBounds {
  readonly noticesMax: number
  readonly ageMsMax: number
}

/** A notice to keep, and the endpoints that get it. */
export interface Addressed {
  readonly notice: Notice
  readonly endpoints: readonly string[]
  /** True if what it reports is yet to happen: it is not due before {@link Outbox.confirm}. */
  readonly isAnnounced: boolean
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
      requireOutboxSchema(this.#database)
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
      for (const { notice, endpoints, isAnnounced } of addressed) {
        const subject = notice.subject ?? ''
        const { lastInsertRowid: seq } = this.#run(
          'INSERT INTO notice (id, at, subject, body, announced) VALUES (?, ?, ?, ?, ?)',
          notice.id,
          notice.atMs,
          subject,
          JSON.stringify(notice),
          Number(isAnnounced),
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

  /** Ids of announced notices whose changes have happened: they are due. */
  confirm(ids: readonly string[]): void {
    this.#unsynced(() => this.#run(`UPDATE notice SET announced = 0 WHERE ${AMONG}`, JSON.stringify(ids)))
  }

  /** Ids of announced notices whose changes have not happened: they are gone. */
  withdraw(ids: readonly string[]): void {
    const gone = `announced = 1 AND ${AMONG}`
    this.#unsynced(() => {
      this.#run(
        `DELETE FROM delivery WHERE seq IN (SELECT seq FROM notice WHERE ${gone})`,
        JSON.stringify(ids),
      )
      this.#run(`DELETE FROM notice WHERE ${gone}`, JSON.stringify(ids))
    })
  }

  /** Announced notices that were neither confirmed nor withdrawn, in their order. */
  announced(): readonly Notice[] {
    return this.#all('SELECT body FROM notice WHERE announced = 1 ORDER BY seq').map(row =>
      noticeOf(row['body']),
    )
  }

  /**
   * The oldest pending notice of each subject, without those subjects that have to wait. Behind an announced
   * one its subject waits.
   */
  due(endpoint: string, waitingSubjects: readonly string[], limit: number): readonly DueNotice[] {
    const rows = this.#all(
      `SELECT notice.seq AS seq, body, attempts FROM (
         SELECT MIN(seq) AS seq, attempts FROM delivery
         WHERE endpoint = ? AND state = 'pending' AND subject NOT IN (SELECT value FROM json_each(?))
         GROUP BY subject
       ) AS head JOIN notice ON notice.seq = head.seq WHERE announced = 0 ORDER BY seq LIMIT ?`,
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

  /** The newest notices before a sequence number, the newest first, without announced ones. */
  list(before: number, limit: number): readonly ListedNotice[] {
    const rows = this.#all(
      'SELECT seq, body FROM notice WHERE seq < ? AND announced = 0 ORDER BY seq DESC LIMIT ?',
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

  /**
   * Changes all or nothing, without a sync of its own: it survives the end of this process, and a power cut
   * once a later change is synced.
   */
  #unsynced(action: () => unknown): void {
    this.#database.exec('PRAGMA synchronous = NORMAL')
    try {
      this.#atOnce(action)
    } finally {
      this.#database.exec('PRAGMA synchronous = FULL')
    }
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
