import assert from 'node:assert/strict'
import { mkdtemp, readFile, rename, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { FileOutput } from '../../src/observe/file-output.ts'

async function pathIn(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-audit-'))
  t.after(async () => await rm(directory, { recursive: true }))
  return join(directory, 'audit.log')
}

function unexpected(error: unknown): void {
  throw error
}

test('lines are appended in order, to a file that only its owner can read', async t => {
  const path = await pathIn(t)
  for (const start of [0, 500]) {
    await using output = new FileOutput(path, unexpected)
    for (let index = start; index < start + 500; index += 1) output.write(`${index}\n`)
  }
  const lines = (await readFile(path, 'utf8')).trimEnd().split('\n')
  assert.deepEqual(
    lines,
    Array.from({ length: 1000 }, (_, index) => String(index)),
  )
  assert.equal((await stat(path)).mode & 0o077, 0)
})

test('after the file was renamed, lines go into a new one', async t => {
  const path = await pathIn(t)
  const output = new FileOutput(path, unexpected)
  output.write('one\n')
  await output[Symbol.asyncDispose]()
  await rename(path, `${path}.1`)
  output.write('two\n')
  await output[Symbol.asyncDispose]()
  assert.deepEqual([await readFile(`${path}.1`, 'utf8'), await readFile(path, 'utf8')], ['one\n', 'two\n'])
})

test('a file that cannot be written is reported, and later lines are tried again', async t => {
  const path = await pathIn(t)
  const failures: unknown[] = []
  const output = new FileOutput(join(path, 'deeper'), error => failures.push(error))
  output.write('one\n')
  await output[Symbol.asyncDispose]()
  output.write('two\n')
  await output[Symbol.asyncDispose]()
  assert.deepEqual(
    failures.map(error => (error as NodeJS.ErrnoException).code),
    ['ENOENT', 'ENOENT'],
  )
})

test('lines beyond 4 MiB that wait for the disk are lost, and that is reported', async t => {
  const failures: unknown[] = []
  const output = new FileOutput(await pathIn(t), error => failures.push(error))
  for (let index = 0; index < 8; index += 1) output.write('x'.repeat(1024 * 1024))
  assert.ok(failures.length >= 3 && failures.length < 8, String(failures.length))
  await output[Symbol.asyncDispose]()
})
