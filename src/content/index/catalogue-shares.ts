import type { DatabaseSync } from 'node:sqlite'
import type { Digest } from '../../oci/digest.ts'
import { digestBytes, digestOfBytes } from './catalogue-schema.ts'
import type { ShareSlice } from './change.ts'

/** Sums of what each registry may see, read in slices so that the thread is never busy for long. */
export class CatalogueShares {
  readonly #links

  constructor(database: DatabaseSync) {
    this.#links = database.prepare(
      `SELECT link.digest, namespace.name, object.size FROM link
       JOIN object ON object.digest = link.digest JOIN place ON place.id = link.place
       JOIN namespace ON namespace.id = place.namespace WHERE link.digest > ? ORDER BY link.digest`,
    )
  }

  /** Sums of the next digests with links, after about `limit` links. */
  slice(after: Digest | undefined, limit: number): ShareSlice {
    const sums = new Map<string, { bytes: number; sharedBytes: number }>()
    let [scanned, last, names, size] = [0, undefined as Uint8Array | undefined, new Set<string>(), 0]
    const close = (): void => addTo(sums, names, size)
    for (const row of this.#links.iterate(after === undefined ? new Uint8Array(0) : digestBytes(after))) {
      const digest = row['digest'] as Uint8Array
      if (last === undefined || Buffer.compare(digest, last) !== 0) {
        close()
        if (scanned >= limit) return { sums, next: last === undefined ? undefined : digestOfBytes(last) }
        names = new Set()
      }
      last = digest
      size = Number(row['size'])
      names.add(String(row['name']))
      scanned += 1
    }
    close()
    return { sums, next: undefined }
  }
}

/** Counts an object for each registry that may see it. */
function addTo(
  sums: Map<string, { bytes: number; sharedBytes: number }>,
  names: ReadonlySet<string>,
  size: number,
): void {
  for (const name of names) {
    const sum = sums.get(name) ?? { bytes: 0, sharedBytes: 0 }
    sum.bytes += size
    if (names.size > 1) sum.sharedBytes += size
    sums.set(name, sum)
  }
}
