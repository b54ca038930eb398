import type { Durability, RecordName, Store, StoreWrite, WriteStep } from './store.ts'

const READS_AT_ONCE = 16

/** Reads records by one call for each of them, for stores that have no better way. */
export async function readOneByOne(
  store: Pick<Store, 'readRecord'>,
  names: readonly RecordName[],
): Promise<readonly (Uint8Array | undefined)[]> {
  const records: (Uint8Array | undefined)[] = []
  for (let start = 0; start < names.length; start += READS_AT_ONCE) {
    const slice = names.slice(start, start + READS_AT_ONCE)
    records.push(...(await Promise.all(slice.map(async name => await store.readRecord(name)))))
  }
  return records
}

/** Writes steps by one call for each write, for stores that have no better way. */
export async function writeOneByOne(
  store: Pick<Store, 'createSpool' | 'adopt' | 'writeRecord'>,
  steps: readonly WriteStep[],
  durability: Durability,
): Promise<void> {
  for (const step of steps) for (const write of step) await writeOne(store, write, durability)
}

async function writeOne(
  store: Pick<Store, 'createSpool' | 'adopt' | 'writeRecord'>,
  write: StoreWrite,
  durability: Durability,
): Promise<void> {
  switch (write.kind) {
    case 'record':
      await store.writeRecord(write.name, write.bytes, durability)
      return
    case 'spool':
      await store.adopt(write.spool, write.digest, write.sizeBytes)
      return
    case 'content': {
      const { digest, bytes } = write
      await using spool = await store.createSpool(digest)
      await spool.clear()
      await spool.append(bytes)
      await store.adopt(spool, digest, bytes.byteLength)
      return
    }
    default:
      write satisfies never
  }
}
