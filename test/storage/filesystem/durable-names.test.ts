import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { execPath } from 'node:process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { digestOf } from '../../../src/oci/digest.ts'
import { makeRoom, runs } from '../rooms.ts'

const PUSHES = 6

test('where a sync carries nothing else, all names of a push are synced before it ends', async t => {
  const scratch = await makeRoom(t)
  if (!(await runs('strace', ['-o', '/dev/null', 'true']))) {
    t.skip('this system has no strace that works')
    return
  }
  const root = join(scratch, 'root')
  await mkdir(join(root, 'spool'), { recursive: true })
  const [log, program] = [join(scratch, 'calls'), join(import.meta.dirname, '..', 'processes', 'push.ts')]
  const calls = 'trace=/^(mkdir|rename|openat|fsync|write)'
  await promisify(execFile)('strace', ['-f', '-y', '-o', log, '-e', calls, execPath, program, root])
  const seen = replay(await readFile(log, 'utf8'), root)
  assert.deepEqual(
    [...seen.keys()].sort((one, other) => one - other),
    Array.from({ length: PUSHES }, (_, at) => at + 1),
  )
  for (const [number, unsynced] of seen) assert.deepEqual(unsynced, [], `push ${number}`)
})

/**
 * The names of each push that a power cut could still take when the push ended, by its number, according to
 * the calls in a log of strace. A sync covers the names that were in its directory when it began.
 */
function replay(log: string, root: string): ReadonlyMap<number, readonly string[]> {
  const [made, begun] = [new Map<string, number>(), new Map<string, { call: string; at: number }>()]
  const names = new Set<string>()
  const ended = new Map<number, readonly string[]>()
  for (const [at, line] of log.split('\n').entries()) {
    const [, thread = '', text = ''] = /^(\d+) +(.*)$/.exec(line) ?? []
    const resumed = /^<\.\.\. \S+ resumed>(.*)$/.exec(text)
    const before = begun.get(thread)
    begun.delete(thread)
    if (text.endsWith('<unfinished ...>')) {
      begun.set(thread, { call: text.slice(0, -'<unfinished ...>'.length), at })
      // What is printed counts from the moment in which it is begun.
      if (!text.startsWith('write')) continue
    }
    const call = resumed === null ? text : `${before?.call}${resumed[1]}`
    const startedAt = resumed === null ? at : (before?.at ?? at)
    const pushed = /^write\(.*"pushed (\d+)/.exec(call)
    if (pushed !== null && !ended.has(Number(pushed[1])))
      ended.set(Number(pushed[1]), unsyncedOf(Number(pushed[1]), { names, made, root }))
    if (!/ = \d+(?:<.*>)?$/.test(call)) continue
    const paths = [...call.matchAll(/"(\/[^"]*)"/g)].map(([, path = '']) => path)
    const path = paths.at(-1)
    const synced = /^fsync\(\d+<([^>]+)>/.exec(call)?.[1]
    if (synced !== undefined)
      for (const [name, madeAt] of made) if (dirname(name) === synced && madeAt < startedAt) made.delete(name)
    if (path !== undefined && (/^(?:mkdir|rename)/.test(call) || /^openat.*O_CREAT/.test(call))) {
      made.set(path, at)
      names.add(path)
    }
  }
  return ended
}

/** The names and directories of a push that are not synced, at least one name for each of its six files. */
function unsyncedOf(
  number: number,
  parts: {
    readonly names: ReadonlySet<string>
    readonly made: ReadonlyMap<string, number>
    readonly root: string
  },
): readonly string[] {
  const hex = digestOf(Buffer.from(`manifest ${number}`)).slice('sha256:'.length)
  const own = [...parts.names].filter(
    path =>
      path.startsWith(parts.root) && (path.includes(hex.slice(2)) || path.endsWith(`/_tags/t${number}`)),
  )
  const directories = own.flatMap(path => above(path, parts.root))
  const files = own.filter(path => !own.some(other => other.startsWith(`${path}/`)))
  if (files.length !== 6) return [`${files.length} files: ${files.join(', ')}`]
  return [...new Set([...own, ...directories])].filter(path => parts.made.has(path))
}

function above(path: string, root: string): readonly string[] {
  return path === root ? [] : [path, ...above(dirname(path), root)]
}
