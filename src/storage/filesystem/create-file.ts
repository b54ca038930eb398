import { link, lstat, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { hasCode, ifThere } from '../../lib/system-error.ts'
import { Turns } from '../../lib/turns.ts'
import { recordKey, requireRecordSize } from '../layout.ts'
import type { AgedRecord, Creation, CreationScope, RecordName } from '../store.ts'
import type { DirectorySyncs, DurableDirectories } from './directories.ts'
import { openRecordFile, readRecordFile } from './record-file.ts'
import type { SpoolDirectory } from './spool-directory.ts'

/** Attempts to create a record while others remove it, or its directory. */
const ATTEMPTS_MAX = 10
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'] as const

export interface RecordCreationParts {
  readonly root: string
  readonly spools: SpoolDirectory
  readonly directories: DurableDirectories
  readonly syncs: DirectorySyncs
  /** Replaces a record by the file at a path. */
  readonly replace: (path: string, target: string) => Promise<void>
}

/**
 * Creates records once: a whole, synced file gets its name by link(2), which fails if the name is taken. On a
 * file system without hard links only the callers of this process are kept apart.
 */
export class RecordCreation {
  readonly #parts: RecordCreationParts
  readonly #turns = new Turns<string>()
  #hasLinks: Promise<boolean> | undefined

  constructor(parts: RecordCreationParts) {
    this.#parts = parts
  }

  /** See {@link Store.creationScope}. */
  async scope(): Promise<CreationScope> {
    if (await this.#linkable()) return { kind: 'store' }
    return { kind: 'process', why: `the file system of ${this.#parts.root} has no hard links` }
  }

  /** See {@link Store.createRecord}. */
  async create(name: RecordName, bytes: Uint8Array): Promise<Creation> {
    requireRecordSize(bytes)
    const hasLinks = await this.#linkable()
    const target = join(this.#parts.root, recordKey(name))
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const isCreated = hasLinks
        ? await this.#link(target, bytes)
        : await this.#turns.take(target, async () => await this.#createAlone(name, target, bytes))
      if (isCreated === true) return { kind: 'created' }
      const found = isCreated === undefined ? undefined : await readRecordFile(this.#parts.root, name)
      if (found !== undefined) return { kind: 'exists', bytes: found }
    }
    throw new Error(`${target} could not be created ${ATTEMPTS_MAX} times, and was not there either`)
  }

  /** See {@link Store.readAgedRecord}. The times are those of the file system, which may be remote. */
  async readAged(name: RecordName): Promise<AgedRecord | undefined> {
    const file = await openRecordFile(this.#parts.root, name)
    if (file === undefined) return undefined
    const { bytes, modifiedAtMs } = file
    return { bytes, ageMs: Math.max(0, (await this.#parts.spools.now()) - modifiedAtMs) }
  }

  /** `undefined` if the directory was removed meanwhile. */
  async #link(target: string, bytes: Uint8Array): Promise<boolean | undefined> {
    const { spools, directories, syncs } = this.#parts
    const directory = dirname(target)
    await directories.ensure(directory)
    try {
      const isCreated = await spools.withTemporary(bytes, { isDurable: true }, async path => {
        const isLinked = await linkOnce(path, target)
        await unlink(path)
        return isLinked
      })
      // A caller that finds the record relies on it as well.
      await syncs.sync(directory)
      return isCreated
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error
      directories.forget()
      return undefined
    }
  }

  async #createAlone(name: RecordName, target: string, bytes: Uint8Array): Promise<boolean> {
    const { root, spools, syncs, replace } = this.#parts
    if ((await readRecordFile(root, name)) !== undefined) return false
    await spools.withTemporary(bytes, { isDurable: true }, async path => await replace(path, target))
    await syncs.sync(dirname(target))
    return true
  }

  /** A disk that is full or cannot be written is asked again later. */
  async #linkable(): Promise<boolean> {
    this.#hasLinks ??= this.#tryLink()
    const asked = this.#hasLinks
    try {
      return await asked
    } catch (error) {
      if (this.#hasLinks === asked) this.#hasLinks = undefined
      throw error
    }
  }

  async #tryLink(): Promise<boolean> {
    return await this.#parts.spools.withTemporary(new Uint8Array(0), { isDurable: false }, async path => {
      const other = `${path}.link`
      try {
        await link(path, other)
        await unlink(other)
        return true
      } catch (error) {
        if (!hasCode(error, ...NO_LINKS)) throw error
        return false
      } finally {
        await unlink(path)
      }
    })
  }
}

/**
 * Gives a file a further name unless the name is taken; `false` then. A network file system may repeat a call
 * whose answer was lost, and finds the name taken by this very file.
 */
async function linkOnce(path: string, target: string): Promise<boolean> {
  try {
    await link(path, target)
    return true
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
  }
  const own = await lstat(path, { bigint: true })
  const found = await ifThere(lstat(target, { bigint: true }))
  return found !== undefined && found.ino === own.ino && found.dev === own.dev
}
