import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { freePort } from '../test/clients/rig/ports.ts'
import type { Child, Room } from './room.ts'

const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url))

/** One way to run Entrepot that is measured beside the others. */
export interface Variant {
  readonly name: string
  readonly flags: readonly string[]
  /** Whether one core is enough for it: then it gets one while it is loaded warm, and the client the other. */
  readonly isPinned: boolean
}

/** The ways that are measured. The first is the one that is compared where one is enough. */
export const VARIANTS: readonly Variant[] = [{ name: 'Entrepot', flags: [], isPinned: true }]

/** How to start an Entrepot of the bench. */
export interface EntrepotOptions {
  readonly flags?: readonly string[]
  /** The upstream of the default namespace, as `host:port` on loopback over plain http. */
  readonly upstream: string
  /** The sub-command with its own flags; a directory of the room unless told. */
  readonly store?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

/** A running Entrepot, and `host:port`. */
export interface StartedEntrepot {
  readonly child: Child
  readonly address: string
  /** From the start of its process to its first answer, in milliseconds. */
  readonly readyMs: number
}

/** Starts what `npm run build` has made, with the settings that it has by itself. */
export async function startEntrepot(
  room: Room,
  name: string,
  options: EntrepotOptions,
): Promise<StartedEntrepot> {
  const directory = room.path(name)
  await mkdir(directory, { recursive: true })
  const file = room.path(name, 'upstreams.yaml')
  const entry = { namespace: 'docker.io', host: options.upstream, tls: false }
  await writeFile(file, JSON.stringify([{ ...entry, allow_addresses: ['127.0.0.0/8'] }]))
  const address = `127.0.0.1:${await freePort()}`
  const store = options.store ?? ['filesystem', '--root', room.path(name, 'root')]
  const flags = ['--listen', address, '--admin-listen', 'off', '--upstream-config-file', file]
  const argv = [process.execPath, MAIN, ...store, ...flags, ...(options.flags ?? [])]
  const startedAtMs = performance.now()
  const child = room.start(name, argv, { env: options.env ?? {} })
  await child.ready(async () => (await fetch(`http://${address}/v2/`)).status === 200, 2)
  return { child, address, readyMs: performance.now() - startedAtMs }
}
