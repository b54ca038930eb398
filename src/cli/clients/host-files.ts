import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, readdir, rename, rm, rmdir, unlink } from 'node:fs/promises'
import { dirname, isAbsolute, join, resolve } from 'node:path'
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
const NEW_DIRECTORY_MODE = 0o755
/** Name of files and directories that exist only while something is written. */
const TEMPORARY = /^\.entrepot-[0-9a-f]{12}$/

/** Called before each operation that changes something; tests interrupt there. */
export type FileStep = (operation: string) => void

/**
 * Files below a directory that is used as `/`; relative paths start at `cwd`. Links are followed below the
 * root; a link that leaves it makes the call throw {@link RefusedPath}.
 */
export class RootedFiles implements HostFiles {
  readonly #root: string
  readonly #cwd: string
  readonly #step: FileStep

  constructor(root: string, cwd: string, step: FileStep = () => undefined) {
    this.#root = root
    this.#cwd = cwd
    this.#step = step
  }

  /** Path of a file on this machine. */
  locate(path: string): string {
    return isAbsolute(path) ? join(this.#root, path) : resolve(this.#cwd, path)
  }

  async read(path: string): Promise<string | undefined> {
    return (await this.readBytes(path))?.toString('utf8')
  }

  async readBytes(path: string): Promise<Buffer | undefined> {
    return await this.#at(path, 'leave', async spot => {
      const file = await open(spot.path, constants.O_RDONLY | NO_FOLLOW)
      try {
        if (isSpecial(await file.stat())) throw new RefusedPath(this.locate(path), 'is not a regular file')
        return await file.readFile()
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
    await this.#at(path, 'create', async spot => await replace(spot, text, isSecret, this.#step))
  }

  /** Removes a file, if it is there. */
  async remove(path: string): Promise<void> {
    await this.#at(path, 'leave', async spot => {
      this.#step('unlink')
      await unlink(spot.path)
      await spot.directory.sync()
    })
  }

  /**
   * Makes a directory with one file in it, at once: nobody sees the directory without the file. False if it
   * is there by now.
   */
  async makeDirectory(
    path: string,
    {
      name,
      text,
      isSecret = false,
    }: { readonly name: string; readonly text: string; readonly isSecret?: boolean },
  ): Promise<boolean> {
    const isMade = await this.#at(path, 'create', async spot => {
      const temporary = temporaryBeside(spot.path)
      this.#step('mkdir')
      await mkdir(temporary, NEW_DIRECTORY_MODE)
      try {
        this.#step('create')
        await using handle = await open(
          join(temporary, name),
          CREATE,
          isSecret ? PRIVATE_MODE : NEW_FILE_MODE,
        )
        this.#step('write')
        await handle.writeFile(text)
        await handle.sync()
        this.#step('rename')
        await rename(temporary, spot.path)
        await spot.directory.sync()
        return true
      } catch (error) {
        this.#step('rm')
        await rm(temporary, { recursive: true, force: true })
        if (hasCode(error, 'EEXIST', 'ENOTEMPTY')) return false
        throw error
      }
    })
    return isMade === true
  }

  /**
   * Takes away a directory that has nothing but one file, at once: nobody sees the directory without the
   * file. If more is in it, the file alone is removed.
   */
  async removeDirectory(path: string, file: string): Promise<void> {
    await this.#at(path, 'leave', async spot => {
      // What others have in it must not be elsewhere if this is interrupted.
      if (isOwn(await readdir(spot.path), file)) await this.#takeAway(spot.path, file)
      else {
        this.#step('unlink')
        await unlink(join(spot.path, file))
      }
      await spot.directory.sync()
    })
  }

  /**
   * Removes what interrupted calls have left in a directory, if it is older than a minute. A younger one may
   * be another process at work. A directory in which somebody else has a file beside `file` stays.
   */
  async sweep(path: string, nowMs: number, file?: string): Promise<void> {
    for (const name of await this.list(path)) {
      if (!TEMPORARY.test(name)) continue
      await this.#at(`${path}/${name}`, 'leave', async spot => {
        const stats = await lstat(spot.path)
        if (nowMs - stats.mtimeMs < LEFTOVER_MS) return
        const names = stats.isDirectory() ? await readdir(spot.path) : []
        if (!isOwn(names, file)) return
        this.#step('rm')
        if (stats.isDirectory()) await this.#discard(spot.path, names)
        else await unlink(spot.path)
      })
    }
  }

  async #takeAway(directory: string, file: string): Promise<void> {
    const temporary = temporaryBeside(directory)
    this.#step('rename')
    await rename(directory, temporary)
    const names = await readdir(temporary)
    if (isOwn(names, file)) {
      await this.#discard(temporary, names)
      return
    }
    this.#step('rename')
    await rename(temporary, directory)
    this.#step('unlink')
    await unlink(join(directory, file))
  }

  /** Removes the files of a temporary directory, and it. Nothing else than a file is ever in one. */
  async #discard(temporary: string, names: readonly string[]): Promise<void> {
    for (const name of names) {
      this.#step('unlink')
      await unlink(join(temporary, name))
    }
    this.#step('rmdir')
    await rmdir(temporary)
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

const LEFTOVER_MS = 60_000

/** True if nothing is in a directory but one file, and what interrupted calls have left. */
function isOwn(names: readonly string[], file: string | undefined): boolean {
  return names.every(name => name === file || TEMPORARY.test(name))
}

function temporaryBeside(path: string): string {
  return join(dirname(path), `.entrepot-${randomBytes(6).toString('hex')}`)
}

async function replace(
  { directory, path }: Spot,
  text: string,
  isSecret: boolean,
  step: FileStep,
): Promise<void> {
  const previous = await lstat(path).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  })
  const temporary = temporaryBeside(path)
  step('create')
  const file = await open(temporary, CREATE, PRIVATE_MODE)
  try {
    step('write')
    await file.writeFile(text)
    const own = await file.stat()
    const isOwn = previous === undefined || (own.uid === previous.uid && own.gid === previous.gid)
    if (!isOwn) await file.chown(previous.uid, previous.gid)
    const mode = previous === undefined ? NEW_FILE_MODE : previous.mode & 0o7777
    await file.chmod(isSecret ? mode & PRIVATE_MODE : mode)
    await file.sync()
    step('rename')
    await rename(temporary, path)
    await directory.sync()
  } catch (error) {
    step('rm')
    await rm(temporary, { force: true })
    throw error
  } finally {
    await file.close()
  }
}

function isSpecial(stats: Awaited<ReturnType<FileHandle['stat']>>): boolean {
  return !stats.isFile() && !stats.isDirectory()
}

/** The reason why a file could not be read or written; `undefined` for any other error. */
export function whyUntouched(error: unknown): string | undefined {
  if (error instanceof RefusedPath) return `${error.message}; nothing was written there`
  if (!(error instanceof Error) || !('syscall' in error)) return undefined
  const isForbidden = hasCode(error, 'EACCES', 'EPERM')
  return isForbidden ? `${error.message}; try again as root` : error.message
}

/** Replaces the path in an error, which goes through a descriptor, by the one that the user knows. */
function named(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return error
  const message = error.message.replace(/ '[^']*'(?: -> '[^']*')?/, '')
  const { code, syscall } = error
  return Object.assign(new Error(`${message} '${path}'`, { cause: error }), { code, syscall })
}
