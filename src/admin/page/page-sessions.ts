import { randomBytes } from 'node:crypto'

/** An administrator who has logged in with a browser. */
export interface PageSession {
  readonly id: string
  /** What every form of this session carries. */
  readonly formToken: string
  /**
   * The credentials of the login, which every request proves again: a session ends with its token. Absent
   * where no token is needed.
   */
  readonly authorization: string | undefined
  readonly endsAtMs: number
}

const SESSIONS_MAX = 100
const LONGEST_MS = 12 * 3_600_000
const IDLE_MS = 3_600_000

/** Sessions of browsers, in memory. A restart ends all of them. */
export class PageSessions {
  readonly #now: () => number
  /** The one not used for longest comes first. */
  readonly #sessions = new Map<string, { readonly session: PageSession; usedAtMs: number }>()

  /** @param now steady clock, in milliseconds. */
  constructor(now: () => number) {
    this.#now = now
  }

  begin(authorization: string | undefined): PageSession {
    const [oldest] = this.#sessions.keys()
    if (this.#sessions.size >= SESSIONS_MAX && oldest !== undefined) this.#sessions.delete(oldest)
    const session = {
      id: randomBytes(24).toString('base64url'),
      formToken: randomBytes(24).toString('base64url'),
      authorization,
      endsAtMs: this.#now() + LONGEST_MS,
    }
    this.#sessions.set(session.id, { session, usedAtMs: this.#now() })
    return session
  }

  /** The session of an id, which counts as used; `undefined` if it has ended. */
  find(id: string | undefined): PageSession | undefined {
    const known = id === undefined ? undefined : this.#sessions.get(id)
    if (id === undefined || known === undefined) return undefined
    this.#sessions.delete(id)
    const nowMs = this.#now()
    if (nowMs >= known.session.endsAtMs || nowMs - known.usedAtMs >= IDLE_MS) return undefined
    known.usedAtMs = nowMs
    this.#sessions.set(id, known)
    return known.session
  }

  end(id: string): void {
    this.#sessions.delete(id)
  }
}
