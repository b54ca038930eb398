import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FAULTS, type Fault, ROOT, sourceTexts, withFault } from './faults.ts'

const RUNS = 4000
/** A run of another world takes longer. */
const RUNS_OF = { hosted: 2000, replicas: 1500 } as const

/**
 * Runs the simulation in a copy of the tree, once for each fault whose name has the words, or whose world is
 * called so; resolves to how many faults it did not see.
 */
async function main(words: string): Promise<number> {
  const faults = FAULTS.filter(({ name, world }) => name.includes(words) || world === words)
  const texts = await sourceTexts()
  const faulty = faults.map(fault => ({ ...fault, ...withFault(texts, fault) }))
  const copy = await mkdtemp(join(tmpdir(), 'entrepot-mutants-'))
  let missed = 0
  try {
    for (const name of ['src', 'test', 'package.json'])
      await cp(join(ROOT, name), join(copy, name), { recursive: true })
    await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
    for (const { name, world, path, text } of faulty) {
      await writeFile(join(copy, path), text)
      const violation = await simulateIn(copy, world)
      await writeFile(join(copy, path), texts.get(path) ?? '')
      if (violation !== undefined) await requireSound(copy, world, violation)
      if (violation === undefined) missed += 1
      console.log(violation === undefined ? `MISSED ${name}` : `seen   ${name}: ${violation}`)
    }
  } finally {
    await rm(copy, { recursive: true, force: true })
  }
  console.log(`${faults.length - missed} of ${faults.length} faults seen`)
  return missed
}

/** Throws if the seed of a violation fails without the fault too: then it shows nothing about the fault. */
async function requireSound(directory: string, world: Fault['world'], violation: string): Promise<void> {
  const [, seed = ''] = /^seed ([0-9]+) /.exec(violation) ?? []
  const without = await simulateIn(directory, world, ['--seed', seed, '--runs', '1'])
  if (without !== undefined) throw new Error(`the tree fails without a fault: ${without}`)
}

/** The first violation that the simulation reports of the tree; `undefined` if there is none. */
async function simulateIn(
  directory: string,
  world: Fault['world'],
  seeds: readonly string[] = ['--runs', String(world === undefined ? RUNS : RUNS_OF[world])],
): Promise<string | undefined> {
  const child = spawn(
    process.execPath,
    ['test/simulation/main.ts', '--world', world ?? 'mirror', ...seeds, '--failures', '1'],
    {
      cwd: directory,
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  let output = ''
  child.stdout.on('data', (text: Buffer) => {
    output += text.toString()
  })
  const [code] = (await once(child, 'close')) as [number | null]
  if (code === 0) return undefined
  const [line = ''] = output.split('\n')
  // A tree that does not run at all shows nothing about the simulation.
  if (!line.startsWith('seed ')) throw new Error(`the simulation broke, exit code ${code}: ${line}`)
  return line
}

process.exitCode = (await main(process.argv.slice(2).join(' '))) === 0 ? 0 : 1
