import type { Events } from '../observe/events.ts'
import type { DecisionSubject, RecordName, Store } from '../storage/store.ts'
import { isDamage } from './damage.ts'
import { DamagedRecordError, openRecord, sealRecord } from './sealed-record.ts'

export interface DecisionsParts {
  readonly store: Pick<Store, 'deleteRecord' | 'listRecordsOf' | 'readRecord' | 'writeRecord'>
  readonly events: Pick<Events, 'recordDamaged' | 'storageFailed'>
  readonly about: DecisionSubject
  /** The id of a decision: 12 to 64 hexadecimal digits; `undefined` for what is not one. */
  readonly idOf: (value: unknown) => string | undefined
}

type DecisionName = Extract<RecordName, { readonly kind: 'decision' }>

/** A record as it was found. */
type Found =
  | { readonly kind: 'absent' }
  | { readonly kind: 'good'; readonly value: unknown }
  /** Removed, by a process that did not come to the end of that, or before a power cut. */
  | { readonly kind: 'removed' }
  | { readonly kind: 'damaged'; readonly bytes: Uint8Array | undefined; readonly error: unknown }

/** Stands for a decision that is being removed. */
const REMOVED = { isRemoved: true }

/**
 * Decisions of operators, which cannot be derived from anything else: each is a record with a checksum and a
 * second copy. A decision is written once and then only removed, so processes on one store lose none of each
 * other's.
 */
export class Decisions {
  readonly #parts: DecisionsParts
  /** Decisions that were read, by their ids. */
  readonly #read = new Map<string, unknown>()

  constructor(parts: DecisionsParts) {
    this.#parts = parts
  }

  /** All decisions, by their ids. Throws if the store cannot be read. */
  async list(): Promise<ReadonlyMap<string, unknown>> {
    const { about } = this.#parts
    const ids = new Set([...(await this.#ids(about)), ...(await this.#ids(`${about}-copy`))])
    for (const id of this.#read.keys()) if (!ids.has(id)) this.#read.delete(id)
    for (const id of ids) if (!this.#read.has(id)) await this.#load(id)
    return new Map(this.#read)
  }

  /** Adds a decision, durably. */
  async add(value: object): Promise<void> {
    await this.#write(value)
  }

  /** Removes a decision, durably; `false` if it was absent. */
  async remove(id: string): Promise<boolean> {
    const { store, about } = this.#parts
    const main = await this.#find({ kind: 'decision', about, id })
    const copy = await this.#find({ kind: 'decision', about: `${about}-copy`, id })
    const wasThere = [main, copy].some(({ kind }) => kind === 'good' || kind === 'damaged')
    // A power cut may bring back what was only deleted.
    if (wasThere) await store.writeRecord({ kind: 'decision', about, id }, sealRecord(REMOVED), 'durable')
    await this.#forget(id)
    this.#read.delete(id)
    return wasThere
  }

  async #ids(about: DecisionSubject | `${DecisionSubject}-copy`): Promise<readonly string[]> {
    const ids: string[] = []
    for await (const name of this.#parts.store.listRecordsOf({ kind: 'decision', about }))
      if (name.kind === 'decision') ids.push(name.id)
    return ids
  }

  /** Reads a decision; a damaged one is replaced by its second copy, or put aside. */
  async #load(id: string): Promise<void> {
    const { about, events } = this.#parts
    const main = await this.#find({ kind: 'decision', about, id })
    if (main.kind === 'removed') {
      await this.#forget(id).catch((failure: unknown) => events.storageFailed(`write-${about}`, failure))
      return
    }
    const copy = await this.#find({ kind: 'decision', about: `${about}-copy`, id })
    const good = main.kind === 'good' ? main : copy.kind === 'good' ? copy : undefined
    if (good !== undefined) this.#read.set(id, good.value)
    // Without a copy, another process may be removing it at this moment: it must not come back.
    if (main.kind === 'good' && copy.kind !== 'damaged') return
    const damage = main.kind === 'damaged' ? main : copy.kind === 'damaged' ? copy : undefined
    if (damage !== undefined)
      events.recordDamaged(about, good === undefined ? 'lost' : 'restored', damage.error)
    try {
      if (damage?.bytes !== undefined) await this.#putAside(damage.bytes)
      if (good !== undefined) await this.#write(good.value as object)
      else await this.#forget(id)
    } catch (failure) {
      // The next process finds the same, and tries again.
      events.storageFailed(`write-${about}`, failure)
    }
  }

  async #forget(id: string): Promise<void> {
    const { store, about } = this.#parts
    // A copy alone would be taken for a decision whose first record was lost.
    for (const each of [`${about}-copy`, about] as const)
      await store.deleteRecord({ kind: 'decision', about: each, id })
  }

  async #write(value: object): Promise<void> {
    const { store, about, idOf } = this.#parts
    const id = idOf(value)
    if (id === undefined) throw new TypeError(`this is not one of ${about}`)
    const bytes = sealRecord(value)
    for (const each of [about, `${about}-copy`] as const)
      await store.writeRecord({ kind: 'decision', about: each, id }, bytes, 'durable')
  }

  async #putAside(bytes: Uint8Array): Promise<void> {
    const { store, about } = this.#parts
    await store.writeRecord({ kind: `${about}-damaged` }, bytes, 'durable')
  }

  async #find(name: DecisionName): Promise<Found> {
    let bytes: Uint8Array | undefined
    try {
      bytes = await this.#parts.store.readRecord(name)
      if (bytes === undefined) return { kind: 'absent' }
      const value = this.#open(name, bytes)
      return value === REMOVED ? { kind: 'removed' } : { kind: 'good', value }
    } catch (error) {
      // An unreachable store says nothing about the record.
      if (bytes === undefined && !isDamage(error)) throw error
      return { kind: 'damaged', bytes, error }
    }
  }

  #open(name: DecisionName, bytes: Uint8Array): unknown {
    const { value, isSealed } = openRecord(bytes)
    if (isSealed && isRemoval(value)) return REMOVED
    if (isSealed && this.#parts.idOf(value) === name.id) return value
    throw new DamagedRecordError('it is not what its name says')
  }
}

function isRemoval(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'isRemoved' in value
}
