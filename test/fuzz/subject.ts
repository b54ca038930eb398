import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import { NO_SECTIONS } from '../../src/config/config.ts'
import { startDaemon } from '../../src/daemon/start.ts'
import { openLog } from '../../src/observe/log.ts'
import { DOCKER_HUB } from '../../src/oci/namespace.ts'
import { upstreamEntry } from '../support/mirror.ts'

/** State that the process under test reports. */
export type Report =
  | { readonly kind: 'ready'; readonly address: string }
  | {
      readonly kind: 'state'
      readonly rssBytes: number
      readonly delayMs: number
      readonly ownDelayMs: number
      readonly serverErrors: number
    }

/**
 * The daemon in a process of its own, so that its event loop has no other work. The command line names its
 * upstream. Every other name resolves to a private address, which policy refuses, so that no request leads
 * anywhere else.
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
      sections: NO_SECTIONS,
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
  const own = createHistogram()
  undo.use(watchOwnDelay(us => own.record(us)))
  const { promise: over, resolve: end } = Promise.withResolvers<void>()
  const report = (message: Report): unknown => process.send?.(message)
  process.on('message', question => {
    if (question === 'state')
      report({
        kind: 'state',
        rssBytes: process.memoryUsage.rss(),
        delayMs: delay.percentile(99.9) / 1e6,
        ownDelayMs: own.percentile(99.9) / 1e3,
        serverErrors,
      })
  })
  process.once('disconnect', () => end())
  report({ kind: 'ready', address: daemon.addresses.client })
  await over
  delay.disable()
}

/**
 * Reports the CPU time of each turn of the event loop, in microseconds. Delay alone says little on a busy
 * machine, where a turn is also late if the process was not scheduled.
 */
function watchOwnDelay(record: (us: number) => void): Disposable {
  const cpuUs = (): number => {
    const { user, system } = process.threadCpuUsage()
    return user + system
  }
  let last = cpuUs()
  const timer = setInterval(() => {
    const now = cpuUs()
    record(Math.max(1, Math.round(now - last)))
    last = now
  }, 5)
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

await run(process.argv[2] ?? '')
