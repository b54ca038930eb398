import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { pathOf, Signatures } from '../../../src/storage/s3/signature.ts'
import { sample, tagRecord } from '../contract.ts'
import { openStubRoom } from './rooms.ts'

const keys = { accessKeyId: 'id', secretAccessKey: 'secret' }
const unsigned = {
  method: 'HEAD',
  host: 's3.example.com',
  path: '/cache/key',
  body: new Uint8Array(0),
  region: 'eu-central-1',
  atMs: Date.parse('2026-12-01T23:59:59.999Z'),
}

suite('a request past the SDK', { concurrency: true }, () => {
  test('is followed by one of the SDK if it fails in any way', async t => {
    const { store, stub } = await openStubRoom(t)
    await store.writeRecord(tagRecord('1'), Buffer.from('x'), 'durable')
    for (const fault of [
      { kind: 'error', status: 403, code: 'AccessDenied' },
      { kind: 'error', status: 503, code: 'SlowDown' },
      { kind: 'reset' },
      { kind: 'lost-answer' },
    ] as const) {
      stub.fault('PutObject', fault, 1)
      stub.fault('HeadObject', fault, 1)
      const count = (): number => stub.count('PutObject') + stub.count('HeadObject')
      const before = count()
      await store.writeRecord(tagRecord('1'), Buffer.from(fault.kind), 'durable')
      assert.deepEqual(await store.hasRecords([tagRecord('1')]), [true])
      assert.equal(count(), before + 4)
      assert.equal(Buffer.from((await store.readRecord(tagRecord('1'))) ?? []).toString(), fault.kind)
    }
  })

  test('is not believed if its 200 says in the body that nothing was put', async t => {
    const { store, stub } = await openStubRoom(t)
    await store.writeRecord(tagRecord('1'), Buffer.from('x'), 'durable')
    stub.fault('PutObject', { kind: 'error-in-200' }, 1)
    await store.writeRecord(tagRecord('1'), Buffer.from('y'), 'durable')
    assert.equal(Buffer.from((await store.readRecord(tagRecord('1'))) ?? []).toString(), 'y')
  })

  test('puts content with its type and its bytes', async t => {
    const { store, stub } = await openStubRoom(t)
    const { bytes, digest } = sample(20_000)
    const before = stub.count('PutObject')
    await store.writeSteps([[{ kind: 'content', digest, bytes }]])
    assert.equal(stub.count('PutObject'), before + 1)
    assert.ok([...stub.objects.values()].some(object => object.bytes.equals(bytes)))
  })

  test('names its time, its region and the token of a session, and has another signature each day', () => {
    const signatures = new Signatures()
    const headers = signatures.sign(unsigned, { ...keys, sessionToken: 'token' })
    assert.equal(headers['x-amz-date'], '20261201T235959Z')
    assert.equal(headers['x-amz-security-token'], 'token')
    const scope = 'Credential=id/20261201/eu-central-1/s3/aws4_request'
    const names = 'SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token'
    assert.ok(headers['authorization']?.startsWith(`AWS4-HMAC-SHA256 ${scope}, ${names}, Signature=`))
    const next = { ...unsigned, atMs: unsigned.atMs + 1 }
    assert.match(signatures.sign(next, keys)['authorization'] ?? '', /Credential=id\/20261202\//)
    assert.deepEqual(signatures.sign(next, keys), new Signatures().sign(next, keys))
    const other = signatures.sign(next, { ...keys, secretAccessKey: 'other' })
    assert.notEqual(other['authorization'], signatures.sign(next, keys)['authorization'])
  })

  test('encodes its key once, and keeps the slashes', () => {
    assert.equal(pathOf('/', "a/b+c (d)!'*=~_-.é"), '/a/b%2Bc%20%28d%29%21%27%2A%3D~_-.%C3%A9')
    assert.equal(pathOf('/bucket', 'a/b'), '/bucket/a/b')
  })
})
