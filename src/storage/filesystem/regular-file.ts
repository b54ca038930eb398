import type { BigIntStats } from 'node:fs'
import { constants, type FileHandle, lstat, open } from 'node:fs/promises'
import { hasCode } from '../../lib/system-error.ts'

/** An open regular file and the result of its `fstat`. */
export interface OpenFile {
  readonly handle: FileHandle
  readonly stats: BigIntStats
}

/** True if a regular file is at a path. */
export async function isRegular(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isFile()
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

/**
 * Opens a path that must be a regular file. Returns `undefined` if nothing is there, and throws an error that
 * names the type if it is anything else. ENOTDIR is an error and not "absent": something else is in the place
 * of a directory of the store.
 */
export async function openRegular(path: string, access: 'read' | 'write'): Promise<OpenFile | undefined> {
  // O_NONBLOCK: without it, opening a FIFO waits for its other end forever.
  const mode = access === 'read' ? constants.O_RDONLY : constants.O_RDWR
  let handle: FileHandle
  try {
    handle = await open(path, mode | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    if (hasCode(error, 'ELOOP')) throw new Error(`${path} is a symbolic link, not a file`, { cause: error })
    throw error
  }
  try {
    const stats = await handle.stat({ bigint: true })
    if (!stats.isFile()) throw new Error(`${path} is a ${kindOf(stats)}, not a file`)
    return { handle, stats }
  } catch (error) {
    await handle.close()
    throw error
  }
}

function kindOf(stats: BigIntStats): string {
  if (stats.isDirectory()) return 'directory'
  return stats.isFIFO() ? 'named pipe' : 'device'
}

/** Creates a file for reading and writing by this user only. Fails if it exists. */
export async function createRegular(path: string): Promise<FileHandle> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
  return open(path, flags, 0o600)
}

/** Creates an empty file for this user only. Fails if anything is there. */
export async function createEmptyFile(path: string): Promise<void> {
  const handle = await createRegular(path)
  await handle.close()
}

/** Writes all of the pieces from the position on, in as many calls as needed. */
export async function writeFully(
  handle: FileHandle,
  pieces: readonly Uint8Array[],
  position: number,
): Promise<void> {
  let [rest, offset] = [after(pieces, 0), position]
  while (rest.length > 0) {
    const { bytesWritten } = await handle.writev(rest, offset)
    if (bytesWritten === 0) throw new Error('the file system wrote no bytes and reported no error')
    rest = after(rest, bytesWritten)
    offset += bytesWritten
  }
}

/** What is left of the pieces after their first bytes, without empty pieces. */
function after(pieces: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  const rest: Uint8Array[] = []
  let skippedBytes = 0
  for (const piece of pieces) {
    const skip = Math.min(piece.byteLength, bytes - skippedBytes)
    skippedBytes += skip
    if (skip < piece.byteLength) rest.push(skip === 0 ? piece : piece.subarray(skip))
  }
  return rest
}

/** Fills the first `length` bytes of the buffer from the position. Throws if the file ends earlier. */
export async function readFully(
  handle: FileHandle,
  buffer: Uint8Array,
  { position, length }: { readonly position: number; readonly length: number },
): Promise<void> {
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, position + filled)
    if (bytesRead === 0) throw new Error(`the file was truncated: it ends at byte ${position + filled}`)
    filled += bytesRead
  }
}
