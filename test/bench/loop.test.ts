import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { LoopWatch, latenessOf, watched } from '../../bench/loop.ts'

test('999 of 1,000 timers came no later than the lateness of a loop', () => {
  assert.equal(latenessOf([999, 0, 0, 1]), 1)
  assert.equal(latenessOf([998, 0, 0, 2]), 4)
  assert.equal(latenessOf([0, 0, 5]), 3)
  assert.equal(latenessOf([0, 0]), Infinity)
})

test('a loop that stands still is seen', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'entrepot-loop-'))
  try {
    const loop = new LoopWatch(directory)
    // Each line that it reads stops its loop for a while.
    const stop = `process.stdin.on('data', () => {
      for (const end = performance.now() + 300; performance.now() < end;);
      console.log('stood')
    })
    console.log('ready')`
    const child = spawn(process.execPath, ['-e', stop], {
      env: { ...process.env, ...loop.env },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    try {
      const seen = await watched({ loop }, async () => {
        const stood = once(child.stdout, 'data')
        child.stdin.write('\n')
        await stood
        return { value: 1 }
      })
      assert.equal(seen.value, 1)
      assert.ok((seen.loopMs ?? 0) >= 290)
    } finally {
      child.stdin.end()
      await once(child, 'close')
    }
  } finally {
    await rm(directory, { recursive: true })
  }
})

test('a server whose loops are not watched has no lateness', async () => {
  assert.deepEqual(await watched({}, async () => await Promise.resolve({ value: 1 })), { value: 1 })
})
