import { renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort } from 'node:worker_threads'
import { answerCalls } from '../../lib/thread-client.ts'
import { Outbox, type OutboxBounds } from './outbox.ts'
import type { OutboxCalls } from './outbox-client.ts'

/** SQLite result codes for a file that another process has locked, and for a file that is unusable. */
const LOCKED: ReadonlySet<number> = new Set([5 /* SQLITE_BUSY */, 6 /* SQLITE_LOCKED */])
const DAMAGED: ReadonlySet<number> = new Set([11 /* SQLITE_CORRUPT */, 26 /* SQLITE_NOTADB */])
/** Most processes on one directory that may have an outbox. */
const FILES_MAX = 8

/** The outbox of this thread. */
class Keeper {
  #outbox: Outbox | undefined

  readonly calls: {
    readonly [Name in keyof OutboxCalls]: (...args: Parameters<OutboxCalls[Name]>) => unknown
  } = {
    open: (directory, bounds) => this.openFirstFree(directory, bounds),
    configure: endpoints => this.#open.configure(endpoints),
    add: (addressed, nowMs) => this.#open.add(addressed, nowMs),
    confirm: ids => this.#open.confirm(ids),
    withdraw: ids => this.#open.withdraw(ids),
    announced: () => this.#open.announced(),
    due: (endpoint, waiting, limit) => this.#open.due(endpoint, waiting, limit),
    settle: (endpoint, attempts) => this.#open.settle(endpoint, attempts),
    disable: (endpoint, nowMs) => this.#open.disable(endpoint, nowMs),
    list: (before, limit) => this.#open.list(before, limit),
    replay: query => this.#open.replay(query),
    pending: () => this.#open.pending(),
    close: () => {
      this.#outbox?.close()
      this.#outbox = undefined
      return undefined
    },
  }

  /** Several processes may share a directory, and each has an outbox of its own. */
  openFirstFree(directory: string, bounds: OutboxBounds): boolean {
    for (let number = 1; ; number += 1) {
      const path = join(directory, number === 1 ? 'events.sqlite' : `events-${number}.sqlite`)
      try {
        return this.openOrPutAside(path, bounds)
      } catch (error) {
        if (!LOCKED.has(codeOf(error)) || number === FILES_MAX) throw error
      }
    }
  }

  openOrPutAside(path: string, bounds: OutboxBounds): boolean {
    try {
      this.#outbox = new Outbox(path, bounds)
      return false
    } catch (error) {
      if (!DAMAGED.has(codeOf(error))) throw error
      renameSync(path, `${path}.damaged`)
      // SQLite would replay a log left without its file into the next file of this name.
      for (const suffix of ['-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true })
      this.#outbox = new Outbox(path, bounds)
      return true
    }
  }

  get #open(): Outbox {
    if (this.#outbox === undefined) throw new Error('the outbox is not open')
    return this.#outbox
  }
}

function codeOf(error: unknown): number {
  return Number((error as { readonly errcode?: unknown } | null)?.errcode ?? 0) & 0xff
}

answerCalls(parentPort, new Keeper().calls)
