import { randomBytes } from 'node:crypto'
import type { Events } from '../observe/events.ts'
import type { Store } from '../storage/store.ts'
import { Decisions } from './decisions.ts'
import { DamagedRecordError, openRecord, sealRecord } from './sealed-record.ts'

const KEY_BYTES = 32

export interface AccessRecordsParts {
  readonly store: Pick<
    Store,
    'createRecord' | 'deleteRecord' | 'listRecordsOf' | 'readRecord' | 'writeRecord'
  >
  readonly events: Pick<Events, 'recordDamaged' | 'storageFailed'>
}

/**
 * The records of access: robot tokens, which are the operator's decision, when each was last used, which may
 * be lost, and the signing key, which can be replaced.
 */
export class AccessRecords {
  readonly #parts: AccessRecordsParts
  readonly #robots: Decisions

  constructor(parts: AccessRecordsParts) {
    this.#parts = parts
    this.#robots = new Decisions({ ...parts, about: 'robots', idOf: robotIdOf })
  }

  /** The entries of all robots. Throws if the store cannot be read. */
  async readRobots(): Promise<readonly unknown[]> {
    return [...(await this.#robots.list()).values()]
  }

  async addRobot(entry: object): Promise<void> {
    await this.#robots.add(entry)
  }

  async removeRobot(id: string): Promise<void> {
    await this.#robots.remove(id)
  }

  /** When each robot was last used, by its id, as far as that was written. */
  async readUses(): Promise<ReadonlyMap<string, number>> {
    const bytes = await this.#parts.store.readRecord({ kind: 'robots-used' })
    try {
      const { value } = bytes === undefined ? { value: {} } : openRecord(bytes)
      const uses = Object.entries((value ?? {}) as Readonly<Record<string, unknown>>)
      return new Map(uses.map(([id, atMs]) => [id, Number(atMs) || 0]))
    } catch (error) {
      if (!(error instanceof DamagedRecordError)) throw error
      return new Map()
    }
  }

  async writeUses(uses: ReadonlyMap<string, number>): Promise<void> {
    await this.#parts.store.writeRecord(
      { kind: 'robots-used' },
      sealRecord(Object.fromEntries(uses)),
      'relaxed',
    )
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
}

function robotIdOf(entry: unknown): string | undefined {
  const { id } = (entry ?? {}) as { readonly id?: unknown }
  return typeof id === 'string' && /^[0-9a-f]{12}$/.test(id) ? id : undefined
}
