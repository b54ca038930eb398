/**
 * Entrepot beside docker-registry and nginx, in one run on one machine: `npm run bench`. See docs/performance.md.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Bench, type Case } from './bench.ts'
import { COLD_CASES } from './cases/cold.ts'
import { WARM_CASES } from './cases/warm.ts'
import { machine } from './machine.ts'
import { type Options, parseOptions } from './options.ts'
import { Results } from './results.ts'
import { Room } from './room.ts'
import { tableOf } from './table.ts'

const CASES: readonly Case[] = [...WARM_CASES, ...COLD_CASES]

const startedAtMs = performance.now()

function say(text: string): void {
  console.error(`${((performance.now() - startedAtMs) / 1000).toFixed(0).padStart(4)} s  ${text}`)
}

function chosen({ only }: Options): readonly Case[] {
  const unknown = only.filter(name => !CASES.some(one => one.name === name))
  if (unknown.length > 0) throw new Error(`no such case: ${unknown.join(', ')}; --list has their names`)
  return only.length === 0 ? CASES : CASES.filter(({ name }) => only.includes(name))
}

async function measure(room: Room, options: Options, cases: readonly Case[]): Promise<Results> {
  const bench = await Bench.open(room, options, say)
  const results = new Results()
  for (const one of cases) await one.run(bench, results)
  return results
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2))
  const cases = chosen(options)
  if (options.isList) {
    for (const { name, title } of cases) console.log(`${name.padEnd(18)} ${title}`)
    return
  }
  await using room = await Room.open()
  // What is started elsewhere, such as Ceph, puts its files there too.
  process.env['TMPDIR'] = room.directory
  const end = (signal: NodeJS.Signals): void => {
    say(`${signal}: ending what runs`)
    void room[Symbol.asyncDispose]().finally(() => process.exit(130))
  }
  process.once('SIGINT', end).once('SIGTERM', end)
  const results = await measure(room, options, cases)
  const { measurements } = results
  await mkdir(options.out, { recursive: true })
  const file = join(options.out, 'latest.json')
  const { rounds, seconds, largeBytes } = options
  await writeFile(
    file,
    `${JSON.stringify({ machine: machine(), rounds, seconds, largeBytes, measurements }, undefined, 2)}\n`,
  )
  say(`written: ${file}`)
  console.log(cases.map(one => tableOf(one, results)).join('\n'))
}

await main()
