import { statfs } from 'node:fs/promises'
import type { Room } from '../store.ts'

/** File systems with one journal for all changes: a sync carries every change before it to the disk. */
const JOURNALED: ReadonlySet<number> = new Set([
  0xef53, // ext4
  0x58465342, // xfs
])

/**
 * True if a change that is not synced survives a power cut whenever a later synced one does. It is false for
 * btrfs and f2fs, whose sync of a file carries that file alone, and for what cannot be told.
 */
export async function keepsOrder(directory: string): Promise<boolean> {
  try {
    const { type } = await statfs(directory)
    return isJournaled(type)
  } catch {
    return false
  }
}

/** By the number of a file system in statfs(2). */
export function isJournaled(type: number): boolean {
  return JOURNALED.has(type)
}

/** The room of the file system that a directory is on, as any user sees it. */
export async function measureRoom(directory: string): Promise<Room> {
  const { bavail, blocks, bsize } = await statfs(directory)
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
}
