import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { hasCode } from '../../lib/system-error.ts'
import type { HostFiles } from './client.ts'

/** A machine without any of these files. */
export const NO_FILES: HostFiles = {
  read: async () => undefined,
  list: async () => [],
}

/** The files below a directory that stands for `/`. Paths that are not absolute are taken from `cwd`. */
export class RootedFiles implements HostFiles {
  readonly #root: string
  readonly #cwd: string

  constructor(root: string, cwd: string) {
    this.#root = root
    this.#cwd = cwd
  }

  /** Where a file really is. */
  locate(path: string): string {
    return isAbsolute(path) ? join(this.#root, path) : resolve(this.#cwd, path)
  }

  async read(path: string): Promise<string | undefined> {
    try {
      return await readFile(this.locate(path), 'utf8')
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined
      throw error
    }
  }

  async list(path: string): Promise<readonly string[]> {
    try {
      return (await readdir(this.locate(path))).sort()
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return []
      throw error
    }
  }

  /** Puts a text into the place of a file, whole or not at all; a file that was there keeps its mode. */
  async write(path: string, text: string): Promise<void> {
    const target = this.locate(path)
    await mkdir(dirname(target), { recursive: true })
    const mode = await modeOf(target)
    const temporary = `${target}.${randomBytes(6).toString('hex')}`
    try {
      await writeFile(temporary, text, { flag: 'wx' })
      await chmod(temporary, mode)
      await rename(temporary, target)
    } catch (error) {
      await rm(temporary, { force: true })
      throw error
    }
  }
}

const FILE_MODE = 0o644

async function modeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).mode & 0o7777
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return FILE_MODE
    throw error
  }
}
