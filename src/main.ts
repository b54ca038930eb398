#!/usr/bin/env node
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import type { Environment } from './cli/environment.ts'
import { growNurseryWhenBusy } from './lib/memory/nursery.ts'

/** Starts the process. `bin/entrepot.cjs` has checked that this Node is new enough. */
async function main(): Promise<void> {
  // A sync to a disk takes long and holds a thread. With Node's four, a few pushes would hold up every read.
  // The pool is made with its first use, which comes later.
  process.env['UV_THREADPOOL_SIZE'] ??= '16'
  // A start would let the nursery grow by 5 MiB, which an idle mirror does not need. It grows once a thread
  // is busy: see lib/memory/nursery.ts.
  setFlagsFromString('--semi-space-growth-factor=1')
  // Data that waits for a slow client grows old before it dies. Without this, the dead data of a thousand
  // clients is kept until it is as large as the live data. Measured with 1,000 clients on one cold blob: at
  // most 398 MiB of memory without this, 270 with it.
  setFlagsFromString('--heap-growing-percent=40')
  // Compiled code is cached beside the packages, and only there: writing to that directory takes the same
  // rights as changing the program.
  const compiled = fileURLToPath(new URL('../node_modules/.cache/entrepot', import.meta.url))
  enableCompileCache(compiled)
  // For the threads. A thread of a checkout that finds no compiled code loads the compiler of types, which
  // takes 12 MiB.
  process.env['NODE_COMPILE_CACHE'] ??= compiled
  const { openLog } = await import('./observe/log.ts')
  // A defect: the state is unknown, so the process ends at once.
  const fail = (error: unknown): never => {
    openLog('error').error({ err: error }, 'unexpected failure, the process ends')
    process.exit(1)
  }
  process.on('uncaughtException', fail)
  process.on('unhandledRejection', fail)
  hideExperimentalWarnings()
  const { run } = await import('./cli/run.ts')
  process.exitCode = await run(environment())
}

/**
 * Node warns of `node:ffi` in every process that uses it. Its users can do nothing about it, and the mirror
 * works without it.
 */
function hideExperimentalWarnings(): void {
  const printers = process.listeners('warning')
  process.removeAllListeners('warning')
  process.on('warning', warning => {
    if (warning.name !== 'ExperimentalWarning') for (const print of printers) print(warning)
  })
}

function environment(): Environment {
  return {
    argv: process.argv.slice(2),
    env: process.env,
    cwd: process.cwd(),
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    signals: process,
    startDaemon: async (config, settings) => {
      const { startDaemon } = await import('./daemon/start.ts')
      const daemon = await startDaemon(config, { upstream: { environment: process.env }, settings })
      // Node copies each 64 KiB that a bucket sends, and the nursery keeps what was copied: a larger one
      // keeps 60 MiB, in ever new memory. That costs more than it saves.
      if (config.store.kind !== 's3') growNurseryWhenBusy()
      return daemon
    },
    openBucket: async bucket => (await import('./daemon/source-bucket.ts')).openSourceBucket(bucket),
  }
}

await main()
