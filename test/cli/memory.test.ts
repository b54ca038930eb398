import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const COMMAND = fileURLToPath(new URL('../../bin/entrepot.cjs', import.meta.url))

/** Prints the packages that have been loaded, and the built-in modules, when the process ends. */
const WITNESS = `
import { registerHooks } from 'node:module'
import { isMainThread } from 'node:worker_threads'
const packages = new Set()
registerHooks({
  load(url, context, next) {
    const name = /\\/node_modules\\/((?:@[^/]+\\/)?[^/]+)\\/(?!.*\\/node_modules\\/)/.exec(url)?.[1]
    if (name !== undefined) packages.add(name)
    return next(url, context)
  },
})
if (isMainThread) process.on('exit', () => {
  const builtins = process.moduleLoadList.filter(name => name.startsWith('NativeModule ')).map(name => name.slice(13))
  process.stderr.write(JSON.stringify({ packages: [...packages].sort(), builtins }) + '\\n')
})
`

interface Loaded {
  readonly packages: readonly string[]
  readonly builtins: readonly string[]
}

/** Starts a daemon with defaults, stops it once it listens, and returns what it had loaded. */
async function loadedByDaemon(): Promise<Loaded> {
  const cwd = await mkdtemp(join(tmpdir(), 'entrepot-memory-'))
  try {
    await writeFile(join(cwd, 'witness.mjs'), WITNESS)
    const flags = ['--workers', '1', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0']
    const argv = ['--import', join(cwd, 'witness.mjs'), COMMAND, ...flags]
    const child = spawn(process.execPath, argv, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    let errors = ''
    child.stderr.on('data', (text: Buffer) => (errors += text.toString()))
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.includes('listening')) child.kill('SIGTERM')
    }
    if (child.exitCode === null) await once(child, 'exit')
    return JSON.parse(errors) as Loaded
  } finally {
    await rm(cwd, { recursive: true })
  }
}

const COMPILER = 'internal/deps/amaro/dist/index'

test('a mirror that nobody asks anything has loaded no library before its first use, and no fetch of Node', async () => {
  let loaded = await loadedByDaemon()
  // The first run of a checkout compiles it, and keeps that for the next.
  if (loaded.builtins.includes(COMPILER)) loaded = await loadedByDaemon()
  const { packages, builtins } = loaded
  for (const needed of ['pino', 'prom-client', 'lru-cache']) assert.ok(packages.includes(needed), needed)
  const late = /^(?:undici|jose|semver|tldts|bcryptjs|pkijs|asn1js|smol-toml|@aws-sdk\/|@smithy\/)/
  assert.deepEqual(
    packages.filter(name => late.test(name)),
    [],
  )
  assert.ok(builtins.includes('http'))
  assert.deepEqual(
    builtins.filter(name => name === COMPILER || name.startsWith('internal/deps/undici')),
    [],
  )
})
