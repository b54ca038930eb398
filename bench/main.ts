/**
 * Entrepot beside docker-registry and nginx, in one run on one machine: `npm run bench`. See
 * docs/performance.md.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { Bench, type Case } from './bench.ts'
import { ACCESS_CASES } from './cases/access.ts'
import { COLD_CASES } from './cases/cold.ts'
import { FRESH_CASES } from './cases/fresh.ts'
import { GATE_CASES } from './cases/gate.ts'
import { HOSTED_CASES } from './cases/hosted.ts'
import { PUSH_CASES } from './cases/push.ts'
import { REPLICA_CASES } from './cases/replicas.ts'
import { S3_CASES } from './cases/s3.ts'
import { SCALE_CASES } from './cases/scale.ts'
import { WARM_CASES } from './cases/warm.ts'
import { describeMachine, machine } from './machine.ts'
import { type Options, parseOptions } from './options.ts'
import { BASIC_PROGRAMS, requirePrograms } from './programs.ts'
import { Results } from './results.ts'
import { Room } from './room.ts'
import { tableOf } from './table.ts'
import { type Outcome, outcomesOf, targetsTable } from './targets.ts'

const CASES: readonly Case[] = [
  ...WARM_CASES,
  ...COLD_CASES,
  ...ACCESS_CASES,
  ...FRESH_CASES,
  ...SCALE_CASES,
  ...REPLICA_CASES,
  ...S3_CASES,
  ...PUSH_CASES,
  ...HOSTED_CASES,
  ...GATE_CASES,
]

const startedAtMs = performance.now()

function say(text: string): void {
  console.error(`${((performance.now() - startedAtMs) / 1000).toFixed(0).padStart(4)} s  ${text}`)
}

/** The named cases, or all of them; a quick run of all leaves out the long ones. */
function chosen({ only, isQuick }: Options): readonly Case[] {
  const unknown = only.filter(name => !CASES.some(one => one.name === name))
  if (unknown.length > 0) throw new Error(`no such case: ${unknown.join(', ')}; --list has their names`)
  if (only.length > 0) return CASES.filter(({ name }) => only.includes(name))
  return CASES.filter(({ isLong = false }) => !isQuick || !isLong)
}

interface Run {
  readonly results: Results
  /** Cases that failed: some of their figures may be missing. */
  readonly failures: readonly { readonly name: string; readonly error: unknown }[]
}

/** Runs the cases one after the other. A case that fails does not lose the figures of the others. */
async function measure(room: Room, options: Options, cases: readonly Case[]): Promise<Run> {
  const bench = await Bench.open(room, options, say)
  const results = new Results()
  const failures: { name: string; error: unknown }[] = []
  for (const one of cases) {
    try {
      await one.run(bench, results)
    } catch (error) {
      room.requireOpen()
      say(`${one.name} failed: ${inspect(error)}`)
      failures.push({ name: one.name, error })
    }
  }
  return { results, failures }
}

/**
 * Runs the work in a room, which is cleaned up even if a signal ends the benchmark; then it returns
 * undefined.
 */
async function inRoom<T>(work: (room: Room) => Promise<T>): Promise<T | undefined> {
  await using room = await Room.open()
  // Programs that other code starts, such as Ceph, put their files there too.
  process.env['TMPDIR'] = room.directory
  let isEnded = false
  const end = (signal: NodeJS.Signals): void => {
    say(`${signal}: ending what runs`)
    isEnded = true
    void room.end()
  }
  process.once('SIGINT', end).once('SIGTERM', end)
  try {
    return await work(room)
  } catch (error) {
    if (!isEnded) throw error
    return undefined
  } finally {
    process.off('SIGINT', end).off('SIGTERM', end)
  }
}

/** Writes all samples to the directory that the command line names. */
async function keep(
  { out, rounds, seconds, largeBytes }: Options,
  { results, failures }: Run,
  outcomes: readonly Outcome[],
): Promise<void> {
  const document = {
    machine: machine(),
    rounds,
    seconds,
    largeBytes,
    measurements: results.measurements,
    outcomes,
    failed: failures.map(({ name }) => name),
  }
  await mkdir(out, { recursive: true })
  const file = join(out, 'latest.json')
  await writeFile(file, `${JSON.stringify(document, undefined, 2)}\n`)
  say(`written: ${file}`)
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2))
  const cases = chosen(options)
  if (options.isList) {
    for (const { name, title } of cases) console.log(`${name.padEnd(16)} ${title}`)
    return
  }
  const programs = [...BASIC_PROGRAMS, ...cases.flatMap(({ programs = [] }) => programs)]
  requirePrograms(programs, process.env['PATH'] ?? '')
  const run = await inRoom(async room => await measure(room, options, cases))
  if (run === undefined || run.failures.length > 0) process.exitCode = 1
  if (run === undefined) return
  const { results } = run
  const outcomes = outcomesOf(results)
  await keep(options, run, outcomes)
  console.log(`${describeMachine(machine())}\n`)
  console.log([...cases.map(one => tableOf(one, results)), targetsTable(outcomes)].join('\n'))
}

await main()
