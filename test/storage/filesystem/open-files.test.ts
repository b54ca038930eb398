import assert from 'node:assert/strict'
import { chmod, mkdtemp, readlink, rename, rm, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { BufferPool } from '../../../src/lib/reader-buffers.ts'
import { OpenFiles } from '../../../src/storage/filesystem/open-files.ts'
import { defined, readAll } from '../contract.ts'

async function makeFile(t: TestContext): Promise<{ readonly files: OpenFiles; readonly path: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-open-'))
  t.after(async () => await rm(directory, { recursive: true }))
  const path = join(directory, 'content')
  await writeFile(path, 'first')
  return { files: new OpenFiles(new BufferPool()), path }
}

test('readers of one content share a descriptor, which the last one closes', async t => {
  const { files, path } = await makeFile(t)
  const one = defined(await files.open(path))
  const [two, three] = await Promise.all([files.open(path), files.open(path)])
  assert.equal(two?.file.fd, one.file.fd)
  assert.equal(three?.file.fd, one.file.fd)
  await one[Symbol.asyncDispose]()
  await one[Symbol.asyncDispose]()
  await two?.[Symbol.asyncDispose]()
  assert.equal((await readAll(defined(three))).toString(), 'first')
  const opened = async (): Promise<string | undefined> =>
    await readlink(`/proc/self/fd/${one.file.fd}`).catch(() => undefined)
  assert.equal(await opened(), path)
  await three?.[Symbol.asyncDispose]()
  assert.notEqual(await opened(), path)
})

const CHANGES: readonly (readonly [string, (path: string) => Promise<void>, string | undefined])[] = [
  ['removed', unlink, undefined],
  ['moved aside', async path => await rename(path, `${path}.aside`), undefined],
  [
    'replaced by a rename',
    async path => {
      await writeFile(`${path}.new`, 'second')
      await rename(`${path}.new`, path)
    },
    'second',
  ],
  ['written by another program', async path => await writeFile(path, 'other!'), 'other!'],
]
for (const [what, change, expected] of CHANGES) {
  test(`a content that is ${what} while it is read is not shared any more`, async t => {
    const { files, path } = await makeFile(t)
    await using before = defined(await files.open(path))
    await change(path)
    const after = await files.open(path)
    assert.equal(after === undefined ? undefined : (await readAll(after)).toString(), expected)
    assert.notEqual(after?.version, before.version)
    await after?.[Symbol.asyncDispose]()
  })
}

test('a content whose mode changes while it is read has another version and is opened again', async t => {
  const { files, path } = await makeFile(t)
  await using before = defined(await files.open(path))
  await chmod(path, 0o640)
  await using after = defined(await files.open(path))
  assert.notEqual(after.version, before.version)
  assert.notEqual(after.file.fd, before.file.fd)
})
