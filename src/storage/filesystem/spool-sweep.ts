import { readdir, readFile, rename, rm, rmdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode } from '../../lib/system-error.ts'
import { parseLeftoverName } from '../layout.ts'
import { makeDirectory } from './directories.ts'
import { livenessOf, type Owner, parseOwner } from './spool-owner.ts'

/**
 * The file in an instance's directory that identifies its owner. Its mtime is when the owner was last known
 * to be alive.
 */
export const OWNER_FILE = 'owner'
/** Directory of leftovers for later fills, with one subdirectory per boot. */
export const KEPT_DIRECTORY = 'kept'
/** Directory of uploads, which no process owns. */
export const UPLOADS_DIRECTORY = 'uploads'
/** Begins the names of directories of local copies, which a sweep leaves alone. */
export const COPIES_PREFIX = 'copies-'
/** Time for which the bytes of an upload are kept after the last write, whatever its record says. */
const UPLOAD_FOR_MS = 7 * 24 * 3_600_000
/** Time for which a leftover is kept for its next fill. */
const KEPT_FOR_MS = 24 * 3_600_000
/**
 * Silence after which an owner that cannot be checked counts as dead. A living owner touches its file six
 * times in this time.
 */
const SILENCE_MAX_MS = 3_600_000

export interface SweepTerms {
  /** The directory that contains the instances. */
  readonly path: string
  /** Name of the instance that sweeps. */
  readonly own: string
  readonly self: Owner | undefined
  /** Current time of the file system. On a network file system it differs from this machine's clock. */
  readonly fileTimeMs: number
  /** True once the time for this sweep is used up; the next sweep does the rest. */
  readonly isOver: () => boolean
  readonly onError: (error: unknown) => void
}

/**
 * Removes the files of dead processes, or keeps them for the next fill. Returns how many files it handled.
 */
export async function sweepSpools(terms: SweepTerms): Promise<number> {
  let swept = 0
  for (const name of await readdir(terms.path)) {
    if (terms.isOver()) break
    if (name === terms.own || name.startsWith(COPIES_PREFIX)) continue
    try {
      const directory = join(terms.path, name)
      swept += await sweepDirectory(name, directory, terms)
    } catch (error) {
      // Another sweep was faster, or this is a file that is not ours.
      if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'ENOTEMPTY')) terms.onError(error)
    }
  }
  return swept
}

async function sweepDirectory(name: string, directory: string, terms: SweepTerms): Promise<number> {
  if (name === UPLOADS_DIRECTORY) return await sweepUploads(directory, terms)
  return name === KEPT_DIRECTORY ? await sweepKept(directory, terms) : await sweepInstance(directory, terms)
}

/**
 * Keeps partial fills of a dead owner only if it died in this boot: then the kernel still has everything it
 * wrote. After a power cut a file may have its length but not its bytes, and that would only be noticed at
 * the end of the next fill.
 */
async function sweepInstance(directory: string, terms: SweepTerms): Promise<number> {
  const { self } = terms
  const liveness = await livenessOf(await readOwner(directory), self)
  if (liveness === 'living') return 0
  if (liveness === 'unknown' && !(await isSilent(directory, terms))) return 0
  const kept =
    liveness === 'dead' && self !== undefined ? join(terms.path, KEPT_DIRECTORY, self.bootId) : undefined
  let swept = 0
  for (const name of await readdir(directory)) {
    if (terms.isOver()) return swept
    if (name === OWNER_FILE) continue
    swept += await unlessGone(async () => {
      await dispose(directory, name, kept)
      return true
    })
  }
  // Last, so that the next sweep can continue one that ends before this point.
  await rm(join(directory, OWNER_FILE), { force: true })
  await rmdir(directory)
  return swept
}

/** Keeps a partial fill, and removes anything else. */
async function dispose(directory: string, name: string, kept: string | undefined): Promise<void> {
  const path = join(directory, name)
  const leftoverName = parseLeftoverName(name)
  if (kept !== undefined && leftoverName !== undefined && (await stat(path)).size > 0) {
    await leaveSpool(path, { kept, leftoverName })
    return
  }
  await rm(path, { recursive: true, force: true })
}

/**
 * Ignores files that are gone. Of two concurrent sweeps only one gets each file, and the other must continue
 * with its next one.
 */
async function unlessGone(action: () => Promise<boolean>): Promise<number> {
  try {
    return (await action()) ? 1 : 0
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 0
    throw error
  }
}

/** Moves a partial fill to where the next fill of that name finds it, replacing an older one. */
export async function leaveSpool(
  path: string,
  { kept, leftoverName }: { readonly kept: string; readonly leftoverName: string },
): Promise<void> {
  const target = join(kept, leftoverName)
  try {
    await rename(path, target)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
    await makeDirectory(kept)
    await rename(path, target)
  }
}

async function sweepKept(directory: string, terms: SweepTerms): Promise<number> {
  let swept = 0
  for (const boot of await readdir(directory)) {
    const limitMs = boot === terms.self?.bootId ? KEPT_FOR_MS : SILENCE_MAX_MS
    swept += await sweepAged(join(directory, boot), terms, limitMs)
    if (terms.isOver()) return swept
    if (boot !== terms.self?.bootId) await removeIfEmpty(join(directory, boot))
  }
  return swept
}

async function sweepUploads(directory: string, terms: SweepTerms): Promise<number> {
  let swept = 0
  for (const boot of await readdir(directory)) {
    swept += await sweepAged(join(directory, boot), terms, UPLOAD_FOR_MS)
    if (terms.isOver()) return swept
    if (boot !== terms.self?.bootId) await removeIfEmpty(join(directory, boot))
  }
  return swept
}

/** Removes the files that were last written longer ago than the limit. */
async function sweepAged(directory: string, terms: SweepTerms, limitMs: number): Promise<number> {
  let swept = 0
  for (const name of await readdir(directory)) {
    if (terms.isOver()) return swept
    const path = join(directory, name)
    swept += await unlessGone(async () => {
      if (distance((await stat(path)).mtimeMs, terms) <= limitMs) return false
      await rm(path, { recursive: true, force: true })
      return true
    })
  }
  return swept
}

async function readOwner(directory: string): Promise<Owner | undefined> {
  try {
    return parseOwner(await readFile(join(directory, OWNER_FILE), 'latin1'))
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

async function isSilent(directory: string, terms: SweepTerms): Promise<boolean> {
  const { mtimeMs } = await stat(join(directory, OWNER_FILE)).catch(() => stat(directory))
  return distance(mtimeMs, terms) > SILENCE_MAX_MS
}

/** Counts a time in the future as old too: a clock that was set back must not make a leftover immortal. */
function distance(mtimeMs: number, { fileTimeMs }: SweepTerms): number {
  return Math.abs(fileTimeMs - mtimeMs)
}

async function removeIfEmpty(directory: string): Promise<void> {
  try {
    await rmdir(directory)
  } catch (error) {
    if (!hasCode(error, 'ENOTEMPTY', 'EEXIST', 'ENOENT')) throw error
  }
}
