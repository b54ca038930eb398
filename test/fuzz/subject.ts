import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { startDaemon } from '../../src/daemon.ts'
import { openLog } from '../../src/observe/log.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import { upstreamEntry } from '../support/mirror.ts'

/** What the process under test says of itself. */
export type Report =
  | { readonly kind: 'ready'; readonly address: string }
  | {
      readonly kind: 'state'
      readonly rssBytes: number
      readonly delayMs: number
      readonly serverErrors: number
    }

/**
 * The daemon in a process of its own, so that nothing but its own work is on its event loop. Its upstream is given on the command line; every
 * other name resolves to a private address, which policy refuses, so that no request can lead anywhere else.
 */
async function run(upstream: string): Promise<void> {
  await using undo = new AsyncDisposableStack()
  const root = await mkdtemp(join(tmpdir(), 'entrepot-fuzz-'))
  undo.defer(async () => await rm(root, { recursive: true, force: true }))
  let serverErrors = 0
  const write = (line: string): void => {
    if (line.includes('"status":500')) serverErrors += 1
  }
  const daemon = await startDaemon(
    {
      listen: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      adminListen: undefined,
      defaultNamespace: DOCKER_HUB,
      namespaces: 'public',
      checkCacheDigest: false,
      upstreamConfigFile: undefined,
      upstreams: [upstreamEntry('docker.io', upstream), upstreamEntry('other.example.test', upstream)],
      store: { kind: 'filesystem', root },
      drainMs: 1000,
      scrub: { intervalMs: undefined, bytesPerSecond: 1024 ** 2 },
      logLevel: 'info',
    },
    { log: openLog('info', { write }), upstream: { resolve: async () => ['10.0.0.1'] } },
  )
  undo.defer(async () => {
    daemon.stopNow()
    await daemon.stop()
  })
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const { promise: over, resolve: end } = Promise.withResolvers<void>()
  const report = (message: Report): unknown => process.send?.(message)
  process.on('message', question => {
    if (question === 'forget') delay.reset()
    else
      report({
        kind: 'state',
        rssBytes: process.memoryUsage.rss(),
        delayMs: delay.percentile(99.9) / 1e6,
        serverErrors,
      })
  })
  process.once('disconnect', () => end())
  report({ kind: 'ready', address: daemon.addresses.client })
  await over
  delay.disable()
}

await run(process.argv[2] ?? '')
