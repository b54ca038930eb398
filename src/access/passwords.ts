import { hash, randomBytes } from 'node:crypto'
import { Worker } from 'node:worker_threads'
import type { Clock } from '../lib/clock.ts'
import { lruCache } from '../lib/lru.ts'
import { OciError } from '../oci/error.ts'
import { Tries } from './tries.ts'

/** A question to the thread that checks passwords. */
export interface PasswordQuestion {
  readonly id: number
  readonly password: string
  readonly hash: string
}

interface Waiting {
  readonly question: PasswordQuestion
  readonly client: string
  readonly answered: PromiseWithResolvers<boolean>
}

/** Passwords that may wait for their check, in all and of one client. */
const WAITING_MAX = 256
const WAITING_PER_CLIENT_MAX = 8
const REMEMBERED_MAX = 1000

/**
 * Checks passwords in a thread of its own, one at a time, taking turns between clients. Correct ones are
 * remembered by a keyed hash, so that a client that sends its password with each request costs one check.
 */
export class Passwords implements AsyncDisposable {
  readonly #key = randomBytes(32).toString('base64')
  readonly #remembered = lruCache<string, true>(REMEMBERED_MAX)
  /** Running checks. Requests with the same password at the same time share one. */
  readonly #checks = new Map<string, Promise<boolean>>()
  readonly #tries: Tries
  readonly #waiting: Waiting[] = []
  #worker: Worker | undefined
  #running: Waiting | undefined
  #lastId = 0
  #lastClient = ''

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#tries = new Tries(clock)
  }

  /**
   * True if the password of the user has this hash. Throws TOOMANYREQUESTS, without a check, if this client
   * or name had too many wrong ones, or if too many checks are waiting.
   */
  async isRight(
    { user, password }: { readonly user: string; readonly password: string },
    passwordHash: string,
    client: string | undefined,
  ): Promise<boolean> {
    const mark = hash('sha256', `${this.#key}\0${user}\0${passwordHash}\0${password}`, 'base64')
    if (this.#remembered.has(mark)) return true
    const running = this.#checks.get(mark) ?? this.#check({ user, password }, passwordHash, client)
    this.#checks.set(mark, running)
    try {
      const isRight = await running
      if (isRight) this.#remembered.set(mark, true)
      return isRight
    } finally {
      this.#checks.delete(mark)
    }
  }

  async #check(
    { user, password }: { readonly user: string; readonly password: string },
    passwordHash: string,
    client: string | undefined,
  ): Promise<boolean> {
    const retryAfterMs = this.#tries.waitMs(client, user)
    if (retryAfterMs > 0) throw new OciError('TOOMANYREQUESTS', 'too many wrong passwords', { retryAfterMs })
    // Counted before the check, so that guesses which arrive together do not pass together.
    this.#tries.wrong(client, user)
    const isRight = await this.#ask(password, passwordHash, client ?? '')
    if (isRight) this.#tries.right(client, user)
    return isRight
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const error = new Error('the mirror is shutting down')
    for (const { answered } of this.#waiting.splice(0)) answered.reject(error)
    this.#running?.answered.reject(error)
    this.#running = undefined
    await this.#worker?.terminate()
  }

  async #ask(password: string, passwordHash: string, client: string): Promise<boolean> {
    const own = this.#waiting.filter(waiting => waiting.client === client).length
    if (own >= WAITING_PER_CLIENT_MAX || this.#waiting.length >= WAITING_MAX)
      throw new OciError('TOOMANYREQUESTS', 'too many passwords are being checked')
    this.#lastId += 1
    const answered = Promise.withResolvers<boolean>()
    const question = { id: this.#lastId, password, hash: passwordHash }
    this.#waiting.push({ question, client, answered })
    this.#next()
    return await answered.promise
  }

  /** Begins the next check: of another client than the last one, if one is waiting. */
  #next(): void {
    if (this.#running !== undefined || this.#waiting.length === 0) return
    const other = this.#waiting.findIndex(({ client }) => client !== this.#lastClient)
    const [next] = this.#waiting.splice(Math.max(0, other), 1)
    if (next === undefined) return
    this.#running = next
    this.#lastClient = next.client
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is no window
    this.#thread().postMessage(next.question, [])
  }

  #thread(): Worker {
    if (this.#worker !== undefined) return this.#worker
    const worker = new Worker(entryFile())
    worker.unref()
    worker.on('message', ({ isRight }: { readonly isRight: boolean }) =>
      this.#settle(({ resolve }) => resolve(isRight)),
    )
    worker.on('error', error => {
      this.#worker = undefined
      this.#settle(({ reject }) => reject(error))
    })
    this.#worker = worker
    return worker
  }

  #settle(settle: (answered: PromiseWithResolvers<boolean>) => void): void {
    const running = this.#running
    this.#running = undefined
    if (running !== undefined) settle(running.answered)
    this.#next()
  }
}

/** The thread's file, compiled by the build along with this one. */
function entryFile(): URL {
  const source = new URL('./password-entry.ts', import.meta.url)
  return new URL(source.href.replace(/ts$/, import.meta.url.slice(-2)))
}
