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
    const at = new Date(this.#parts.clock.wallMs()).toISOString()
    await this.#parts.store.writeRecord(
      { kind: 'hosted-unneeded', digest },
      sealRecord({ state, at }),
      'relaxed',
    )
  }

  async clear(digest: Digest): Promise<void> {
    await this.#parts.store.deleteRecord({ kind: 'hosted-unneeded', digest })
  }

  /**
   * Marks a digest that is about to lose a hold, so that the collection looks at it even if this process dies
   * meanwhile.
   */
  async suspect(digest: Digest): Promise<void> {
    if ((await this.read(digest)) === undefined) await this.write(digest, 'unneeded')
  }

  /** All digests with a mark. */
  async *digests(): AsyncGenerator<Digest> {
    for await (const name of this.#parts.store.listRecordsOf({ kind: 'hosted-unneeded' }))
      if (name.kind === 'hosted-unneeded') yield name.digest
  }

  /** Takes digests back that are held from now on; `true` if any had a mark. See {@link spare}. */
  async spareAll(digests: readonly Digest[]): Promise<boolean> {
    const names = digests.map(digest => ({ kind: 'hosted-unneeded', digest }) as const)
    const marks = await this.#parts.store.readRecords(names)
    let wereMarked = false
    for (const [index, digest] of digests.entries())
      if (marks[index] !== undefined && (await this.spare(digest))) wereMarked = true
    return wereMarked
  }

  /**
   * Takes a digest back that is held or claimed from now on; `true` if it had a mark, so that what was known
   * of it before has to be checked again. Waits while another process removes it; throws UNAVAILABLE if that
   * takes too long.
   */
  async spare(digest: Digest): Promise<boolean> {
    const { clock } = this.#parts
    for (let looks = 0; looks < LOOKS_MAX; looks += 1) {
      const mark = await this.read(digest)
      if (mark === undefined) return looks > 0
      const isDead = Math.abs(clock.wallMs() - mark.atMs) > REMOVAL_MS_MAX
      if (mark.state !== 'removing' || isDead) {
        await this.clear(digest)
        return true
      }
      await clock.delay(LOOK_EVERY_MS)
    }
    throw new OciError('UNAVAILABLE', `${digest} is being collected: try again`, {
      retryAfterMs: BUSY_RETRY_MS,
    })
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

function finite(ms: number, instead: number): number {
  return Number.isNaN(ms) ? instead : ms
}
