import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { array, asyncProperty, constantFrom, assert as holds, pre } from 'fast-check'
import { lineDiff } from '../../src/cli/line-diff.ts'

test('a difference has the form of diff -u, with three lines around each change', () => {
  const before = 'a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n'
  const after = 'a\nb\nc\nD\ne\nf\ng\nh\ni\nj\nk\nl\nm\n'
  assert.equal(
    lineDiff('x', before, after),
    '--- x\n+++ x\n@@ -1,7 +1,7 @@\n a\n b\n c\n-d\n+D\n e\n f\n g\n@@ -10,3 +10,4 @@\n j\n k\n l\n+m\n',
  )
})

test('equal texts have no difference, and a new file comes from /dev/null', () => {
  assert.equal(lineDiff('x', 'a\n', 'a\n'), '')
  assert.equal(lineDiff('x', undefined, 'a\n'), '--- /dev/null\n+++ x\n@@ -0,0 +1,1 @@\n+a\n')
})

test('texts that are too long to compare are shown as removed and added', () => {
  const before = 'a\n'.repeat(2001)
  assert.equal(
    lineDiff('x', before, 'b\n')
      .split('\n')
      .filter(line => line === '-a').length,
    2001,
  )
})

test('for any two texts, patch makes the second from the first and the difference', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-diff-'))
  const file = join(directory, 'file')
  const lines = array(constantFrom('a', 'b', 'c', '', ' d'), { minLength: 1, maxLength: 24 })
  const text = lines.map(words => words.map(word => `${word}\n`).join(''))
  await holds(
    asyncProperty(text, text, async (before, after) => {
      pre(before !== after)
      await writeFile(file, before)
      await writeFile(join(directory, 'patch'), lineDiff('file', before, after))
      assert.equal(await applied(directory), after)
    }),
    { numRuns: 30 },
  )
  await rm(directory, { recursive: true })
})

/** git is available wherever this repository is, and applies patches outside of a repository too. */
async function applied(directory: string): Promise<string> {
  const env = { ...process.env, GIT_CEILING_DIRECTORIES: tmpdir() }
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  execFile('git', ['apply', '-p0', 'patch'], { cwd: directory, env }, error => {
    if (error === null) resolve()
    else reject(error)
  })
  await promise
  return await readFile(join(directory, 'file'), 'utf8')
}
