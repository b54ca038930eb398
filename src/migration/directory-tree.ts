import { constants, type FileHandle, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode } from '../lib/system-error.ts'
import { type SourceEntry, SourceError, type SourceFile, type SourceTree } from './source.ts'

const PIECE_BYTES = 1024 * 1024
/** A name of a repository has at most 255 characters. */
const DEPTH_MAX = 160

/** Opens the storage of another registry in a directory. */
export function openDirectoryTree(root: string): SourceTree {
  return {
    name: root,
    walk: (path, isWanted) => walk(root, path, { isWanted, depth: 0 }),
    open: async path => await openFile(join(root, path)),
    has: async path => await hasAny(join(root, path)),
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  }
}

/** In the order of names, so that every run tells the same. Symbolic links are reported, and not followed. */
async function* walk(
  root: string,
  path: string,
  { isWanted, depth }: { readonly isWanted: (directory: string) => boolean; readonly depth: number },
): AsyncGenerator<SourceEntry> {
  if (depth > DEPTH_MAX) {
    yield { kind: 'trouble', path, why: 'it is nested too deep' }
    return
  }
  let entries: Awaited<ReturnType<typeof entriesOf>>
  try {
    entries = await entriesOf(join(root, path))
  } catch (error) {
    yield { kind: 'trouble', path, why: reasonOf(error) }
    return
  }
  for (const entry of entries) {
    const below = `${path}/${entry.name}`
    if (entry.isFile()) yield { kind: 'file', path: below }
    else if (!isWanted(below)) continue
    else if (entry.isDirectory()) yield* walk(root, below, { isWanted, depth: depth + 1 })
    else
      yield { kind: 'trouble', path: below, why: 'it is neither a file nor a directory: it is not followed' }
  }
}

async function entriesOf(path: string) {
  const entries = await readdir(path, { withFileTypes: true })
  return entries.sort((one, other) => (one.name < other.name ? -1 : 1))
}

async function hasAny(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length > 0
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false
    throw new SourceError(`${path}: ${reasonOf(error)}`, { cause: error })
  }
}

async function openFile(path: string): Promise<SourceFile | undefined> {
  let handle: FileHandle
  try {
    // O_NONBLOCK: without it, opening a FIFO waits for its other end.
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined
    if (hasCode(error, 'ELOOP')) throw new SourceError('it is a symbolic link', { cause: error })
    throw new SourceError(reasonOf(error), { cause: error })
  }
  try {
    const stats = await handle.stat()
    if (!stats.isFile()) throw new SourceError('it is not a file')
    return {
      sizeBytes: stats.size,
      modifiedAtMs: stats.mtimeMs,
      read: () => piecesOf(handle),
      [Symbol.asyncDispose]: async () => await handle.close(),
    }
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function* piecesOf(handle: FileHandle): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafe(PIECE_BYTES)
  for (let position = 0; ; ) {
    const bytesRead = await readAt(handle, buffer, position)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
    position += bytesRead
  }
}

async function readAt(handle: FileHandle, buffer: Buffer, position: number): Promise<number> {
  try {
    return (await handle.read(buffer, 0, buffer.length, position)).bytesRead
  } catch (error) {
    throw new SourceError(reasonOf(error), { cause: error })
  }
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  return `it cannot be read: ${code}`
}
