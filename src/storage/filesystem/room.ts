import { access, readlink, stat, statfs } from 'node:fs/promises'
import { basename } from 'node:path'
import type { Room } from '../store.ts'

const EXT4 = 0xef53
const XFS = 0x58465342
/** The inode of the journal of an ext4 file system, in the name of its directory in /proc. */
const JOURNAL_INODE = 8

/**
 * True if a change that is not synced survives a power cut whenever a later synced one does: there is one
 * journal for all changes. It is false for btrfs and f2fs, whose sync of a file carries that file alone, for
 * ext4 without a journal, and for what cannot be told.
 */
export async function keepsOrder(directory: string): Promise<boolean> {
  try {
    const { type } = await statfs(directory)
    if (type === EXT4) await access(`/proc/fs/jbd2/${await deviceOf(directory)}-${JOURNAL_INODE}`)
    return isJournaled(type)
  } catch {
    return false
  }
}

/** By the number of a file system in statfs(2), which may have a journal. */
export function isJournaled(type: number): boolean {
  return type === EXT4 || type === XFS
}

/** The kernel's name of the device that a directory is on, such as `sda1`. */
async function deviceOf(directory: string): Promise<string> {
  const { dev } = await stat(directory, { bigint: true })
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn)
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn)
  return basename(await readlink(`/sys/dev/block/${major}:${minor}`))
}

/** The room of the file system that a directory is on, as any user sees it. */
export async function measureRoom(directory: string): Promise<Room> {
  const { bavail, blocks, bsize } = await statfs(directory)
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
}
