import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { StoreUnusableError } from '../../../src/oci/error.ts'
import type { S3Address } from '../../../src/storage/s3/connection.ts'
import { openS3Store, type S3Store } from '../../../src/storage/s3/store.ts'
import type { S3Fault } from '../../support/s3-fault.ts'
import { type S3Stub, type S3StubOptions, startS3Stub } from '../../support/s3-stub.ts'
import { defined, get, put, sample } from '../contract.ts'
import { addressOf, type SeenS3Events, SHORT, seenS3Events } from './rooms.ts'

interface Opening {
  readonly stub: S3Stub
  readonly events: SeenS3Events
  readonly open: (address?: Partial<S3Address>) => Promise<S3Store>
}

async function prepare(t: TestContext, options: S3StubOptions = {}): Promise<Opening> {
  const stub = await startS3Stub(options)
  t.after(async () => stub[Symbol.asyncDispose]())
  const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-s3-'))
  t.after(async () => rm(spoolDirectory, { recursive: true, force: true }))
  const events = seenS3Events()
  const open: Opening['open'] = async address => {
    const where = { ...addressOf(stub), ...address }
    const store = await openS3Store({ address: where, spoolDirectory, events, limits: SHORT })
    t.after(async () => store[Symbol.asyncDispose]())
    return store
  }
  return { stub, events, open }
}

for (const [conditionalPut, why] of [
  ['supported', undefined],
  ['conflicts', undefined],
  ['unsupported', 'does not support If-None-Match'],
  ['ignored', 'ignores If-None-Match and overwrites'],
  ['two-winners', 'lets several writers create one object at the same moment'],
  ['stores-refused', 'ignores If-None-Match and overwrites'],
] as const) {
  const found = why ?? 'has one winner for each key'
  test(`an S3 whose conditional PUTs are "${conditionalPut}" ${found}, by races that are run once and leave nothing`, async t => {
    const { stub, events, open } = await prepare(t, { conditionalPut })
    const store = await open()
    const [scope] = await Promise.all([store.creationScope(), store.creationScope()])
    const where = `${stub.endpoint}, with the bucket cache,`
    assert.deepEqual(
      scope,
      why === undefined ? { kind: 'store' } : { kind: 'process', why: `${where} ${why}` },
    )
    assert.ok(stub.requests.filter(({ ifNoneMatch }) => ifNoneMatch === '*').length <= 1 + 3 * 8 + 3 * 5 + 5)
    const before = stub.requests.length
    await store.creationScope()
    assert.equal(stub.requests.length, before)
    assert.deepEqual([...stub.objects.keys()], ['mirror/entrepot-probe'])
    assert.deepEqual(events.warnings, [])
  })
}

test('without the right to delete no race is run, and nothing is left', async t => {
  const { stub, open } = await prepare(t)
  stub.fault('DeleteObject', { kind: 'error', status: 403, code: 'AccessDenied' })
  const scope = await (await open()).creationScope()
  assert.ok(scope.kind === 'process' && scope.why.endsWith('without the right s3:DeleteObject'))
  assert.deepEqual([...stub.objects.keys()], ['mirror/entrepot-probe'])
})

test('the races of an S3 that was away at the start are run when they are needed, once', async t => {
  const { stub, open } = await prepare(t)
  stub.fault(() => true, { kind: 'error', status: 503, code: 'ServiceUnavailable' })
  const store = await open()
  await assert.rejects(store.creationScope())
  stub.heal()
  // The breaker may ask for a moment yet.
  while ((await store.creationScope().catch(() => undefined)) === undefined)
    await new Promise(resolve => void setTimeout(resolve, 50))
  const before = stub.requests.length
  assert.deepEqual(await store.creationScope(), { kind: 'store' })
  assert.equal(stub.requests.length, before)
})

test('a bucket that is not there is refused, with what to do', async t => {
  const { open } = await prepare(t)
  await assert.rejects(
    open({ bucket: 'another' }),
    error => error instanceof StoreUnusableError && /has no bucket another: create it/.test(error.message),
  )
})

const REFUSALS: readonly (readonly [string, S3Fault, RegExp])[] = [
  [
    'no right to write',
    { kind: 'error', status: 403, code: 'AccessDenied' },
    /grant s3:GetObject and s3:PutObject/,
  ],
  ['an unknown key', { kind: 'error', status: 403, code: 'InvalidAccessKeyId' }, /check --access-key/],
  ['a wrong secret', { kind: 'error', status: 403, code: 'SignatureDoesNotMatch' }, /--secret-key/],
  ['another region', { kind: 'error', status: 301, code: 'PermanentRedirect' }, /set --region/],
  ['a server that is no S3', { kind: 'error', status: 405, code: 'MethodNotAllowed' }, /check --host/],
]
for (const [name, fault, message] of REFUSALS) {
  test(`a start with ${name} is refused, with what to do`, async t => {
    const { stub, open } = await prepare(t)
    stub.fault('PutObject', fault)
    await assert.rejects(open(), error => error instanceof StoreUnusableError && message.test(error.message))
  })
}

test('a bucket that gives other bytes than were put is refused', async t => {
  const { stub, open } = await prepare(t)
  stub.fault('GetObject', { kind: 'damage', atByte: 3 })
  await assert.rejects(open(), /does not behave as S3 does: S3 gives other bytes than were put/)
})

for (const [name, fault] of [
  ['answers 503', { kind: 'error', status: 503, code: 'ServiceUnavailable' }],
  ['is silent', { kind: 'silence' }],
  ['breaks connections', { kind: 'reset' }],
] as const satisfies readonly (readonly [string, S3Fault])[]) {
  test(`an S3 that ${name} at the start is no reason not to start, and serves when it is well`, async t => {
    const { stub, events, open } = await prepare(t)
    stub.fault(() => true, fault)
    const store = await open()
    assert.ok(events.warnings.some(text => text.startsWith('S3 does not answer: pulls pass through')))
    await assert.rejects(store.probe())
    stub.heal()
    const { bytes, digest } = sample(1_000)
    // The breaker may ask for a moment yet.
    while (
      !(await put(store, digest, bytes).then(
        () => true,
        () => false,
      ))
    ) {
      await new Promise(resolve => void setTimeout(resolve, 50))
    }
    assert.ok(defined(await get(store, digest)).equals(bytes))
  })
}

test('rights that are missing and that one can do without are told, with what to grant', async t => {
  const { stub, events, open } = await prepare(t, { hidesAbsence: true })
  stub.fault('DeleteObject', { kind: 'error', status: 403, code: 'AccessDenied' })
  stub.fault('ListMultipartUploads', { kind: 'error', status: 403, code: 'AccessDenied' })
  const store = await open()
  assert.deepEqual(
    ['s3:ListBucket', 's3:DeleteObject', 's3:ListBucketMultipartUploads'].filter(
      right => !events.warnings.some(text => text.includes(`grant ${right}`)),
    ),
    [],
  )
  // What is hidden is not known to be absent.
  await assert.rejects(store.open(sample(1).digest))
})

test('no text of a secret shows in an error, whatever S3 says of a signature', async t => {
  const { stub, open } = await prepare(t)
  const secret = 'hunter2-secret-access-key'
  stub.fault('PutObject', { kind: 'error', status: 403, code: 'SignatureDoesNotMatch' })
  const error: unknown = await open({
    credentials: { accessKeyId: 'key', secretAccessKey: secret },
  }).catch((reason: unknown) => reason)
  assert.ok(error instanceof StoreUnusableError)
  assert.ok(error.cause instanceof Error)
  assert.deepEqual(Object.keys(error.cause).sort(), ['code', 'isOfS3', 'name', 'region', 'status'])
  assert.equal(
    JSON.stringify([error, error.cause, error.stack, error.cause.stack]).includes('hunter2'),
    false,
  )
})

test('a probe is one small PUT, shared by all who ask within ten seconds, and a failure is forgotten at once', async t => {
  const { stub, open } = await prepare(t)
  const store = await open()
  const before = stub.count('PutObject')
  await Promise.all(Array.from({ length: 20 }, async () => store.probe()))
  await store.probe()
  assert.equal(stub.count('PutObject'), before + 1)
  const another = await open()
  stub.fault('PutObject', { kind: 'error', status: 403, code: 'AccessDenied' }, 1)
  await assert.rejects(another.probe())
  await another.probe()
})
