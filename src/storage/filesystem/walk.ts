import { lstat, opendir } from 'node:fs/promises'
import { join } from 'node:path'
import { ifThere } from '../../lib/system-error.ts'
import { groupPrefix, parseContentKey, parseRecordKey } from '../layout.ts'
import type { RecordGroup, RecordName, StoredEntry } from '../store.ts'

/** Walks the regular files under content keys; see {@link Store.list}. */
export async function* listContent(root: string): AsyncGenerator<StoredEntry> {
  for await (const key of walk(root, 'blobs')) {
    const digest = parseContentKey(key)
    if (digest === undefined) continue
    const found = await ifThere(lstat(join(root, key)))
    if (found?.isFile() === true) yield { digest, sizeBytes: found.size, storedAtMs: found.mtimeMs }
  }
}

/** Walks the records of tags and links; see {@link Store.listRecords}. */
export async function* listRecords(root: string): AsyncGenerator<RecordName> {
  yield* recordsBelow(root, 'repositories')
}

/** Walks the records of a group; see {@link Store.listRecordsOf}. */
export async function* listRecordsOf(root: string, group: RecordGroup): AsyncGenerator<RecordName> {
  yield* recordsBelow(root, groupPrefix(group).slice(0, -1))
}

async function* recordsBelow(root: string, key: string): AsyncGenerator<RecordName> {
  for await (const below of walk(root, key)) {
    const name = parseRecordKey(below)
    if (name !== undefined) yield name
  }
}

/**
 * Yields the keys of everything below a directory that is not itself a directory, depth first. Skips
 * directories that are removed meanwhile.
 */
async function* walk(root: string, key: string): AsyncGenerator<string> {
  const directory = await ifThere(opendir(join(root, key)))
  if (directory === undefined) return
  for await (const entry of directory) {
    const below = `${key}/${entry.name}`
    if (entry.isDirectory()) yield* walk(root, below)
    else yield below
  }
}
