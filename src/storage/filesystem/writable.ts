import { stat } from 'node:fs/promises'
import { hasCode } from '../../lib/system-error.ts'
import { StoreUnusableError } from '../../oci/error.ts'
import { makeDurableDirectory } from './directories.ts'

const REFUSED = ['EACCES', 'EPERM', 'EROFS'] as const

/** A directory that this program writes to, and the flag that names it. */
export interface NamedDirectory {
  readonly path: string
  readonly flag: '--root' | '--spool-dir'
}

/**
 * Runs the first write to a directory. Rejects with a {@link StoreUnusableError} if this user may not write
 * there, which only an operator can change. A disk that is full or fails may recover, so it is accepted.
 */
export async function requireWritable(directory: NamedDirectory, write: () => Promise<void>): Promise<void> {
  try {
    await write()
  } catch (error) {
    if (isRefusal(error)) throw await refusalOf(directory, error)
  }
}

/** True if this user may not write, whatever the state of the disk. */
function isRefusal(error: unknown): boolean {
  return hasCode(error, ...REFUSED)
}

/** The refusal in one sentence, with what to change. */
async function refusalOf({ path, flag }: NamedDirectory, error: unknown): Promise<StoreUnusableError> {
  const [self, found] = await Promise.all([ownerOf('/proc/self'), ownerOf(path)])
  const user = self === undefined ? 'this user' : `uid ${self.uid}, gid ${self.gid}`
  const remedies = hasCode(error, 'EROFS')
    ? ['mount it writable']
    : self === undefined
      ? []
      : [found === undefined ? 'create it for this user' : `run chown -R ${self.uid}:${self.gid} ${path}`]
  const other = [
    ...remedies,
    `choose another directory with ${flag}`,
    'or start with --pass-through to cache nothing',
  ]
  return new StoreUnusableError(
    `the data directory ${path} cannot be ${found === undefined ? 'created' : 'written'} by ${user}: ${reasonOf(error, found)}; ${other.join(', ')}`,
  )
}

interface Owner {
  readonly uid: number
  readonly gid: number
  readonly mode: number
}

/** The owner of a path. That of `/proc/self` is the user of this process. */
async function ownerOf(path: string): Promise<Owner | undefined> {
  return await stat(path).catch(() => undefined)
}

function reasonOf(error: unknown, found: Owner | undefined): string {
  if (hasCode(error, 'EROFS')) return 'it is on a read-only file system'
  if (found === undefined) return 'permission denied'
  const mode = (found.mode & 0o7777).toString(8).padStart(4, '0')
  return `it belongs to uid ${found.uid}, gid ${found.gid} with mode ${mode}`
}

/** Makes the root of a store. Throws if it cannot be made or is not a directory. */
export async function prepareRoot(root: string, mayBeUnwritable: boolean): Promise<void> {
  try {
    await makeDurableDirectory(root)
  } catch (error) {
    if (isRefusal(error)) {
      if (mayBeUnwritable) return
      throw await refusalOf({ path: root, flag: '--root' }, error)
    }
    throw new Error(`the storage root ${root} cannot be created`, { cause: error })
  }
  const found = await stat(root)
  if (!found.isDirectory()) throw new Error(`the storage root ${root} is not a directory`)
}
