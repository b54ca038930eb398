import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openFileSender } from '../../src/http/file-sender.ts'

const MEBIBYTE = 1024 * 1024

/** A file that is on the disk and not in memory. */
async function coldFile(t: TestContext): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-sender-'))
  const path = join(directory, 'file')
  await writeFile(path, Buffer.alloc(4 * MEBIBYTE, 1), { flush: true })
  // dd drops the pages of a file that it was told to leave out of memory.
  execFileSync('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc', 'count=0', 'status=none'])
  const fd = openSync(path, 'r')
  t.after(async () => {
    closeSync(fd)
    await rm(directory, { recursive: true })
  })
  return fd
}

for (const hasCachestat of [true, false]) {
  test(`a part of a file is in memory once it was read, by ${hasCachestat ? 'cachestat' : 'mincore'}`, async t => {
    const sender = await openFileSender({ hasCachestat })
    assert.ok(sender !== undefined)
    const fd = await coldFile(t)
    const isCold = !sender.isInMemory({ fd, offset: 0, length: 4 * MEBIBYTE })
    if (!isCold) {
      t.skip('the file system of temporary files keeps them in memory')
      return
    }
    assert.equal(sender.isInMemory({ fd, offset: MEBIBYTE, length: 1 }), false)
    readSync(fd, Buffer.alloc(10), 0, 10, MEBIBYTE)
    assert.equal(sender.isInMemory({ fd, offset: MEBIBYTE + 1, length: 9 }), true)
    assert.equal(sender.isInMemory({ fd, offset: MEBIBYTE - 1, length: 2 }), false)
    for (let offset = 0; offset < 4 * MEBIBYTE; offset += MEBIBYTE)
      readSync(fd, Buffer.alloc(MEBIBYTE), 0, MEBIBYTE, offset)
    assert.equal(sender.isInMemory({ fd, offset: 5, length: 3 * MEBIBYTE }), true)
    assert.equal(sender.isInMemory({ fd, offset: 4 * MEBIBYTE - 1, length: 1 }), true)
    assert.equal(sender.isInMemory({ fd, offset: 4 * MEBIBYTE - 1, length: 2 }), false)
  })
}

test('a socket that is closed or was never connected has no descriptor to send to', async () => {
  const sender = await openFileSender()
  assert.ok(sender !== undefined)
  const socket = new Socket()
  assert.equal(sender.socketOf(socket), undefined)
  socket.destroy()
  assert.equal(sender.socketOf(socket), undefined)
  assert.equal(sender.socketOf(null), undefined)
})

test('a descriptor that is not open sends nothing and is not in memory', async () => {
  const sender = await openFileSender()
  assert.ok(sender !== undefined)
  const span = { fd: 1_000_000, offset: 0, length: 10 }
  assert.equal(sender.isInMemory({ ...span }), false)
  assert.equal(sender.send(1_000_001, span), 0)
})
