import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { S3Address } from '../../src/storage/s3/connection.ts'
import { openS3Store, type S3Store } from '../../src/storage/s3/store.ts'
import { tagRecord } from '../storage/contract.ts'
import { seenS3Events } from '../storage/s3/rooms.ts'
import { makeBucket } from './rig/bucket.ts'
import { againstServers } from './servers.ts'

/** Stores of several processes, as far as the bucket can tell. */
async function openStores(t: TestContext, address: S3Address, count: number): Promise<readonly S3Store[]> {
  const spoolDirectory = await mkdtemp(join(tmpdir(), 'entrepot-creation-'))
  t.after(async () => rm(spoolDirectory, { recursive: true, force: true }))
  const stores: S3Store[] = []
  for (let number = 0; number < count; number += 1) {
    const store = await openS3Store({ address, spoolDirectory, events: seenS3Events() })
    t.after(async () => store[Symbol.asyncDispose]())
    stores.push(store)
  }
  return stores
}

againstServers(
  'creation',
  server => {
    test('races find that a conditional PUT has one winner, and four stores never create a record twice', async t => {
      const stores = await openStores(t, await makeBucket(server()), 4)
      for (const store of stores) assert.deepEqual(await store.creationScope(), { kind: 'store' })
      for (let round = 0; round < 30; round += 1) {
        const name = tagRecord(`raced-${round}`)
        const creations = await Promise.all(
          stores.map(async (store, number) => await store.createRecord(name, Buffer.from(`${number}`))),
        )
        const winner = creations.findIndex(({ kind }) => kind === 'created')
        const seen = creations.flatMap(each => (each.kind === 'exists' ? [each.bytes.toString()] : []))
        assert.deepEqual(seen, Array<string>(3).fill(String(winner)))
      }
    })
  },
  ['radosgw'],
)

againstServers(
  'creation',
  server => {
    test('races find that conditional PUTs are ignored', async t => {
      const [store] = await openStores(t, await makeBucket(server()), 1)
      const scope = await store?.creationScope()
      assert.ok(scope?.kind === 'process')
      assert.match(scope.why, /ignores If-None-Match and overwrites$|does not support If-None-Match$/)
    })
  },
  ['Swift'],
)
