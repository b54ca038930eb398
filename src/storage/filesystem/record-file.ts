import { join } from 'node:path'
import { RECORD_BYTES_MAX, recordKey } from '../layout.ts'
import type { RecordName } from '../store.ts'
import { openRegular, readFully } from './regular-file.ts'

/** A record as it was read. */
export interface RecordFile {
  readonly bytes: Uint8Array
  /** Time of its last change, in milliseconds since 1970 by the clock of the file system. */
  readonly modifiedAtMs: number
}

/** Reads a record below a root; see {@link Store.readRecord}. */
export async function readRecordFile(root: string, name: RecordName): Promise<Uint8Array | undefined> {
  return (await openRecordFile(root, name))?.bytes
}

/** Reads a record below a root with the time of its last change; `undefined` if it is absent. */
export async function openRecordFile(root: string, name: RecordName): Promise<RecordFile | undefined> {
  const file = await openRegular(join(root, recordKey(name)), 'read')
  if (file === undefined) return undefined
  await using handle = file.handle
  // Records are replaced and never overwritten, so the size cannot change meanwhile.
  const length = Number(file.stats.size)
  if (length > RECORD_BYTES_MAX) throw new Error(`the record ${recordKey(name)} is broken: ${length} bytes`)
  const bytes = new Uint8Array(length)
  await readFully(handle, bytes, { position: 0, length })
  return { bytes, modifiedAtMs: Number(file.stats.mtimeMs) }
}
