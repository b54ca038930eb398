import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Pins } from '../../src/content/pins.ts'
import { parseRepositoryName } from '../../src/oci/name.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import { parseReference, type Reference } from '../../src/oci/reference.ts'
import type { RecordName } from '../../src/storage/store.ts'
import { damages } from '../support/damages.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { type SeenEvents, seeEvents } from '../support/seen-events.ts'

const repository = parseRepositoryName('library/tools')
assert.ok(repository !== undefined)
const PLACE = { namespace: DOCKER_HUB, repository }
const NAMES = ['1.0', '2.0', `sha256:${'a'.repeat(64)}`]

function referenceOf(text: string): Reference {
  const reference = parseReference(text)
  assert.ok(reference !== undefined)
  return reference
}

interface Rig {
  readonly store: MemoryStore
  readonly seen: SeenEvents
  /** Pins as a process that starts now sees them. */
  readonly open: () => Pins
}

function rig(): Rig {
  const store = new MemoryStore()
  const seen = seeEvents()
  const inspection = { digestsOf: async () => await Promise.resolve(new Set<never>()) }
  const tags = { read: async () => await Promise.resolve(undefined) }
  const parts = { store, tags, inspection, clock: new FakeClock(), events: seen.events }
  return { store, seen, open: () => new Pins(parts) }
}

async function pinAll(pins: Pins): Promise<void> {
  for (const name of NAMES) assert.equal(await pins.add(PLACE, referenceOf(name)), true)
}

async function namesOf(pins: Pins): Promise<readonly string[]> {
  return (await pins.list()).map(({ reference }) =>
    reference.kind === 'tag' ? reference.tag : reference.digest,
  )
}

async function read(store: MemoryStore, name: RecordName): Promise<Uint8Array> {
  const bytes = await store.readRecord(name)
  assert.ok(bytes !== undefined, JSON.stringify(name))
  return bytes
}

async function write(store: MemoryStore, name: RecordName, bytes: Uint8Array): Promise<void> {
  await store.writeRecord(name, bytes, 'durable')
}

async function recordsOf(store: MemoryStore, about: 'pins' | 'pins-copy'): Promise<readonly RecordName[]> {
  return await Array.fromAsync(store.listRecordsOf({ kind: 'decision', about }))
}

test('I32 no flipped bit and no truncation of the record of a pin changes a pin or stops anything', async () => {
  const { store, open } = rig()
  await pinAll(open())
  const [name] = await recordsOf(store, 'pins')
  assert.ok(name !== undefined)
  const sound = await read(store, name)
  const tried = async (damage: (bytes: Uint8Array) => Uint8Array): Promise<void> => {
    await write(store, name, damage(sound))
    const pins = open()
    assert.deepEqual(new Set(await namesOf(pins)), new Set(NAMES))
    assert.equal(await pins.refresh(), true)
    assert.deepEqual(Buffer.from(await read(store, name)), Buffer.from(sound), 'it is whole again')
  }
  await fc.assert(fc.asyncProperty(damages(sound.byteLength), tried), { numRuns: 300 })
})

test('I32 where both copies are damaged, the pin is put aside, and the others and eviction go on', async () => {
  const { store, seen, open } = rig()
  await pinAll(open())
  const [name] = await recordsOf(store, 'pins')
  assert.ok(name?.kind === 'decision')
  const damaged = Buffer.from(await read(store, name))
  damaged[3] = 0
  await write(store, name, damaged)
  await write(store, { ...name, about: 'pins-copy' }, damaged)
  const pins = open()
  assert.equal((await namesOf(pins)).length, NAMES.length - 1)
  assert.equal(await pins.refresh(), true)
  assert.deepEqual(Buffer.from(await read(store, { kind: 'pins-damaged' })), damaged)
  assert.deepEqual(seen.events.damagedRecords, [{ record: 'pins', outcome: 'lost', count: 1 }])
  assert.equal(await pins.add(PLACE, referenceOf('3.0')), true)
  assert.equal((await namesOf(open())).length, NAMES.length)
})

test('processes on one store lose none of the pins of each other, and see them', async () => {
  const { open } = rig()
  const processes = NAMES.map(name => ({ name, pins: open() }))
  await Promise.all(processes.map(async ({ pins }) => await pins.list()))
  await Promise.all(processes.map(async ({ pins, name }) => await pins.add(PLACE, referenceOf(name))))
  for (const { pins } of processes) assert.deepEqual(new Set(await namesOf(pins)), new Set(NAMES))
  const [first, second] = processes
  assert.equal(await first?.pins.remove(PLACE, referenceOf(NAMES[1] ?? '')), true)
  assert.deepEqual(new Set(await namesOf(second?.pins ?? open())), new Set([NAMES[0], NAMES[2]]))
})
