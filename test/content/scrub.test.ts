import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { Scrub, type ScrubParts, type ScrubProgress } from '../../src/content/scrub.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { StoreUnavailableError } from '../../src/oci/error.ts'
import type { Store, StoredObject } from '../../src/storage/store.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { seeEvents } from '../support/seen-events.ts'
import { until } from '../support/waiting.ts'

const HOUR_MS = 3_600_000

/** Puts bytes under a digest, right or wrong. */
async function put(store: Store, bytes: Uint8Array, digest: Digest = digestOf(bytes)): Promise<Digest> {
  await using spool = await store.createSpool(digest)
  await spool.append(bytes)
  await store.adopt(spool, digest, bytes.byteLength)
  return digest
}

/** A store of twenty objects, and their digests in order. */
async function filled(): Promise<{ readonly store: MemoryStore; readonly digests: readonly Digest[] }> {
  const store = new MemoryStore()
  const digests: Digest[] = []
  for (let index = 0; index < 20; index += 1) digests.push(await put(store, Buffer.alloc(1000, index)))
  return { store, digests: digests.toSorted() }
}

/** A clock on which nobody waits, but everybody gets a turn. */
function skippingClock(): Clock & { readonly delays: readonly number[] } {
  const clock = FakeClock.skipDelays(Infinity)
  return {
    delays: clock.delays,
    wallMs: () => clock.wallMs(),
    monotonicMs: () => clock.monotonicMs(),
    delay: async (ms, signal) => {
      await clock.delay(ms, signal)
      await setImmediate()
    },
  }
}

function scrubOf(parts: Partial<ScrubParts> & Pick<ScrubParts, 'store'>): Scrub {
  return new Scrub({
    events: seeEvents().events,
    clock: skippingClock(),
    intervalMs: 24 * HOUR_MS,
    bytesPerSecond: 1000,
    isBusy: () => false,
    ...parts,
  })
}

async function last(progress: AsyncIterable<ScrubProgress>): Promise<ScrubProgress | undefined> {
  let latest: ScrubProgress | undefined
  for await (latest of progress);
  return latest
}

async function isStored(store: Store, digest: Digest): Promise<boolean> {
  await using object = await store.open(digest)
  return object !== undefined
}

/** The store, noting what is opened, with some opens put in place of the real ones. */
function watched(
  store: Store,
  opened: Digest[],
  open: (digest: Digest) => Promise<StoredObject | undefined> = async digest => await store.open(digest),
): ScrubParts['store'] {
  return {
    list: () => store.list(),
    open: async digest => {
      opened.push(digest)
      return await open(digest)
    },
    quarantine: async digest => await store.quarantine(digest),
    readRecord: async name => await store.readRecord(name),
    writeRecord: async (name, bytes, durability) => await store.writeRecord(name, bytes, durability),
  }
}

test('verifying counts everything, quarantines exactly what is damaged, and says so once each', async () => {
  const { store, digests } = await filled()
  const flipped = await put(store, Buffer.alloc(1000, 'x'), digests[3])
  const short = await put(store, Buffer.alloc(10, 1), digests[7])
  const seen = seeEvents()
  const progress = await last(scrubOf({ store, events: seen.events }).verify(new AbortController().signal))
  assert.deepEqual(progress, {
    objects: 20,
    bytes: 19_010,
    totalObjects: 20,
    totalBytes: 19_010,
    damaged: 2,
    unreadable: 0,
  })
  for (const digest of digests) {
    assert.equal(await isStored(store, digest), digest !== flipped && digest !== short)
  }
  assert.equal(seen.of('stored object is damaged and was quarantined').length, 2)
})

test('what the store cannot be asked about is neither good nor damaged, and stays', async () => {
  const { store, digests } = await filled()
  const emfile = Object.assign(new Error('too many open files'), { code: 'EMFILE' })
  const failing = watched(store, [], async digest => {
    if (digest === digests[0]) throw new StoreUnavailableError('the bucket does not answer')
    if (digest === digests[1]) throw emfile
    return await store.open(digest)
  })
  const progress = await last(scrubOf({ store: failing }).verify(new AbortController().signal))
  assert.equal(progress?.unreadable, 2)
  assert.equal(progress.damaged, 0)
  assert.ok(await isStored(store, digests[0] as Digest))
})

test('what cannot be opened or read for a reason of its own is damaged', async () => {
  const { store, digests } = await filled()
  const [first, second] = digests as [Digest, Digest]
  const failing = watched(store, [], async digest => {
    if (digest === first) throw new Error(`${digest} is a directory, not a file`)
    const object = await store.open(digest)
    if (digest !== second || object === undefined) return object
    const eio = Object.assign(new Error('input/output error'), { code: 'EIO' })
    return {
      sizeBytes: object.sizeBytes,
      version: object.version,
      read: () => ({ [Symbol.asyncIterator]: () => ({ next: async () => await Promise.reject(eio) }) }),
      [Symbol.asyncDispose]: async () => await object[Symbol.asyncDispose](),
    }
  })
  const progress = await last(scrubOf({ store: failing }).verify(new AbortController().signal))
  assert.equal(progress?.damaged, 2)
  assert.ok(!(await isStored(store, first)))
  assert.ok(!(await isStored(store, second)))
})

test('a verification ends where its signal aborts, without an error', async () => {
  const { store } = await filled()
  const ended = new AbortController()
  let objects = 0
  for await (const progress of scrubOf({ store }).verify(ended.signal)) {
    objects = progress.objects
    if (objects === 5) ended.abort()
  }
  assert.equal(objects, 5)
})

test('a round reads no faster than its rate, and an eighth of it while clients are served', async () => {
  for (const { isBusy, eachMs } of [
    { isBusy: false, eachMs: 1000 },
    { isBusy: true, eachMs: 8000 },
  ]) {
    const { store } = await filled()
    const clock = skippingClock()
    const seen = seeEvents()
    await using scrub = scrubOf({ store, clock, events: seen.events, isBusy: () => isBusy })
    scrub.start()
    await until(() => seen.of('scrub has verified the whole store').length > 0, 'a round is over')
    const waits = clock.delays.filter(delay => delay < 60_000)
    assert.deepEqual(
      waits.slice(0, 20),
      Array.from({ length: 20 }, () => eachMs),
    )
  }
})

test('a round that a restart interrupted goes on behind the last digest that was verified', async () => {
  const { store, digests } = await filled()
  const first: Digest[] = []
  const clock = new FakeClock()
  const scrub = scrubOf({ store: watched(store, first), clock })
  scrub.start()
  clock.advance(HOUR_MS)
  for (let seen = 1; seen <= 8; seen += 1) {
    await until(() => first.length === seen && clock.sleepers === 1, `object ${seen} is being verified`)
    if (seen < 8) clock.advance(2000)
  }
  await scrub[Symbol.asyncDispose]()
  assert.deepEqual(first, digests.slice(0, 8))

  const second: Digest[] = []
  const seen = seeEvents()
  await using again = scrubOf({ store: watched(store, second), events: seen.events })
  again.start()
  await until(() => seen.of('scrub has verified the whole store').length > 0, 'the round is over')
  // The eighth was interrupted, so it is verified once more.
  assert.deepEqual(second.slice(0, 13), digests.slice(7))
})

test('the next round begins an interval after the last one began, or when the clock has been set back before it', async () => {
  for (const { jumpMs, isDue } of [
    { jumpMs: 23 * HOUR_MS, isDue: false },
    { jumpMs: 25 * HOUR_MS, isDue: true },
    { jumpMs: -1000 * HOUR_MS, isDue: true },
  ]) {
    const { store } = await filled()
    const startedAtMs = new FakeClock().wallMs()
    await store.writeRecord({ kind: 'scrub' }, Buffer.from(JSON.stringify({ startedAtMs })), 'relaxed')
    const opened: Digest[] = []
    const clock = new FakeClock()
    clock.jumpWall(jumpMs)
    await using scrub = scrubOf({ store: watched(store, opened), clock })
    scrub.start()
    clock.advance(60_000)
    if (isDue) await until(() => opened.length > 0, 'a round begins')
    else await until(() => clock.delays.length === 2, 'the next look is an hour away')
    assert.equal(opened.length > 0, isDue)
  }
})

test('I32 a damaged note of how far the scrub is begins a round, and is reported', async () => {
  const { store } = await filled()
  await store.writeRecord({ kind: 'scrub' }, Buffer.from('{"startedAtMs":1,"after":"sha256:0'), 'relaxed')
  const clock = new FakeClock()
  const seen = seeEvents()
  await using scrub = scrubOf({ store, clock, events: seen.events })
  scrub.start()
  clock.advance(60_000)
  await until(() => seen.of('a record of this mirror is damaged').length > 0, 'the damage is reported')
  assert.deepEqual(seen.events.damagedRecords, [{ record: 'scrub', outcome: 'forgotten', count: 2 }])
})

test('a scrub without an interval never begins, and a store that cannot be listed is tried again', async () => {
  const { store } = await filled()
  const idle = new FakeClock()
  const never = scrubOf({ store, clock: idle, intervalMs: undefined })
  never.start()
  await setImmediate()
  assert.equal(idle.sleepers, 0)
  await never[Symbol.asyncDispose]()

  const seen = seeEvents()
  let tries = 0
  const failing: ScrubParts['store'] = {
    ...watched(store, []),
    list: () => {
      tries += 1
      if (tries === 1) throw new Error('no such device')
      return store.list()
    },
  }
  await using scrub = scrubOf({ store: failing, events: seen.events })
  scrub.start()
  await until(() => seen.of('scrub has verified the whole store').length > 0, 'the second try succeeds')
  assert.deepEqual(seen.of('storage failed')[0]?.['operation'], 'scrub')
})
