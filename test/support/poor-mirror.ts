import { startMirror } from './mirror.ts'

/** What a {@link startMirror} in a process of its own says to the test that started it. */
export interface PoorReport {
  readonly address: string
  readonly admin: string
}

/** A mirror in a process whose limits a test has set. It answers every message with its log so far. */
async function run(upstream: string): Promise<void> {
  await using mirror = await startMirror({ upstream, overrides: { probeEveryMs: 50 } })
  const { promise: over, resolve: end } = Promise.withResolvers<void>()
  process.once('disconnect', () => end())
  process.on('message', () => process.send?.(mirror.log))
  const { client: address, admin = '' } = mirror.daemon.addresses
  process.send?.({ address, admin } satisfies PoorReport)
  await over
}

await run(process.argv[2] ?? '')
