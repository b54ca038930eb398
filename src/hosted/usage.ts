import type { Clock } from '../lib/clock.ts'
import type { Digest } from '../oci/digest.ts'
import { matchesName, type NamePattern } from '../oci/name-pattern.ts'
import type { Place } from '../oci/place.ts'
import type { Act, ActWitness } from './acts.ts'
import type { Shelf } from './shelf.ts'

/** A sum is counted anew after this time: other processes and the collection change it too. */
const COUNTED_FOR_MS = 10 * 60_000

interface Sum {
  bytes: number
  readonly countedAtMs: number
}

/**
 * Logical bytes of hosted repositories: what each of them has counts, also what several share. Counted from
 * the records, and kept up to date with what this process sees.
 */
export class Usage implements ActWitness {
  readonly #shelf: Shelf
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #sums = new Map<string, Sum>()
  #repositories: { readonly places: readonly Place[]; readonly listedAtMs: number } | undefined

  constructor(shelf: Shelf, clock: Pick<Clock, 'monotonicMs'>) {
    this.#shelf = shelf
    this.#clock = clock
  }

  /** Bytes of all repositories with such names. */
  async of(names: NamePattern): Promise<number> {
    let bytes = 0
    for (const place of await this.#places())
      if (matchesName(names, place)) bytes += await this.#ofPlace(place)
    return bytes
  }

  /** The same as far as it is counted now; `undefined` if some of it is not. */
  now(names: NamePattern): number | undefined {
    let bytes = 0
    for (const place of this.#repositories?.places ?? []) {
      if (!matchesName(names, place)) continue
      const sum = this.#sums.get(keyOf(place))
      if (sum === undefined) return undefined
      bytes += sum.bytes
    }
    return this.#repositories === undefined ? undefined : bytes
  }

  /** Counts everything anew when it is next asked for. */
  forget(): void {
    this.#sums.clear()
    this.#repositories = undefined
  }

  /** True if the repository has the content already. */
  async has(place: Place, digest: Digest): Promise<boolean> {
    return (await this.#shelf.content({ kind: 'hosted-blob', ...place, digest })) !== undefined
  }

  /** The record of an act is written already. A repository is counted when it is asked for. */
  async saw(act: Act): Promise<void> {
    const sum = this.#sums.get(keyOf(act))
    if (sum === undefined) this.#repositories = undefined
    else if (act.kind === 'link' || (act.kind === 'publish' && act.isNew)) sum.bytes += act.sizeBytes
    else if (act.kind === 'unlink' || act.kind === 'withdraw') this.#sums.delete(keyOf(act))
    await Promise.resolve()
  }

  async #places(): Promise<readonly Place[]> {
    const nowMs = this.#clock.monotonicMs()
    if (this.#repositories === undefined || nowMs - this.#repositories.listedAtMs > COUNTED_FOR_MS)
      this.#repositories = { places: await Array.fromAsync(this.#shelf.repositories()), listedAtMs: nowMs }
    return this.#repositories.places
  }

  async #ofPlace(place: Place): Promise<number> {
    const nowMs = this.#clock.monotonicMs()
    const known = this.#sums.get(keyOf(place))
    if (known !== undefined && nowMs - known.countedAtMs <= COUNTED_FOR_MS) return known.bytes
    let bytes = 0
    for (const kind of ['hosted-blob', 'hosted-manifest'] as const)
      for await (const digest of this.#shelf.contents(place, kind))
        bytes += (await this.#shelf.content({ kind, ...place, digest }))?.sizeBytes ?? 0
    this.#sums.set(keyOf(place), { bytes, countedAtMs: nowMs })
    return bytes
  }
}

function keyOf({ namespace, repository }: Place): string {
  return `${namespace}/${repository}`
}
