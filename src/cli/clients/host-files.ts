import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, lstat, open, readdir, rename, rm } from 'node:fs/promises'
import { isAbsolute, join, resolve } from 'node:path'
import { hasCode } from '../../lib/system-error.ts'
import type { HostFiles } from './client.ts'
import { findSpot, type Missing, RefusedPath, type Spot } from './rooted-path.ts'

/** A machine without any of these files. */
export const NO_FILES: HostFiles = {
  read: async () => undefined,
  list: async () => [],
}

const NO_FOLLOW = constants.O_NOFOLLOW | constants.O_NONBLOCK
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
const PRIVATE_MODE = 0o600
/** Mode of a new file: every user may read configuration. */
const NEW_FILE_MODE = 0o644

/**
 * Files below a directory that is used as `/`; relative paths start at `cwd`. Links are followed below the
 * root; a link that leaves it makes the call throw {@link RefusedPath}.
 */
export class RootedFiles implements HostFiles {
  readonly #root: string
  readonly #cwd: string

  constructor(root: string, cwd: string) {
    this.#root = root
    this.#cwd = cwd
  }

  /** Path of a file on this machine. */
  locate(path: string): string {
    return isAbsolute(path) ? join(this.#root, path) : resolve(this.#cwd, path)
  }

  async read(path: string): Promise<string | undefined> {
    return await this.#at(path, 'leave', async spot => {
      const file = await open(spot.path, constants.O_RDONLY | NO_FOLLOW)
      try {
        if (isSpecial(await file.stat())) throw new RefusedPath(this.locate(path), 'is not a regular file')
        return await file.readFile('utf8')
      } finally {
        await file.close()
      }
    })
  }

  async list(path: string): Promise<readonly string[]> {
    const names = await this.#at(path, 'leave', async spot => {
      // `findSpot` checked that this is not a link. If it became one since, only names are disclosed.
      return await readdir(spot.path)
    })
    return (names ?? []).sort()
  }

  /**
   * Replaces the text of a file atomically. An existing file keeps its owner and mode, even behind a link,
   * and no other user can read the new one before it has them. A secret one only its owner can read.
   */
  async write(path: string, text: string, isSecret = false): Promise<void> {
    await this.#at(path, 'create', async spot => await replace(spot, text, isSecret))
  }

  /** Calls `use` with the place of a file; `undefined` if it or its directory does not exist. */
  async #at<T>(path: string, missing: Missing, use: (spot: Spot) => Promise<T>): Promise<T | undefined> {
    const [root, below] = isAbsolute(path) ? [this.#root, path] : ['/', this.locate(path)]
    try {
      const spot = await findSpot(root, below, missing)
      if (spot === undefined) return undefined
      await using _closed = spot
      return await use(spot)
    } catch (error) {
      if (missing === 'leave' && hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined
      throw named(error, this.locate(path))
    }
  }
}

async function replace({ directory, path }: Spot, text: string, isSecret: boolean): Promise<void> {
  const previous = await lstat(path).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  })
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  const file = await open(temporary, CREATE, PRIVATE_MODE)
  try {
    await file.writeFile(text)
    const own = await file.stat()
    const isOwn = previous === undefined || (own.uid === previous.uid && own.gid === previous.gid)
    if (!isOwn) await file.chown(previous.uid, previous.gid)
    const mode = previous === undefined ? NEW_FILE_MODE : previous.mode & 0o7777
    await file.chmod(isSecret ? mode & PRIVATE_MODE : mode)
    await file.sync()
    await rename(temporary, path)
    await directory.sync()
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  } finally {
    await file.close()
  }
}

function isSpecial(stats: Awaited<ReturnType<FileHandle['stat']>>): boolean {
  return !stats.isFile() && !stats.isDirectory()
}

/** Replaces the path in an error, which goes through a descriptor, by the one that the user knows. */
function named(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return error
  const message = error.message.replace(/ '[^']*'(?: -> '[^']*')?/, '')
  const { code, syscall } = error
  return Object.assign(new Error(`${message} '${path}'`, { cause: error }), { code, syscall })
}
