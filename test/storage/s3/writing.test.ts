import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { suite, test } from 'node:test'
import { StoreUnavailableError } from '../../../src/oci/error.ts'
import { contentKey, recordKey } from '../../../src/storage/layout.ts'
import type { S3Fault, S3Operation, S3Request } from '../../support/s3-fault.ts'
import { until } from '../../support/waiting.ts'
import { defined, get, put, readAll, readSpool, sample, tagRecord } from '../contract.ts'
import { clockAhead, limitsFor, openStubRoom, type StubRoom, scratchOf } from './rooms.ts'

const DAY_MS = 24 * 3_600_000
const SIZE = 450_000

const FAULTS: readonly (readonly [string, S3Fault])[] = [
  ['500', { kind: 'error', status: 500, code: 'InternalError' }],
  ['503 SlowDown', { kind: 'error', status: 503, code: 'SlowDown' }],
  ['403', { kind: 'error', status: 403, code: 'AccessDenied' }],
  ['400 ExpiredToken', { kind: 'error', status: 400, code: 'ExpiredToken' }],
  ['a broken connection', { kind: 'reset' }],
  ['a lost answer', { kind: 'lost-answer' }],
  ['silence', { kind: 'silence' }],
]

const STEPS: readonly S3Operation[] = ['CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload']

/** Nothing but what was proved is visible, and once S3 is well and a day has passed, no upload is left. */
async function assertClean(
  { stub, openAnother, spoolDirectory }: StubRoom,
  key: string,
  bytes: Buffer,
): Promise<void> {
  const held = stub.objects.get(key)
  if (held !== undefined) assert.ok(held.bytes.equals(bytes))
  stub.heal()
  const later = await openAnother({ clock: clockAhead(2 * DAY_MS) })
  await later.sweep()
  assert.deepEqual([...stub.uploads.values()], [])
  assert.deepEqual(await scratchOf(spoolDirectory), [])
}

suite('an upload that meets trouble', { concurrency: true }, () => {
  for (const step of STEPS) {
    for (const [name, fault] of FAULTS) {
      test(`${name} to every ${step}: nobody is kept waiting, and nothing unproved is visible`, async t => {
        const room = await openStubRoom(t, { limits: limitsFor(fault) })
        const { store, stub } = room
        const { bytes, digest } = sample(SIZE)
        const key = `mirror/${contentKey(digest)}`
        stub.fault(step, fault)
        {
          await using spool = await store.createSpool(digest)
          for (let start = 0; start < SIZE; start += 50_000)
            await spool.append(bytes.subarray(start, start + 50_000))
          const outcome = await store.adopt(spool, digest, SIZE).then(
            () => 'adopted',
            () => 'refused',
          )
          assert.ok((await readSpool(spool)).equals(bytes))
          // A Complete whose answers are all lost has happened all the same.
          const hasHappened = step === 'CompleteMultipartUpload' && fault.kind === 'lost-answer'
          assert.equal(outcome, hasHappened ? 'adopted' : 'refused')
          assert.equal(stub.objects.has(key), hasHappened)
        }
        await store[Symbol.asyncDispose]()
        await assertClean(room, key, bytes)
      })

      test(`${name} to one ${step} does not show`, async t => {
        const room = await openStubRoom(t, { limits: limitsFor(fault) })
        const { store, stub } = room
        const { bytes, digest } = sample(SIZE)
        stub.fault(step, fault, 1)
        await put(store, digest, bytes)
        assert.ok(defined(await get(store, digest)).equals(bytes))
        await store[Symbol.asyncDispose]()
        await assertClean(room, `mirror/${contentKey(digest)}`, bytes)
      })
    }
  }

  test('an error in the body of a Complete that is 200 is an error', async t => {
    const room = await openStubRoom(t)
    const { store, stub } = room
    const { bytes, digest } = sample(SIZE)
    stub.fault('CompleteMultipartUpload', { kind: 'error-in-200' })
    await assert.rejects(put(store, digest, bytes))
    assert.equal(await get(store, digest), undefined)
    await store[Symbol.asyncDispose]()
    await assertClean(room, `mirror/${contentKey(digest)}`, bytes)
  })

  test('the lost answer to a Complete is found to have been one, and nothing goes up twice', async t => {
    const { store, stub } = await openStubRoom(t)
    const { bytes, digest } = sample(SIZE)
    stub.fault('CompleteMultipartUpload', { kind: 'lost-answer' }, 1)
    await put(store, digest, bytes)
    assert.equal(stub.count('CreateMultipartUpload'), 1)
    assert.equal(stub.count('UploadPart'), 5)
    assert.ok(defined(await get(store, digest)).equals(bytes))
  })

  test('damage on the way up is refused by S3, and goes up again', async t => {
    const { store, stub } = await openStubRoom(t)
    const { bytes, digest } = sample(SIZE)
    stub.fault('UploadPart', { kind: 'error', status: 400, code: 'XAmzContentSHA256Mismatch' }, 1)
    await put(store, digest, bytes)
    assert.ok(defined(await get(store, digest)).equals(bytes))
  })

  test('what is appended never waits for S3, and neither does whoever reads it', async t => {
    const { store, stub } = await openStubRoom(t)
    const { bytes, digest } = sample(5_000_000)
    const { promise: until, resolve } = Promise.withResolvers<void>()
    stub.fault('UploadPart', { kind: 'hold', until })
    await using spool = await store.createSpool(digest)
    for (let start = 0; start < bytes.length; start += 50_000)
      await spool.append(bytes.subarray(start, start + 50_000))
    assert.ok((await readSpool(spool)).equals(bytes))
    // No part has been answered yet, and only so many are in memory as may be.
    assert.equal(stub.count('CompleteMultipartUpload'), 0)
    assert.ok(stub.count('UploadPart') <= 3)
    resolve()
    await store.adopt(spool, digest, bytes.length)
    assert.ok(defined(await get(store, digest)).equals(bytes))
  })

  for (const operation of ['CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload'] as const) {
    test(`I20 what waits for ${operation} is broken off by a cut, nothing becomes visible, and parts are taken back`, async t => {
      const { store, stub } = await openStubRoom(t)
      const { bytes, digest } = sample(SIZE)
      stub.fault(operation, { kind: 'silence' })
      const storing = put(store, digest, bytes)
      await until(() => stub.count(operation) > 0, 'S3 is asked')
      store.remote.cut()
      await assert.rejects(storing, StoreUnavailableError)
      await assert.rejects(store.open(digest), StoreUnavailableError)
      await store[Symbol.asyncDispose]()
      const isVisible = stub.objects.has(`mirror/${contentKey(digest)}`)
      assert.deepEqual([isVisible, stub.uploads.size], [false, 0])
      store.remote.cut()
    })
  }

  test('a cut is over in moments though S3 answers nothing at all, and so is a read that it breaks off', async t => {
    const { store, stub } = await openStubRoom(t)
    const { bytes, digest } = sample(SIZE)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    stub.fault('GetObject', { kind: 'stall', afterBytes: 100_000 })
    const reading = readAll(object, 0, SIZE)
    stub.fault(
      request => request.operation !== 'GetObject' && request.operation !== 'CreateMultipartUpload',
      {
        kind: 'silence',
      },
    )
    const storing = put(store, sample(SIZE + 1).digest, sample(SIZE + 1).bytes)
    await until(() => stub.count('UploadPart') > 5 && stub.count('GetObject') > 1, 'S3 is asked')
    store.remote.cut()
    await Promise.all([
      assert.rejects(storing, StoreUnavailableError),
      assert.rejects(reading, StoreUnavailableError),
    ])
    await store[Symbol.asyncDispose]()
    assert.equal(stub.uploads.size, 1, 'the sweep has it tomorrow')
  })

  test('an abort that fails is reported, and the sweep does it a day later', async t => {
    const room = await openStubRoom(t)
    const { store, stub, events } = room
    const { bytes, digest } = sample(SIZE)
    stub.fault('AbortMultipartUpload', { kind: 'error', status: 403, code: 'AccessDenied' })
    {
      await using spool = await store.createSpool(digest)
      await spool.append(bytes)
      while (stub.count('UploadPart') < 1) await new Promise(resolve => void setImmediate(resolve))
    }
    await store[Symbol.asyncDispose]()
    assert.equal(stub.uploads.size, 1)
    assert.deepEqual(
      events.failures.map(({ operation }) => operation),
      ['abort-upload'],
    )
    await assertClean(room, `mirror/${contentKey(digest)}`, bytes)
  })
})

suite('a process that dies in mid-upload', { concurrency: true }, () => {
  test('shows nothing, and its upload is swept a day later', async t => {
    const room = await openStubRoom(t)
    const { stub, store, spoolDirectory } = room
    const { digest, bytes } = sample(SIZE)
    const program = join(import.meta.dirname, '..', 'processes', 'hold-upload.ts')
    const child = spawn(execPath, [program, stub.endpoint, spoolDirectory, digest], {
      stdio: ['pipe', 'ignore', 'inherit'],
    })
    t.after(() => child.kill('SIGKILL'))
    while (stub.count('UploadPart') < 2) await new Promise(resolve => void setTimeout(resolve, 5))
    child.kill('SIGKILL')
    await once(child, 'exit')
    assert.equal(stub.uploads.size, 1)
    assert.equal(await store.open(digest), undefined)
    await store.sweep()
    assert.equal(stub.uploads.size, 1)
    const later = await room.openAnother({ clock: clockAhead(2 * DAY_MS) })
    await later.sweep()
    assert.equal(stub.uploads.size, 0)
    await using spool = await later.createSpool(digest)
    await spool.clear()
    await spool.append(bytes)
    await later.adopt(spool, digest, bytes.length)
    assert.ok(defined(await get(store, digest)).equals(bytes))
  })
})

suite('what is small and meets trouble', { concurrency: true }, () => {
  for (const [name, fault] of FAULTS) {
    test(`${name} to every PUT is told, and nothing else than what was put is visible`, async t => {
      const { store, stub, spoolDirectory } = await openStubRoom(t, { limits: limitsFor(fault) })
      const { bytes, digest } = sample(5_000)
      stub.fault('PutObject', fault)
      await assert.rejects(put(store, digest, bytes))
      await assert.rejects(store.writeRecord(tagRecord('1'), bytes, 'durable'))
      stub.heal()
      const held = stub.objects.get(`mirror/${contentKey(digest)}`)
      if (held !== undefined) assert.ok(held.bytes.equals(bytes))
      assert.deepEqual(await scratchOf(spoolDirectory), [])
    })

    test(`${name} to one PUT passes where it can pass`, async t => {
      const { store, stub } = await openStubRoom(t, { limits: limitsFor(fault) })
      const { bytes, digest } = sample(5_000)
      // It is asked past the SDK first, and then by the SDK.
      stub.fault('PutObject', fault, 2)
      const passes = fault.kind !== 'error' || fault.status >= 500
      const outcome = await put(store, digest, bytes).then(
        () => true,
        () => false,
      )
      assert.equal(outcome, passes)
      await put(store, digest, bytes)
      assert.ok(defined(await get(store, digest)).equals(bytes))
    })
  }
})

suite('a record that is created in trouble', { concurrency: true }, () => {
  const name = tagRecord('once')
  const key = `mirror/${recordKey(name)}`
  const isCreation = ({ key: asked, ifNoneMatch }: S3Request): boolean => asked === key && ifNoneMatch === '*'

  for (const [what, fault, times] of [
    [
      'one lost answer, after which the SDK asks again and is refused by its own object',
      { kind: 'lost-answer' },
      1,
    ],
    ['lost answers to all attempts', { kind: 'lost-answer' }, 3],
    ['one 500', { kind: 'error', status: 500, code: 'InternalError' }, 1],
    ['one conflict', { kind: 'error', status: 409, code: 'ConditionalRequestConflict' }, 1],
    ['conflicts', { kind: 'error', status: 409, code: 'ConditionalRequestConflict' }, 4],
    ['a 404 because of a deletion', { kind: 'error', status: 404, code: 'NoSuchKey' }, 1],
  ] as const satisfies readonly (readonly [string, S3Fault, number])[]) {
    test(`${what}: its creator learns that it created it, and nobody else does`, async t => {
      const { store, stub, openAnother } = await openStubRoom(t)
      const another = await openAnother()
      await Promise.all([store.creationScope(), another.creationScope()])
      stub.fault(isCreation, fault, times)
      assert.deepEqual(await store.createRecord(name, Buffer.from('same')), { kind: 'created' })
      const later = await another.createRecord(name, Buffer.from('same'))
      assert.deepEqual(later, { kind: 'exists', bytes: Buffer.from('same') })
    })
  }

  test('an answer that is lost because another one won does not look like a success', async t => {
    const { store, stub, openAnother } = await openStubRoom(t)
    const another = await openAnother()
    await Promise.all([store.creationScope(), another.creationScope()])
    await another.createRecord(name, Buffer.from('same'))
    stub.fault(isCreation, { kind: 'lost-answer' }, 3)
    assert.equal((await store.createRecord(name, Buffer.from('same'))).kind, 'exists')
  })

  test('an S3 that refuses to create and shows nothing is told', async t => {
    const { store, stub } = await openStubRoom(t)
    await store.creationScope()
    for (const [status, code] of [
      [500, 'InternalError'],
      [409, 'ConditionalRequestConflict'],
      [403, 'AccessDenied'],
    ] as const) {
      stub.heal()
      stub.fault(isCreation, { kind: 'error', status, code })
      await assert.rejects(store.createRecord(name, Buffer.from('x')), StoreUnavailableError)
    }
    assert.equal(stub.objects.has(key), false)
  })

  test('where conditional PUTs cannot be relied on, the callers of one process still agree', async t => {
    const { store } = await openStubRoom(t, { stub: { conditionalPut: 'ignored' } })
    const all = Array.from({ length: 6 }, async (_, n) => await store.createRecord(name, Buffer.from(`${n}`)))
    const created = (await Promise.all(all)).filter(({ kind }) => kind === 'created')
    assert.equal(created.length, 1)
  })

  test('an age is told by the clock of S3, whatever the time is here', async t => {
    const { store } = await openStubRoom(t, { stub: { aheadMs: -10 * 60_000 }, clock: clockAhead(DAY_MS) })
    await store.writeRecord(name, Buffer.from('x'), 'relaxed')
    const { ageMs } = defined(await store.readAgedRecord(name))
    assert.ok(ageMs < 60_000, `${ageMs} ms`)
  })
})
