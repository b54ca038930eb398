import { mkdir, writeFile } from 'node:fs/promises'
import { freePort } from '../../test/clients/rig/ports.ts'
import type { Bench, Case } from '../bench.ts'
import { MIB } from '../content.ts'
import { forgetPeak, residentBytesOf } from '../cpu.ts'
import { startEntrepot } from '../entrepot.ts'
import { startRegistry } from '../registry.ts'
import type { Results } from '../results.ts'
import type { Started } from '../room.ts'
import { check, DISTRIBUTION, findDistribution } from '../servers.ts'
import { runSink } from '../sink.ts'
import { makeCold, sentOfOrigin, sentSince } from './cold.ts'

const COUNT = 3
const CLIENTS = 20
const BLOB_BYTES = 64 * MIB
const ENTREPOT = 'three replicas of Entrepot'

/** Three mirrors behind one address, as clients of a large cluster are spread over them. */
export const REPLICA_CASES: readonly Case[] = [
  {
    name: 'replicas',
    isLong: true,
    title: `${CLIENTS} clients of each of three mirrors at once, one cold blob of 64 MiB`,
    columns: ['firstByteMs', 'tookMs', 'upstreamRequests', 'upstreamShare', 'peakBytes'],
    comparisons: [],
    run: async (bench, results) => {
      await runTrio(bench, results, { name: ENTREPOT, trio: await startReplicas(bench) })
      const program = findDistribution()
      if (program === undefined) return
      const start = async (index: number): Promise<Started> =>
        await startRegistry(bench.room, `trio-${index}`, { mirrored: bench.origin.address, program })
      const trio = [await start(1), await start(2), await start(3)]
      await runTrio(bench, results, { name: `three of ${DISTRIBUTION}`, trio })
    },
  },
]

async function startReplicas({ room, origin }: Bench): Promise<readonly Started[]> {
  await mkdir(room.path('replicas'), { recursive: true })
  const secret = room.path('replicas', 'secret')
  await writeFile(secret, 'a-secret-of-the-replicas\n')
  const ports: number[] = []
  while (ports.length < COUNT) ports.push(await freePort())
  const addresses = ports.map(port => `127.0.0.1:${port}`)
  const started: Started[] = []
  for (const [index, address] of addresses.entries()) {
    const peers = ['--peer-listen', address, '--peers', addresses.join(','), '--peer-secret-file', secret]
    const options = { upstream: origin.address, flags: ['--workers', '1', ...peers] }
    started.push(await startEntrepot(room, `replica-${index}`, options))
  }
  return started
}

async function runTrio(
  bench: Bench,
  results: Results,
  { name, trio }: { readonly name: string; readonly trio: readonly Started[] },
): Promise<void> {
  for (let round = 1; round <= bench.options.rounds; round += 1) {
    bench.progress(`replicas, round ${round}: ${name}`)
    const items = await makeCold(bench, 1, BLOB_BYTES)
    const before = sentOfOrigin(bench, items)
    for (const { child } of trio) forgetPeak(child.pid)
    const order = { requests: items, connections: CLIENTS, times: 1 }
    const reports = await Promise.all(
      trio.map(async ({ address }) => await runSink(bench.room, { ...order, address })),
    )
    results.add('replicas', name, {
      firstByteMs: Math.max(...reports.flatMap(report => report.firstByteMs)),
      tookMs: Math.max(...reports.flatMap(report => report.tookMs)),
      peakBytes: Math.max(...trio.map(({ child }) => residentBytesOf(child.pid).peakBytes)),
      ...(await sentSince(bench, items, before)),
    })
    for (const { address } of trio) await check({ name, address }, items[0])
  }
  for (const { child } of trio) await child.stop()
}
