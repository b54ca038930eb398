import { hasCode } from '../lib/system-error.ts'
import type { Events } from '../observe/events.ts'
import type { Digest } from '../oci/digest.ts'
import { StoreUnavailableError } from '../oci/error.ts'
import type { Store, StoredObject } from '../storage/store.ts'

/**
 * Temporary faults that say nothing about an object: this process or machine lacks a resource for now, or the
 * store cannot be reached.
 */
const PASSING = [
  'EAGAIN',
  'EBUSY',
  'EHOSTDOWN',
  'EINTR',
  'EMFILE',
  'ENFILE',
  'ENOMEM',
  'ENOTCONN',
  'ESTALE',
  'ETIMEDOUT',
] as const

/** True if a failed read means that the content is damaged, false if the store is at fault. */
export function isDamage(error: unknown): boolean {
  return !(error instanceof StoreUnavailableError) && !hasCode(error, ...PASSING)
}

/** Errors that can affect a single object while the store itself works. */
const CLOSED = ['EACCES', 'EPERM', 'ENXIO'] as const

/**
 * True if a failed open means that something other than the content lies in its place. Disk errors do not
 * count: they may pass, and the content may be the only copy left when the upstream is down.
 */
export function isObstacle(error: unknown): boolean {
  if (error instanceof StoreUnavailableError) return false
  const isSystemError = error instanceof Error && 'code' in error && typeof error.code === 'string'
  return !isSystemError || hasCode(error, ...CLOSED)
}

export interface QuarantineParts {
  readonly store: Pick<Store, 'open' | 'quarantine' | 'copies'>
  readonly events: Pick<Events, 'quarantined' | 'storageFailed'>
}

/** Content that was found damaged. Its `version` is `undefined` if it could not be opened. */
export interface Damaged {
  readonly digest: Digest
  readonly version: string | undefined
}

/**
 * Opens content in order to serve it. Only whoever proves what it reads may use this, and nobody to find out
 * if the content is stored; see {@link Store.copies}.
 */
export async function openToServe(
  store: Pick<Store, 'open' | 'copies'>,
  digest: Digest,
): Promise<StoredObject | undefined> {
  return store.copies === undefined ? await store.open(digest) : await store.copies.open(digest)
}

/** Opens once more, in order to prove it, what {@link openToServe} gave. */
export async function openToProve(
  store: Pick<Store, 'open' | 'copies'>,
  digest: Digest,
): Promise<StoredObject | undefined> {
  return store.copies === undefined ? await store.open(digest) : await store.copies.openAgain(digest)
}

/**
 * Moves damaged content out of the way and counts it, unless it has been replaced since. Never throws:
 * content that cannot be moved is found damaged again, and the next fill replaces it. Returns true if only a
 * local copy was damaged, so that the content can be read again.
 */
export async function quarantine(
  { store, events }: QuarantineParts,
  damaged: Damaged,
  error: unknown,
): Promise<boolean> {
  const { digest, version } = damaged
  const isStill = async (): Promise<boolean> => {
    const found = await look(store, digest)
    return !found.isAbsent && found.version === version
  }
  try {
    if (version !== undefined && (await store.copies?.dropDamaged(digest, version)) === true) {
      events.storageFailed('copy', error)
      return true
    }
    if (!(await isStill())) return false
    events.quarantined(digest, error)
    await store.quarantine(digest, isStill)
  } catch (failure) {
    events.storageFailed('quarantine', failure)
  }
  return false
}

/** Checks what is stored now. */
async function look(
  store: Pick<Store, 'open'>,
  digest: Digest,
): Promise<{ readonly isAbsent: boolean; readonly version: string | undefined }> {
  try {
    await using object = await store.open(digest)
    return { isAbsent: object === undefined, version: object?.version }
  } catch (error) {
    if (isObstacle(error)) return { isAbsent: false, version: undefined }
    throw error
  }
}
