import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { bytesIn } from '../../src/lib/read-ahead.ts'
import { Claims } from '../../src/space/claims.ts'
import { RoomBook } from '../../src/space/room-book.ts'
import type { Demand } from '../../src/space/victims.ts'
import { type RoomKeeper, WatchedSpool } from '../../src/space/watched-spool.ts'
import type { SpoolFile } from '../../src/storage/store.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { seeEvents } from '../support/seen-events.ts'

const MIB = 1024 * 1024
const MAX_BYTES = 100 * MIB
const SHARE = 0.2
const CONFIGURED = 'docker.io'
const STRANGER = 'stranger.example'

interface Stored {
  readonly isDynamic: boolean
  readonly bytes: number
}

/** A spool that holds no bytes, only their number. */
class Hollow implements SpoolFile {
  sizeBytes = 0

  async append(...pieces: readonly Uint8Array[]): Promise<void> {
    this.sizeBytes += bytesIn(pieces)
    await Promise.resolve()
  }

  async read(): Promise<number> {
    return await Promise.resolve(0)
  }

  async clear(): Promise<void> {
    this.sizeBytes = 0
    await Promise.resolve()
  }

  keep(): void {
    // Its bytes are only counted.
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve()
  }
}

/** A cache of which only the sizes are kept. What was stored first goes first. */
class World {
  stored: Stored[] = []
  readonly book: RoomBook
  readonly #claims: Claims
  readonly #keeper: RoomKeeper

  constructor() {
    const clock = new FakeClock()
    const { events } = seeEvents()
    const bounds = {
      maxSize: { kind: 'bytes', bytes: MAX_BYTES },
      minFree: { kind: 'bytes', bytes: 0 },
      dynamicShare: SHARE,
    } as const
    const measureRoom = async (): ReturnType<SpaceStore['measureRoom']> =>
      await Promise.resolve({ freeBytes: 10 * MAX_BYTES, totalBytes: 20 * MAX_BYTES })
    const book = new RoomBook({ store: { measureRoom }, bounds, clock, events })
    this.book = book
    const storedBytes = (): number => this.storedBytes
    this.#claims = new Claims({
      book,
      bounds,
      clock,
      events,
      index: {
        state: 'open',
        open: async () => await Promise.resolve(),
        get bytes() {
          return storedBytes()
        },
      },
      filling: () => ({
        usedBytes: this.usedBytes,
        dynamicBytes: this.dynamicBytes,
        freeBytes: book.freeBytes,
      }),
      dynamicShare: () => SHARE,
      evict: async demand => await Promise.resolve(this.#evict(demand())),
    })
    this.#keeper = {
      payerOf: namespace => ({ namespace, isDynamic: namespace !== CONFIGURED }),
      couldFit: async claim => await this.#claims.couldFit(claim),
      claim: async claim => await this.#claims.take(claim),
      reserve: bytes => book.reserve(bytes),
      wrote: bytes => book.wrote(bytes),
      release: release => book.release(release),
      leftBehind: (bytes, isDynamic) => book.leftBehind(bytes, isDynamic),
      tookUp: (bytes, isDynamic) => book.tookUp(bytes, isDynamic),
    }
  }

  get storedBytes(): number {
    return sum(this.stored)
  }

  get usedBytes(): number {
    return this.storedBytes + this.book.scratchBytes
  }

  get dynamicBytes(): number {
    return sum(this.stored.filter(({ isDynamic }) => isDynamic)) + this.book.dynamicScratchBytes
  }

  spool(isDynamic: boolean): WatchedSpool {
    const payer = { namespace: undefined, isDynamic }
    return new WatchedSpool(new Hollow(), this.#keeper, { payer, unhold: () => undefined })
  }

  adopt(spool: WatchedSpool): void {
    const bytes = spool.sizeBytes
    spool.becomeObject()
    this.stored.push({ isDynamic: spool.namespace !== CONFIGURED, bytes })
  }

  #evict(demand: Demand): number {
    let { bytes, dynamicBytes } = demand
    const before = this.stored.length
    this.stored = this.stored.filter(object => {
      const goes = bytes > 0 || (dynamicBytes > 0 && object.isDynamic)
      if (goes) bytes -= object.bytes
      if (goes && object.isDynamic) dynamicBytes -= object.bytes
      return !goes
    })
    return before - this.stored.length
  }
}

interface SpaceStore {
  measureRoom(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }>
}

function sum(all: readonly Stored[]): number {
  return all.reduce((total, { bytes }) => total + bytes, 0)
}

const sizes = fc.integer({ min: 1, max: 60 }).map(count => count * MIB)
const actions = fc.array(
  fc.record({
    what: fc.constantFrom('begin', 'write', 'write', 'write', 'store', 'keep', 'drop'),
    isDynamic: fc.boolean(),
    isStated: fc.boolean(),
    sizeBytes: sizes,
    which: fc.nat(5),
  }),
  { maxLength: 80 },
)

interface Running {
  readonly spool: WatchedSpool
  readonly isDynamic: boolean
}

interface Action {
  readonly what: string
  readonly isDynamic: boolean
  readonly isStated: boolean
  readonly sizeBytes: number
}

async function act(
  world: World,
  running: Running[],
  action: Action,
  chosen: Running | undefined,
): Promise<void> {
  if (action.what === 'begin') {
    const { isDynamic } = action
    const spool = world.spool(isDynamic)
    const namespace = isDynamic ? STRANGER : CONFIGURED
    const isTaken = await spool.charge({
      namespace,
      sizeBytes: action.isStated ? action.sizeBytes : undefined,
    })
    if (isTaken) running.push({ spool, isDynamic })
    else await spool[Symbol.asyncDispose]()
    return
  }
  if (chosen === undefined) return
  if (action.what === 'write') {
    await chosen.spool
      .append(Buffer.alloc(MIB))
      .catch((error: Error) => assert.equal(error.name, 'NoRoomError'))
    return
  }
  if (action.what === 'store') world.adopt(chosen.spool)
  if (action.what === 'keep') chosen.spool.keep()
  await chosen.spool[Symbol.asyncDispose]()
  running.splice(running.indexOf(chosen), 1)
}

test('I31 promises and content never exceed the share or the maximum, and no stranger makes configured content go', async () => {
  const ran = async (all: readonly (Action & { readonly which: number })[]): Promise<void> => {
    const world = new World()
    await world.book.measure()
    const running: Running[] = []
    for (const action of all) {
      const chosen = running[action.which % Math.max(1, running.length)]
      const isDynamic = action.what === 'begin' ? action.isDynamic : chosen?.isDynamic
      const configured = sum(world.stored.filter(object => !object.isDynamic))
      await act(world, running, action, chosen)
      assert.ok(world.usedBytes <= MAX_BYTES)
      assert.ok(world.dynamicBytes <= MAX_BYTES * SHARE)
      if (isDynamic === true) assert.equal(sum(world.stored.filter(object => !object.isDynamic)), configured)
    }
    for (const { spool } of running) await spool[Symbol.asyncDispose]()
    assert.equal(world.book.reservedBytes, 0)
    assert.ok(Math.abs(world.usedBytes - world.storedBytes - world.book.scratchBytes) === 0)
  }
  await fc.assert(fc.asyncProperty(actions, ran), { numRuns: 300 })
})

test('an announced size takes a few MiB of room until more has arrived', async () => {
  const world = new World()
  await world.book.measure()
  await using spool = world.spool(false)
  assert.equal(await spool.charge({ namespace: CONFIGURED, sizeBytes: 40 * MIB }), true)
  assert.ok(world.usedBytes <= 4 * MIB)
  assert.equal(world.book.reservedBytes + world.usedBytes, 40 * MIB)
  await using other = world.spool(false)
  assert.equal(await other.charge({ namespace: CONFIGURED, sizeBytes: 45 * MIB }), true)
  await using third = world.spool(false)
  assert.equal(await third.charge({ namespace: CONFIGURED, sizeBytes: 20 * MIB }), false)
})
