import { openRecord, sealRecord } from '../content/sealed-record.ts'
import type { Clock } from '../lib/clock.ts'
import type { Digest } from '../oci/digest.ts'
import { BUSY_RETRY_MS, OciError } from '../oci/error.ts'
import type { Store } from '../storage/store.ts'

/** Time between two looks at a mark whose content is being removed by another process. */
const LOOK_EVERY_MS = 200
const LOOKS_MAX = 50
/** A process that has not ended a removal after this long is dead. */
const REMOVAL_MS_MAX = 10 * 60_000

/**
 * How far the collection of a digest has come. `unneeded`: nothing needed it when it was looked at.
 * `removing`: it is looked at for the last time, and removed. `removed`: it is gone.
 */
export interface CollectionMark {
  readonly state: 'unneeded' | 'removing' | 'removed'
  readonly atMs: number
}

/** The removal of one digest by this process. */
export interface DigestRemoval {
  /** False if the removal takes so long that others may take this process for dead. */
  isFresh(): boolean
  /** Throws if it is not fresh. */
  requireFresh(): void
  /** Takes the announcement back, unless it may be that of another process by now. */
  end(): Promise<void>
}

const NOTHING = new Uint8Array(0)

export interface CollectionMarksParts {
  readonly store: Store
  readonly clock: Clock
}

/**
 * Marks of the collection in the store, by which the processes on one store agree. A process that relies on
 * content writes its hold first and then looks for a mark; the collection writes `removing` first and then
 * looks for holds. So at least one of the two sees the other, in any order. Within a process the order of the
 * digest excludes both at once.
 */
export class CollectionMarks {
  readonly #parts: CollectionMarksParts

  constructor(parts: CollectionMarksParts) {
    this.#parts = parts
  }

  /** The mark of a digest. A damaged one counts as just made: that only delays the collection. */
  async read(digest: Digest): Promise<CollectionMark | undefined> {
    const bytes = await this.#parts.store.readRecord({ kind: 'hosted-unneeded', digest })
    return bytes === undefined ? undefined : this.#markIn(bytes)
  }

  async write(digest: Digest, state: CollectionMark['state']): Promise<void> {
    await this.#parts.store.writeRecord({ kind: 'hosted-unneeded', digest }, this.#markOf(state), 'relaxed')
  }

  async clear(digest: Digest): Promise<void> {
    await this.#parts.store.deleteRecord({ kind: 'hosted-unneeded', digest })
  }

  /**
   * Marks a digest that is about to lose a hold, so that the collection looks at it even if this process dies
   * meanwhile.
   */
  async suspect(digest: Digest): Promise<void> {
    const mark = await this.read(digest)
    // An old mark would be taken away as out of date while the caller still holds the digest.
    if (mark !== undefined && mark.state !== 'removing') await this.#renew(digest)
    if (mark !== undefined) return
    await this.#parts.store.createRecord({ kind: 'hosted-unneeded', digest }, this.#markOf('unneeded'))
  }

  /** Not while another process removes the digest: pushes rely on its mark. */
  async #renew(digest: Digest): Promise<void> {
    const removal = await this.beginRemoval(digest)
    if (removal === undefined) return
    try {
      await this.write(digest, 'unneeded')
    } finally {
      await removal.end()
    }
  }

  /**
   * Begins the removal of a digest; `undefined` if another process removes it. The record of a process that
   * died in the middle is removed, for the next round.
   */
  async beginRemoval(digest: Digest): Promise<DigestRemoval | undefined> {
    const { store, clock } = this.#parts
    const name = { kind: 'hosted-removal', digest } as const
    const beganAtMs = clock.monotonicMs()
    if ((await store.createRecord(name, NOTHING)).kind === 'exists') {
      const found = await store.readAgedRecord(name)
      if (found !== undefined && found.ageMs > REMOVAL_MS_MAX) await store.deleteRecord(name)
      return undefined
    }
    const isFresh = (): boolean => clock.monotonicMs() - beganAtMs <= REMOVAL_MS_MAX / 2
    return {
      isFresh,
      requireFresh: () => {
        if (!isFresh())
          throw new Error(`the removal of ${digest} took too long, and is left to the next round`)
      },
      end: async () => {
        if (isFresh()) await store.deleteRecord(name)
      },
    }
  }

  /**
   * Runs an action that removes something of a digest, announced to all processes as the collection announces
   * it: the mark is written before the action looks whether anything needs the digest. `undefined`, without
   * running it, if another process removes the digest now.
   */
  async whileRemoving<T>(
    digest: Digest,
    action: (removal: Pick<DigestRemoval, 'requireFresh'>) => Promise<T>,
  ): Promise<T | undefined> {
    const removal = await this.beginRemoval(digest)
    if (removal === undefined) return undefined
    try {
      const before = await this.read(digest)
      removal.requireFresh()
      await this.write(digest, 'removing')
      try {
        return await action(removal)
      } finally {
        // A mark that was there is for the collection, which has yet to decide. The mark of a removal that
        // took too long may be that of another process by now, on which pushes rely.
        if (removal.isFresh())
          await (before === undefined ? this.clear(digest) : this.write(digest, 'unneeded'))
      }
    } finally {
      await removal.end()
    }
  }

  /** The same, but waits for its turn; throws UNAVAILABLE if that takes too long. */
  async removing(
    digest: Digest,
    action: (removal: Pick<DigestRemoval, 'requireFresh'>) => Promise<boolean>,
  ): Promise<boolean> {
    for (let looks = 0; looks < LOOKS_MAX; looks += 1) {
      const result = await this.whileRemoving(digest, action)
      if (result !== undefined) return result
      await this.#parts.clock.delay(LOOK_EVERY_MS)
    }
    throw beingCollected(digest)
  }

  /** All digests with a mark. */
  async *digests(): AsyncGenerator<Digest> {
    for await (const name of this.#parts.store.listRecordsOf({ kind: 'hosted-unneeded' }))
      if (name.kind === 'hosted-unneeded') yield name.digest
  }

  /** Takes digests back that are held from now on; `true` if any had a mark. See {@link spare}. */
  async spareAll(digests: readonly Digest[]): Promise<boolean> {
    const names = digests.map(digest => ({ kind: 'hosted-unneeded', digest }) as const)
    const areMarked = await this.#parts.store.hasRecords(names)
    let wereMarked = false
    for (const [index, digest] of digests.entries())
      if (areMarked[index] === true && (await this.spare(digest))) wereMarked = true
    return wereMarked
  }

  /**
   * Takes a digest back that is held or claimed from now on; `true` if it had a mark, so that what was known
   * of it before has to be checked again. Waits while another process removes it; throws UNAVAILABLE if that
   * takes too long.
   */
  async spare(digest: Digest): Promise<boolean> {
    const { clock, store } = this.#parts
    for (let looks = 0; looks < LOOKS_MAX; looks += 1) {
      const found = await store.readAgedRecord({ kind: 'hosted-unneeded', digest })
      if (found === undefined) return looks > 0
      // By the clock of the store: those of two machines may differ by minutes.
      const isDead = found.ageMs > REMOVAL_MS_MAX
      if (this.#markIn(found.bytes).state !== 'removing' || isDead) {
        await this.clear(digest)
        return true
      }
      await clock.delay(LOOK_EVERY_MS)
    }
    throw beingCollected(digest)
  }

  #markOf(state: CollectionMark['state']): Uint8Array {
    return sealRecord({ state, at: new Date(this.#parts.clock.wallMs()).toISOString() })
  }

  #markIn(bytes: Uint8Array): CollectionMark {
    const atMs = this.#parts.clock.wallMs()
    try {
      const { value } = openRecord(bytes)
      const { state, at } = value as { readonly state?: unknown; readonly at?: unknown }
      const writtenMs = Date.parse(String(at))
      if (state !== 'removing' && state !== 'removed')
        return { state: 'unneeded', atMs: finite(writtenMs, atMs) }
      return { state, atMs: finite(writtenMs, atMs) }
    } catch {
      return { state: 'unneeded', atMs }
    }
  }
}

function beingCollected(digest: Digest): OciError {
  return new OciError('UNAVAILABLE', `${digest} is being collected: try again`, {
    retryAfterMs: BUSY_RETRY_MS,
  })
}

function finite(ms: number, instead: number): number {
  return Number.isNaN(ms) ? instead : ms
}
