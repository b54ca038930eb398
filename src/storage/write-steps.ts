import type { Durability, RecordName, Store, StoreWrite, WriteStep } from './store.ts'

const READS_AT_ONCE = 16

/** Reads records by one call for each of them, for stores that have no better way. */
export async function readOneByOne(
  store: Pick<Store, 'readRecord'>,
  names: readonly RecordName[],
): Promise<readonly (Uint8Array | undefined)[]> {
  return await mapSome(names, async name => await store.readRecord(name))
}

/** Reads something of several records, of a few at once; in the order of their names. */
export async function mapSome<T>(
  names: readonly RecordName[],
  read: (name: RecordName) => Promise<T>,
): Promise<readonly T[]> {
  const found: T[] = []
  for (let start = 0; start < names.length; start += READS_AT_ONCE)
    found.push(...(await Promise.all(names.slice(start, start + READS_AT_ONCE).map(read))))
  return found
}

/** Tells which records exist by reading them, for stores that have no better way. */
export async function hasByReading(
  store: Pick<Store, 'readRecords'>,
  names: readonly RecordName[],
): Promise<readonly boolean[]> {
  return (await store.readRecords(names)).map(bytes => bytes !== undefined)
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
