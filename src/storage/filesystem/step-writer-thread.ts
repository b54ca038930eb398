import {
  closeSync,
  constants,
  fdatasync,
  fsync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { parentPort, threadId } from 'node:worker_threads'
import { hasCode } from '../../lib/system-error.ts'
import { answerCalls } from '../../lib/thread-client.ts'
import { RECORD_BYTES_MAX } from '../layout.ts'
import { DirectorySyncs } from './directories.ts'
import type { FileWrite, StepCalls, StepTask } from './step-writer.ts'

const KNOWN_MAX = 4096
const NEW_FILE = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

const syncData = promisify(fdatasync)
const syncAll = promisify(fsync)

/** A file whose bytes are written, and where they are. */
interface Prepared extends FileWrite {
  /** `undefined` for an empty file, which is made in its place. */
  readonly temporary: string | undefined
  /** Open until its bytes are synced. */
  fd: number | undefined
  /** Another name of what a file of the caller replaces, until the whole write is done. */
  aside?: string
}

/** The files of a store as the thread writes and reads them. */
class FileKeeper implements StepCalls {
  readonly #syncs = new DirectorySyncs(syncDirectory)
  /** Directories that nobody removes and whose own entries are durable, each with all that are above it. */
  #known = new Set<string>()
  /** Directories that have to be synced before anything later is, and their syncs that run. */
  readonly #owed = new Map<string, Promise<void> | undefined>()
  /** Directories that can be remembered once those that are owed now are synced. */
  #unproved = new Set<string>()
  #lastTemporary = 0

  /**
   * Writes all files beside each other, waits once for their bytes, and then puts them in their places in
   * order. A place has the whole file or none, in any order of crashes.
   *
   * Where a journal keeps the order of all changes (ext4, xfs), one sync at the end carries every rename and
   * directory before it, so that no tag survives a power cut without its manifest. Elsewhere the directories
   * of a step are synced before the next step, and what only wants an order is synced beside the bytes of the
   * next durable write.
   */
  async write(task: StepTask): Promise<void> {
    const { steps, scratch, isOrdered, isDurable } = task
    const prepared: Prepared[] = []
    const placed: Prepared[] = []
    try {
      for (const file of steps.flat()) prepared.push(this.#prepare(file, scratch))
      const syncing = prepared.map(async file => await syncFile(file))
      await allEnded(isDurable ? [...syncing, this.#syncOwed()] : syncing)
      let next = 0
      for (const step of steps) {
        for (const { path } of step) {
          const file = prepared[next++]
          if (file === undefined) throw new Error(`nothing was prepared for ${path}`)
          if (file.from !== undefined) this.#keepReplaced(file, scratch)
          this.#place(file)
          placed.push(file)
        }
        if (!isOrdered && isDurable) await this.#syncPlaces(step, task.root)
        else if (!isOrdered) this.#owe(step, task.root)
      }
      const last = placed.at(-1)
      if (isOrdered && isDurable && last !== undefined) await this.#syncs.sync(dirname(last.path))
      for (const { aside } of placed) if (aside !== undefined) rmSync(aside, { force: true })
    } catch (error) {
      this.#known = new Set()
      takeBack(prepared, placed)
      throw error
    }
  }

  read(paths: readonly string[]): readonly (Uint8Array | undefined)[] {
    return paths.map(readWhole)
  }

  #prepare(file: FileWrite, scratch: string): Prepared {
    if (file.from !== undefined) {
      const fd = openSync(file.from, constants.O_RDWR | constants.O_NOFOLLOW)
      return { ...file, temporary: file.from, fd }
    }
    const { bytes = new Uint8Array(0) } = file
    if (bytes.length === 0) return { ...file, temporary: undefined, fd: undefined }
    const temporary = this.#temporaryIn(scratch)
    const fd = openSync(temporary, NEW_FILE, 0o600)
    try {
      for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written)
    } catch (error) {
      closeSync(fd)
      rmSync(temporary, { force: true })
      throw error
    }
    return { ...file, temporary, fd }
  }

  #temporaryIn(scratch: string): string {
    this.#lastTemporary += 1
    return join(scratch, `temporary.${threadId}.${this.#lastTemporary}`)
  }

  /** Content that is there already is other clients' too: if the write fails, it must be there as before. */
  #keepReplaced(file: Prepared, scratch: string): void {
    const aside = this.#temporaryIn(scratch)
    try {
      linkSync(file.path, aside)
      file.aside = aside
    } catch (error) {
      // Nothing is there, what is there is no file, or the file system has no second names.
      if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'EPERM', 'ENOTSUP', 'EMLINK', 'ENOSYS')) throw error
    }
  }

  /** Puts a file in its place, and makes the directories that are missing. */
  #place(file: Prepared): void {
    try {
      placeNow(file)
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error
      const directory = dirname(file.path)
      const first = mkdirSync(directory, { recursive: true, mode: 0o700 })
      // A directory that was removed by hand and is there again is not durable any more.
      if (first !== undefined && this.#known.has(first)) this.#known = new Set()
      placeNow(file)
    }
  }

  /** Makes the entries of files durable, with those of the directories above that nobody has synced yet. */
  async #syncPlaces(step: readonly FileWrite[], root: string): Promise<void> {
    const known = this.#known
    const { directories, unknown } = this.#placesOf(step, root)
    await Promise.all([...directories].map(async directory => await this.#syncs.sync(directory)))
    this.#remember(known, unknown)
  }

  /** Leaves the entries of files to the next durable write. */
  #owe(step: readonly FileWrite[], root: string): void {
    const { directories, unknown } = this.#placesOf(step, root)
    for (const directory of directories) this.#owed.set(directory, undefined)
    if (this.#unproved.size + unknown.length > KNOWN_MAX) this.#unproved = new Set()
    for (const directory of unknown) this.#unproved.add(directory)
  }

  /** Remembers durable directories in the set of those that were known when their syncs began. */
  #remember(known: Set<string>, directories: readonly string[]): void {
    // None is known without those above it, so all are forgotten at once.
    if (known.size + directories.length > KNOWN_MAX) this.#known = new Set()
    else for (const directory of directories) known.add(directory)
  }

  /**
   * The directories in which a step changed something or may have made a directory, and those of them that
   * can be remembered. A directory that others may remove and make again is never remembered.
   */
  #placesOf(
    step: readonly FileWrite[],
    root: string,
  ): { readonly directories: ReadonlySet<string>; readonly unknown: readonly string[] } {
    const directories = new Set<string>()
    const unknown: string[] = []
    for (const { path, lastingLength } of step) {
      let at = dirname(path)
      directories.add(at)
      for (; at !== root && !this.#known.has(at) && at.startsWith(root); at = dirname(at)) {
        if (at.length <= lastingLength) unknown.push(at)
        directories.add(dirname(at))
      }
    }
    return { directories, unknown }
  }

  /** Syncs what writes that only wanted an order have left to the next durable one. */
  async #syncOwed(): Promise<void> {
    const [known, unproved] = [this.#known, this.#unproved]
    this.#unproved = new Set()
    const paying: Promise<void>[] = []
    for (const [directory, running] of this.#owed) {
      const one = running ?? this.#pay(directory)
      this.#owed.set(directory, one)
      paying.push(one)
    }
    await Promise.all(paying)
    this.#remember(known, [...unproved])
  }

  #pay(directory: string): Promise<void> {
    const settle = (next: undefined | 'paid'): void => {
      // Owed again if something was written to it meanwhile.
      if (this.#owed.get(directory) !== paying) return
      if (next === 'paid') this.#owed.delete(directory)
      else this.#owed.set(directory, undefined)
    }
    const paying: Promise<void> = this.#syncs.sync(directory).then(
      () => settle('paid'),
      (error: unknown) => {
        // A directory that is gone has lost its last entry, which is not needed then.
        settle(hasCode(error, 'ENOENT') ? 'paid' : undefined)
        if (!hasCode(error, 'ENOENT')) throw error
      },
    )
    return paying
  }
}

/** Waits for all, also if one fails, and throws the first failure then. */
async function allEnded(running: readonly Promise<void>[]): Promise<void> {
  for (const end of await Promise.allSettled(running)) if (end.status === 'rejected') throw end.reason
}

async function syncFile(file: Prepared): Promise<void> {
  if (file.fd === undefined) return
  try {
    await syncData(file.fd)
  } finally {
    closeSync(file.fd)
    file.fd = undefined
  }
}

function placeNow({ path, temporary }: Prepared): void {
  if (temporary !== undefined) {
    renameSync(temporary, path)
    return
  }
  try {
    closeSync(openSync(path, NEW_FILE, 0o600))
  } catch (error) {
    // The record of an earlier push. Anything else is in the way.
    if (!hasCode(error, 'EEXIST') || !isEmptyFile(path)) throw error
    // Its age counts from now on, as if it had been replaced.
    const now = new Date()
    utimesSync(path, now, now)
  }
}

function isEmptyFile(path: string): boolean {
  const found = lstatSync(path)
  return found.isFile() && found.size === 0
}

async function syncDirectory(path: string): Promise<void> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await syncAll(fd)
  } catch (error) {
    // File systems that cannot sync directories offer nothing better.
    if (!hasCode(error, 'EINVAL', 'ENOTSUP')) throw error
  } finally {
    closeSync(fd)
  }
}

/** Leaves no temporary file behind, and gives a file of the caller back. */
function takeBack(prepared: readonly Prepared[], placed: readonly Prepared[]): void {
  for (const file of prepared) {
    const { from, path, temporary, aside } = file
    try {
      if (file.fd !== undefined) closeSync(file.fd)
      if (from === undefined && temporary !== undefined) rmSync(temporary, { force: true })
      if (from === undefined) continue
      if (aside !== undefined) putBack(file, aside, placed.includes(file))
      else if (placed.includes(file)) renameSync(path, from)
    } catch {
      // The first failure is the one that counts; a sweep removes what is left.
    }
  }
}

/** Gives a file of the caller back, and leaves in its place what was there before at any moment. */
function putBack({ path, from }: Prepared, aside: string, isPlaced: boolean): void {
  if (!isPlaced) {
    rmSync(aside, { force: true })
    return
  }
  try {
    linkSync(path, from ?? '')
  } finally {
    renameSync(aside, path)
  }
}

/** Most records that are looked for are absent, so this must not cost an exception. */
function readWhole(path: string): Uint8Array | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return undefined
  if (!found.isFile() || found.size > RECORD_BYTES_MAX) throw new Error(`${path} is not a record`)
  try {
    return readFileSync(path)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

const keeper = new FileKeeper()

answerCalls(parentPort, {
  write: async task => await keeper.write(task),
  read: paths => keeper.read(paths),
} satisfies StepCalls)
