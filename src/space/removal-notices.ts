import type { Digest } from '../oci/digest.ts'

/** A removal that others wait for. */
export interface AnnouncedRemoval {
  /** Throws if the removal takes so long that others may have stopped waiting. */
  requireFresh(): void
}

/** Announces removals of content to the other processes on a store. */
export interface RemovalNotices {
  /**
   * Runs a removal while it is announced, so that a repository in another process that takes the content
   * waits for its end. `undefined`, without running it, if another process removes the content now.
   */
  whileRemoving<T>(digest: Digest, action: (removal: AnnouncedRemoval) => Promise<T>): Promise<T | undefined>
}
