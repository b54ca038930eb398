import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { systemClock } from '../../../src/lib/clock.ts'
import { StoreUnavailableError } from '../../../src/oci/error.ts'
import { contentKey } from '../../../src/storage/layout.ts'
import type { S3Fault } from '../../support/s3-fault.ts'
import { defined, get, put, readAll, sample, tagRecord } from '../contract.ts'
import { limitsFor, openStubRoom, SHORT } from './rooms.ts'

const SIZE = 1_300_000

/** What passes when S3 is asked again. */
const PASSING: readonly (readonly [string, S3Fault])[] = [
  ['500 InternalError', { kind: 'error', status: 500, code: 'InternalError' }],
  ['503 SlowDown', { kind: 'error', status: 503, code: 'SlowDown' }],
  ['a connection that breaks', { kind: 'reset' }],
  ['an answer that is lost', { kind: 'lost-answer' }],
  ['no headers', { kind: 'silence' }],
]

/** What is wrong with a body. */
const BROKEN_BODIES: readonly (readonly [string, S3Fault])[] = [
  ['a stall before the first byte', { kind: 'stall', afterBytes: 0 }],
  ['a stall after a byte', { kind: 'stall', afterBytes: 1 }],
  ['a stall in the middle', { kind: 'stall', afterBytes: 300_000 }],
  ['a cut before the first byte', { kind: 'cut', afterBytes: 0 }],
  ['a cut in the middle', { kind: 'cut', afterBytes: 500_001 }],
  ['an end that comes too early', { kind: 'short', bytes: 70_000 }],
]

suite('a read', { concurrency: true }, () => {
  for (const [name, fault] of PASSING) {
    test(`goes on after ${name}, and the client sees every byte`, async t => {
      const { store, stub } = await openStubRoom(t, { limits: limitsFor(fault) })
      const { bytes, digest } = sample(SIZE)
      await put(store, digest, bytes)
      stub.fault('GetObject', fault, 1)
      await using object = defined(await store.open(digest))
      stub.fault('GetObject', fault, 1)
      assert.ok((await readAll(object)).equals(bytes))
    })
  }

  for (const [name, fault] of BROKEN_BODIES) {
    test(`goes on by Range after ${name}, and the client sees every byte`, async t => {
      const { store, stub } = await openStubRoom(t, { limits: limitsFor(fault) })
      const { bytes, digest } = sample(SIZE)
      await put(store, digest, bytes)
      await using object = defined(await store.open(digest))
      const before = stub.requests.length
      stub.fault('GetObject', fault, 2)
      assert.ok((await readAll(object)).equals(bytes))
      const resumed = stub.requests.slice(before)
      assert.ok(resumed.length > 1)
      for (const { ifMatch, range } of resumed) {
        assert.equal(`${ifMatch}-${SIZE}`, object.version)
        assert.match(range ?? '', /^bytes=[0-9]+-1299999$/)
      }
    })

    test(`of what is small survives ${name} as well`, async t => {
      const { store, stub } = await openStubRoom(t, { limits: limitsFor(fault) })
      const { bytes, digest } = sample(60_000)
      await put(store, digest, bytes)
      const isWithin = 'afterBytes' in fault && fault.afterBytes < bytes.length
      stub.fault('GetObject', isWithin ? fault : { kind: 'cut', afterBytes: 59_999 }, 1)
      assert.ok(defined(await get(store, digest)).equals(bytes))
    })
  }

  test('holds no memory of pieces that its reader is done with', async t => {
    const { store } = await openStubRoom(t)
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    const pieces: Uint8Array[] = []
    for await (const piece of object.read(0, SIZE)) pieces.push(piece)
    const heldBytes = pieces.reduce((sum, { byteLength }) => sum + byteLength, 0)
    // The beginning came with the opening, and is read as often as it is asked for.
    assert.ok(heldBytes < 200_000, `${heldBytes} bytes`)
    assert.ok((await readAll(object)).equals(bytes))
  })

  test('that stalls for good ends with an error, which does not blame the content', async t => {
    const { store, stub } = await openStubRoom(t, { limits: SHORT })
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    stub.fault('GetObject', { kind: 'stall', afterBytes: 0 })
    await assert.rejects(readAll(object), StoreUnavailableError)
    stub.heal()
    assert.ok((await readAll(object)).equals(bytes))
  })

  test('of an object that ends where it should not, again and again, blames the object', async t => {
    const { store, stub } = await openStubRoom(t)
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    stub.fault('GetObject', { kind: 'short', bytes: 0 })
    await assert.rejects(readAll(object), error => !(error instanceof StoreUnavailableError))
  })

  test('of an object that was replaced by another ends, and gives none of the new bytes', async t => {
    const { store, stub } = await openStubRoom(t)
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    stub.put(`mirror/${contentKey(digest)}`, Buffer.alloc(SIZE))
    await assert.rejects(readAll(object), StoreUnavailableError)
  })

  test('from a server that answers for another version ends', async t => {
    const { store, stub } = await openStubRoom(t)
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    stub.fault('GetObject', { kind: 'etag' })
    await assert.rejects(readAll(object), StoreUnavailableError)
  })

  test('that ended in any way leaves no request and no connection behind', async t => {
    const { store, stub } = await openStubRoom(t, { limits: SHORT })
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    stub.fault('GetObject', { kind: 'stall', afterBytes: 10 }, 30)
    await Promise.allSettled(Array.from({ length: 30 }, async () => readAll(object)))
    stub.heal()
    const reads = await Promise.all(Array.from({ length: 30 }, async () => readAll(object)))
    assert.ok(reads.every(read => read.equals(bytes)))
    await store[Symbol.asyncDispose]()
    while (stub.connections > 0 || stub.running > 0) await new Promise(resolve => void setImmediate(resolve))
  })
})

suite('what S3 does not say', { concurrency: true }, () => {
  const TROUBLES: readonly (readonly [string, S3Fault])[] = [
    ...PASSING,
    ['403 AccessDenied', { kind: 'error', status: 403, code: 'AccessDenied' }],
    ['404 NoSuchBucket', { kind: 'error', status: 404, code: 'NoSuchBucket' }],
    ['400 ExpiredToken', { kind: 'error', status: 400, code: 'ExpiredToken' }],
  ]
  for (const [name, fault] of TROUBLES) {
    test(`is not "absent": ${name} is an error`, async t => {
      const { store, stub } = await openStubRoom(t, { limits: limitsFor(fault) })
      stub.fault('GetObject', fault)
      stub.fault('HeadObject', fault)
      await assert.rejects(store.open(sample(16).digest), StoreUnavailableError)
      await assert.rejects(store.readRecord(tagRecord('1')), StoreUnavailableError)
      await assert.rejects(store.delete(sample(16).digest), StoreUnavailableError)
    })
  }

  test('is not waited for again by everybody: a dead S3 is left alone, and asked again later', async t => {
    let nowMs = 0
    const clock = { ...systemClock, monotonicMs: () => nowMs + performance.now() }
    const { store, stub, events } = await openStubRoom(t, { clock, limits: SHORT })
    const { bytes, digest } = sample(16)
    await put(store, digest, bytes)
    stub.fault(() => true, { kind: 'silence' })
    await assert.rejects(store.open(digest), StoreUnavailableError)
    const asked = stub.requests.length
    for (let round = 0; round < 50; round += 1) {
      await assert.rejects(store.open(digest), /left alone/)
      await assert.rejects(store.writeRecord(tagRecord('1'), bytes, 'relaxed'), /left alone/)
    }
    assert.equal(stub.requests.length, asked)
    stub.heal()
    nowMs += 2_100
    assert.ok(defined(await get(store, digest)).equals(bytes))
    assert.deepEqual(events.warnings, ['S3 does not answer; it is left alone for now', 'S3 answers again'])
  })

  test('is absent after all if it forgets what was put', async t => {
    const { store, stub } = await openStubRoom(t)
    const { bytes, digest } = sample(16)
    await put(store, digest, bytes)
    stub.fault('GetObject', { kind: 'error', status: 404, code: 'NoSuchKey' }, 1)
    assert.equal(await store.open(digest), undefined)
    assert.ok(defined(await get(store, digest)).equals(bytes))
  })

  test('of a record only in order to know that it is there brings no body', async t => {
    const { store, stub } = await openStubRoom(t)
    await store.writeRecord(tagRecord('1'), Buffer.from('x'), 'durable')
    const before = stub.requests.length
    assert.deepEqual(await store.hasRecords([tagRecord('1'), tagRecord('2')]), [true, false])
    const operations = stub.requests.slice(before).map(({ operation }) => operation)
    assert.deepEqual(operations, ['HeadObject', 'HeadObject'])
  })

  test('of a record only in order to know that it is there does not believe the 404 of a proxy', async t => {
    const { store, stub } = await openStubRoom(t)
    await store.writeRecord(tagRecord('1'), Buffer.from('x'), 'durable')
    stub.fault('HeadObject', { kind: 'foreign', status: 404 })
    assert.deepEqual(await store.hasRecords([tagRecord('1'), tagRecord('2')]), [true, false])
  })

  test('is refused as a record if it is larger than any, and its body is not read', async t => {
    const { store, stub } = await openStubRoom(t)
    await store.writeRecord(tagRecord('1'), Buffer.from('x'), 'durable')
    const [key = ''] = [...stub.objects.keys()].filter(name => name.includes('_tags'))
    stub.put(key, Buffer.alloc(64 * 1024 + 1))
    await assert.rejects(store.readRecord(tagRecord('1')), /is broken: 65537 bytes/)
  })
})
