import { randomInt } from 'node:crypto'
import { addressBytes } from '../lib/ip-address.ts'
import { type CountMemory, SharedCounts } from '../lib/shared-count.ts'

/** Number of counters for networks. Networks that share a counter share its limit. */
const SLOTS = 64 * 1024
const SEED = 0
const TOTAL = 1
const FIRST_SLOT = 2

export interface ConnectionLimits {
  readonly connectionsMax: number
  /** Limit for one IPv4 address or one IPv6 /64; an IPv6 /48 may have four times as many. */
  readonly connectionsPerAddressMax: number
}

/** A site usually has a /48, which holds 65,536 networks of /64. */
const SITE_FACTOR = 4

/** Counts open connections, in total and by network, in memory that all listening threads share. */
export class ConnectionCounts {
  readonly #counts: SharedCounts
  /** With a random seed no client can choose an address that shares a counter with another. */
  readonly #seed: number

  /** @param memory shared memory of the first thread's counts; new if left out. */
  constructor(memory?: CountMemory) {
    this.#counts = new SharedCounts(FIRST_SLOT + SLOTS, memory)
    if (memory === undefined) this.#counts.add(SEED, randomInt(2 ** 31))
    this.#seed = this.#counts.get(SEED)
  }

  get memory(): CountMemory {
    return this.#counts.memory
  }

  /** Open connections in all threads. */
  get total(): number {
    return this.#counts.get(TOTAL)
  }

  /**
   * Counts a connection if that is within the limits. After `true` the caller must call {@link leave} when
   * the connection is closed. The address is empty for a client of a unix socket: only the total counts.
   */
  enter(address: string, { connectionsMax, connectionsPerAddressMax }: ConnectionLimits): boolean {
    let isOver = this.#counts.add(TOTAL, 1) >= connectionsMax
    for (const { name, factor } of networksOf(address)) {
      const before = this.#counts.add(this.#slotOf(name), 1)
      isOver ||= before >= connectionsPerAddressMax * factor
    }
    if (isOver) this.leave(address)
    return !isOver
  }

  leave(address: string): void {
    for (const { name } of networksOf(address)) this.#counts.add(this.#slotOf(name), -1)
    this.#counts.add(TOTAL, -1)
  }

  /** FNV-1a. */
  #slotOf(name: string): number {
    let hash = 0x811c9dc5 ^ this.#seed
    for (let index = 0; index < name.length; index += 1)
      hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193)
    return FIRST_SLOT + ((hash ^ (hash >>> 16)) & (SLOTS - 1))
  }
}

/** A network whose connections share a limit, which is `factor` times the limit of an address. */
interface Network {
  readonly name: string
  readonly factor: number
}

/** A client has one IPv4 address, but at least a whole /64 of IPv6. */
function networksOf(address: string): readonly Network[] {
  if (address === '') return []
  const bytes = addressBytes(address)
  if (bytes.length === 4) return [{ name: bytes.join('.'), factor: 1 }]
  if (isMapped(bytes)) return [{ name: bytes.slice(12).join('.'), factor: 1 }]
  return [
    { name: `${bytes.slice(0, 8).join(':')}/64`, factor: 1 },
    { name: `${bytes.slice(0, 6).join(':')}/48`, factor: SITE_FACTOR },
  ]
}

/** A listener on `::` sees IPv4 clients as `::ffff:10.0.0.1` (RFC 4291, section 2.5.5.2). */
function isMapped(bytes: readonly number[]): boolean {
  return bytes.slice(0, 12).every((byte, index) => byte === (index < 10 ? 0 : 0xff))
}
