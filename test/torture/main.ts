import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { NotRun, Random, type Rig, Tally } from './rig.ts'
import { RIGS } from './rigs.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    seed: { type: 'string' },
    only: { type: 'string' },
    smoke: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
})

interface Outcome {
  readonly rig: Rig
  readonly tally: Tally
  readonly notRun: string | undefined
  readonly seconds: number
}

const READY_MAX_MS = 2000

/** Runs the rigs one after the other, prints their results, and resolves to the exit code. */
async function main(): Promise<number> {
  const minutes = Number(values.minutes)
  const seed = values.seed ?? String(Date.now() % 1_000_000)
  const only = values.only?.split(',')
  const rigs = RIGS.filter(rig => only?.includes(rig.name) ?? !(values.smoke && rig.isLong === true))
  if (values.list) {
    for (const { name, title } of RIGS) console.log(`${name.padEnd(16)} ${title}`)
    return 0
  }
  if (!(minutes > 0) || rigs.length === 0) {
    console.error('usage: torture [--minutes N] [--seed S] [--only rig,…] [--smoke] [--list]')
    return 2
  }
  console.log(`torture: ${rigs.length} rigs, ${minutes} minutes, seed ${seed}`)
  const weights = rigs.reduce((sum, rig) => sum + rig.weight, 0)
  const outcomes: Outcome[] = []
  const endsAtMs = performance.now() + minutes * 60_000
  let weightsLeft = weights
  // Rigs with a fixed amount of work run first; the others share the remaining time.
  for (const rig of rigs.toSorted((one, another) => Number(one.weight > 0) - Number(another.weight > 0))) {
    const leftMs = Math.max(0, endsAtMs - performance.now())
    const forMs = rig.weight === 0 ? leftMs : (leftMs * rig.weight) / weightsLeft
    weightsLeft -= rig.weight
    outcomes.push(await runOne(rig, { seed, forMs, isSmoke: values.smoke }))
  }
  report(outcomes, seed)
  return outcomes.some(({ rig, tally, notRun }) => isFailure(rig, tally, notRun)) ? 1 : 0
}

async function runOne(
  rig: Rig,
  { seed, forMs, isSmoke }: { readonly seed: string; readonly forMs: number; readonly isSmoke: boolean },
): Promise<Outcome> {
  const tally = new Tally()
  const directory = await mkdtemp(join(tmpdir(), `entrepot-torture-${rig.name}-`))
  const startedAtMs = performance.now()
  let notRun: string | undefined
  try {
    await rig.run({ random: new Random(`${seed} ${rig.name}`), forMs, isSmoke, directory, tally })
  } catch (error) {
    if (error instanceof NotRun) notRun = error.message
    else tally.violate(`the rig broke: ${error instanceof Error ? error.stack : String(error)}`)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
  const seconds = Math.round((performance.now() - startedAtMs) / 1000)
  if (tally.readyMaxMs > READY_MAX_MS) tally.violate(`ready only after ${Math.round(tally.readyMaxMs)} ms`)
  console.log(
    `${rig.name}: ${notRun === undefined ? `${seconds} s, ${tally.figures}` : `not run: ${notRun}`}`,
  )
  for (const violation of tally.violations)
    console.log(`  VIOLATION (--only ${rig.name} --seed ${seed}): ${violation}`)
  return { rig, tally, notRun, seconds }
}

/** On CI a rig that cannot run is a failure. */
function isFailure(_: Rig, tally: Tally, notRun: string | undefined): boolean {
  return tally.violations.length > 0 || (notRun !== undefined && process.env['CI'] === 'true')
}

function report(outcomes: readonly Outcome[], seed: string): void {
  console.log(`\nseed ${seed}\n`)
  console.log('| rig | seconds | cycles | bad bytes | wedged digests | leaked files | ready, max | figures |')
  console.log('| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |')
  for (const { rig, tally, notRun, seconds } of outcomes) {
    const { cycles, badBytes, wedged, leaked, readyMaxMs, figures, violations } = tally
    const ready = readyMaxMs === 0 ? '–' : `${Math.round(readyMaxMs)} ms`
    const rest = violations.length === 0 ? figures : `${figures}; **${violations.length} violations**`
    const cells =
      notRun === undefined
        ? [seconds, cycles, badBytes, wedged, leaked, ready, rest]
        : ['–', '–', '–', '–', '–', '–', `not run: ${notRun}`]
    console.log(`| ${rig.title} (\`${rig.name}\`) | ${cells.join(' | ')} |`)
  }
}

process.exitCode = await main()
