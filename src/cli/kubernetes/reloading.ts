import { FileWatch } from '../../config/file/watch.ts'
import { Turns } from '../../lib/turns.ts'
import type { Log } from '../../observe/log.ts'

export interface ReloadingParts {
  readonly log: Log
  readonly count: (what: string, result: 'ok' | 'failed') => void
}

/** Reads again; resolves to facts for the log. What it throws leaves everything as it was. */
type Reload = () => Promise<object>

/** Reloads of files that change while a command runs, one after another. */
export class Reloading implements Disposable {
  readonly #parts: ReloadingParts
  readonly #watching = new DisposableStack()
  readonly #reloads: (() => void)[] = []
  readonly #turns = new Turns<string>()

  constructor(parts: ReloadingParts) {
    this.#parts = parts
  }

  /** Calls `reload` whenever one of the files has other bytes. */
  async watch(what: string, files: readonly string[], reload: Reload): Promise<void> {
    const { log, count } = this.#parts
    const take = async (): Promise<void> => {
      try {
        log.info({ what, ...(await reload()) }, `${what} reloaded`)
        count(what, 'ok')
      } catch (error) {
        log.error({ what, err: error }, `${what} not reloaded; the old ones stay in force`)
        count(what, 'failed')
      }
    }
    const changed = (): void => void this.#turns.take(what, take)
    const failed = (error: unknown): void =>
      log.warn({ what, err: error }, 'changes may go unseen from now on; SIGHUP still reloads')
    for (const file of new Set(files)) {
      const watch = this.#watching.use(new FileWatch(file, { changed, failed }))
      await watch.start()
    }
    this.#reloads.push(changed)
  }

  reloadAll(): void {
    for (const reload of this.#reloads) reload()
  }

  [Symbol.dispose](): void {
    this.#watching.dispose()
  }
}
