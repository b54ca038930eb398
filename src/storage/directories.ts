import { constants, mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { hasCode } from '../lib/system-error.ts'

const REMEMBERED_MAX = 4_096

/** Makes the entries of a directory survive a power cut: a rename or mkdir in it is durable only then. */
export async function syncDirectory(path: string): Promise<void> {
  await using handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  await handle.sync()
}

/** Makes a directory and its parents, all durable, and says nothing if it is there already. */
export async function makeRoot(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 })
  if (first === undefined) return
  for (let made = path; made.length >= first.length; made = dirname(made)) {
    await syncDirectory(dirname(made))
  }
}

/** The directories below a root that are known to be durable, so that each is synced once in the life of a process. */
export class DurableDirectories {
  readonly #root: string
  readonly #known = new Set<string>()

  /** The root itself must be there, and durable. */
  constructor(root: string) {
    this.#root = root
  }

  /**
   * Makes the directory if it is missing. One that is there is synced too when it is seen first: another process may have made it a
   * moment ago and not have synced it yet.
   */
  async ensure(path: string): Promise<void> {
    if (path === this.#root || this.#known.has(path)) return
    const parent = dirname(path)
    await this.ensure(parent)
    try {
      await mkdir(path, { mode: 0o700 })
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error
    }
    await syncDirectory(parent)
    if (this.#known.size >= REMEMBERED_MAX) this.#known.clear()
    this.#known.add(path)
  }

  /** Forgets what is known, when a directory turns out to be gone: operators empty caches by hand. */
  forget(): void {
    this.#known.clear()
  }
}
