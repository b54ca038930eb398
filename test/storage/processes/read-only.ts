import assert from 'node:assert/strict'
import { argv, stdout } from 'node:process'
import { parseDigest } from '../../../src/oci/digest.ts'
import { openReadOnlyStore } from '../../../src/storage/filesystem/read-only.ts'
import { openFilesystemStore } from '../../../src/storage/filesystem/store.ts'
import { defined, get, tagRecord } from '../contract.ts'

// Runs on a read-only file system below the first argument, which holds the content of the digest in the
// second.
const [, , root = '', text = ''] = argv
const digest = defined(parseDigest(text))
const reported: string[] = []
const store = await openFilesystemStore({
  root,
  mayBeUnwritable: true,
  events: { storageFailed: operation => void reported.push(operation), swept: () => undefined },
})
assert.equal((await get(store, digest))?.toString(), 'content')
assert.equal(await store.readRecord(tagRecord('absent')), undefined)
await assert.rejects(store.createSpool(digest), { code: 'EROFS' })
await assert.rejects(store.writeRecord(tagRecord('1'), Buffer.from('x'), 'relaxed'), { code: 'EROFS' })
await assert.rejects(store.delete(digest), { code: 'EROFS' })
await assert.rejects(store.quarantine(digest), { code: 'EROFS' })
await assert.rejects(store.probe(), { code: 'EROFS' })
assert.equal((await get(store, digest))?.toString(), 'content')
await store[Symbol.asyncDispose]()
assert.deepEqual(reported, ['sweep', 'quarantine'])
await using reader = await openReadOnlyStore(root)
assert.equal((await get(reader, digest))?.toString(), 'content')
await reader.probe()
await reader.writeRecord(tagRecord('1'), Buffer.from('x'), 'relaxed')
await assert.rejects(reader.createSpool(digest), { code: 'DENIED' })
stdout.write('done\n')
