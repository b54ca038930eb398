import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Proofs } from '../../../src/content/proofs.ts'
import { Fills } from '../../../src/mirror/fill/fills.ts'
import type { Spool } from '../../../src/mirror/fill/spool.ts'
import { UpstreamError } from '../../../src/oci/error.ts'
import type { SpoolFile, Store } from '../../../src/storage/store.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { blobBody, FakeRegistry, type RegistryScript } from '../../support/fake-registry.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { type SeenEvents, seeEvents } from '../../support/seen-events.ts'
import {
  type Blob,
  collect,
  collectUntilFailure,
  makeBlob,
  settle,
  sourceOf,
  storeWith,
  strangerOf,
  systemError,
} from '../rig.ts'

const never = new AbortController().signal
const whole = { start: 0, end: Infinity }

interface Rig {
  readonly fills: Fills
  readonly seen: SeenEvents
  readonly store: Store
}

function makeFills(store: Store = new MemoryStore()): Rig {
  const seen = seeEvents()
  const proofs = new Proofs({ store, events: seen.events, isEveryRead: false })
  return {
    fills: new Fills({ store, events: seen.events, clock: FakeClock.skipDelays(), proofs }),
    seen,
    store,
  }
}

/** Enters the fill of a blob, whose upstream answers by the script. */
function enter(
  { fills }: Rig,
  blob: Blob,
  getBlob: NonNullable<RegistryScript['getBlob']>,
): ReturnType<Fills['enter']> & { readonly registry: FakeRegistry } {
  const registry = new FakeRegistry({ getBlob })
  return { ...fills.enter({ source: sourceOf(registry), digest: blob.digest }), registry }
}

async function spoolOf(entered: ReturnType<Fills['enter']>): Promise<Spool> {
  const opening = await entered.fill.opening
  assert.ok(opening.kind === 'open')
  return opening.spool
}

async function storedBytes(store: Store, blob: Blob): Promise<Buffer | undefined> {
  await using object = await store.open(blob.digest)
  return object === undefined ? undefined : await collect(object.read(0, object.sizeBytes))
}

function resultsOf(seen: SeenEvents): readonly unknown[] {
  return [...seen.of('fill finished'), ...seen.of('fill failed')].map(fields => fields['result'])
}

/** A store whose spools fail in one operation after so many calls of it. */
function brokenSpools(store: Store, operation: 'append', callsBefore: number): Store {
  return storeWith(store, {
    createSpool: async digest => {
      const file = await store.createSpool(digest)
      let calls = 0
      return new Proxy(file, {
        get: (target, key) => {
          const value: unknown = Reflect.get(target, key, target)
          if (typeof value !== 'function') return value
          return async (...given: unknown[]) => {
            if (key === operation && (calls += 1) > callsBefore) throw new Error('no space left on device')
            return (await Reflect.apply(value, target, given)) as unknown
          }
        },
      }) satisfies SpoolFile
    },
  })
}

test('a fill stores a blob, once for all who enter while it runs', async () => {
  const rig = makeFills()
  const blob = makeBlob(300_000)
  const { promise: go, resolve: letGo } = Promise.withResolvers<void>()
  const first = enter(rig, blob, () => blobBody(blob.bytes, { gate: go }))
  const second = enter(rig, blob, () => blobBody(blob.bytes))
  assert.deepEqual([first.isNew, second.isNew], [true, false])
  assert.equal(first.fill, second.fill)
  assert.equal(rig.fills.running(first.fill.wanted.source.namespace, blob.digest), first.fill)
  const reads = [first, second].map(
    async entered => await collect((await spoolOf(entered)).read(whole, never)),
  )
  letGo()
  for (const read of await Promise.all(reads)) assert.ok(read.equals(blob.bytes))
  first.leave()
  second.leave()
  await first.fill.over
  assert.equal(first.registry.asked.length + second.registry.asked.length, 1)
  assert.ok((await storedBytes(rig.store, blob))?.equals(blob.bytes))
  assert.equal(rig.fills.running(first.fill.wanted.source.namespace, blob.digest), undefined)
  assert.deepEqual(resultsOf(rig.seen), ['stored'])
})

test('T6 a registry that is not configured has to bring the bytes that are stored already, and they are not stored twice', async () => {
  const memory = new MemoryStore()
  let adoptions = 0
  const store = storeWith(memory, {
    adopt: async (...args) => {
      adoptions += 1
      await memory.adopt(...args)
    },
  })
  const rig = makeFills(store)
  const blob = makeBlob(300_000)
  const first = enter(rig, blob, () => blobBody(blob.bytes))
  first.leave()
  await first.fill.over
  const registry = new FakeRegistry({ getBlob: () => blobBody(blob.bytes) })
  const wanted = { source: strangerOf(registry), digest: blob.digest }
  for (const [isStranger, opening, asked] of [
    [true, 'open', 1],
    [false, 'stored', 1],
  ] as const) {
    const { fill, leave } = rig.fills.enter({ ...wanted, isStranger })
    assert.equal((await fill.opening).kind, opening)
    leave()
    await fill.over
    assert.deepEqual([await fill.proof, registry.asked.length], [isStranger, asked])
  }
  assert.equal(adoptions, 1)
  assert.ok((await storedBytes(store, blob))?.equals(blob.bytes))
})

test('a blob that the upstream does not have is absent, and nothing is stored', async () => {
  const rig = makeFills()
  const blob = makeBlob(10)
  const entered = enter(rig, blob, () => undefined)
  assert.deepEqual(await entered.fill.opening, { kind: 'absent' })
  entered.leave()
  await entered.fill.over
  assert.equal(await storedBytes(rig.store, blob), undefined)
})

test('a fill goes on when everybody has left, and stores the blob', async () => {
  const rig = makeFills()
  const blob = makeBlob(300_000)
  const { promise: go, resolve: letGo } = Promise.withResolvers<void>()
  const entered = enter(rig, blob, () => blobBody(blob.bytes, { gate: go }))
  await spoolOf(entered)
  entered.leave()
  letGo()
  await entered.fill.over
  assert.ok((await storedBytes(rig.store, blob))?.equals(blob.bytes))
})

test('beyond 32 orphans one more is abandoned, and each that ends or is joined makes room again', async () => {
  const rig = makeFills()
  const { promise: go, resolve: letGo } = Promise.withResolvers<void>()
  const start = (): { blob: Blob; entered: ReturnType<typeof enter> } => {
    const blob = makeBlob(100)
    return { blob, entered: enter(rig, blob, (_, __, signal) => blobBody(blob.bytes, { gate: go, signal })) }
  }
  const orphans = Array.from({ length: 32 }, start)
  await Promise.all(orphans.map(async ({ entered }) => await spoolOf(entered)))
  for (const { entered } of orphans) entered.leave()
  const { entered: surplus, blob: surplusBlob } = start()
  await spoolOf(surplus)
  surplus.leave()
  assert.equal(rig.fills.running(surplus.fill.wanted.source.namespace, surplusBlob.digest), undefined)
  const [joined] = orphans
  assert.ok(joined !== undefined)
  const again = enter(rig, joined.blob, () => undefined)
  assert.equal(again.isNew, false)
  const { entered: fits } = start()
  await spoolOf(fits)
  fits.leave()
  letGo()
  await Promise.all(
    [...orphans.map(({ entered }) => entered.fill.over), fits.fill.over, surplus.fill.over].slice(1),
  )
  again.leave()
  await again.fill.over
  assert.equal(resultsOf(rig.seen).filter(result => result === 'stored').length, 33)
  assert.equal(resultsOf(rig.seen).filter(result => result === 'abandoned').length, 1)
})

test('an abandoned fill leaves the map before its readers fail, so that the next request begins afresh', async () => {
  const rig = makeFills()
  const blob = makeBlob(300_000)
  const { promise: go } = Promise.withResolvers<void>()
  const entered = enter(rig, blob, (_, __, signal) => {
    const stuck = new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))
    return blobBody(blob.bytes, { gate: Promise.race([go, stuck]), signal })
  })
  const reading = collectUntilFailure((await spoolOf(entered)).read(whole, never))
  const reason = new Error('abandoned')
  entered.fill.abandon(reason)
  assert.equal(rig.fills.running(entered.fill.wanted.source.namespace, blob.digest), undefined)
  const next = enter(rig, blob, () => blobBody(blob.bytes))
  assert.equal(next.isNew, true)
  assert.equal((await reading).error, reason)
  entered.leave()
  assert.ok((await collect((await spoolOf(next)).read(whole, never))).equals(blob.bytes))
  next.leave()
  await Promise.all([entered.fill.over, next.fill.over])
})

test('what a failed fill has written is gone on with by the next, from its last byte', async () => {
  const rig = makeFills()
  const blob = makeBlob(3_000_000)
  const failing = enter(rig, blob, ({ offset }, attempt) => {
    if (attempt > 0) throw new UpstreamError('refused', 'no more')
    return blobBody(blob.bytes, { offset, cutAfter: 2_000_001 })
  })
  const { error } = await collectUntilFailure((await spoolOf(failing)).read(whole, never))
  assert.ok(error instanceof UpstreamError)
  failing.leave()
  await failing.fill.over
  const next = enter(rig, blob, ({ offset }) => blobBody(blob.bytes, { offset }))
  assert.ok((await collect((await spoolOf(next)).read(whole, never))).equals(blob.bytes))
  next.leave()
  await next.fill.over
  assert.deepEqual(next.registry.asked, ['get-blob 2000001'])
  assert.ok((await storedBytes(rig.store, blob))?.equals(blob.bytes))
})

for (const [what, leftover] of [
  ['other bytes', (blob: Blob) => makeBlob(blob.bytes.length - 10).bytes],
  ['more bytes than the blob has', (blob: Blob) => Buffer.concat([blob.bytes, Buffer.from('more')])],
  ['all of the blob', (blob: Blob) => blob.bytes],
] as const) {
  test(`a leftover of ${what} wedges nothing: the blob is stored by the second fill at the latest`, async () => {
    const rig = makeFills()
    const blob = makeBlob(2_000_000)
    const file = await rig.store.createSpool(blob.digest)
    await file.append(leftover(blob))
    file.keep()
    await file[Symbol.asyncDispose]()
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const entered = enter(rig, blob, ({ offset }) =>
        blobBody(blob.bytes, { offset: offset < blob.bytes.length ? offset : 0 }),
      )
      const reading = entered.fill.opening.then(
        async opening =>
          opening.kind === 'open' && (await collectUntilFailure(opening.spool.read(whole, never))),
        () => undefined,
      )
      const read = await reading
      entered.leave()
      await entered.fill.over
      if (read !== undefined && read !== false && read.error === undefined)
        assert.ok(read.bytes.equals(blob.bytes))
    }
    assert.ok((await storedBytes(rig.store, blob))?.equals(blob.bytes))
  })
}

test('a blob that does not match its digest fails its readers, is not stored, and leaves nothing to go on with', async () => {
  const rig = makeFills()
  const blob = makeBlob(2_000_000)
  const entered = enter(rig, blob, () => blobBody(makeBlob(2_000_000).bytes))
  const { bytes, error } = await collectUntilFailure((await spoolOf(entered)).read(whole, never))
  assert.ok(error instanceof UpstreamError && error.kind === 'mismatch')
  assert.ok(bytes.length < 2_000_000)
  entered.leave()
  await entered.fill.over
  assert.equal(await storedBytes(rig.store, blob), undefined)
  assert.deepEqual(resultsOf(rig.seen), ['mismatch'])
  const next = enter(rig, blob, ({ offset }) => blobBody(blob.bytes, { offset }))
  assert.ok((await collect((await spoolOf(next)).read(whole, never))).equals(blob.bytes))
  assert.deepEqual(next.registry.asked, ['get-blob 0'])
  next.leave()
  await next.fill.over
})

test('an upstream that calls a blob empty fails the opening, before anybody has headers', async () => {
  const rig = makeFills()
  const entered = enter(rig, makeBlob(10), () => blobBody(Buffer.alloc(0)))
  await assert.rejects(entered.fill.opening, { kind: 'mismatch' })
  entered.leave()
  await entered.fill.over
})

test("the upstream's trouble at the opening is told to all who wait, and the next request asks again", async () => {
  const rig = makeFills()
  const blob = makeBlob(10)
  const first = enter(rig, blob, () => {
    throw new UpstreamError('connect', 'down')
  })
  const second = enter(rig, blob, () => undefined)
  await assert.rejects(first.fill.opening, { kind: 'connect' })
  await assert.rejects(second.fill.opening, { kind: 'connect' })
  first.leave()
  second.leave()
  await first.fill.over
  assert.equal(enter(rig, blob, () => undefined).isNew, true)
})

test('a store without room for a spool is told of, and the clients go elsewhere', async () => {
  const store = storeWith(new MemoryStore(), {
    createSpool: async () => await Promise.reject(new Error('no space left on device')),
  })
  const rig = makeFills(store)
  const entered = enter(rig, makeBlob(10), () => undefined)
  assert.deepEqual(await entered.fill.opening, { kind: 'unspoolable' })
  entered.leave()
  await entered.fill.over
  assert.deepEqual(
    rig.seen.of('storage failed').map(fields => fields['operation']),
    ['create-spool'],
  )
})

test('a spool that cannot be written any more still gives every reader its right bytes, from wherever it reads', async () => {
  const rig = makeFills(brokenSpools(new MemoryStore(), 'append', 20))
  const blob = makeBlob(2_000_000)
  const entered = enter(rig, blob, ({ offset }) => blobBody(blob.bytes, { offset }))
  const spool = await spoolOf(entered)
  const starts = [0, 1, 300_000, 600_000, 700_000, 1_500_000, 1_999_999]
  const reads = starts.map(async start => await collect(spool.read({ start, end: blob.bytes.length }, never)))
  for (const [index, read] of (await Promise.all(reads)).entries()) {
    assert.ok(read.equals(blob.bytes.subarray(starts[index] ?? 0)), `from ${starts[index]}`)
  }
  entered.leave()
  await entered.fill.over
  assert.deepEqual(resultsOf(rig.seen), ['not-stored'])
  assert.equal(await storedBytes(rig.store, blob), undefined)
})

test('after a spool that cannot be written, wrong bytes of the upstream still complete no reader', async () => {
  const rig = makeFills(brokenSpools(new MemoryStore(), 'append', 5))
  const blob = { ...makeBlob(500_000), digest: makeBlob(1).digest }
  const entered = enter(rig, blob, ({ offset }) => blobBody(blob.bytes, { offset }))
  const { bytes, error } = await collectUntilFailure((await spoolOf(entered)).read(whole, never))
  assert.ok(error instanceof UpstreamError && error.kind === 'mismatch')
  assert.ok(bytes.length <= 500_000 - 64 * 1024)
  entered.leave()
  await entered.fill.over
})

test('a store that does not adopt the spool does not keep the readers from it', async () => {
  const store = storeWith(new MemoryStore(), { adopt: async () => await Promise.reject(new Error('EIO')) })
  const rig = makeFills(store)
  const blob = makeBlob(200_000)
  const entered = enter(rig, blob, () => blobBody(blob.bytes))
  const spool = await spoolOf(entered)
  await settle()
  assert.ok((await collect(spool.read(whole, never))).equals(blob.bytes))
  entered.leave()
  await entered.fill.over
  assert.deepEqual(resultsOf(rig.seen), ['not-stored'])
})

test('a reader that is still reading when the blob is stored keeps the spool open until it leaves', async () => {
  const rig = makeFills()
  const blob = makeBlob(5_000_000)
  const entered = enter(rig, blob, () => blobBody(blob.bytes))
  const pieces = (await spoolOf(entered)).read(whole, never)
  const first = await pieces.next()
  await settle(200)
  assert.deepEqual(resultsOf(rig.seen), ['stored'])
  const rest = await collect(pieces)
  assert.equal((first.value as Uint8Array).length + rest.length, blob.bytes.length)
  entered.leave()
  await entered.fill.over
})

test('disposing abandons what runs and resolves when every file is closed', async () => {
  const rig = makeFills()
  const blob = makeBlob(300_000)
  const entered = enter(rig, blob, (_, __, signal) => {
    const stuck = new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))
    return blobBody(blob.bytes, { gate: stuck, signal })
  })
  await spoolOf(entered)
  entered.leave()
  await rig.fills[Symbol.asyncDispose]()
  assert.deepEqual(resultsOf(rig.seen), ['abandoned'])
})

test('who looked for a blob just before its fill ended does not fetch it a second time', async () => {
  const blob = makeBlob(300_000)
  const rig = makeFills()
  const first = enter(rig, blob, () => blobBody(blob.bytes))
  const spool = await spoolOf(first)
  assert.ok((await collect(spool.read(whole, never))).equals(blob.bytes))
  first.leave()
  await first.fill.over
  const second = enter(rig, blob, () => blobBody(blob.bytes))
  assert.deepEqual(await second.fill.opening, { kind: 'stored' })
  second.leave()
  assert.deepEqual(second.registry.asked, [])
})

test('a leftover that is the whole blob is stored without a byte from the upstream', async () => {
  const blob = makeBlob(2_000_000)
  const rig = makeFills()
  await using spoolFile = await rig.store.createSpool(blob.digest)
  await spoolFile.append(blob.bytes)
  spoolFile.keep()
  await spoolFile[Symbol.asyncDispose]()
  const entered = enter(rig, blob, () => {
    throw new UpstreamError('status', 'nothing there', { status: 416 })
  })
  const spool = await spoolOf(entered)
  assert.ok((await collect(spool.read(whole, never))).equals(blob.bytes))
  entered.leave()
  await entered.fill.over
  assert.deepEqual(entered.registry.asked, ['get-blob 2000000'])
  assert.ok((await rig.store.open(blob.digest)) !== undefined)
})

test('the headers do not wait for a large leftover to be hashed again', async () => {
  const blob = makeBlob(3_000_000)
  const memory = new MemoryStore()
  const { promise: readable, resolve: letRead } = Promise.withResolvers<void>()
  await using before = await memory.createSpool(blob.digest)
  await before.append(blob.bytes.subarray(0, 2_000_000))
  before.keep()
  await before[Symbol.asyncDispose]()
  const store = storeWith(memory, {
    createSpool: async digest => {
      const file = await memory.createSpool(digest)
      const read = file.read.bind(file)
      file.read = async (buffer, position) => {
        await readable
        return await read(buffer, position)
      }
      return file
    },
  })
  const rig = makeFills(store)
  const entered = enter(rig, blob, ({ offset }) => blobBody(blob.bytes, { offset }))
  const spool = await spoolOf(entered)
  assert.equal(spool.sizeBytes, 3_000_000)
  letRead()
  assert.ok((await collect(spool.read(whole, never))).equals(blob.bytes))
  entered.leave()
  await entered.fill.over
  assert.deepEqual(entered.registry.asked, ['get-blob 2000000'])
})

test('a leftover that cannot be read is not met a second time, and no reader completes on it', async () => {
  const blob = makeBlob(3_000_000)
  const memory = new MemoryStore()
  await using before = await memory.createSpool(blob.digest)
  await before.append(blob.bytes.subarray(0, 2_000_000))
  before.keep()
  await before[Symbol.asyncDispose]()
  const store = storeWith(memory, {
    createSpool: async digest => {
      const file = await memory.createSpool(digest)
      file.read = async () => await Promise.reject(systemError('EIO'))
      return file
    },
  })
  const rig = makeFills(store)
  const entered = enter(rig, blob, ({ offset }) => blobBody(blob.bytes, { offset }))
  const spool = await spoolOf(entered)
  assert.ok((await collect(spool.read(whole, never))).equals(blob.bytes))
  entered.leave()
  await entered.fill.over
  assert.equal((await memory.createSpool(blob.digest)).sizeBytes, 0)
})

test('a file that cannot even be emptied sends the clients elsewhere', async () => {
  const blob = makeBlob(3_000_000)
  const memory = new MemoryStore()
  await using before = await memory.createSpool(blob.digest)
  await before.append(blob.bytes.subarray(0, 2_000_000))
  before.keep()
  await before[Symbol.asyncDispose]()
  const store = storeWith(memory, {
    createSpool: async digest => {
      const file = await memory.createSpool(digest)
      file.clear = async () => await Promise.reject(systemError('EIO'))
      return file
    },
  })
  const entered = enter(makeFills(store), blob, () => blobBody(blob.bytes))
  assert.deepEqual(await entered.fill.opening, { kind: 'unspoolable' })
  entered.leave()
  await entered.fill.over
})

test('a fill that waits for another replica to store its blob ends when the mirror does, and stores nothing', async () => {
  const rig = makeFills()
  const blob = makeBlob(300_000)
  const { promise: asked, resolve: ask } = Promise.withResolvers<void>()
  const isKept = async (until: AbortSignal): Promise<boolean> => {
    ask()
    const { promise, resolve } = Promise.withResolvers<boolean>()
    until.addEventListener('abort', () => resolve(false), { once: true })
    return await promise
  }
  const entered = enter(rig, blob, () => ({ ...blobBody(blob.bytes), isKept }))
  const read = await collect((await spoolOf(entered)).read(whole, never))
  assert.ok(read.equals(blob.bytes))
  entered.leave()
  await asked
  await rig.fills[Symbol.asyncDispose]()
  assert.equal(await storedBytes(rig.store, blob), undefined)
})
