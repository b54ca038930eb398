import type { SQLOutputValue } from 'node:sqlite'
import { digestOfBytes } from './catalogue-schema.ts'
import type { ShelfQuery, ShelvedImage } from './change.ts'

type Row = Readonly<Record<string, SQLOutputValue>>

/** Columns of `object` with how much of a manifest is stored. */
export const EXTENT = 'object.cached, object.missing, object.lacks'

/** The text before the last colon is searched for in names of repositories, the rest begins a tag. */
export function searchOf(search: string): { readonly name: string; readonly tag: string } {
  const colon = search.lastIndexOf(':')
  const isTag = colon > search.lastIndexOf('/')
  return { name: isTag ? search.slice(0, colon) : search, tag: isTag ? search.slice(colon + 1) : '' }
}

/** True if the name of an image is one that the query asks for. */
export function matches(query: ShelfQuery, image: ShelvedImage): boolean {
  const { kind, search, namespace } = query
  const wanted = searchOf(search)
  return (
    (kind === undefined || image.isHosted === (kind === 'hosted')) &&
    (namespace === undefined || image.namespace === namespace) &&
    `${image.namespace}/${image.repository}`.includes(wanted.name) &&
    (image.tag ?? image.digest).startsWith(wanted.tag)
  )
}

/** Makes an image of a row with its name, its manifest and its use. */
export function imageOf(row: Row): ShelvedImage {
  const [isTag, isHosted] = [typeof row['tag'] === 'string', row['is_hosted'] === 1]
  return {
    isHosted,
    namespace: String(row['namespace']),
    repository: String(row['repository']),
    tag: isTag ? String(row['tag']) : undefined,
    digest: digestOfBytes(row['digest']),
    checkedAtMs: isTag && !isHosted ? Number(row['checked_at']) : undefined,
    lastUseMs: typeof row['last_use'] === 'number' ? row['last_use'] : undefined,
    hits: Number(row['hits']),
    otherNames: 0,
    extent:
      typeof row['cached'] === 'number'
        ? { cachedBytes: row['cached'], missingBytes: Number(row['missing']), lacks: Number(row['lacks']) }
        : undefined,
  }
}

/**
 * True if a query asks for the manifest of a row by how much of it is stored, and by its last use under any
 * name, in `used_at`.
 */
export function isWanted({ isWhole, usedBeforeMs }: ShelfQuery, row: Row): boolean {
  const { lacks, used_at: usedAtMs } = row
  if (isWhole !== undefined && (typeof lacks !== 'number' || (lacks === 0) !== isWhole)) return false
  return usedBeforeMs === undefined || (typeof usedAtMs === 'number' && usedAtMs < usedBeforeMs)
}
