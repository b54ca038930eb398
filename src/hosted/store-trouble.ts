import { hasCode } from '../lib/system-error.ts'
import { OciError, StoreUnavailableError } from '../oci/error.ts'

/** Errors of a disk that cannot take more, or not now. */
const DISK = ['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EMFILE', 'ENFILE', 'EACCES', 'EPERM'] as const

/**
 * Runs an action that writes to the store for a client. A store that is full, broken or away refuses the
 * client with UNAVAILABLE: nothing was acknowledged, and what was received of an upload stays.
 */
export async function storing<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    if (isFull(error)) throw new OciError('UNAVAILABLE', 'there is no room for this now', { cause: error })
    if (error instanceof StoreUnavailableError || hasCode(error, ...DISK))
      throw new OciError('UNAVAILABLE', 'the store cannot take this now', { cause: error })
    throw error
  }
}

function isFull(error: unknown): boolean {
  return hasCode(error, 'ENOSPC', 'EDQUOT') || (error instanceof Error && error.name === 'NoRoomError')
}
