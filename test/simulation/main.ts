import { parseArgs } from 'node:util'
import { type HostedReport, simulateHosted } from './hosted-world.ts'
import { simulateReplicas } from './replicas-world.ts'
import { type Report, simulate } from './world.ts'

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
    failures: { type: 'string', default: '20' },
    world: { type: 'string', default: 'mirror' },
  },
})

/** Runs as many worlds as requested, starting at a seed, and resolves to the exit code. */
async function main(): Promise<number> {
  const first = Number(values.seed)
  const runs = Number(values.runs)
  const startedAtMs = performance.now()
  const weathers = new Map<string, number>()
  let decisions = 0
  let crashes = 0
  let operations = 0
  let failures = 0
  for (let seed = first; seed < first + runs; seed += 1) {
    const report = await simulateOne(seed)
    operations += report.operations ?? 0
    decisions += report.decisions
    crashes += report.crashes
    weathers.set(report.weather, (weathers.get(report.weather) ?? 0) + 1)
    if (report.violations.length === 0) continue
    failures += 1
    console.log(`seed ${seed} (${report.weather}): ${report.violations.join('; ')}`)
    if (failures >= Number(values.failures)) break
  }
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(1)
  const kinds = [...weathers].map(([name, count]) => `${name} ${count}`).join(', ')
  if (operations > 0) console.log(`${operations} operations of pushers`)
  console.log(
    `${runs} runs from seed ${first}, ${decisions} decisions, ${crashes} crashes, ${seconds} s (${kinds}): ${failures} failed`,
  )
  return failures === 0 ? 0 : 1
}

async function simulateOne(seed: number): Promise<Report & Partial<HostedReport>> {
  if (values.world === 'replicas') return await simulateReplicas(seed)
  return values.world === 'hosted' ? await simulateHosted(seed) : await simulate(seed)
}

process.exitCode = await main()
