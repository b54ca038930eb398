/**
 * Measures anonymous memory, which no other process shares: `npm run bench:memory`. Prints it for a new
 * process that nobody asks anything, from a checkout and as it is in the package, with one worker and with
 * two. With `-- --minutes 60`, prints it instead after so much light use: a client that pulls one of a few
 * images of a real docker-registry every few seconds. `-- --node-flags=FLAGS` and `-- --env NAME=VALUE` try
 * something out.
 */
import { existsSync, readFileSync } from 'node:fs'
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { freePort } from '../test/clients/rig/ports.ts'
import { ACCEPT, ContentMaker, type Item, MIB } from './content.ts'
import { startRegistry } from './registry.ts'
import { type Child, Room, type Started } from './room.ts'
import { spreadOf } from './statistics.ts'

const { values: options } = parseArgs({
  options: {
    starts: { type: 'string', default: '5' },
    minutes: { type: 'string', default: '0' },
    only: { type: 'string', default: '' },
    program: { type: 'string' },
    'node-flags': { type: 'string', default: '' },
    env: { type: 'string', multiple: true, default: [] },
  },
})

/** When a new process is measured after it has answered first, in milliseconds. */
const SETTLED_MS = 12_000
/** Between two pulls, in milliseconds. */
const PULL_EVERY_MS = 5000

interface Variant {
  readonly name: string
  readonly program: string
  readonly workers: number
}

const ROOT = fileURLToPath(new URL('../', import.meta.url))

/** What an installation of the package has: the command, which starts the compiled program. */
async function installed(room: Room): Promise<string> {
  const directory = room.path('installed')
  await mkdir(directory, { recursive: true })
  for (const part of ['bin', 'package.json'])
    await cp(`${ROOT}${part}`, `${directory}/${part}`, { recursive: true })
  await symlink(`${ROOT}dist`, `${directory}/dist`)
  return `${directory}/bin/entrepot.cjs`
}

async function variants(room: Room): Promise<readonly Variant[]> {
  const own = options.program === undefined ? [] : [['given', options.program] as const]
  const programs = [
    ['checkout', `${ROOT}bin/entrepot.cjs`],
    ['package', await installed(room)],
    ...own,
  ] as const
  const all = programs.flatMap(([name, program]) =>
    [1, 2].map(workers => ({
      name: `${name}, ${workers} worker${workers > 1 ? 's' : ''}`,
      program,
      workers,
    })),
  )
  return all.filter(({ name, program }) => existsSync(program) && name.includes(options.only))
}

async function start(room: Room, { name, program, workers }: Variant, upstream?: string): Promise<Started> {
  const address = `127.0.0.1:${await freePort()}`
  const flags = options['node-flags'].split(' ').filter(flag => flag !== '')
  const registry =
    upstream === undefined ? [] : ['--upstream-config-file', await upstreamFile(room, upstream)]
  const own = ['--listen', address, '--admin-listen', 'off', '--workers', String(workers), ...registry]
  const root = room.path(`root-${address.split(':')[1] ?? ''}`)
  const env = Object.fromEntries(options.env.map(text => text.split('=') as [string, string]))
  const argv = [process.execPath, ...flags, program, 'filesystem', '--root', root, ...own]
  const child = room.start(name, argv, { env })
  await child.ready(async () => (await fetch(`http://${address}/v2/`)).status === 200, 50)
  return { child, address }
}

async function upstreamFile(room: Room, host: string): Promise<string> {
  const file = room.path('upstreams.yaml')
  const entry = { namespace: 'docker.io', host, tls: false, allow_addresses: ['127.0.0.0/8'] }
  await writeFile(file, JSON.stringify([entry]))
  return file
}

/** Anonymous memory of a process, in MiB. */
function anonymousMiB({ pid }: Child): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/RssAnon:\s+(\d+) kB/.exec(status)?.[1]) / 1024
}

async function idle(room: Room, variant: Variant): Promise<string> {
  const samples: number[] = []
  // The first start fills the cache of compiled code.
  for (let number = 0; number <= Number(options.starts); number += 1) {
    const { child } = await start(room, variant)
    if (number > 0) await sleep(SETTLED_MS)
    if (number > 0) samples.push(anonymousMiB(child))
    await child.stop()
  }
  const { median = 0, min = 0, max = 0 } = spreadOf(samples) ?? {}
  return `${median.toFixed(1)} MiB (${min.toFixed(1)} to ${max.toFixed(1)}, ${samples.length} starts)`
}

/** Pulls content every few seconds for some minutes from all servers, and says what they then take. */
async function lightUse(room: Room, minutes: number): Promise<void> {
  const origin = await startRegistry(room, 'origin')
  const content = new ContentMaker(room, origin.address, 16 * MIB)
  const items = [...(await content.make('manifest-tag')), ...(await content.make('small'))]
  items.push(...(await content.make('medium')))
  const servers: (Started & Variant)[] = []
  for (const variant of await variants(room))
    servers.push({ ...variant, ...(await start(room, variant, origin.address)) })
  const endsAtMs = performance.now() + minutes * 60_000
  const peaks = new Map<string, number>()
  for (let round = 0; performance.now() < endsAtMs; round += 1) {
    for (const { address, name, child } of servers) {
      await pull(address, items, round)
      peaks.set(name, Math.max(peaks.get(name) ?? 0, anonymousMiB(child)))
    }
    await sleep(PULL_EVERY_MS)
  }
  await sleep(SETTLED_MS)
  for (const { name, child } of servers) {
    const peak = (peaks.get(name) ?? 0).toFixed(1)
    console.log(`${name}, after ${minutes} minutes: ${anonymousMiB(child).toFixed(1)} MiB, at most ${peak}`)
  }
}

/** The manifest by its tag, and four blobs, as of an image of which one layer is not there yet. */
async function pull(address: string, items: readonly Item[], round: number): Promise<void> {
  const [manifest, ...blobs] = items
  const layers = [0, 1, 2, 3].map(number => blobs[(round * 4 + number) % blobs.length])
  for (const item of [manifest, ...layers]) {
    const reply = await fetch(`http://${address}${item?.path ?? ''}`, { headers: ACCEPT })
    const bytes = (await reply.arrayBuffer()).byteLength
    if (reply.status !== 200 || bytes !== item?.sizeBytes)
      throw new Error(`${address} answered ${reply.status}`)
  }
}

async function main(): Promise<void> {
  await using room = await Room.open()
  process.once('SIGINT', () => void room.end()).once('SIGTERM', () => void room.end())
  const minutes = Number(options.minutes)
  if (minutes > 0) return await lightUse(room, minutes)
  for (const variant of await variants(room))
    console.log(`${variant.name}, idle: ${await idle(room, variant)}`)
}

await main()
