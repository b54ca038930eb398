import type { Digest } from '../oci/digest.ts'
import type { Store } from '../storage/store.ts'
import type { AnnouncedRemoval, RemovalNotices } from './removal-notices.ts'

/** Removals of content from a store: hosted content is spared, and other processes are told first. */
export class Removals {
  readonly #store: Pick<Store, 'listRecordsOf' | 'isAlone'>
  readonly #underWay = new Map<Digest, Promise<void>>()

  constructor(store: Pick<Store, 'listRecordsOf' | 'isAlone'>) {
    this.#store = store
  }

  /** The removal of a digest that is under way: a reader waits to learn whether the content is gone. */
  underWay(digest: Digest): Promise<void> | undefined {
    return this.#underWay.get(digest)
  }

  /** True if a hosted repository holds the content. */
  async isHosted(digest: Digest): Promise<boolean> {
    for await (const _ of this.#store.listRecordsOf({ kind: 'hosted-hold', digest })) return true
    return false
  }

  /**
   * Runs an action that removes content, unless a hosted repository holds the content: `undefined` then.
   * Whoever opens the content after the look for holds waits, so that a repository which takes it meanwhile
   * learns whether it is still there. Other processes learn it by the notice.
   */
  async unlessHosted<T>(
    digest: Digest,
    remove: () => Promise<T>,
    notices: RemovalNotices | undefined,
  ): Promise<T | undefined> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#underWay.set(digest, promise)
    try {
      return await this.#announced(digest, notices, async removal => {
        if (await this.isHosted(digest)) return undefined
        removal?.requireFresh()
        return await remove()
      })
    } finally {
      this.#underWay.delete(digest)
      resolve()
    }
  }

  /**
   * Runs a removal while it is announced. A full disk takes no announcement, and has to be emptied all the
   * same: a process that is alone on it does without, as nobody would read one.
   */
  async #announced<T>(
    digest: Digest,
    notices: RemovalNotices | undefined,
    action: (removal?: AnnouncedRemoval) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    if (notices === undefined) return await action()
    let isAnnounced = false
    try {
      return await notices.whileRemoving(digest, async removal => {
        isAnnounced = true
        return await action(removal)
      })
    } catch (error) {
      if (isAnnounced || (await this.#store.isAlone?.()) !== true) throw error
      return await action()
    }
  }
}
