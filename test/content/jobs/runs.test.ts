import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import * as fc from 'fast-check'
import { Runs, type RunsParts } from '../../../src/content/jobs/runs.ts'
import type { Clock } from '../../../src/lib/clock.ts'
import type { Store } from '../../../src/storage/store.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { seeEvents } from '../../support/seen-events.ts'

const HOUR_MS = 3_600_000
const DUE = { job: 'collection', everyMs: 6 * HOUR_MS } as const
const FOREVER = new AbortController().signal

function runsOn(store: Store, clock: Clock, instance: string, leads = true): Runs {
  return new Runs({ store, clock, events: seeEvents().events, instance, leads: () => leads })
}

/** Lets everything run that can run now. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await setImmediate()
}

async function keysOf(store: Store): Promise<readonly number[]> {
  const names = await Array.fromAsync(store.listRecordsOf({ kind: 'run', job: 'collection' }))
  return names.flatMap(name => (name.kind === 'run' ? [name.number] : [])).sort((one, other) => one - other)
}

test('a job runs once in its time, whatever number of processes ask for it', async () => {
  const clock = new FakeClock()
  const store = new MemoryStore(clock)
  const processes = ['a', 'b', 'c'].map(name => runsOn(store, clock, name))
  let done = 0
  const round = async (): Promise<readonly boolean[]> => {
    const outcomes = await Promise.all(
      processes.map(async runs => await runs.take(DUE, async () => void (done += 1), FOREVER)),
    )
    return outcomes.map(({ hasRun }) => hasRun)
  }
  assert.equal((await round()).filter(Boolean).length, 1)
  assert.equal((await round()).filter(Boolean).length, 0)
  clock.advance(DUE.everyMs - 1)
  assert.equal((await round()).filter(Boolean).length, 0)
  clock.advance(1)
  assert.equal((await round()).filter(Boolean).length, 1)
  assert.equal(done, 2)
  assert.partialDeepStrictEqual(await processes[0]?.latest(), [
    { job: 'collection', state: 'ended', ageMs: 0 },
  ])
})

test('an operator gets a turn at any time but while another process has one, and it counts as a run', async () => {
  const clock = new FakeClock()
  const store = new MemoryStore(clock)
  const [one, other] = [runsOn(store, clock, 'a'), runsOn(store, clock, 'b')]
  await one.take(DUE, async () => undefined, FOREVER)
  {
    await using turn = await one.begin('collection', FOREVER)
    assert.ok(turn !== undefined)
    assert.equal(await other.begin('collection', FOREVER), undefined)
    assert.equal((await other.take(DUE, async () => undefined, FOREVER)).hasRun, false)
    turn.ended('ended')
  }
  assert.equal((await other.take(DUE, async () => undefined, FOREVER)).hasRun, false)
  await using again = await other.begin('collection', FOREVER)
  assert.ok(again !== undefined)
})

test('the records of old runs are removed, and numbers go on', async () => {
  const clock = new FakeClock()
  const store = new MemoryStore(clock)
  const runs = runsOn(store, clock, 'a')
  for (let round = 0; round < 12; round += 1) {
    await runs.take(DUE, async () => undefined, FOREVER)
    clock.advance(DUE.everyMs)
  }
  assert.deepEqual(await keysOf(store), [5, 6, 7, 8, 9, 10, 11, 12])
})

test('a run that failed is repeated after an hour, and one that was shut down at once', async () => {
  const clock = new FakeClock()
  const store = new MemoryStore(clock)
  const [one, two] = [runsOn(store, clock, 'a'), runsOn(store, clock, 'b')]
  await assert.rejects(
    one.take(DUE, async () => await Promise.reject(new Error('EIO')), FOREVER),
    /EIO/,
  )
  assert.equal((await two.take(DUE, async () => undefined, FOREVER)).hasRun, false)
  clock.advance(HOUR_MS)
  const stopping = new AbortController()
  const stopped = one.take(DUE, async turn => await clock.delay(HOUR_MS, turn.signal), stopping.signal)
  await settle()
  stopping.abort(new Error('the daemon is shutting down'))
  await assert.rejects(stopped, /shutting down/)
  assert.equal((await two.take(DUE, async () => undefined, FOREVER)).hasRun, true)
})

test('a claim of a number that was used and removed since the look is given up', async () => {
  const clock = new FakeClock()
  const store = new MemoryStore(clock)
  const create = store.createRecord.bind(store)
  let isSlow = true
  store.createRecord = async (name, bytes) => {
    if (isSlow) {
      isSlow = false
      // Another process does ten runs, and removes the records of the first ones.
      const other = runsOn(store, clock, 'b')
      for (let round = 0; round < 10; round += 1) {
        await other.take(DUE, async () => undefined, FOREVER)
        clock.advance(DUE.everyMs)
      }
    }
    return await create(name, bytes)
  }
  let done = 0
  await runsOn(store, clock, 'a').take(DUE, async () => void (done += 1), FOREVER)
  assert.equal(done, 0)
  assert.deepEqual(await keysOf(store), [3, 4, 5, 6, 7, 8, 9, 10])
})

test('where the store cannot choose, only the process that leads does the job', async () => {
  const clock = new FakeClock()
  const store = new MemoryStore(clock)
  store.scope = { kind: 'process', why: 'it ignores conditions' }
  assert.equal(
    (await runsOn(store, clock, 'a', false).take(DUE, async () => undefined, FOREVER)).hasRun,
    false,
  )
  assert.equal((await runsOn(store, clock, 'b').take(DUE, async () => undefined, FOREVER)).hasRun, true)
})

/** A process with a clock of its own: its wall clock is wrong, and while it is stopped nothing of it runs. */
class Replica {
  readonly runs: Runs
  readonly name: string
  isDead = false
  /** Steps of work that it did, by the steady clock of everybody. */
  readonly steps: number[] = []
  readonly #clock: FakeClock
  #thawed: Promise<void> | undefined

  constructor(name: string, clock: FakeClock, store: MemoryStore, skewMs: number) {
    this.name = name
    this.#clock = clock
    const gate = async <T>(action: () => Promise<T>): Promise<T> => {
      await this.#thawed
      if (this.isDead) return await new Promise<T>(() => undefined)
      return await action()
    }
    const own: Clock = {
      wallMs: () => clock.wallMs() + skewMs,
      monotonicMs: () => clock.monotonicMs(),
      delay: async (ms, signal) => {
        await clock.delay(ms, signal)
        await this.#thawed
        if (this.isDead) await new Promise<never>(() => undefined)
      },
    }
    const gated: RunsParts['store'] = {
      createRecord: async (record, bytes) => await gate(async () => await store.createRecord(record, bytes)),
      creationScope: async () => await store.creationScope(),
      deleteRecord: async record => await gate(async () => await store.deleteRecord(record)),
      listRecordsOf: group => store.listRecordsOf(group),
      readAgedRecord: async record => await gate(async () => await store.readAgedRecord(record)),
      readRecord: async record => await gate(async () => await store.readRecord(record)),
      writeRecord: async (record, bytes, durability) =>
        await gate(async () => await store.writeRecord(record, bytes, durability)),
    }
    this.runs = new Runs({
      store: gated,
      clock: own,
      events: seeEvents().events,
      instance: name,
      leads: () => true,
    })
  }

  /** Stops the process until the returned function is called, as SIGSTOP does. */
  freeze(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#thawed = promise
    return () => {
      this.#thawed = undefined
      resolve()
    }
  }

  /** Looks for work again and again. Each run takes ten steps of ten seconds. */
  async work(until: AbortSignal): Promise<void> {
    while (!until.aborted && !this.isDead) {
      const { nextMs } = await this.runs
        .take({ job: 'collection', everyMs: 120_000 }, async turn => await this.#run(turn), until)
        .catch(() => ({ nextMs: 30_000 }))
      await this.#clock.delay(Math.min(nextMs, 60_000) + 1, until).catch(() => undefined)
      await this.#thawed
    }
  }

  async #run(turn: { readonly signal: AbortSignal; requireHeld(): void }): Promise<void> {
    for (let step = 0; step < 10; step += 1) {
      await this.#clock.delay(10_000, turn.signal)
      await this.#thawed
      if (this.isDead) await new Promise<never>(() => undefined)
      turn.requireHeld()
      this.steps.push(this.#clock.monotonicMs())
    }
  }
}

type Blow = {
  readonly atStep: number
  readonly replica: number
  readonly kind: 'kill' | 'freeze'
  readonly steps: number
}

test('with kills, stops and clocks that are minutes wrong, one process acts at a time, and there is always a successor', async () => {
  const blows = fc.array(
    fc.record<Blow>({
      atStep: fc.nat(400),
      replica: fc.nat(2),
      kind: fc.constantFrom('kill', 'freeze'),
      steps: fc.integer({ min: 1, max: 60 }),
    }),
    { maxLength: 8 },
  )
  const skews = fc.array(fc.integer({ min: -600_000, max: 600_000 }), { minLength: 4, maxLength: 4 })
  await fc.assert(
    fc.asyncProperty(blows, skews, async (planned, skewsMs) => {
      const clock = new FakeClock()
      const store = new MemoryStore(clock)
      const over = new AbortController()
      // The last one is never hurt: somebody has to be there to succeed the others.
      const replicas = skewsMs.map((skewMs, number) => new Replica(`r${number}`, clock, store, skewMs))
      const working = replicas.map(async replica => await replica.work(over.signal))
      const thaws: { readonly at: number; readonly thaw: () => void }[] = []
      for (let step = 0; step < 500; step += 1) {
        for (const { atStep, replica: number, kind, steps } of planned) {
          const replica = replicas[number]
          if (atStep !== step || replica === undefined) continue
          if (kind === 'kill') replica.isDead = true
          else thaws.push({ at: step + steps, thaw: replica.freeze() })
        }
        for (const { at, thaw } of thaws) if (at === step) thaw()
        clock.advance(5_000)
        await settle()
      }
      over.abort(new Error('the test is over'))
      for (const { thaw } of thaws) thaw()
      clock.advance(HOUR_MS)
      await settle()
      void working
      const steps = replicas
        .flatMap(({ name, steps: all }) => all.map(atMs => ({ name, atMs })))
        .toSorted((one, other) => one.atMs - other.atMs)
      // A run is ten steps of ten seconds, and nobody else has a step between two of them.
      for (const [index, { name, atMs }] of steps.entries()) {
        const next = steps[index + 1]
        if (next !== undefined && next.name !== name)
          assert.ok(next.atMs - atMs >= 10_000, `${name} at ${atMs}, ${next.name} at ${next.atMs}`)
      }
      // A dead holder is succeeded two minutes after its last beat, and a run comes every two minutes.
      const times = [0, ...steps.map(({ atMs }) => atMs), clock.monotonicMs() - HOUR_MS]
      const longestMs = Math.max(...times.map((atMs, index) => (times[index + 1] ?? atMs) - atMs))
      assert.ok(longestMs < 6 * 60_000, `nothing was done for ${longestMs} ms`)
    }),
    { numRuns: 6 },
  )
})
