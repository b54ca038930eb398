import { groupPrefix } from '../layout.ts'
import type { RecordName } from '../store.ts'

/**
 * The directory that a record shares only with other records of its digest, and that goes with the last of
 * them; `undefined` if all directories of the record stay.
 */
export function passingDirectory(name: RecordName): string | undefined {
  const { kind } = name
  const isPassing = kind === 'hosted-hold' || kind === 'hosted-referrer' || kind === 'hosted-tagged'
  return isPassing ? groupPrefix(name).slice(0, -1) : undefined
}
