import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { suite, type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { type Digest, digestOf } from '../../../src/oci/digest.ts'
import {
  formatOwner,
  identifySelf,
  livenessOf,
  type Owner,
  parseOwner,
} from '../../../src/storage/filesystem/spool-owner.ts'
import { type FilesystemStore, openFilesystemStore } from '../../../src/storage/filesystem/store.ts'
import { digestFileName, leftoverFileName } from '../../../src/storage/layout.ts'
import { defined, get, put, readSpool, sample } from '../contract.ts'
import { contentsOf, filesBelow, makeRoom, openStore, runs, seenEvents } from '../rooms.ts'

const HOUR_MS = 3_600_000

const self = defined(await identifySelf())
const dead: Owner = { ...self, startTime: `${Number(self.startTime) - 1}` }
const elsewhere: Owner = { ...self, pidNamespace: 'pid:[1]' }
const earlier: Owner = { ...self, bootId: randomUUID() }

/**
 * Leaves what a process would that was killed: a partial fill, one that had just begun, and a record
 * half-written.
 */
async function leaveInstance(
  root: string,
  owner: Owner | undefined,
  digest: Digest,
  claimant?: string,
): Promise<string> {
  const directory = join(root, 'spool', randomUUID())
  await mkdir(directory, { recursive: true })
  if (owner !== undefined) await writeFile(join(directory, 'owner'), formatOwner(owner))
  await writeFile(join(directory, `${leftoverFileName(digest, claimant)}.${randomUUID()}`), 'partial')
  await writeFile(join(directory, `${digestFileName(sample(16).digest)}.${randomUUID()}`), '')
  await writeFile(join(directory, `temporary.${randomUUID()}`), 'half a rec')
  return directory
}

async function age(path: string, ageMs: number): Promise<void> {
  const at = new Date(Date.now() - ageMs)
  await utimes(path, at, at)
}

/** What a fill of the digest finds; the spool is given up again. */
async function leftoverOf(store: FilesystemStore, digest: Digest, claimant?: string): Promise<string> {
  await using spool = await store.createSpool(digest, claimant)
  return (await readSpool(spool)).toString()
}

test('a process is alone on a store until another one opens it, and after that one has closed it', async t => {
  const root = await makeRoom(t)
  const store = await openStore(t, root)
  const { digest } = sample(16)
  await using spool = await store.createSpool(digest)
  await spool.append(Buffer.from('partial'))
  assert.equal(await store.isAlone(), true)
  const other = await openStore(t, root)
  assert.equal(await store.isAlone(), false)
  await other[Symbol.asyncDispose]()
  assert.equal(await store.isAlone(), true)
})

suite('leftovers', { concurrency: true }, () => {
  test('a partial fill of a dead process is continued, and what else it left is removed', async t => {
    const root = await makeRoom(t)
    const { digest } = sample(16)
    await leaveInstance(root, dead, digest)
    const events = seenEvents()
    const store = await openStore(t, root, events)
    assert.deepEqual(events.sweeps, [3])
    assert.deepEqual(await contentsOf(root), [`spool/kept/${self.bootId}/${digestFileName(digest)}`])
    assert.equal(await leftoverOf(store, digest), 'partial')
    assert.deepEqual(await contentsOf(root), [])
    assert.deepEqual(events.failures, [])
  })

  test("a claimant's partial fill of a dead process is continued by him, and by nobody else", async t => {
    const root = await makeRoom(t)
    for (const digest of [sample(16).digest, digestOf(Buffer.from('sha512'), 'sha512')]) {
      await leaveInstance(root, dead, digest, 'example.com/a/b')
      const store = await openStore(t, root)
      assert.equal(await leftoverOf(store, digest), '')
      assert.equal(await leftoverOf(store, digest, 'example.com/a/c'), '')
      assert.equal(await leftoverOf(store, digest, 'example.com/a/b'), 'partial')
    }
  })

  for (const [who, owner] of [
    ['another boot', earlier],
    ['another container', elsewhere],
    ['nobody known', undefined],
  ] as const) {
    test(`the spools of ${who} are left alone for an hour, then removed and never continued`, async t => {
      const root = await makeRoom(t)
      const { digest } = sample(16)
      const directory = await leaveInstance(root, owner, digest)
      const judged = owner === undefined ? directory : join(directory, 'owner')
      await age(judged, HOUR_MS - 60_000)
      const first = await openStore(t, root)
      assert.ok((await readdir(directory)).length >= 3)
      assert.equal(await leftoverOf(first, digest), '')
      await age(judged, HOUR_MS + 60_000)
      const second = await openStore(t, root)
      await assert.rejects(stat(directory), { code: 'ENOENT' })
      assert.equal(await leftoverOf(second, digest), '')
      assert.deepEqual(await contentsOf(root), [])
    })
  }

  test('a clock that was set back makes no leftover immortal', async t => {
    const root = await makeRoom(t)
    const { digest } = sample(16)
    const directory = await leaveInstance(root, earlier, digest)
    await age(join(directory, 'owner'), -2 * HOUR_MS)
    await openStore(t, root)
    await assert.rejects(stat(directory), { code: 'ENOENT' })
  })

  test('a leftover waits a day for its next fill, that of an earlier boot is never taken', async t => {
    const root = await makeRoom(t)
    const kept = join(root, 'spool', 'kept', self.bootId)
    const lost = join(root, 'spool', 'kept', earlier.bootId)
    const [fresh, old, foreign] = [sample(16).digest, sample(16).digest, sample(16).digest]
    for (const directory of [kept, lost]) await mkdir(directory, { recursive: true })
    await writeFile(join(kept, digestFileName(fresh)), 'fresh')
    await age(join(kept, digestFileName(fresh)), 23 * HOUR_MS)
    await writeFile(join(kept, digestFileName(old)), 'old')
    await age(join(kept, digestFileName(old)), 25 * HOUR_MS)
    await writeFile(join(lost, digestFileName(foreign)), 'foreign')
    await age(join(lost, digestFileName(foreign)), 2 * HOUR_MS)
    const store = await openStore(t, root)
    assert.deepEqual(await contentsOf(root), [`spool/kept/${self.bootId}/${digestFileName(fresh)}`])
    await assert.rejects(stat(lost), { code: 'ENOENT' })
    assert.equal(await leftoverOf(store, fresh), 'fresh')
    assert.equal(await leftoverOf(store, old), '')
    assert.equal(await leftoverOf(store, foreign), '')
  })

  test('a store that has closed leaves what it kept to the next one', async t => {
    const root = await makeRoom(t)
    const { bytes, digest } = sample(1_000)
    const first = await openStore(t, root)
    const spool = await first.createSpool(digest)
    await spool.append(bytes)
    spool.keep()
    await spool[Symbol.asyncDispose]()
    await first[Symbol.asyncDispose]()
    assert.deepEqual(await filesBelow(root), [`spool/kept/${self.bootId}/${digestFileName(digest)}`])
    const second = await openStore(t, root)
    await using next = await second.createSpool(digest)
    assert.ok((await readSpool(next)).equals(bytes))
    const spools = (await filesBelow(root)).filter(path => path.includes(digestFileName(digest)))
    assert.equal(spools.length, 1, 'the file that is made beside the search for a leftover is gone')
  })

  test('eight stores that open at once share out what the dead left: each leftover has one taker', async t => {
    const root = await makeRoom(t)
    const digests = Array.from({ length: 10 }, () => sample(16).digest)
    for (const digest of digests) await leaveInstance(root, dead, digest)
    const seen = Array.from({ length: 8 }, () => seenEvents())
    const stores = await Promise.all(seen.map(async events => openStore(t, root, events)))
    for (const digest of digests) {
      const spools = await Promise.all(stores.map(async store => store.createSpool(digest)))
      assert.deepEqual(
        spools.map(spool => spool.sizeBytes).filter(size => size > 0),
        [7],
      )
      await Promise.all(spools.map(async spool => spool[Symbol.asyncDispose]()))
    }
    assert.deepEqual(await contentsOf(root), [])
    assert.deepEqual(
      seen.flatMap(events => events.failures),
      [],
    )
  })

  test('a sweep whose time is over leaves the rest to the next one', async t => {
    const root = await makeRoom(t)
    const { digest } = sample(16)
    const directory = await leaveInstance(root, dead, digest)
    let nowMs = 0
    const clock = {
      monotonicMs: () => {
        nowMs += 2_000
        return nowMs
      },
    }
    const hurried = await openFilesystemStore({ root, events: seenEvents(), clock })
    t.after(async () => hurried[Symbol.asyncDispose]())
    assert.equal((await readdir(directory)).length, 4)
    const store = await openStore(t, root)
    await assert.rejects(stat(directory), { code: 'ENOENT' })
    assert.equal(await leftoverOf(store, digest), 'partial')
  })

  test('a sweep that meets something strange goes on with the rest', async t => {
    const root = await makeRoom(t)
    const { digest } = sample(16)
    await mkdir(join(root, 'spool'))
    await writeFile(join(root, 'spool', 'a-file-of-somebody'), 'x')
    const directory = await leaveInstance(root, dead, sample(16).digest)
    await mkdir(join(directory, 'a-directory', 'deep'), { recursive: true })
    await leaveInstance(root, dead, digest)
    const strange = join(root, 'spool', randomUUID())
    await mkdir(join(strange, 'owner'), { recursive: true })
    const events = seenEvents()
    const store = await openStore(t, root, events)
    assert.deepEqual(
      events.failures.map(({ operation }) => operation),
      ['sweep'],
    )
    assert.equal(await leftoverOf(store, digest), 'partial')
    await assert.rejects(stat(directory), { code: 'ENOENT' })
    assert.equal(await readFile(join(root, 'spool', 'a-file-of-somebody'), 'utf8'), 'x')
  })
})

/** Runs a program of `processes/` until it says that it holds its spool. */
async function hold(t: TestContext, root: string, digest: Digest): Promise<ChildProcess> {
  const program = join(import.meta.dirname, '..', 'processes', 'hold-spool.ts')
  const child = spawn(execPath, [program, root, digest], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  const said = await Promise.race([once(defined(child.stdout ?? undefined), 'data'), once(child, 'exit')])
  assert.equal(String(said[0]), 'holding\n')
  return child
}

suite('other processes', { concurrency: true }, () => {
  test('the spool of a living process is left alone, and continued when it was killed', async t => {
    const root = await makeRoom(t)
    const { digest } = sample(16)
    const child = await hold(t, root, digest)
    const held = await contentsOf(root)
    assert.equal(held.length, 1)
    const first = await openStore(t, root)
    assert.deepEqual(await contentsOf(root), held)
    assert.equal(await leftoverOf(first, digest), '')
    assert.deepEqual(await contentsOf(root), held)
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
    const events = seenEvents()
    const second = await openStore(t, root, events)
    assert.deepEqual(events.sweeps, [1])
    assert.equal(await leftoverOf(second, digest), 'partial')
    assert.deepEqual(await contentsOf(root), [])
  })

  test('a full disk fails an append, an adoption and a probe, and none of them for longer than it is full', async t => {
    const root = await makeRoom(t)
    const mounted = [
      '-rm',
      'sh',
      '-c',
      'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" "$3" "$1"',
      'sh',
      root,
    ]
    if (!(await runs('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'tmpfs', root]))) {
      t.skip('this system lets no user mount a file system')
      return
    }
    const program = join(import.meta.dirname, '..', 'processes', 'fill-disk.ts')
    const { stdout } = await promisify(execFile)('unshare', [...mounted, execPath, program])
    assert.equal(stdout, 'done\n')
  })

  test('a root on a read-only file system serves hits, and refuses everything else', async t => {
    const root = await makeRoom(t)
    if (!(await runs('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'tmpfs', root]))) {
      t.skip('this system lets no user mount a file system')
      return
    }
    const bytes = Buffer.from('content')
    const store = await openStore(t, root)
    await put(store, digestOf(bytes), bytes)
    await store[Symbol.asyncDispose]()
    const script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" "$3" "$1" "$4"'
    const program = join(import.meta.dirname, '..', 'processes', 'read-only.ts')
    const parameters = ['-rm', 'sh', '-c', script, 'sh', root, execPath, program, digestOf(bytes)]
    const { stdout } = await promisify(execFile)('unshare', parameters)
    assert.equal(stdout, 'done\n')
  })

  test('an adoption that cannot be made durable shows nothing', async t => {
    const root = await makeRoom(t)
    if (!(await runs('strace', ['-o', '/dev/null', 'true']))) {
      t.skip('this system has no strace that works')
      return
    }
    const program = join(import.meta.dirname, '..', 'processes', 'adopt.ts')
    const adoptWith = async (call: string, fault: string): Promise<string> => {
      const inject = ['-f', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:${fault}`]
      // strace counts calls for each thread, so there is only one that makes them.
      const env = { UV_THREADPOOL_SIZE: '1' }
      const { stdout } = await promisify(execFile)('strace', [...inject, execPath, program, root], { env })
      assert.deepEqual(await filesBelow(root), [])
      return stdout
    }
    for (const call of ['fsync', 'fdatasync', '/^rename']) {
      assert.equal(await adoptWith(call, 'error=EIO'), 'first EIO absent\nsecond EIO absent\n')
    }
    // The directories of the first blob were synced by the round before; what is left is the content's own,
    // which comes last.
    assert.equal(await adoptWith('fsync', 'error=EIO:when=4'), 'first EIO absent\nsecond stored visible\n')
  })
})

suite('owners and sweeps', { concurrency: true }, () => {
  test('an owner is read back as it was written, and half of it is none', () => {
    const text = formatOwner(self)
    assert.deepEqual(parseOwner(text), self)
    for (let length = 0; length < text.length; length += 1) {
      assert.equal(parseOwner(text.slice(0, length)), undefined)
    }
    assert.equal(parseOwner(formatOwner(undefined)), undefined)
  })

  test('a process is living, its predecessor under the same number dead, and one out of sight unknown', async () => {
    assert.equal(await livenessOf(self, self), 'living')
    assert.equal(await livenessOf(dead, self), 'dead')
    assert.equal(await livenessOf({ ...self, pid: '4194305' }, self), 'dead')
    assert.equal(await livenessOf(elsewhere, self), 'unknown')
    assert.equal(await livenessOf(earlier, self), 'unknown')
    assert.equal(await livenessOf(undefined, self), 'unknown')
    assert.equal(await livenessOf(self, undefined), 'unknown')
  })

  test('content that is adopted while a sweep runs is whole', async t => {
    const root = await makeRoom(t)
    const store = await openStore(t, root)
    const samples = Array.from({ length: 20 }, () => sample(10_000))
    await Promise.all([
      ...samples.map(async ({ bytes, digest }) => put(store, digest, bytes)),
      ...samples.map(async () => openStore(t, root)),
    ])
    for (const { bytes, digest } of samples) assert.ok(defined(await get(store, digest)).equals(bytes))
  })
})
