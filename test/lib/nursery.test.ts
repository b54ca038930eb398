import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'

const NURSERY = new URL('../../src/lib/memory/nursery.ts', import.meta.url).href
const MIB = 1024 * 1024

/** Runs a program in a process of its own, because V8's flags are for all threads; returns what it prints. */
function run(program: string, flags: readonly string[] = []): readonly number[] {
  const preamble = `
import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { growNursery, growNurseryWhenBusy, nurseryBytes } from ${JSON.stringify(NURSERY)}
setFlagsFromString('--semi-space-growth-factor=1')
const kept = []
const work = () => { for (let at = 0; at < 1e5; at += 1) kept[at % 5e4] = { at, parts: [at] } }
const sizes = []
`
  const argv = [
    ...flags,
    '--input-type=module',
    '--eval',
    `${preamble}${program}\nconsole.log(JSON.stringify(sizes))`,
  ]
  return JSON.parse(execFileSync(process.execPath, argv, { encoding: 'utf8', timeout: 60_000 })) as number[]
}

test('the nursery grows to the size asked for, and no further under load', () => {
  const [before = 0, grown = 0, ...later] = run(`
for (let turn = 0; turn < 20; turn += 1) work()
sizes.push(nurseryBytes())
growNursery(${8 * MIB})
sizes.push(nurseryBytes())
for (let turn = 0; turn < 20; turn += 1) {
  work()
  sizes.push(nurseryBytes())
}`)
  assert.ok(before <= 2 * MIB, `${before} bytes before`)
  assert.ok(grown >= 8 * MIB, `${grown} bytes after growing`)
  // V8 counts some pages twice while it collects. Left alone, it would let it grow to 64 MiB here.
  const most = Math.max(grown, ...later)
  assert.ok(most <= 16 * MIB, `${most} bytes under load`)
})

test('a busy thread gets a larger nursery, an idle one does not', () => {
  const [idle = 0, busy = 0] = run(`
growNurseryWhenBusy()
for (let turn = 0; turn < 100; turn += 1) await setImmediate()
sizes.push(nurseryBytes())
for (let turn = 0; turn < 1000 && nurseryBytes() < ${8 * MIB}; turn += 1) {
  work()
  await setImmediate()
}
sizes.push(nurseryBytes())`)
  assert.ok(idle <= 2 * MIB, `${idle} bytes when idle`)
  assert.ok(busy >= 8 * MIB && busy <= 16 * MIB, `${busy} bytes when busy`)
})

test('a nursery that V8 keeps smaller, as with a small memory limit, is left alone after a bounded try', () => {
  const [grown = 1, after = 0] = run(
    `
sizes.push(Number(growNursery(${8 * MIB})))
sizes.push(nurseryBytes())`,
    ['--max-semi-space-size=1'],
  )
  assert.equal(grown, 0)
  assert.ok(after < 8 * MIB, `${after} bytes after growing`)
})
