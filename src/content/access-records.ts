import { randomBytes } from 'node:crypto'
import type { Events } from '../observe/events.ts'
import type { Store } from '../storage/store.ts'
import { isDamage } from './damage.ts'
import { DamagedRecordError, openRecord, sealRecord } from './sealed-record.ts'

const KEY_BYTES = 32

export interface AccessRecordsParts {
  readonly store: Pick<Store, 'createRecord' | 'deleteRecord' | 'readRecord' | 'writeRecord'>
  readonly events: Pick<Events, 'recordDamaged' | 'storageFailed'>
}

/** A record of robots as it was found. */
type Found =
  | { readonly kind: 'absent' }
  | { readonly kind: 'good'; readonly entries: readonly unknown[] }
  | { readonly kind: 'damaged'; readonly bytes: Uint8Array | undefined; readonly error: unknown }

/**
 * The records of access: robot tokens, which are the operator's decision and so have a second copy, and the
 * signing key, which can be replaced. Damage to them is reported and put aside.
 */
export class AccessRecords {
  readonly #parts: AccessRecordsParts

  constructor(parts: AccessRecordsParts) {
    this.#parts = parts
  }

  /** The entries of the record of robots. Throws if the store cannot be read. */
  async readRobots(): Promise<readonly unknown[]> {
    const main = await this.#read('robots')
    if (main.kind === 'good') return main.entries
    const copy = await this.#read('robots-copy')
    if (main.kind === 'absent' && copy.kind !== 'good') return []
    const entries = copy.kind === 'good' ? copy.entries : []
    const error = main.kind === 'damaged' ? main.error : new DamagedRecordError('it is missing')
    this.#parts.events.recordDamaged('robots', copy.kind === 'good' ? 'restored' : 'lost', error)
    try {
      if (main.kind === 'damaged' && main.bytes !== undefined)
        await this.#parts.store.writeRecord({ kind: 'robots-damaged' }, main.bytes, 'durable')
      await this.writeRobots(entries)
    } catch (failure) {
      // The next read finds the same, and tries again.
      this.#parts.events.storageFailed('write-robots', failure)
    }
    return entries
  }

  async writeRobots(entries: readonly object[] | readonly unknown[]): Promise<void> {
    const bytes = sealRecord(entries)
    for (const kind of ['robots', 'robots-copy'] as const)
      await this.#parts.store.writeRecord({ kind }, bytes, 'durable')
  }

  /**
   * The signing key in the store; makes one if there is none, or if it is damaged. It is created once: of
   * several processes that start together, the others use the key of the one that was first.
   */
  async signingKey(): Promise<Uint8Array> {
    const { store } = this.#parts
    const bytes = await store.readRecord({ kind: 'signing-key' })
    const found = bytes === undefined ? undefined : this.#keyIn(bytes)
    if (found !== undefined) return found
    if (bytes !== undefined) await store.deleteRecord({ kind: 'signing-key' })
    const key = randomBytes(KEY_BYTES)
    const record = sealRecord({ key: key.toString('base64') })
    const creation = await store.createRecord({ kind: 'signing-key' }, record)
    return creation.kind === 'created' ? key : (this.#keyIn(creation.bytes) ?? key)
  }

  #keyIn(bytes: Uint8Array): Uint8Array | undefined {
    try {
      const { value } = openRecord(bytes)
      const { key } = (value ?? {}) as { readonly key?: unknown }
      const secret = Buffer.from(typeof key === 'string' ? key : '', 'base64')
      if (secret.byteLength === KEY_BYTES) return secret
      throw new DamagedRecordError('it holds no key')
    } catch (error) {
      this.#parts.events.recordDamaged('signing-key', 'rebuilt', error)
      return undefined
    }
  }

  async #read(kind: 'robots' | 'robots-copy'): Promise<Found> {
    let bytes: Uint8Array | undefined
    try {
      bytes = await this.#parts.store.readRecord({ kind })
      if (bytes === undefined) return { kind: 'absent' }
      const { value, isSealed } = openRecord(bytes)
      if (Array.isArray(value) && isSealed) return { kind: 'good', entries: value }
      throw new DamagedRecordError('it is not a sealed list')
    } catch (error) {
      // An unreachable store says nothing about the record.
      if (bytes === undefined && !isDamage(error)) throw error
      return { kind: 'damaged', bytes, error }
    }
  }
}
