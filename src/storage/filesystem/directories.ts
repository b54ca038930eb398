import { constants, mkdir, open, rmdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { hasCode } from '../../lib/system-error.ts'

const REMEMBERED_MAX = 4_096

/**
 * Syncs a directory so that its entries survive a power cut: a rename or mkdir in it is durable only then.
 * File systems that cannot sync directories (SMB, some of FUSE) fail with EINVAL or ENOTSUP, which is ignored
 * because they offer nothing better.
 */
async function syncDirectory(path: string): Promise<void> {
  await using handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } catch (error) {
    if (!hasCode(error, 'EINVAL', 'ENOTSUP')) throw error
  }
}

/**
 * Makes a directory and its missing parents; returns those that were made, outermost first. Node's own
 * recursive mkdir hides the reason of a failure: on a read-only file system it reports ENOENT.
 */
export async function makeDirectory(path: string): Promise<string[]> {
  try {
    return await makeOne(path)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
    const parents = await makeDirectory(dirname(path))
    return [...parents, ...(await makeOne(path))]
  }
}

async function makeOne(path: string): Promise<string[]> {
  try {
    await mkdir(path, { mode: 0o700 })
    return [path]
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return []
    throw error
  }
}

/** Makes a directory and its missing parents, all durable. */
export async function makeDurableDirectory(path: string): Promise<void> {
  for (const made of await makeDirectory(path)) await syncDirectory(dirname(made))
}

/**
 * Removes a directory and its parents below the root, as far as they are empty. Tidiness only: never throws.
 * A writer that loses its directory to this makes it again.
 */
export async function removeEmpty(path: string, root: string): Promise<void> {
  for (let at = path; at.startsWith(root) && at !== root; at = dirname(at)) {
    try {
      await rmdir(at)
    } catch {
      return
    }
  }
}

/**
 * Syncs directories for many writers. A sync covers the entries that were made before it began, so writers
 * that come while one runs share the next.
 */
export class DirectorySyncs {
  readonly #running = new Map<string, Promise<void>>()
  readonly #next = new Map<string, Promise<void>>()
  readonly #sync: (path: string) => Promise<void>

  constructor(sync: (path: string) => Promise<void> = syncDirectory) {
    this.#sync = sync
  }

  /** Resolves when everything that is in the directory now survives a power cut. */
  async sync(path: string): Promise<void> {
    const running = this.#running.get(path)
    if (running === undefined) {
      await this.#start(path)
      return
    }
    const next = this.#next.get(path) ?? running.then(async () => await this.#start(path))
    this.#next.set(path, next)
    await next
  }

  async #start(path: string): Promise<void> {
    const sync = this.#sync(path)
    this.#next.delete(path)
    // Those that wait for this one begin the next, whatever becomes of it.
    const over = sync.catch(() => undefined)
    this.#running.set(path, over)
    try {
      await sync
    } finally {
      if (this.#running.get(path) === over) this.#running.delete(path)
    }
  }
}

/** Remembers which directories below a root are durable, so that a process syncs each of them once. */
export class DurableDirectories {
  readonly #root: string
  readonly #known = new Set<string>()

  /** The root itself must exist and be durable. */
  constructor(root: string) {
    this.#root = root
  }

  /**
   * Makes the directory if it is missing. An existing one is also synced when it is first seen: another
   * process may have just made it and not have synced it yet.
   */
  async ensure(path: string): Promise<void> {
    try {
      await this.#make(path)
    } catch (error) {
      if (!hasCode(error, 'ENOENT') || this.#known.size === 0) throw error
      // A known parent has been removed since.
      this.forget()
      await this.#make(path)
    }
  }

  async #make(path: string): Promise<void> {
    if (path === this.#root || this.#known.has(path)) return
    const parent = dirname(path)
    await this.#make(parent)
    await makeOne(path)
    await syncDirectory(parent)
    if (this.#known.size >= REMEMBERED_MAX) this.#known.clear()
    this.#known.add(path)
  }

  /** Forgets all directories; called when one turns out to be gone, since operators empty caches by hand. */
  forget(): void {
    this.#known.clear()
  }
}
