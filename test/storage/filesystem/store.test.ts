import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import {
  appendFile,
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { promisify } from 'node:util'
import { digestOf } from '../../../src/oci/digest.ts'
import { openFilesystemStore } from '../../../src/storage/filesystem/store.ts'
import { contentKey, recordKey } from '../../../src/storage/layout.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { defined, get, linkRecord, put, readAll, sample, storeContract, tagRecord } from '../contract.ts'
import { contentsOf, filesBelow, makeRoom, openStore, seenEvents } from '../rooms.ts'

storeContract('FilesystemStore', async () => {
  const root = await mkdtemp(join(tmpdir(), 'entrepot-contract-'))
  const events = seenEvents()
  const store = await openFilesystemStore({ root, events })
  return {
    store,
    cleanup: async () => {
      // Whatever a test did, no scratch file is left, and nothing had to be reported.
      const scratch = await filesBelow(join(root, 'spool'))
      await rm(root, { recursive: true })
      assert.deepEqual(
        scratch.filter(path => !path.startsWith('kept/')),
        [],
      )
      assert.deepEqual(events.failures, [])
    },
  }
})

suite('what lies on the disk', { concurrency: true }, () => {
  test('content and records lie exactly at their keys, for this user alone', async t => {
    const root = await makeRoom(t)
    const store = await openStore(t, root)
    const { bytes, digest } = sample(1_000)
    await put(store, digest, bytes)
    await store.writeRecord(tagRecord('1.0'), Buffer.from('tag'), 'durable')
    await store.writeRecord(linkRecord(digest), Buffer.from('link'), 'relaxed')
    const paths = [contentKey(digest), recordKey(tagRecord('1.0')), recordKey(linkRecord(digest))]
    assert.deepEqual(await contentsOf(root), paths.sort())
    assert.ok((await readFile(join(root, contentKey(digest)))).equals(bytes))
    for (const path of paths) {
      assert.equal((await stat(join(root, path))).mode & 0o777, 0o600)
      assert.equal((await stat(dirname(join(root, path)))).mode & 0o777, 0o700)
    }
    await store[Symbol.asyncDispose]()
    assert.deepEqual(await filesBelow(root), paths)
  })

  test('a blob that oci-registry has put there is content', async t => {
    const root = await makeRoom(t)
    const { bytes, digest } = sample(300_000)
    const hex = digest.slice('sha256:'.length)
    await mkdir(join(root, 'blobs', 'sha256', hex.slice(0, 2)), { recursive: true })
    const path = join(root, 'blobs', 'sha256', hex.slice(0, 2), hex.slice(2))
    await writeFile(path, bytes, { mode: 0o644 })
    await mkdir(join(root, 'manifests', 'docker.io', 'library', 'tools'), { recursive: true })
    await writeFile(join(root, 'manifests', 'docker.io', 'library', 'tools', 'latest'), '{}')
    const store = await openStore(t, root)
    assert.ok(defined(await get(store, digest)).equals(bytes))
    assert.equal(await store.delete(digest), true)
    assert.deepEqual(await contentsOf(root), ['manifests/docker.io/library/tools/latest'])
  })

  test('writing into a stored file from outside makes another version of it, also at the same size', async t => {
    const root = await makeRoom(t)
    const store = await openStore(t, root)
    const { bytes, digest } = sample(1_000)
    await put(store, digest, bytes)
    const path = join(root, contentKey(digest))
    const versionNow = async (): Promise<string> => {
      await using object = defined(await store.open(digest))
      return object.version
    }
    const versions = [await versionNow()]
    await appendFile(path, 'x')
    versions.push(await versionNow())
    await truncate(path, 1_000)
    versions.push(await versionNow())
    await chmod(path, 0o640)
    versions.push(await versionNow())
    assert.equal(new Set(versions).size, versions.length)
  })

  test('an object that is cut while it is read throws instead of ending early', async t => {
    const root = await makeRoom(t)
    const store = await openStore(t, root)
    const { bytes, digest } = sample(2_000_000)
    await put(store, digest, bytes)
    await using object = defined(await store.open(digest))
    await truncate(join(root, contentKey(digest)), 1_000_001)
    await assert.rejects(readAll(object), /ends at byte 1000001/)
    assert.equal((await readAll(object, 0, 1_000_001)).length, 1_000_001)
  })

  test('two stores on one root see what the other stores, keeps and deletes', async t => {
    const root = await makeRoom(t)
    const [one, another] = [await openStore(t, root), await openStore(t, root)]
    const { bytes, digest } = sample(10_000)
    await put(one, digest, bytes)
    assert.ok(defined(await get(another, digest)).equals(bytes))
    await using fill = await one.createSpool(sample(16).digest)
    await fill.append(bytes)
    await another.delete(digest)
    assert.equal(await get(one, digest), undefined)
    const spool = await one.createSpool(digest)
    await spool.append(bytes.subarray(0, 5_000))
    spool.keep()
    await spool[Symbol.asyncDispose]()
    await using next = await another.createSpool(digest)
    assert.equal(next.sizeBytes, 5_000)
    await next.append(bytes.subarray(5_000))
    await Promise.all([put(one, digest, bytes), another.adopt(next, digest, bytes.length)])
    assert.ok(defined(await get(one, digest)).equals(bytes))
  })

  test('a root that is emptied by hand is used on', async t => {
    const root = await makeRoom(t)
    const store = await openStore(t, root)
    const { bytes, digest } = sample(10_000)
    await put(store, digest, bytes)
    await store.writeRecord(tagRecord('1'), bytes, 'durable')
    await using held = await store.createSpool(digest)
    await held.append(bytes)
    for (const name of await readdir(root)) await rm(join(root, name), { recursive: true })
    assert.equal(await store.open(digest), undefined)
    await assert.rejects(store.adopt(held, digest, bytes.length), { code: 'ENOENT' })
    assert.equal(await store.open(digest), undefined)
    await store.probe()
    await put(store, digest, bytes)
    await store.writeRecord(tagRecord('1'), bytes, 'durable')
    await store.writeRecord(linkRecord(digest), bytes, 'relaxed')
    assert.ok(defined(await get(store, digest)).equals(bytes))
    const expected = [contentKey(digest), recordKey(tagRecord('1')), recordKey(linkRecord(digest))]
    assert.deepEqual(await contentsOf(root), expected.sort())
  })

  test('content that was there before a failed write is there as before, and the spool is given back', async t => {
    const root = await makeRoom(t)
    const store = await openStore(t, root)
    const { bytes, digest } = sample(1_000)
    await put(store, digest, bytes)
    const before = await stat(join(root, contentKey(digest)))
    const name = linkRecord(digest)
    // Nothing can be written below a link to itself, and it is no obstacle that gives way.
    const loop = join(root, 'repositories')
    await symlink(loop, loop)
    await using spool = await store.createSpool(digest)
    await spool.append(bytes)
    const steps = [
      [{ kind: 'spool', spool, digest, sizeBytes: bytes.length }],
      [{ kind: 'record', name, bytes: new Uint8Array(0) }],
    ] as const
    await assert.rejects(store.writeSteps(steps, 'durable'), { code: 'ELOOP' })
    assert.equal((await stat(join(root, contentKey(digest)))).ino, before.ino)
    assert.ok(defined(await get(store, digest)).equals(bytes))
    // What comes into the spool from now on is not written into the content.
    await spool.append(bytes)
    assert.ok(defined(await get(store, digest)).equals(bytes))
    assert.deepEqual(
      (await filesBelow(join(root, 'spool'))).filter(path => path.includes('temporary')),
      [],
    )
  })

  test('a closed store gives no spool', async t => {
    const root = await makeRoom(t)
    const store = await openStore(t, root)
    await store[Symbol.asyncDispose]()
    await assert.rejects(store.createSpool(sample(16).digest), /closed/)
    assert.deepEqual(await filesBelow(root), [])
  })

  test('the spool of another store is refused', async t => {
    const store = await openStore(t, await makeRoom(t))
    const { bytes, digest } = sample(10)
    await using spool = await new MemoryStore().createSpool(digest)
    await spool.append(bytes)
    await assert.rejects(store.adopt(spool, digest, bytes.length), TypeError)
  })
})

/** What may lie where a file should be: how to put it there, and what the store says of it. */
const OBSTACLES = [
  {
    kind: 'directory',
    put: async (path: string) => {
      await mkdir(join(path, 'deep', 'deeper'), { recursive: true })
      await writeFile(join(path, 'deep', 'file'), 'x')
    },
    says: /is a directory, not a file/,
  },
  {
    kind: 'named pipe',
    put: async (path: string) => execute('mkfifo', path),
    says: /is a named pipe, not a file/,
  },
  { kind: 'link', put: async (path: string) => symlink('/etc/hostname', path), says: /is a symbolic link/ },
  {
    kind: 'dangling link',
    put: async (path: string) => symlink('/nowhere', path),
    says: /is a symbolic link/,
  },
] as const

async function execute(command: string, ...parameters: readonly string[]): Promise<void> {
  await promisify(execFile)(command, parameters)
}

suite('what should be a file and is none', { concurrency: true }, () => {
  for (const { kind, put: putObstacle, says } of OBSTACLES) {
    test(`a ${kind} under a digest is broken and not absent, and quarantine heals it`, async t => {
      const root = await makeRoom(t)
      const store = await openStore(t, root)
      const { bytes, digest } = sample(1_000)
      const path = join(root, contentKey(digest))
      await mkdir(dirname(path), { recursive: true })
      await putObstacle(path)
      await assert.rejects(store.open(digest), says)
      await store.quarantine(digest)
      assert.equal(await store.open(digest), undefined)
      await put(store, digest, bytes)
      assert.ok(defined(await get(store, digest)).equals(bytes))
    })

    test(`a ${kind} under a digest gives way to adopted content, and can be deleted`, async t => {
      const root = await makeRoom(t)
      const store = await openStore(t, root)
      const { bytes, digest } = sample(1_000)
      const path = join(root, contentKey(digest))
      await mkdir(dirname(path), { recursive: true })
      await putObstacle(path)
      await put(store, digest, bytes)
      assert.ok(defined(await get(store, digest)).equals(bytes))
      await rm(path)
      await putObstacle(path)
      assert.equal(await store.delete(digest), true)
      assert.equal(await store.open(digest), undefined)
    })

    test(`a ${kind} under a record's name is broken and not absent, and gives way to a new value`, async t => {
      const root = await makeRoom(t)
      const store = await openStore(t, root)
      const name = tagRecord('latest')
      const path = join(root, recordKey(name))
      await mkdir(dirname(path), { recursive: true })
      await putObstacle(path)
      await assert.rejects(store.readRecord(name), says)
      await store.writeRecord(name, Buffer.from('new'), 'durable')
      assert.equal(Buffer.from(defined(await store.readRecord(name))).toString(), 'new')
      await rm(path)
      await putObstacle(path)
      assert.equal(await store.deleteRecord(name), true)
      assert.equal(await store.readRecord(name), undefined)
    })

    test(`a ${kind} among the leftovers is no leftover, and is removed`, async t => {
      const root = await makeRoom(t)
      const store = await openStore(t, root)
      const { bytes, digest } = sample(1_000)
      const first = await store.createSpool(digest)
      await first.append(bytes)
      first.keep()
      await first[Symbol.asyncDispose]()
      const [leftover = ''] = (await contentsOf(root)).filter(path => path.startsWith('spool/kept/'))
      await rm(join(root, leftover))
      await putObstacle(join(root, leftover))
      await using spool = await store.createSpool(digest)
      assert.equal(spool.sizeBytes, 0)
      await spool[Symbol.asyncDispose]()
      assert.deepEqual(await contentsOf(root), [])
    })
  }

  test('a file where a directory of the store should be is broken and not absent', async t => {
    const root = await makeRoom(t)
    const store = await openStore(t, root)
    const { bytes, digest } = sample(1_000)
    await writeFile(join(root, 'blobs'), 'in the way')
    await writeFile(join(root, 'repositories'), 'in the way')
    await assert.rejects(store.open(digest), { code: 'ENOTDIR' })
    await assert.rejects(store.delete(digest), { code: 'ENOTDIR' })
    await assert.rejects(store.readRecord(tagRecord('1')), { code: 'ENOTDIR' })
    await assert.rejects(store.deleteRecord(tagRecord('1')), { code: 'ENOTDIR' })
    for (const durability of ['durable', 'relaxed'] as const) {
      await assert.rejects(store.writeRecord(tagRecord('1'), bytes, durability), { code: 'ENOTDIR' })
    }
    await using spool = await store.createSpool(digest)
    await spool.append(bytes)
    await assert.rejects(store.adopt(spool, digest, bytes.length), { code: 'ENOTDIR' })
    // What failed has left nothing, and works again once the obstacle is gone.
    assert.equal((await contentsOf(root)).length, 3)
    await rm(join(root, 'blobs'))
    await store.adopt(spool, digest, bytes.length)
    assert.ok(defined(await get(store, digest)).equals(bytes))
  })

  test('a record larger than 64 KiB is broken', async t => {
    const root = await makeRoom(t)
    const store = await openStore(t, root)
    const name = tagRecord('latest')
    await store.writeRecord(name, Buffer.alloc(65_536), 'relaxed')
    await appendFile(join(root, recordKey(name)), 'x')
    await assert.rejects(store.readRecord(name), /broken: 65537 bytes/)
  })

  test('quarantine keeps the damaged bytes, and no more than the sixteen latest', async t => {
    const root = await makeRoom(t)
    const store = await openStore(t, root)
    const damaged = Array.from({ length: 20 }, () => sample(100))
    for (const { bytes, digest } of damaged) {
      await put(store, digest, bytes)
      await store.quarantine(digest)
    }
    const kept = await readdir(join(root, 'quarantine'))
    assert.equal(kept.length, 16)
    const digests = await Promise.all(
      kept.map(async name => digestOf(await readFile(join(root, 'quarantine', name)))),
    )
    // Two renames within one tick of the file system's clock may count as one moment, the last of many not.
    assert.ok(digests.includes(defined(damaged.at(-1)).digest))
    assert.ok(digests.every(digest => damaged.some(sample => sample.digest === digest)))
  })

  test('what cannot be moved into the quarantine is deleted, and that is reported', async t => {
    const root = await makeRoom(t)
    const events = seenEvents()
    const store = await openStore(t, root, events)
    const { bytes, digest } = sample(100)
    await put(store, digest, bytes)
    await writeFile(join(root, 'quarantine'), 'in the way')
    await store.quarantine(digest)
    assert.equal(await store.open(digest), undefined)
    assert.ok(
      events.failures.length > 0 && events.failures.every(({ operation }) => operation === 'quarantine'),
    )
  })
})

suite('the root', { concurrency: true }, () => {
  test('a root that is missing is made, with its parents', async t => {
    const root = join(await makeRoom(t), 'a', 'b', 'c')
    const store = await openStore(t, root)
    const { bytes, digest } = sample(100)
    await put(store, digest, bytes)
    assert.ok(defined(await get(store, digest)).equals(bytes))
    assert.equal((await stat(root)).mode & 0o777, 0o700)
  })

  test('a root that is a file, or lies below one, is refused in words that name it', async t => {
    const file = join(await makeRoom(t), 'file')
    await writeFile(file, '')
    const events = seenEvents()
    await assert.rejects(openFilesystemStore({ root: file, events }), {
      message: `the storage root ${file} is not a directory`,
    })
    const below = join(file, 'root')
    await assert.rejects(openFilesystemStore({ root: below, events }), {
      message: `the storage root ${below} cannot be created`,
    })
  })

  test('a root that can be read and not written serves hits, and is written again once it can be', async t => {
    const root = await makeRoom(t)
    const { bytes, digest } = sample(1_000)
    const first = await openStore(t, root)
    await put(first, digest, bytes)
    await first.writeRecord(tagRecord('1'), Buffer.from('value'), 'durable')
    await first[Symbol.asyncDispose]()
    // Permissions would not stop a test that runs as root; a file where the scratch space should be does.
    await rm(join(root, 'spool'), { recursive: true })
    await writeFile(join(root, 'spool'), 'in the way')
    const events = seenEvents()
    const store = await openStore(t, root, events)
    assert.deepEqual(
      events.failures.map(({ operation }) => operation),
      ['sweep'],
    )
    assert.ok(defined(await get(store, digest)).equals(bytes))
    assert.equal(Buffer.from(defined(await store.readRecord(tagRecord('1')))).toString(), 'value')
    await assert.rejects(store.createSpool(digest))
    await assert.rejects(store.writeRecord(tagRecord('1'), Buffer.from('new'), 'durable'))
    await assert.rejects(store.probe())
    await rm(join(root, 'spool'))
    await store.probe()
    await put(store, digest, bytes)
    await store.writeRecord(tagRecord('1'), Buffer.from('new'), 'durable')
    assert.equal(Buffer.from(defined(await store.readRecord(tagRecord('1')))).toString(), 'new')
  })

  test('a probe that went well speaks for a second, and one that failed for nobody else', async t => {
    const root = await makeRoom(t)
    let nowMs = 0
    const clock = { monotonicMs: () => nowMs }
    const store = await openFilesystemStore({ root, events: seenEvents(), clock })
    t.after(async () => store[Symbol.asyncDispose]())
    await store.probe()
    await rm(join(root, 'spool'), { recursive: true })
    await writeFile(join(root, 'spool'), 'in the way')
    nowMs = 999
    await store.probe()
    nowMs = 1_000
    await assert.rejects(store.probe())
    await rm(join(root, 'spool'))
    await store.probe()
  })
})

test('no file stays open, whether things went well or failed', async t => {
  const root = await makeRoom(t)
  const openFiles = async (): Promise<number> => (await readdir('/proc/self/fd')).length
  const before = await openFiles()
  const store = await openFilesystemStore({ root, events: seenEvents() })
  const { bytes, digest } = sample(700_000)
  const path = join(root, contentKey(digest))
  for (let round = 0; round < 5; round += 1) {
    await put(store, digest, bytes)
    await get(store, digest)
    await using object = defined(await store.open(digest))
    for await (const piece of object.read(0, 700_000)) if (piece.length > 0) break
    await truncate(path, 10)
    await assert.rejects(readAll(object))
    await rm(path)
    await mkdir(path)
    await assert.rejects(store.open(digest))
    await store.quarantine(digest)
    await using spool = await store.createSpool(digest)
    await assert.rejects(store.adopt(spool, digest, 1))
    await store.writeRecord(tagRecord('1'), bytes.subarray(0, 100), 'durable')
    await appendFile(join(root, recordKey(tagRecord('1'))), bytes)
    await assert.rejects(store.readRecord(tagRecord('1')))
    await store.probe()
  }
  await store[Symbol.asyncDispose]()
  assert.equal(await openFiles(), before)
})

test('of two stores on one root exactly one creates each record, and both read its bytes', async t => {
  const root = await makeRoom(t)
  const stores = [await openStore(t, root), await openStore(t, root)] as const
  assert.deepEqual(await stores[0].creationScope(), { kind: 'store' })
  for (let round = 0; round < 20; round += 1) {
    const name = tagRecord(`raced-${round}`)
    const [one, two] = await Promise.all(
      stores.map(async (store, number) => await store.createRecord(name, Buffer.from(`store ${number}`))),
    )
    const [winner, loser] = one?.kind === 'created' ? [0, two] : [1, one]
    assert.ok(loser?.kind === 'exists')
    assert.equal(Buffer.from(loser.bytes).toString(), `store ${winner}`)
  }
  assert.deepEqual(
    (await contentsOf(root)).filter(path => !path.startsWith('repositories/')),
    [],
  )
})

test('an empty record that is written again is young again, so that an old hold does not look forgotten', async t => {
  const root = await makeRoom(t)
  const store = await openStore(t, root)
  const name = tagRecord('held')
  const write = async (): Promise<void> =>
    await store.writeSteps([[{ kind: 'record', name, bytes: new Uint8Array(0) }]], 'ordered')
  await write()
  await utimes(join(root, recordKey(name)), new Date(0), new Date(0))
  assert.ok(defined(await store.readAgedRecord(name)).ageMs > 24 * 3_600_000)
  await write()
  assert.ok(defined(await store.readAgedRecord(name)).ageMs < 3_600_000)
})
